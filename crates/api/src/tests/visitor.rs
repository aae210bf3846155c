//! Somebody with a browser: keeps the session's cookie, follows no redirect, and fills in forms.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;

use super::harness::{Account, Answer, House, request};

/// A browser, as far as a page can tell.
pub(super) struct Visitor<'a> {
    house: &'a House,
    cookie: Option<String>,
    /// What the pages of the visitor's account begin with.
    root: String,
}

impl<'a> Visitor<'a> {
    /// Nobody in particular.
    pub(super) fn stranger(house: &'a House) -> Self {
        Self { house, cookie: None, root: String::new() }
    }

    /// Somebody who signed in with a key.
    pub(super) async fn with_key(house: &'a House, key: &str) -> Self {
        let mut visitor = Self::stranger(house);
        let answer = visitor.submit("/dashboard/sign-in", &[("key", key)]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
        visitor.keep(&answer);
        visitor
    }

    /// Somebody who signed in with the account's key. Paths may then be those below its own.
    pub(super) async fn sign_in(house: &'a House, account: &Account) -> Self {
        let root = format!("/dashboard/accounts/{}", account.id);
        Self { root, ..Self::with_key(house, &account.key).await }
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
        self.send(request(None, &format!("GET {}", self.at(path)), Body::empty())).await
    }

    fn at(&self, path: &str) -> String {
        let whole = path == "/" || path.starts_with("/dashboard");
        if whole { path.to_owned() } else { format!("{}{path}", self.root) }
    }

    /// A page, which must be there.
    pub(super) async fn page(&self, path: &str) -> String {
        self.get(path).await.page(200)
    }

    /// Brings in a form of a page, with what the page hides in it.
    pub(super) async fn fill(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Answer {
        let page = self.page(page).await;
        let mut all = hidden_in(&page);
        all.extend(fields);
        self.submit(action, &all).await
    }

    /// Brings in a form with the token of this session.
    pub(super) async fn bring(&self, action: &str, fields: &[(&str, &str)]) -> Answer {
        self.fill("/webhooks/new", action, fields).await
    }

    /// Brings in a form as it is given.
    pub(super) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = request(None, &format!("POST {}", self.at(path)), form.finish());
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

    /// The text of a page, which must have this status.
    #[track_caller]
    pub(super) fn page(&self, status: u16) -> String {
        let text = self.text();
        assert_eq!(self.status.as_u16(), status, "{text}");
        assert_eq!(self.headers["content-type"], "text/html; charset=utf-8");
        text
    }

    /// Where it leads; it must lead somewhere.
    #[track_caller]
    pub(super) fn leads_to(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text());
        self.headers["location"].to_str().unwrap()
    }
}

/// The page says each of these.
#[track_caller]
pub(super) fn says(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "«{part}» is missing in\n{page}");
    }
}

/// The path of a new portal link.
pub(super) async fn portal_link(house: &House, account: &Account, body: Value) -> String {
    let made = made_link(house, account, body).await;
    let url = made["url"].as_str().unwrap();
    url.strip_prefix("http://postrider.test").unwrap_or_else(|| panic!("{url}")).to_owned()
}

/// The answer to a request for a link.
pub(super) async fn made_link(house: &House, account: &Account, body: Value) -> Value {
    let mut request = request(
        Some(super::harness::OPERATOR),
        &format!("POST /v1/accounts/{}/portal-links", account.id),
        if body.is_null() { String::new() } else { body.to_string() },
    );
    request.headers_mut().insert("host", "postrider.test".parse().unwrap());
    house.send(request).await.expect(201)
}

/// The hidden fields of a page, each name once.
fn hidden_in(page: &str) -> Vec<(&str, &str)> {
    let inputs = page.split(r#"<input type="hidden" name=""#).skip(1);
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for input in inputs {
        let (name, rest) = input.split_once(r#"" value=""#).expect("a value");
        let (value, _) = rest.split_once('"').expect("its end");
        if fields.iter().all(|(other, _)| *other != name) {
            fields.push((name, value));
        }
    }
    fields
}
