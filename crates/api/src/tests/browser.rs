//! A browser of the dashboard: keeps the session cookie, submits forms, and follows no redirects.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;

use super::harness::{Account, TestApp, TestResponse, request};

pub(super) struct Browser<'a> {
    app: &'a TestApp,
    cookie: Option<String>,
    /// The path prefix of the browser's account.
    root: String,
}

impl<'a> Browser<'a> {
    /// A browser without a session.
    pub(super) fn anonymous(app: &'a TestApp) -> Self {
        Self { app, cookie: None, root: String::new() }
    }

    /// A browser signed in with a key.
    pub(super) async fn with_key(app: &'a TestApp, key: &str) -> Self {
        let mut browser = Self::anonymous(app);
        let response = browser.post("/dashboard/sign-in", &[("key", key)]).await;
        assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.text());
        browser.keep_cookie(&response);
        browser
    }

    /// A browser signed in with the account's key. Paths may be relative to the account.
    pub(super) async fn sign_in(app: &'a TestApp, account: &Account) -> Self {
        let root = format!("/dashboard/accounts/{}", account.id);
        Self { root, ..Self::with_key(app, &account.key).await }
    }

    /// A browser that opened a portal link to the account.
    pub(super) async fn with_portal_link(app: &'a TestApp, account: &Account, body: Value) -> Self {
        let mut browser = Self::anonymous(app);
        let response = browser.get(&portal_link_path(app, account, body).await).await;
        assert_eq!(response.status, StatusCode::SEE_OTHER, "{}", response.text());
        browser.keep_cookie(&response);
        browser
    }

    /// Keeps the cookie that a response sets.
    pub(super) fn keep_cookie(&mut self, response: &TestResponse) {
        let cookie = response.headers["set-cookie"].to_str().unwrap();
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    }

    pub(super) async fn get(&self, path: &str) -> TestResponse {
        self.send(request(None, &format!("GET {}", self.at(path)), Body::empty())).await
    }

    fn at(&self, path: &str) -> String {
        let whole = path == "/" || path.starts_with("/dashboard");
        if whole { path.to_owned() } else { format!("{}{path}", self.root) }
    }

    /// Asserts that the page exists and returns its text.
    pub(super) async fn page(&self, path: &str) -> String {
        self.get(path).await.page(200)
    }

    /// Submits a form with the hidden fields of `page`.
    pub(super) async fn submit_from(
        &self,
        page: &str,
        action: &str,
        fields: &[(&str, &str)],
    ) -> TestResponse {
        let page = self.page(page).await;
        let mut all = hidden_in(&page);
        all.extend(fields);
        self.post(action, &all).await
    }

    /// Submits a form with the session's CSRF token.
    pub(super) async fn submit(&self, action: &str, fields: &[(&str, &str)]) -> TestResponse {
        self.submit_from("/webhooks/new", action, fields).await
    }

    /// Posts a form with only these fields.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> TestResponse {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = request(None, &format!("POST {}", self.at(path)), form.finish());
        let headers = request.headers_mut();
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        self.send(request).await
    }

    /// Sends a request with the session cookie.
    pub(super) async fn send(&self, mut request: Request<Body>) -> TestResponse {
        let headers = request.headers_mut();
        headers.insert("host", "postrider.test".parse().unwrap());
        if let Some(cookie) = &self.cookie {
            headers.insert("cookie", format!("other=1; {cookie}").parse().unwrap());
        }
        self.app.send(request).await
    }
}

impl TestResponse {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Asserts an HTML page with this status and returns its text.
    #[track_caller]
    pub(super) fn page(&self, status: u16) -> String {
        let text = self.text();
        assert_eq!(self.status.as_u16(), status, "{text}");
        assert_eq!(self.headers["content-type"], "text/html; charset=utf-8");
        text
    }

    /// Asserts a redirect and returns its target.
    #[track_caller]
    pub(super) fn redirect_target(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text());
        self.headers["location"].to_str().unwrap()
    }
}

/// Asserts that the page contains each of these.
#[track_caller]
pub(super) fn assert_contains(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is missing in\n{page}");
    }
}

/// Creates a portal link and returns its path.
pub(super) async fn portal_link_path(app: &TestApp, account: &Account, body: Value) -> String {
    let created = create_portal_link(app, account, body).await;
    let url = created["url"].as_str().unwrap();
    url.strip_prefix("http://postrider.test").unwrap_or_else(|| panic!("{url}")).to_owned()
}

/// Creates a portal link and returns the response body.
pub(super) async fn create_portal_link(app: &TestApp, account: &Account, body: Value) -> Value {
    let mut request = request(
        Some(super::harness::OPERATOR),
        &format!("POST /v1/accounts/{}/portal-links", account.id),
        if body.is_null() { String::new() } else { body.to_string() },
    );
    request.headers_mut().insert("host", "postrider.test".parse().unwrap());
    app.send(request).await.expect(201)
}

/// The hidden fields of a page; of several with one name, the first.
fn hidden_in(page: &str) -> Vec<(&str, &str)> {
    let inputs = page.split(r#"<input type="hidden" name=""#).skip(1);
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for input in inputs {
        let (name, rest) = input.split_once(r#"" value=""#).expect("the hidden field has a value");
        let (value, _) = rest.split_once('"').expect("the value is quoted");
        if fields.iter().all(|(other, _)| *other != name) {
            fields.push((name, value));
        }
    }
    fields
}
