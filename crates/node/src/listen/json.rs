//! JSON with line breaks and indentation, and otherwise as it was: the order of keys and the
//! spelling of numbers stay, which going through a parsed value would not keep.

/// Lays `text`, which must be JSON, out on several lines.
pub fn lay_out(text: &str) -> String {
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

/// Tells the white space between tokens from that within strings.
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
    fn layout_changes_white_space_alone() {
        let text = r#" {"b" : [1, 2.50,1e3],"a":{ }, "c":"x, {\"y\": [ ]\\","d":[ ]}"#;
        let laid_out = lay_out(text);
        assert_eq!(
            laid_out,
            "{\n  \"b\": [\n    1,\n    2.50,\n    1e3\n  ],\n  \"a\": {},\n  \
             \"c\": \"x, {\\\"y\\\": [ ]\\\\\",\n  \"d\": []\n}"
        );
        let value = |text| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(text), value(&laid_out));
    }

    #[test]
    fn scalars() {
        for text in ["1", "\"a\\\\\"", "null", "[]"] {
            assert_eq!(lay_out(text), text);
        }
    }
}
