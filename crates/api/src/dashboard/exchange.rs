//! One request with its response or error, side by side, and the request as a curl command.

use http::StatusCode;
use maud::{Markup, html};
use postrider_domain::attempt::{RequestHead, Response};
use postrider_domain::json::indented;
use postrider_domain::limits::MAX_RESPONSE_KEPT_BYTES;
use postrider_domain::outcome::AttemptError;
use postrider_domain::outcome::{ErrorKind, is_success};
use url::Url;

use super::components::{Tone, badge};
use super::curl;
use super::payload::{payload, scrolled};

/// The maximum number of bytes shown of a request's body.
const MAX_BODY_SHOWN_BYTES: usize = 16 * 1024;

/// A request as it was sent.
#[derive(Clone, Copy)]
pub(crate) struct SentRequest<'a> {
    /// URL and headers.
    pub head: &'a RequestHead,
    /// The body. `None` if its event is no longer stored.
    pub body: Option<&'a [u8]>,
}

/// A request with its response or error. `name` makes the element ids unique on the page.
pub(crate) fn exchange(
    name: &str,
    request: SentRequest<'_>,
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
                    Some(response) => (response_section(request.head, response)),
                    None => p.faint { "No response." },
                }
            }
        }
        (curl_section(name, request))
    }
}

/// A badge with a status code and its reason phrase.
pub(crate) fn status_badge(status: u16) -> Markup {
    let tone = if is_success(status) { Tone::Good } else { Tone::Bad };
    badge(tone, &status_text(status))
}

/// The text for a kind of error.
pub(crate) const fn error_text(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout => "Timed out",
        ErrorKind::Dns => "Could not resolve the host name",
        ErrorKind::Connect => "Could not connect",
        ErrorKind::Tls => "TLS handshake failed",
        ErrorKind::Status => "Non-2xx status",
        ErrorKind::Blocked => "Address not allowed",
        ErrorKind::Protocol => "Invalid HTTP response",
    }
}

