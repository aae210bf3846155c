//! Somebody with a browser: keeps the session's cookie, follows no redirect, and fills in forms.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;

use super::harness::{Account, Answer, House, request};

/// A browser, as far as a page can tell.
pub(super) struct Visitor<'a> {
    pub house: &'a House,
    cookie: Option<String>,
}

impl<'a> Visitor<'a> {
    /// Nobody in particular.
    pub(super) fn stranger(house: &'a House) -> Self {
        Self { house, cookie: None }
    }

    /// Somebody who signed in with a key.
    pub(super) async fn with_key(house: &'a House, key: &str) -> Self {
        let mut visitor = Self::stranger(house);
        let answer = visitor.submit("/dashboard/sign-in", &[("key", key)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        visitor.keep(&answer);
        visitor
    }

    /// Somebody who opened a portal link to the account.
    pub(super) async fn by_link(house: &'a House, account: &Account, body: Value) -> Self {
        let mut visitor = Self::stranger(house);
        let answer = visitor.get(&portal_link(house, account, body).await).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        visitor.keep(&answer);
        visitor
    }

    /// Keeps the cookie that an answer sets.
    pub(super) fn keep(&mut self, answer: &Answer) {
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    }

    /// Asks for a page.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request(None, &format!("GET {path}"), Body::empty())).await
    }

    /// A page, which must be there.
    pub(super) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
        answer.text()
    }

    /// Brings in the form of a page, with the token that the page has.
    pub(super) async fn fill(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let token = token_in(&self.page(page).await);
        let mut all = vec![("csrf", token.as_str())];
        all.extend(fields);
        self.submit(action, &all).await
    }

    /// Brings in a form as it is given.
    pub(super) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = request(None, &format!("POST {path}"), form.finish());
        let headers = request.headers_mut();
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        self.send(request).await
    }

    /// Sends a request with the session.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Answer {
        let headers = request.headers_mut();
        headers.insert("host", "postrider.test".parse().unwrap());
        if let Some(cookie) = &self.cookie {
            headers.insert("cookie", format!("other=1; {cookie}").parse().unwrap());
        }
        self.house.send(request).await
    }
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Where it leads; it must lead somewhere.
    #[track_caller]
    pub(super) fn leads_to(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text());
        self.headers["location"].to_str().unwrap()
    }
}

/// The path of a new portal link.
pub(super) async fn portal_link(house: &House, account: &Account, body: Value) -> String {
    let mut request = request(
        Some(super::harness::OPERATOR),
        &format!("POST /v1/accounts/{}/portal-links", account.id),
        if body.is_null() { String::new() } else { body.to_string() },
    );
    request.headers_mut().insert("host", "postrider.test".parse().unwrap());
    let made = house.send(request).await.expect(201);
    let url = made["url"].as_str().unwrap();
    url.strip_prefix("http://postrider.test").unwrap_or_else(|| panic!("{url}")).to_owned()
}

/// The token that the forms of a page bring back.
fn token_in(page: &str) -> String {
    let (_, rest) = page.split_once(r#"name="csrf" value=""#).expect("a form");
    rest.split('"').next().unwrap().to_owned()
}
