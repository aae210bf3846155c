//! One request and what came of it, side by side: what went over the wire, the answer or the error
//! in words, and the request as a command that makes it again.

use http::StatusCode;
use maud::{Markup, html};
use postrider_domain::delivery::{AttemptError, RequestHead, Response};
use postrider_domain::limits::MAX_RESPONSE_KEPT_BYTES;
use postrider_domain::outcome::{ErrorKind, is_success};
use url::Url;

use super::curl;
use super::indent::indented;
use super::parts::{Kind, badge};
use super::payload::{payload, scrolled};

/// How much of a request's body is shown, in bytes.
const MAX_SHOWN_BYTES: usize = 16 * 1024;

/// A request as it was sent.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    /// All but the body.
    pub head: &'a RequestHead,
    /// The body; none when its event is no longer kept.
    pub body: Option<&'a [u8]>,
}

/// A request, and its answer or why there is none. `name` tells it from others on the page.
pub(crate) fn exchange(
    name: &str,
    request: Sent<'_>,
    response: Option<&Response>,
    error: Option<&AttemptError>,
) -> Markup {
    html! {
        div.exchange {
            section.side {
                h3 { "Request" }
                (self::request(name, request))
            }
            section.side {
                h3 { "Response" }
                @if let Some(error) = error { (self::error(error)) }
                @match response {
                    Some(response) => (answer(request.head, response)),
                    None => p.faint { "Nothing came back." },
                }
            }
        }
        (again(name, request))
    }
}

/// A status with its meaning.
pub(crate) fn status(status: u16) -> Markup {
    let kind = if is_success(status) { Kind::Good } else { Kind::Bad };
    badge(kind, &status_text(status))
}

/// A kind of failure in words.
pub(crate) const fn failure(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout => "No answer in time",
        ErrorKind::Dns => "The host name could not be resolved",
        ErrorKind::Connect => "No connection",
        ErrorKind::Tls => "The TLS handshake failed",
        ErrorKind::Status => "The status is no success",
        ErrorKind::Blocked => "The address is not allowed",
        ErrorKind::Protocol => "No valid HTTP answer",
    }
}

