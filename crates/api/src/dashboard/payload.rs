//! A payload as it was sent, and indented if it is compact JSON.

use maud::{Markup, html};
use postrider_domain::json::indented;

use super::format::{bytes as size, grouped};

/// Shows at most `max_bytes` bytes of a payload. `id` is the element id of the text as sent.
pub(crate) fn payload(id: &str, title: &str, bytes: &[u8], max_bytes: usize) -> Markup {
    let shown = &bytes[..bytes.len().min(max_bytes)];
    let text = String::from_utf8_lossy(shown);
    let pretty = indented(&text).filter(|pretty| *pretty != text);
    let exact = scrolled(Some(id), &format!("{title} as sent"), &text);
    html! {
        @match pretty {
            Some(pretty) => {
                (scrolled(None, title, &pretty))
                details { summary { "Raw (" (size(bytes.len())) ")" } (exact) }
            }
            None => {
                (exact)
                p.faint {
                    (size(bytes.len()))
                    @if shown.len() < bytes.len() {
                        "; showing the first " (grouped(shown.len() as u64))
                    } "."
                }
            }
        }
    }
}

/// A scrollable text block, also with the keyboard.
pub(crate) fn scrolled(id: Option<&str>, title: &str, text: &str) -> Markup {
    html! {
        // HTML ignores a line break right after the tag (§13.2.6.4.7).
        pre id=[id] tabindex="0" role="group" aria-label=(title) { "\n" (text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_text_keeps_its_leading_line_break() {
        let shown = payload("it", "Payload", b"\n[1]", 10).into_string();
        assert!(shown.contains("aria-label=\"Payload as sent\">\n\n[1]</pre>"), "{shown}");
    }

    #[test]
    fn a_long_payload_is_cut_and_says_so() {
        let shown = payload("it", "Payload", &[b'1'; 2_000], 1_000).into_string();
        assert!(shown.contains("2,000 bytes; showing the first 1,000."), "{shown}");
    }
}
