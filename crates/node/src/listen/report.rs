//! A webhook on the screen: one line at a glance, then its headers if asked for, then its body.
//!
//! Whatever came over the wire is stripped of control characters first, so that a webhook
//! cannot steer the terminal.

use std::io::{self, Write};

use http::{HeaderMap, HeaderValue};
use postrider_domain::time::Timestamp;
use serde::de::IgnoredAny;

use super::json;
use super::verify::Judgement;

/// Most of a body that is printed, in characters.
const MAX_SHOWN: usize = 16 * 1024;

/// A webhook as it is printed.
pub struct Webhook<'a> {
    /// When it arrived.
    pub at: Timestamp,
    /// Where it was sent to on this host.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub judgement: &'a Judgement,
    /// How often its event has been seen, this time included.
    pub times_seen: u32,
    /// What it is answered.
    pub answer: &'a str,
}

/// Colours, or none.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Webhook<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn write(&self, out: &mut dyn Write, paint: Paint, headers: bool) -> io::Result<()> {
        writeln!(out, "\n{}", self.glance(paint))?;
        if headers {
            for (name, value) in self.headers {
                let line = format!("  {name}: {}", legible(value));
                writeln!(out, "{}", paint.dim(&line))?;
            }
        }
        for line in shown(self.body).lines() {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }

    fn glance(&self, paint: Paint) -> String {
        let header = |name| self.headers.get(name).map(legible);
        let event_type = header("webhook-event-type").unwrap_or_else(|| "(no type)".to_owned());
        let id = header("webhook-id").unwrap_or_else(|| "(no id)".to_owned());
        let again = match self.times_seen {
            0 | 1 => String::new(),
            times => format!("  attempt {times} seen here"),
        };
        let judgement = self.judgement.to_string();
        let judgement = match self.judgement {
            Judgement::Good => paint.green(&judgement),
            Judgement::Unchecked => paint.dim(&judgement),
            _ => paint.red(&judgement),
        };
        let (at, path, answer) = (self.at, clean(self.path), self.answer);
        let event_type = paint.bold(&event_type);
        format!("{at}  {event_type}  {id}{again}  {path}  {judgement}  -> {answer}")
    }
}

/// The body, laid out if it is JSON, and no more of it than fits on some screens.
fn shown(body: &[u8]) -> String {
    if body.is_empty() {
        return "(no body)".to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    let laid_out = if is_json { json::lay_out(&text) } else { text.into_owned() };
    let mut shown: String = laid_out.chars().take(MAX_SHOWN).map(harmless).collect();
    if shown.len() < laid_out.len() && laid_out.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str(&format!("\n… cut here; the body has {} bytes", body.len()));
    }
    shown
}

/// `text` on one line, without what could steer a terminal.
pub fn clean(text: &str) -> String {
    let spaced = text.chars().map(|c| if c == '\n' { ' ' } else { c });
    spaced.map(harmless).collect()
}

fn legible(value: &HeaderValue) -> String {
    clean(&String::from_utf8_lossy(value.as_bytes()))
}

/// Control characters become a mark; so do those that turn the direction of writing.
fn harmless(c: char) -> char {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if (c.is_control() && c != '\n') || turns { char::REPLACEMENT_CHARACTER } else { c }
}

impl Paint {
    pub fn new(colours: bool) -> Self {
        Self(colours)
    }

    pub fn dim(self, text: &str) -> String {
        self.painted("2", text)
    }

    fn bold(self, text: &str) -> String {
        self.painted("1", text)
    }

    fn red(self, text: &str) -> String {
        self.painted("1;31", text)
    }

    fn green(self, text: &str) -> String {
        self.painted("32", text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_all_kinds() {
        assert_eq!(shown(b""), "(no body)");
        assert_eq!(shown(b"{\"a\":1}"), "{\n  \"a\": 1\n}");
        assert_eq!(shown(b"a=1&b=2"), "a=1&b=2");
        assert_eq!(shown(b"\xff\x1b[2J"), "\u{fffd}\u{fffd}[2J");
        let long = shown("ä".repeat(20_000).as_bytes());
        assert!(long.ends_with("… cut here; the body has 40000 bytes"));
        assert!(long.chars().count() < MAX_SHOWN + 60);
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            clean("a\r\nb\x1b]0;x\x07\u{9b}1m\u{202e}"),
            "a\u{fffd} b\u{fffd}]0;x\u{fffd}\u{fffd}1m\u{fffd}"
        );
    }

    #[test]
    fn colours_only_when_wanted() {
        assert_eq!(Paint::new(true).red("x"), "\x1b[1;31mx\x1b[0m");
        assert_eq!(Paint::new(false).red("x"), "x");
    }
}