fn status_text(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    match reason {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

fn request(name: &str, Sent { head, body }: Sent<'_>) -> Markup {
    html! {
        p.start-line { code { span.strong { "POST" } " " (head.url) } }
        (headers("Headers of the request", &head.headers))
        @match body {
            None => p.faint { "The event is no longer kept, and its payload with it." },
            Some(bytes) => (payload(&format!("{name}-body"), "Body of the request", bytes, MAX_SHOWN_BYTES)),
        }
    }
}

fn answer(request: &RequestHead, response: &Response) -> Markup {
    let text = String::from_utf8_lossy(&response.body);
    let cut = response.body.len() >= MAX_RESPONSE_KEPT_BYTES;
    html! {
        p.start-line { (status(response.status)) }
        (redirect(request, response))
        (headers("Headers of the response", &response.headers))
        @if response.body.is_empty() { p.faint { "No body." } }
        @else { (scrolled(None, "Body of the response", indented(&text).as_deref().unwrap_or(&text))) }
        @if cut { p.faint { "The first " (MAX_RESPONSE_KEPT_BYTES / 1024) " KiB are kept." } }
        @if matches!(text, std::borrow::Cow::Owned(_)) {
            p.faint { "What is not UTF-8 is shown as \u{fffd}." }
        }
    }
}

/// Where an answer leads, and what to do about it.
fn redirect(request: &RequestHead, response: &Response) -> Markup {
    let is_location = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("location");
    let location = response.headers.iter().find(is_location).map(|(_, value)| value);
    let location = location.filter(|_| (300..400).contains(&response.status));
    html! {
        @if let Some(location) = location {
            p.redirect {
                "It leads to " code { (location) } ". Redirects are never followed"
                @match target(&request.url, location) {
                    Some(url) => { ": give the endpoint's URL as " code { (url) } "." }
                    None => ".",
                }
            }
        }
    }
}

/// The address that a redirect means, if a webhook could go there.
fn target(from: &str, location: &str) -> Option<Url> {
    let url = Url::parse(from).ok()?.join(location).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn error(AttemptError { kind, message }: &AttemptError) -> Markup {
    html! {
        p.failure { span.strong { (failure(*kind)) } ": " (message) }
    }
}

fn headers(title: &str, headers: &[(String, String)]) -> Markup {
    html! {
        @if headers.is_empty() { p.faint { "No headers." } }
        @else {
            table.headers {
                caption.hidden { (title) }
                tbody {
                    @for (name, value) in headers {
                        tr { th scope="row" { code { (name) } } td { code { (value) } } }
                    }
                }
            }
        }
    }
}

/// The request as a command.
fn again(name: &str, Sent { head, body }: Sent<'_>) -> Markup {
    let command = curl::command(head, body);
    let id = format!("{name}-curl");
    html! {
        details.curl {
            summary { "As curl" }
            p.hint {
                "Sends the same request from where you are."
                @if curl::needs_file(body) {
                    " Put the payload into " code { (curl::BODY_FILE) } " before."
                }
            }
            (scrolled(Some(&id), "The request as a curl command", &command))
            p { button.copy type="button" data-copy-from=(id) hidden { "Copy as curl" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "\"'></pre></textarea><script>alert(1)</script><img src=x onerror=alert(1)>";

    fn head(url: &str) -> RequestHead {
        RequestHead { url: url.to_owned(), headers: vec![("webhook-id".into(), "evt_1".into())] }
    }

    fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Response { status, headers: headers.collect(), body: body.to_vec().into() }
    }

    fn show(response: Option<&Response>, error: Option<&AttemptError>) -> String {
        let head = head("https://example.com/hooks/a?b=c");
        let sent = Sent { head: &head, body: Some(br#"{"b":1.0,"a":"x"}"#) };
        exchange("test", sent, response, error).into_string()
    }

    #[test]
    fn both_sides_are_shown() {
        let shown = show(Some(&response(201, &[("server", "x")], br#"{"ok":true}"#)), None);
        for part in [
            "https://example.com/hooks/a?b=c",
            "webhook-id",
            "{\n  &quot;b&quot;: 1.0,\n  &quot;a&quot;: &quot;x&quot;\n}",
            "As sent, 17 bytes",
            "{&quot;b&quot;:1.0,&quot;a&quot;:&quot;x&quot;}",
            "201 Created",
            "server",
            "{\n  &quot;ok&quot;: true\n}",
            "--data-raw &#39;",
        ] {
            assert!(
                shown.contains(part) || shown.contains(&part.replace("&#39;", "'")),
                "{part}\n{shown}"
            );
        }
    }

    #[test]
    fn an_error_is_said_in_words() {
        let error =
            AttemptError { kind: ErrorKind::Timeout, message: "no answer within 5s".into() };
        let shown = show(None, Some(&error));
        assert!(shown.contains("No answer in time") && shown.contains("no answer within 5s"));
        assert!(shown.contains("Nothing came back"));
    }

    #[test]
    fn a_redirect_says_which_url_to_give() {
        let advice =
            |status, location| show(Some(&response(status, &[("Location", location)], b"")), None);
        let shown = advice(302, "../elsewhere?x=1");
        assert!(
            shown.contains("Redirects are never followed: give the endpoint's URL as"),
            "{shown}"
        );
        assert!(shown.contains("<code>https://example.com/elsewhere?x=1</code>"), "{shown}");
        assert!(advice(308, "//other.example/").contains("<code>https://other.example/</code>"));
        let shown = advice(301, "javascript:alert(1)");
        assert!(shown.contains("Redirects are never followed.") && !shown.contains("give the"));
        assert!(!advice(201, "/made").contains("Redirects"));
        assert!(!show(Some(&response(304, &[], b"")), None).contains("Redirects"));
    }

    #[test]
    fn bodies_are_shown_within_bounds_and_as_text() {
        let shown = show(Some(&response(200, &[], b"\xffx")), None);
        assert!(shown.contains("\u{fffd}x") && shown.contains("What is not UTF-8"));
        let shown = show(Some(&response(200, &[], &[b'a'; MAX_RESPONSE_KEPT_BYTES])), None);
        assert!(shown.contains("The first 4 KiB are kept"));

        let head = head("https://example.com/");
        let large = format!("\"{}\"", "x".repeat(100_000));
        let sent = Sent { head: &head, body: Some(large.as_bytes()) };
        let shown = exchange("test", sent, None, None).into_string();
        assert!(shown.len() < 2 * MAX_SHOWN_BYTES, "{}", shown.len());
        assert!(shown.contains("100,002 bytes, of which these are the first 16,384"));
        assert!(shown.contains("body.json"));
        let shown = exchange("test", Sent { head: &head, body: None }, None, None).into_string();
        assert!(shown.contains("no longer kept"));
    }

    #[test]
    fn text_from_outside_stays_text() {
        let mut head = head(&format!("https://example.com/{HOSTILE}"));
        head.headers = vec![(HOSTILE.into(), HOSTILE.into())];
        let response =
            response(302, &[("location", HOSTILE), (HOSTILE, HOSTILE)], HOSTILE.as_bytes());
        let error = AttemptError { kind: ErrorKind::Status, message: HOSTILE.into() };
        let sent = Sent { head: &head, body: Some(HOSTILE.as_bytes()) };
        let shown = exchange("test", sent, Some(&response), Some(&error)).into_string();
        for bad in ["<script", "<img", "\"'>", "</textarea"] {
            assert!(!shown.contains(bad), "{bad}\n{shown}");
        }
    }
}
