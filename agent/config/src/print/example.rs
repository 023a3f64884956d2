//! The example file: every key with its default and what it is for, made from the types.

use auditmon_core::plugin::Entry;
use serde_json::Value as Json;

use super::scalar::key;
use super::write;
use crate::nearest::listed;
use crate::shape::{Node, Shape};
use crate::tree::Tree;

/// Longest line of a remark.
const WIDTH: usize = 100;

const HEAD: &str = "\
# Every key with its default. What is left out has the value that stands here.
#
# Check a file with:     auditmon check -c FILE
# What is in effect:     auditmon config -c FILE --origin
# This file is made by:  auditmon config --example
#
# Sizes: 512, 64KiB, 16MiB, 10GiB, 1TiB (kB, MB, GB, TB in powers of ten). Durations: 250ms, 10s, 5m, 24h, 7d, 1h30m.
# Each key can be given by a variable, too: http.listen is AUDITMON_HTTP_LISTEN.
";

const HOSTS: &str = "\
# hosts:
#   - match: {name: \"db-*\"}
#     set: {journal: {max_size: 40GiB}}
#   - match: {labels: {role: web}}
#     set:
#       sources:
#         kernel: {enabled: false}
";

/// The example file for these plugins.
#[must_use]
pub fn example(entries: &[Entry]) -> String {
    let tree = Tree::new(entries);
    let mut out = HEAD.to_owned();
    if let Shape::Table(fields) = &tree.root.shape {
        for (name, node) in fields {
            out.push('\n');
            field(&mut out, name, node, "");
        }
    }
    out + HOSTS
}

fn field(out: &mut String, name: &str, node: &Node, indent: &str) {
    remark(out, &described(node), indent);
    let default = node.default.clone().unwrap_or(Json::Null);
    match &node.shape {
        Shape::Table(fields) if !default.is_null() => {
            *out += &format!("{indent}{}:\n", key(name));
            let below = format!("{indent}  ");
            for (name, node) in fields {
                field(out, name, node, &below);
            }
        }
        // What is off unless it is given stands as a remark.
        Shape::Table(fields) => {
            *out += &format!("{indent}{}: null\n", key(name));
            let mut inner = format!("{}:\n", key(name));
            for (name, node) in fields {
                field(&mut inner, name, node, "  ");
            }
            as_remark(out, &inner, indent);
        }
        Shape::Map { item, .. } if matches!(item.shape, Shape::Table(_)) => {
            *out += &format!("{indent}{}: {{}}\n", key(name));
            let mut inner = format!("{}:\n  NAME:\n", key(name));
            if let Shape::Table(fields) = &item.shape {
                for (name, node) in fields {
                    field(&mut inner, name, node, "    ");
                }
            }
            as_remark(out, &inner, indent);
        }
        _ => write(out, indent, &key(name), &default, ""),
    }
}

/// What a key is for, and the words that it takes.
fn described(node: &Node) -> String {
    let mut text = node.description.clone();
    if let Shape::Choice(words) = &node.shape {
        for (word, meaning) in words {
            let meaning = meaning.trim_end_matches('.');
            text += &if meaning.is_empty() {
                format!(" `{word}`.")
            } else {
                format!(" `{word}`: {}.", decapitalised(meaning))
            };
        }
    }
    if let Shape::List(item) = &node.shape
        && let Shape::Choice(words) = &item.shape
    {
        let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        text += &format!(" Any of {}.", listed(&words));
    }
    if let Some(why) = &node.no_effect {
        text += &format!(" ({why})");
    }
    text.trim().to_owned()
}

fn decapitalised(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && (second.is_lowercase() || second == ' ') => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

fn remark(out: &mut String, text: &str, indent: &str) {
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        if !line.is_empty() {
            *out += &format!("{indent}#{line}\n");
            line.clear();
        }
    };
    for word in text.split_whitespace() {
        if indent.len() + 2 + line.chars().count() + word.chars().count() > WIDTH {
            flush(&mut line);
        }
        line.push(' ');
        line += word;
    }
    flush(&mut line);
}

fn as_remark(out: &mut String, text: &str, indent: &str) {
    for line in text.lines() {
        *out += &format!("{indent}# {line}\n");
    }
}