fn status_text(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    match reason {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

fn request(name: &str, SentRequest { head, body }: SentRequest<'_>) -> Markup {
    html! {
        p.start-line { code { span.strong { "POST" } " " (head.url) } }
        (headers("Request headers", &head.headers))
        @match body {
            None => p.faint { "The event and its payload are no longer stored." },
            Some(bytes) => (payload(&format!("{name}-body"), "Request body", bytes, MAX_BODY_SHOWN_BYTES)),
        }
    }
}

fn response_section(request: &RequestHead, response: &Response) -> Markup {
    let text = String::from_utf8_lossy(&response.body);
    let cut = response.body.len() >= MAX_RESPONSE_KEPT_BYTES;
    html! {
        p.start-line { (status_badge(response.status)) }
        (redirect_advice(request, response))
        (headers("Response headers", &response.headers))
        @if response.body.is_empty() { p.faint { "No body." } }
        @else { (scrolled(None, "Response body", indented(&text).as_deref().unwrap_or(&text))) }
        @if cut { p.faint { "Only the first " (MAX_RESPONSE_KEPT_BYTES / 1024) " KiB are stored." } }
        @if matches!(text, std::borrow::Cow::Owned(_)) {
            p.faint { "Bytes that are not UTF-8 are shown as \u{fffd}." }
        }
    }
}

/// The target of a redirect, and what to do about it.
fn redirect_advice(request: &RequestHead, response: &Response) -> Markup {
    let is_location = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("location");
    let location = response.headers.iter().find(is_location).map(|(_, value)| value);
    let location = location.filter(|_| (300..400).contains(&response.status));
    html! {
        @if let Some(location) = location {
            p.redirect {
                "Redirects to " code { (location) } ". Redirects are never followed"
                @match redirect_target(&request.url, location) {
                    Some(url) => { ": change the webhook's URL to " code { (url) } "." }
                    None => ".",
                }
            }
        }
    }
}

/// The absolute URL of a redirect, if a webhook could be sent to it.
fn redirect_target(from: &str, location: &str) -> Option<Url> {
    let url = Url::parse(from).ok()?.join(location).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn error(AttemptError { kind, message }: &AttemptError) -> Markup {
    html! {
        p.failure { span.strong { (error_text(*kind)) } ": " (message) }
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

/// The request as a curl command.
fn curl_section(name: &str, SentRequest { head, body }: SentRequest<'_>) -> Markup {
    let command = curl::command(head, body);
    let id = format!("{name}-curl");
    html! {
        details.curl {
            summary { "As curl" }
            p.hint {
                "Sends the same request from your machine."
                @if curl::needs_file(body) {
                    " Save the payload as " code { (curl::BODY_FILE) } " first."
                }
            }
            (scrolled(Some(&id), "Request as a curl command", &command))
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
        let sent = SentRequest { head: &head, body: Some(br#"{"b":1.0,"a":"x"}"#) };
        exchange("test", sent, response, error).into_string()
    }

    #[test]
    fn request_and_response_are_shown() {
        let shown = show(Some(&response(201, &[("server", "x")], br#"{"ok":true}"#)), None);
        for part in [
            "https://example.com/hooks/a?b=c",
            "webhook-id",
            "{\n  &quot;b&quot;: 1.0,\n  &quot;a&quot;: &quot;x&quot;\n}",
            "Raw (17 bytes)",
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
    fn an_error_is_explained() {
        let error =
            AttemptError { kind: ErrorKind::Timeout, message: "no response within 5s".into() };
        let shown = show(None, Some(&error));
        assert!(shown.contains("Timed out") && shown.contains("no response within 5s"));
        assert!(shown.contains("No response."));
    }

    #[test]
    fn a_redirect_says_which_url_to_use() {
        let advice =
            |status, location| show(Some(&response(status, &[("Location", location)], b"")), None);
        let shown = advice(302, "../elsewhere?x=1");
        assert!(
            shown.contains("Redirects are never followed: change the webhook's URL to"),
            "{shown}"
        );
        assert!(shown.contains("<code>https://example.com/elsewhere?x=1</code>"), "{shown}");
        assert!(advice(308, "//other.example/").contains("<code>https://other.example/</code>"));
        let shown = advice(301, "javascript:alert(1)");
        assert!(shown.contains("Redirects are never followed.") && !shown.contains("change the"));
        assert!(!advice(201, "/made").contains("Redirects"));
        assert!(!show(Some(&response(304, &[], b"")), None).contains("Redirects"));
    }

    #[test]
    fn bodies_are_cut_and_shown_as_text() {
        let shown = show(Some(&response(200, &[], b"\xffx")), None);
        assert!(shown.contains("\u{fffd}x") && shown.contains("Bytes that are not UTF-8"));
        let shown = show(Some(&response(200, &[], &[b'a'; MAX_RESPONSE_KEPT_BYTES])), None);
        assert!(shown.contains("Only the first 4 KiB are stored"));

        let head = head("https://example.com/");
        let large = format!("\"{}\"", "x".repeat(100_000));
        let sent = SentRequest { head: &head, body: Some(large.as_bytes()) };
        let shown = exchange("test", sent, None, None).into_string();
        assert!(shown.len() < 2 * MAX_BODY_SHOWN_BYTES, "{}", shown.len());
        assert!(shown.contains("100,002 bytes; showing the first 16,384"));
        assert!(shown.contains("body.json"));
        let shown =
            exchange("test", SentRequest { head: &head, body: None }, None, None).into_string();
        assert!(shown.contains("no longer stored"));
    }

    #[test]
    fn text_from_outside_stays_text() {
        let mut head = head(&format!("https://example.com/{HOSTILE}"));
        head.headers = vec![(HOSTILE.into(), HOSTILE.into())];
        let response =
            response(302, &[("location", HOSTILE), (HOSTILE, HOSTILE)], HOSTILE.as_bytes());
        let error = AttemptError { kind: ErrorKind::Status, message: HOSTILE.into() };
        let sent = SentRequest { head: &head, body: Some(HOSTILE.as_bytes()) };
        let shown = exchange("test", sent, Some(&response), Some(&error)).into_string();
        for bad in ["<script", "<img", "\"'>", "</textarea"] {
            assert!(!shown.contains(bad), "{bad}\n{shown}");
        }
    }
}
