//! The cookie with the session token.

use std::time::Duration;

use cookie::{Cookie, SameSite, time};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::Dashboard;

/// The cookie's name: over plain HTTP, and over TLS with the prefix that binds it to its host
/// (RFC 6265bis §4.1.3.2).
const NAMES: (&str, &str) = ("postrider_session", "__Host-postrider_session");
/// How long the browser keeps the cookie after the session's end, so that the sign-in page can say
/// that it has ended.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The session token in a request's cookies.
pub(crate) fn token(dashboard: &Dashboard, headers: &HeaderMap) -> Option<String> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = texts.flat_map(Cookie::split_parse).flatten();
    cookies.find(|cookie| cookie.name() == name(dashboard)).map(|cookie| cookie.value().to_owned())
}

/// The Set-Cookie header that starts a session.
pub(crate) fn start(dashboard: &Dashboard, token: &str, lifetime: Duration) -> HeaderValue {
    set(dashboard, token, lifetime + GRACE)
}

/// The Set-Cookie header that removes the session's cookie.
pub(crate) fn remove(dashboard: &Dashboard) -> HeaderValue {
    set(dashboard, "", Duration::ZERO)
}

fn set(dashboard: &Dashboard, token: &str, max_age: Duration) -> HeaderValue {
    let max_age = time::Duration::try_from(max_age).unwrap_or(time::Duration::MAX);
    // Within another site's page, browsers send only cookies that are `SameSite=None`, partitioned
    // and secure.
    let is_embedded = dashboard.is_secure() && !dashboard.embed_in.is_empty();
    let cookie = Cookie::build((name(dashboard), token))
        .path("/")
        .max_age(max_age)
        .http_only(true)
        .same_site(if is_embedded { SameSite::None } else { SameSite::Lax })
        .secure(dashboard.is_secure())
        .partitioned(is_embedded);
    HeaderValue::try_from(cookie.build().to_string()).expect("a session token is base64")
}

fn name(dashboard: &Dashboard) -> &'static str {
    if dashboard.is_secure() { NAMES.1 } else { NAMES.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_header(text: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static(text));
        token(&Dashboard::default(), &headers)
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let header = "a=1; =; b; \"c\"; postrider_session=x.y-z_; postrider_session2=no";
        assert_eq!(in_header(header).as_deref(), Some("x.y-z_"));
        for without in ["", "postrider_session", "xpostrider_session=1", "a=postrider_session=1"] {
            assert_eq!(in_header(without), None, "{without}");
        }
    }

    #[test]
    fn the_cookie_outlives_its_session() {
        let header = start(&Dashboard::default(), "x.y", Duration::from_secs(60));
        let expected = "postrider_session=x.y; HttpOnly; SameSite=Lax; Path=/; Max-Age=604860";
        assert_eq!(header.to_str().unwrap(), expected);
        let removed = remove(&Dashboard::default());
        assert!(removed.to_str().unwrap().ends_with("; Max-Age=0"), "{removed:?}");
    }
}
