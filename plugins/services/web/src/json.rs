//! Lays out a JSON value over lines. Numbers, strings and the order of members stay as they came, which a
//! parser's tree would not keep.

/// The value over lines, indented by two. Runs in linear time; the text was accepted by a JSON parser and is no
/// deeper than an event may be, so that the indentation is bounded too.
pub(crate) fn pretty(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut opened = false;
    for c in raw.chars() {
        if in_string {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        // An empty object or array stays on its line.
        if opened != closes {
            line(&mut out, depth);
        }
        opened = false;
        match c {
            '{' | '[' => {
                depth += 1;
                opened = true;
                out.push(c);
            }
            ':' => out.push_str(": "),
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(64)));
}

#[cfg(test)]
mod tests {
    use super::pretty;

    #[test]
    fn lays_out_and_changes_nothing_else() {
        assert_eq!(pretty("null"), "null");
        assert_eq!(pretty("{}"), "{}");
        assert_eq!(pretty(r#"{"a":[],"b":{ }}"#), "{\n  \"a\": [],\n  \"b\": {}\n}");
        assert_eq!(
            pretty(r#"{"n": 1.10 ,"e":"a\"{:,","l":[1,{"x":null}]}"#),
            "{\n  \"n\": 1.10,\n  \"e\": \"a\\\"{:,\",\n  \"l\": [\n    1,\n    {\n      \"x\": null\n    }\n  ]\n}"
        );
    }
}
