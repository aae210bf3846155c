//! Indents JSON and changes nothing else. Serializing a parsed value would lose the order of keys
//! and the spelling of numbers.

/// Indents `text`, which must be valid JSON.
pub fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut chars = text.chars().filter(Whitespace::default().outside_strings()).peekable();
    let mut in_string = false;
    let mut escaped = false;
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' if matches!(chars.peek(), Some('}' | ']')) => {
                out.push(c);
                out.extend(chars.next());
            }
            '{' | '[' => {
                out.push(c);
                depth += 1;
                new_line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str("  ");
    }
}

/// Distinguishes whitespace between tokens from whitespace in strings.
#[derive(Default)]
struct Whitespace {
    in_string: bool,
    escaped: bool,
}

impl Whitespace {
    fn outside_strings(mut self) -> impl FnMut(&char) -> bool {
        move |c| {
            if self.in_string {
                self.in_string = self.escaped || *c != '"';
                self.escaped = !self.escaped && *c == '\\';
                return true;
            }
            self.in_string = *c == '"';
            !matches!(c, ' ' | '\t' | '\n' | '\r')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_changes_only_whitespace() {
        let text = r#" {"b" : [1, 2.50,1e3],"a":{ }, "c":"x, {\"y\": [ ]\\","d":[ ]}"#;
        let indented = indent(text);
        assert_eq!(
            indented,
            "{\n  \"b\": [\n    1,\n    2.50,\n    1e3\n  ],\n  \"a\": {},\n  \
             \"c\": \"x, {\\\"y\\\": [ ]\\\\\",\n  \"d\": []\n}"
        );
        let value = |text| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(text), value(&indented));
    }

    #[test]
    fn scalars_and_empty_arrays_stay_on_one_line() {
        for text in ["1", "\"a\\\\\"", "null", "[]"] {
            assert_eq!(indent(text), text);
        }
    }
}
