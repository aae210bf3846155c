//! A payload as it was sent, and indented where it is JSON on one line.

use maud::{Markup, html};

use super::format::{bytes as size, grouped};
use super::indent::indented;

/// Shows at most so many bytes of a payload. `id` is the id of the text as it was sent.
pub(crate) fn payload(id: &str, title: &str, bytes: &[u8], most: usize) -> Markup {
    let shown = &bytes[..bytes.len().min(most)];
    let text = String::from_utf8_lossy(shown);
    let pretty = indented(&text).filter(|pretty| *pretty != text);
    let exact = scrolled(Some(id), &format!("{title} as it was sent"), &text);
    html! {
        @match pretty {
            Some(pretty) => {
                (scrolled(None, title, &pretty))
                details { summary { "As sent, " (size(bytes.len())) } (exact) }
            }
            None => {
                (exact)
                p.faint {
                    "As sent, " (size(bytes.len()))
                    @if shown.len() < bytes.len() {
                        ", of which these are the first " (grouped(shown.len() as u64))
                    } "."
                }
            }
        }
    }
}

/// Text that may be long and scrolls; the keyboard reaches it.
pub(crate) fn scrolled(id: Option<&str>, title: &str, text: &str) -> Markup {
    html! {
        // The first line end after the tag is no part of the text (HTML §13.2.6.4.7).
        pre id=[id] tabindex="0" role="group" aria-label=(title) { "\n" (text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_as_it_was_sent_keeps_its_first_line_end() {
        let shown = payload("it", "Payload", b"\n[1]", 10).into_string();
        assert!(shown.contains("aria-label=\"Payload as it was sent\">\n\n[1]</pre>"), "{shown}");
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        let shown = payload("it", "Payload", &[b'1'; 2_000], 1_000).into_string();
        assert!(shown.contains("2,000 bytes, of which these are the first 1,000."), "{shown}");
    }
}
