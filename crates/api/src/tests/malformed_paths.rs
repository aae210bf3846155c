//! Malformed path segments in place of ids, names and pages: every such path is answered with a
//! client error, never with a server error.

use http::StatusCode;

use super::browser::Browser;
use super::harness::{OPERATOR, TestApp, request};

/// Segments in place of an id.
const MALFORMED: [&str; 12] =
    ["new", "check-url", "settings", "", ".", "..", "%00", "%ff", "%2F", "a%2fb", "{account}", "~"];
/// Paths below an account; `@` is replaced by a malformed segment.
const PAGES: [&str; 33] = [
    "",
    "/",
    "/@",
    "/webhooks",
    "/webhooks/",
    "/webhooks/new",
    "/webhooks/new/settings",
    "/webhooks/check-url",
    "/webhooks/@",
    "/webhooks/@/deliveries",
    "/webhooks/@/settings",
    "/webhooks/@/rotate-secret",
    "/webhooks/@/delete",
    "/webhooks/@/facts",
    "/webhooks/@/enable",
    "/webhooks/@/disable",
    "/webhooks/@/test",
    "/deliveries/@",
    "/deliveries/@/banner",
    "/deliveries/@/retry",
    "/events",
    "/events/@",
    "/events/@/deliveries",
    "/events/@/resend",
    "/replays",
    "/replays/new",
    "/replays/@",
    "/replays/@/progress",
    "/replays/@/pause",
    "/event-types/@",
    "/settings",
    "/settings/keys/@/delete",
    "/settings/links/revoke",
];

#[tokio::test]
async fn new_is_not_an_account_id() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let operator = Browser::with_key(&app, OPERATOR).await;
    let own = Browser::sign_in(&app, &account).await;
    for page in PAGES.iter().filter(|page| !page.is_empty()) {
        let path = format!("/dashboard/accounts/new{}", page.replace('@', "new"));
        for browser in [&operator, &own] {
            let response = browser.get(&path).await;
            let status = response.status;
            let is_absent =
                matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
            assert!(is_absent, "{path}: {status}");
        }
    }
    operator.page("/dashboard/accounts/new").await;
}

#[tokio::test]
async fn no_dashboard_path_causes_a_server_error() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let own = account.id.to_string();
    let operator = Browser::with_key(&app, OPERATOR).await;
    let browsers = [&operator, &Browser::sign_in(&app, &account).await];
    for first in MALFORMED.into_iter().chain([own.as_str()]) {
        for page in PAGES {
            for malformed in MALFORMED.into_iter().filter(|_| page.contains('@')).chain(["x"]) {
                let path = format!("/dashboard/accounts/{first}{}", page.replace('@', malformed));
                for browser in browsers {
                    let read = browser.get(&path).await.status;
                    assert!(!read.is_server_error(), "GET {path}: {read}");
                }
            }
            let path = format!("/dashboard/accounts/{first}{}", page.replace('@', "new"));
            let written = operator.submit_from("/dashboard/accounts/new", &path, &[]).await.status;
            assert!(!written.is_server_error(), "POST {path}: {written}");
        }
    }
    for path in ["", "/", "/accounts/", "/cluster/x", "/sign-in/x", "/open/", "/open/%ff", "/%ff"] {
        for browser in browsers {
            let read = browser.get(&format!("/dashboard{path}")).await.status;
            assert!(!read.is_server_error(), "GET /dashboard{path}: {read}");
        }
    }
}

#[tokio::test]
async fn no_api_path_causes_a_server_error() {
    let app = TestApp::new().await;
    let own = app.account().await.id.to_string();
    for call in super::contract::CALLS {
        let (method, path) = call.split_once(' ').unwrap();
        for account in [own.as_str(), "new", "%ff", ""] {
            for malformed in MALFORMED {
                let parts = path.replace("{account}", account);
                let parts = parts
                    .split('/')
                    .map(|part| if part.starts_with('{') { malformed } else { part });
                let call = format!("{method} {}", parts.collect::<Vec<_>>().join("/"));
                let response = app.send(request(Some(OPERATOR), &call, "{}")).await;
                assert!(!response.status.is_server_error(), "{call}: {}", response.status);
            }
        }
    }
}
