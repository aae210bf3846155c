//! JSON text: [`parse`] and [`check`] decide what is acceptable, [`indented`] shows it. Indenting
//! changes only whitespace: numbers, strings and the order of fields stay exactly as written, which
//! parsing and serializing would not guarantee.

mod read;

pub use read::{JsonError, JsonErrorReason, check, is_double_encoded, nests_deeper_than, parse};

use serde::de::IgnoredAny;

/// The maximum size of the result in bytes. Indentation can make a text much longer.
const MAX_INDENTED_BYTES: usize = 32 * 1024;
/// The indentation of one level.
const INDENT: &str = "  ";

/// The indented text. `None` if it is not JSON or would be too long.
#[must_use]
pub fn indented(text: &str) -> Option<String> {
    if text.len() > MAX_INDENTED_BYTES {
        return None;
    }
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut lines = Lines::default();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => rest.find(|c: char| "{}[],:\"".contains(c) || is_space(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        rest = after.trim_start_matches(is_space);
        lines.add(token, rest);
        if lines.text.len() > MAX_INDENTED_BYTES {
            return None;
        }
    }
    Some(lines.text)
}

/// JSON's whitespace (RFC 8259 §2).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The length of the string at the start of the text, including its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

#[derive(Default)]
struct Lines {
    text: String,
    depth: usize,
}

impl Lines {
    /// Adds a token; `next` is the text after it.
    fn add(&mut self, token: &str, next: &str) {
        let is_empty_pair = |close| next.starts_with(close);
        match token {
            "{" | "[" => {
                self.text.push_str(token);
                let close = if token == "{" { '}' } else { ']' };
                self.depth += 1;
                if !is_empty_pair(close) {
                    self.new_line();
                }
            }
            "}" | "]" => {
                self.depth = self.depth.saturating_sub(1);
                if !self.text.ends_with(['{', '[']) {
                    self.new_line();
                }
                self.text.push_str(token);
            }
            "," => {
                self.text.push(',');
                self.new_line();
            }
            ":" => self.text.push_str(": "),
            _ => self.text.push_str(token),
        }
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        for _ in 0..self.depth {
            self.text.push_str(INDENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn indenting_changes_only_whitespace() {
        let text = " {\"z\":1.0,\"a\" : [ 1e400 , {} ,[ ], {\"b\":\"x,{\\\"}\\\\\"}] , \"z\":12345678901234567890123 }\n";
        let expected = r#"{
  "z": 1.0,
  "a": [
    1e400,
    {},
    [],
    {
      "b": "x,{\"}\\"
    }
  ],
  "z": 12345678901234567890123
}"#;
        assert_eq!(indented(text).as_deref(), Some(expected));
        assert_eq!(indented(expected).as_deref(), Some(expected), "indenting is idempotent");
        for whole in ["null", "-1.5e3", "\"\"", "[]", "{}", "\"é漢\\u0000\""] {
            assert_eq!(indented(whole).as_deref(), Some(whole));
        }
    }

    #[test]
    fn indenting_keeps_the_value() {
        let value: Value = serde_json::from_str(
            r#"{"a":["{",{"b":{"c":[[[]],"\\\"",true,null]}}],"[":"]","":{"x":[{},{"y":-0.5}]}}"#,
        )
        .unwrap();
        let indented = indented(&value.to_string()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&indented).unwrap(), value);
    }

    #[test]
    fn malformed_or_too_long_text_is_not_indented() {
        for text in ["", "{", "<p>", "{\"a\":1}x", "'a'"] {
            assert_eq!(indented(text), None, "{text}");
        }
        let deep = format!("{}{}1{}", "[".repeat(64), "1,".repeat(1_000), "]".repeat(64));
        assert_eq!(indented(&deep), None);
        assert_eq!(indented(&format!("\"{}\"", "x".repeat(MAX_INDENTED_BYTES))), None);
    }
}
