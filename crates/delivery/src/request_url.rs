//! The URL of a request, for the HTTP client. The client takes a [`Url`], whose parser normalizes
//! path and query: `/a/%2e%2e/b` would be sent as `/b`, and `'` as `%27`. But the client sends
//! whatever a `Url` contains. So only the origin is parsed, and path and query are put into the
//! parsed URL by the way that is meant for restoring a URL without parsing it again.

use postrider_domain::target::TargetUrl;
use serde_json::Value;
use serde_json::value::Serializer;
use url::{Position, Url};

/// The places of the text and of the query's start among a URL's parts.
const SERIALIZATION: usize = 0;
const QUERY_START: usize = 8;

/// The URL of a request to `target`, with exactly its [request target](TargetUrl::request_target).
pub(crate) fn of(target: &TargetUrl) -> Url {
    let (origin, request_target) = (target.origin(), target.request_target());
    let text = format!("{}{request_target}", &origin[..Position::BeforePath]);
    match Url::parse(&text) {
        Ok(url) if url.as_str() == text => url,
        _ => restore(origin, text),
    }
}

/// The URL whose text is `text`, which begins with `origin` and has no fragment.
fn restore(origin: &Url, text: String) -> Url {
    let mut parts = origin.serialize_internal(Serializer).expect("a URL is valid JSON");
    parts[QUERY_START] = text.find('?').into();
    parts[SERIALIZATION] = Value::String(text);
    Url::deserialize_internal(parts).expect("the parts of a URL")
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use postrider_domain::target::AddressPolicy;
    use proptest::prelude::*;

    use super::*;

    /// What the client sends for a URL: the authority that it connects to, and the request target.
    fn sent(text: &str) -> (String, String) {
        let target = TargetUrl::parse(text, &AddressPolicy::default()).expect("a target");
        let url = of(&target);
        assert_eq!(url.as_str(), target.sent_url());
        let uri: Uri = url.as_str().parse().expect("the client's URI");
        let authority = uri.authority().expect("an authority").as_str();
        assert_eq!(url.authority(), authority);
        let request_target = uri.path_and_query().expect("a request target").as_str();
        assert_eq!(url[Position::BeforePath..], *request_target);
        (authority.to_owned(), request_target.to_owned())
    }

    #[test]
    fn path_and_query_are_sent_as_given() {
        for target in [
            "/",
            "/a/%2e%2e/b",
            "/a/../b/./c/..",
            "/%2E/%zz%",
            "/%C3%a4/%27",
            "//a//b/",
            "/a;x=1,2/b;",
            "/?",
            "/a?b",
            "/a?b=&c&&=d&",
            "/a?b='c'&d=%22%27+e",
            "/a'b\"c\"",
            "/{a}/{{b}}|^\\",
            "/a?f[]=1&g={\\^|`}",
            "/a?b?c=//d/../e",
            "/a@b:c",
        ] {
            for host in ["example.com", "example.com:8443", "93.184.216.34", "[2606:2800::1]:81"] {
                let url = format!("http://{host}{target}");
                assert_eq!(sent(&url), (host.to_owned(), target.to_owned()), "{url}");
            }
        }
    }

    #[test]
    fn what_a_request_line_cannot_carry_is_percent_encoded() {
        for (given, expected) in [
            ("", "/"),
            ("?a=b", "/?a=b"),
            ("/a b", "/a%20b"),
            ("/\u{e4}?\u{f6}", "/%C3%A4?%C3%B6"),
            ("/<`>?<`>", "/%3C%60%3E?%3C`%3E"),
            ("/\"?a=\"b\"", "/\"?a=%22b%22"),
        ] {
            assert_eq!(sent(&format!("https://example.com{given}")).1, expected, "{given}");
        }
    }

    #[test]
    fn the_origin_is_canonical() {
        for (given, expected) in [
            ("HTTPS://EXAMPLE.com:443/A/../B", "example.com"),
            ("http://b\u{fc}cher.example/A", "xn--bcher-kva.example"),
            ("http://%65xample.com:080/%65", "example.com"),
            ("http://0x5d.184.216.34/..", "93.184.216.34"),
        ] {
            assert_eq!(sent(given).0, expected, "{given}");
        }
    }

    proptest! {
        /// The host that was checked is the host that the request goes to, whatever the URL.
        #[test]
        fn the_client_connects_to_the_checked_host(
            scheme in "https?://|HTTPS://|http:|https:/|//",
            host in "[a-c1-3.]{1,8}|[a-c.:@%0-9\\[\\]\\\\\u{e4}\u{ff0e}\u{ff0f}\u{ff20}\u{3002}-]{0,12}",
            target in "([/?#\\\\:@].{0,12})?",
        ) {
            let text = format!("{scheme}{host}{target}");
            if let Ok(target) = TargetUrl::parse(&text, &AddressPolicy::default()) {
                let (authority, _) = sent(&text);
                let origin = target.origin();
                prop_assert_eq!(&authority, origin.authority());
                let uri: Uri = of(&target).as_str().parse().unwrap();
                prop_assert_eq!(uri.host(), origin.host_str());
                prop_assert_eq!(uri.port_u16(), origin.port());
                // Browsers' rules find the same host in the text as it was given.
                let whole = Url::parse(&text).unwrap();
                prop_assert_eq!(whole.host(), origin.host());
                prop_assert_eq!(whole.port(), origin.port());
                prop_assert_eq!(whole.scheme(), origin.scheme());
            }
        }

        #[test]
        fn every_accepted_path_and_query_can_be_sent(target in "[/?][ -\"$-~\u{e4}\u{20ac}]{0,40}") {
            let (_, on_the_wire) = sent(&format!("http://example.com{target}"));
            prop_assert!(on_the_wire.bytes().all(|byte| byte.is_ascii_graphic()));
            // What was sent is not encoded twice.
            let again = sent(&format!("http://example.com{on_the_wire}")).1;
            prop_assert_eq!(again, on_the_wire);
        }
    }
}
