//! External text in emails: on one line, and without the parts of URLs that may hold secrets.

/// Replaces control characters, so that the text stays on its line and cannot forge a header or a
/// paragraph, and removes the user info, query and fragment of every URL. Error messages contain
/// URLs too, for example the target of a redirect.
pub(crate) fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split(' ').map(without_secrets).collect::<Vec<_>>().join(" ")
}

/// A word without the secrets of a URL, which may be relative.
fn without_secrets(word: &str) -> String {
    let is_url = word.contains("//") || word.starts_with('/');
    let query = word.find('?').filter(|at| word[*at..].contains(char::is_alphanumeric));
    let fragment = word.find('#').filter(|_| is_url);
    let cut = query.into_iter().chain(fragment).min();
    let kept = &word[..cut.unwrap_or(word.len())];
    let mut short = without_user_info(kept);
    if cut.is_some() {
        // The punctuation of the sentence around it.
        short.extend(word.chars().last().filter(|last| ";,.:)\"'".contains(*last)));
    }
    short
}

fn without_user_info(word: &str) -> String {
    let mut short = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(authority) = rest.find("//").map(|at| at + 2) {
        short.push_str(&rest[..authority]);
        rest = &rest[authority..];
        let end = rest.find(['/', '\\']).unwrap_or(rest.len());
        rest = rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (text, shown) in [
            ("https://example.com/hooks", "https://example.com/hooks"),
            ("https://example.com/hooks?token=s3cret", "https://example.com/hooks"),
            ("https://me:s3cret@example.com:81/a@b?s3cret", "https://example.com:81/a@b"),
            ("see https://example.com/#s3cret, please", "see https://example.com/, please"),
            ("a redirect to /login?t=s3cret; not followed", "a redirect to /login; not followed"),
            ("to //me:s3cret@h/p (x)", "to //h/p (x)"),
            ("https://a/,https://me:s3cret@b/", "https://a/,https://b/"),
            ("login?next=/s3cret", "login"),
            ("Orders #1: ready?", "Orders #1: ready?"),
            ("über?s3cret=é", "über"),
            ("a@b.example", "a@b.example"),
            ("", ""),
        ] {
            assert_eq!(one_line(text), shown);
        }
    }

    #[test]
    fn text_stays_on_its_line() {
        assert_eq!(one_line("a\r\nBcc: b\u{7f}c"), "a  Bcc: b c");
    }
}
