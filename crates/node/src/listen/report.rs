//! Prints a webhook: a summary line, optionally its headers, and its body.
//!
//! Control characters in received data are replaced, so that a webhook cannot control the terminal.

use std::io::{self, Write};

use http::{HeaderMap, HeaderValue};
use postrider_domain::json;
use postrider_domain::time::Timestamp;

use super::verify::Verification;

/// Longer bodies are truncated.
const MAX_BODY_CHARS: usize = 16 * 1024;

/// A webhook to print.
pub struct Webhook<'a> {
    /// When it was received.
    pub at: Timestamp,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub verification: &'a Verification,
    /// How many webhooks of this event have been received, including this one.
    pub attempt: u32,
    /// The response.
    pub response: &'a str,
}

/// Terminal styles, if enabled.
#[derive(Clone, Copy)]
pub struct Style(bool);

impl Webhook<'_> {
    pub fn write(&self, out: &mut dyn Write, style: Style, headers: bool) -> io::Result<()> {
        writeln!(out, "\n{}", self.summary(style))?;
        if headers {
            for (name, value) in self.headers {
                let line = format!("  {name}: {}", header_text(value));
                writeln!(out, "{}", style.dim(&line))?;
            }
        }
        for line in body_text(self.body).lines() {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    fn summary(&self, style: Style) -> String {
        let header = |name| self.headers.get(name).map(header_text);
        let event_type =
            header("webhook-event-type").unwrap_or_else(|| "(no event type)".to_owned());
        let id = header("webhook-id").unwrap_or_else(|| "(no id)".to_owned());
        let attempt_note = match self.attempt {
            0 | 1 => String::new(),
            times => format!("  received {times} times"),
        };
        let verification = self.verification.to_string();
        let verification = match self.verification {
            Verification::Valid => style.green(&verification),
            Verification::Unchecked => style.dim(&verification),
            _ => style.red(&verification),
        };
        let (at, path, response) = (self.at, sanitize(self.path), self.response);
        let event_type = style.bold(&event_type);
        format!("{at}  {event_type}  {id}{attempt_note}  {path}  {verification}  -> {response}")
    }
}

/// The body, indented if it is JSON and the result is at most 32 KiB, and truncated to
/// [`MAX_BODY_CHARS`].
fn body_text(body: &[u8]) -> String {
    if body.is_empty() {
        return "(no body)".to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let indented = json::indented(&text).unwrap_or_else(|| text.into_owned());
    let mut printed: String = indented.chars().take(MAX_BODY_CHARS).map(sanitize_char).collect();
    if printed.len() < indented.len() && indented.chars().nth(MAX_BODY_CHARS).is_some() {
        printed.push_str(&format!("\n… truncated; the body has {} bytes", body.len()));
    }
    printed
}

/// `text` on one line, without control characters.
pub fn sanitize(text: &str) -> String {
    let spaced = text.chars().map(|c| if c == '\n' { ' ' } else { c });
    spaced.map(sanitize_char).collect()
}

fn header_text(value: &HeaderValue) -> String {
    sanitize(&String::from_utf8_lossy(value.as_bytes()))
}

/// Replaces control characters, including those that change the text direction.
fn sanitize_char(c: char) -> char {
    let is_bidi_control = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if (c.is_control() && c != '\n') || is_bidi_control { char::REPLACEMENT_CHARACTER } else { c }
}

impl Style {
    pub fn new(colours: bool) -> Self {
        Self(colours)
    }

    pub fn dim(self, text: &str) -> String {
        self.styled("2", text)
    }

    fn bold(self, text: &str) -> String {
        self.styled("1", text)
    }

    fn red(self, text: &str) -> String {
        self.styled("1;31", text)
    }

    fn green(self, text: &str) -> String {
        self.styled("32", text)
    }

    fn styled(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_indented_sanitized_and_truncated() {
        assert_eq!(body_text(b""), "(no body)");
        assert_eq!(body_text(b"{\"a\":1}"), "{\n  \"a\": 1\n}");
        assert_eq!(body_text(b"a=1&b=2"), "a=1&b=2");
        assert_eq!(body_text(b"\xff\x1b[2J"), "\u{fffd}\u{fffd}[2J");
        let long = body_text("ä".repeat(20_000).as_bytes());
        assert!(long.ends_with("… truncated; the body has 40000 bytes"));
        assert!(long.chars().count() < MAX_BODY_CHARS + 60);
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(
            sanitize("a\r\nb\x1b]0;x\x07\u{9b}1m\u{202e}"),
            "a\u{fffd} b\u{fffd}]0;x\u{fffd}\u{fffd}1m\u{fffd}"
        );
    }

    #[test]
    fn styles_are_applied_only_if_enabled() {
        assert_eq!(Style::new(true).red("x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Style::new(false).red("x"), "x");
    }
}
