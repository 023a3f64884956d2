use clap::{Command, CommandFactory as _, Parser as _};

use super::Cli;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// Commands without commands below them, each with its words.
fn leaves(command: &Command, words: &str, out: &mut Vec<(String, Command)>) {
    if command.get_subcommands().next().is_none() {
        out.push((words.to_owned(), command.clone()));
    }
    for below in command.get_subcommands() {
        leaves(below, &format!("{words} {}", below.get_name()), out);
    }
}

/// The command lines of a help text, as a shell would read them up to a pipe, a redirection or a remark.
fn examples(command: &Command) -> Vec<Vec<String>> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("  auditmon"));
    lines
        .map(|line| {
            let line = line.trim_start().split("   ").next().unwrap();
            words(line)
                .into_iter()
                .take_while(|word| word != "|" && word != ">")
                .collect()
        })
        .collect()
}

/// Words of a line; what stands in quotes is one.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars().chain([' ']) {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ' ' => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    words
}

#[test]
fn every_command_has_examples_that_are_right() {
    let mut commands = vec![("auditmon".to_owned(), Cli::command())];
    leaves(&Cli::command(), "auditmon", &mut commands);
    assert!(commands.len() > 15, "{}", commands.len());
    for (words, command) in commands {
        let examples = examples(&command);
        assert!(!examples.is_empty(), "{words} has no examples");
        for example in examples {
            let line = example.join(" ");
            assert!(line.starts_with(&words), "an example of `{words}`: {line}");
            if let Err(error) = Cli::try_parse_from(&example) {
                panic!("{line}: {error}");
            }
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty(), "{words}: what is it for?");
    }
}

#[test]
fn every_option_is_described() {
    let mut commands = vec![("auditmon".to_owned(), Cli::command())];
    leaves(&Cli::command(), "auditmon", &mut commands);
    for (words, command) in commands {
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{words}: {}", argument.get_id());
        }
    }
}
