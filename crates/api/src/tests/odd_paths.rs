//! Paths in which something else stands where an id, a name or a page is expected: nothing is there,
//! whatever the route makes of it, and no path is this house's own mistake.

use http::StatusCode;

use super::harness::{House, OPERATOR, request};
use super::visitor::Visitor;

/// What stands where an id belongs.
const ODD: [&str; 12] =
    ["new", "check-url", "settings", "", ".", "..", "%00", "%ff", "%2F", "a%2fb", "{account}", "~"];
/// What follows an account in a page's path; `@` is something odd.
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
    "/deliveries/@/standing",
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
    "/settings/links/end",
];

#[tokio::test]
async fn the_form_for_a_new_account_is_no_account() {
    let house = House::new().await;
    let account = house.account().await;
    let operator = Visitor::with_key(&house, OPERATOR).await;
    let own = Visitor::sign_in(&house, &account).await;
    for page in PAGES.iter().filter(|page| !page.is_empty()) {
        let path = format!("/dashboard/accounts/new{}", page.replace('@', "new"));
        for visitor in [&operator, &own] {
            let answer = visitor.get(&path).await;
            let status = answer.status;
            let is_absent =
                matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
            assert!(is_absent, "{path}: {status}");
        }
    }
    operator.page("/dashboard/accounts/new").await;
}

#[tokio::test]
async fn no_page_has_a_path_that_is_our_own_mistake() {
    let house = House::new().await;
    let account = house.account().await;
    let own = account.id.to_string();
    let operator = Visitor::with_key(&house, OPERATOR).await;
    let visitors = [&operator, &Visitor::sign_in(&house, &account).await];
    for first in ODD.into_iter().chain([own.as_str()]) {
        for page in PAGES {
            for odd in ODD.into_iter().filter(|_| page.contains('@')).chain(["x"]) {
                let path = format!("/dashboard/accounts/{first}{}", page.replace('@', odd));
                for visitor in visitors {
                    let read = visitor.get(&path).await.status;
                    assert!(!read.is_server_error(), "GET {path}: {read}");
                }
            }
            let path = format!("/dashboard/accounts/{first}{}", page.replace('@', "new"));
            let written = operator.fill("/dashboard/accounts/new", &path, &[]).await.status;
            assert!(!written.is_server_error(), "POST {path}: {written}");
        }
    }
    for path in ["", "/", "/accounts/", "/cluster/x", "/sign-in/x", "/open/", "/open/%ff", "/%ff"] {
        for visitor in visitors {
            let read = visitor.get(&format!("/dashboard{path}")).await.status;
            assert!(!read.is_server_error(), "GET /dashboard{path}: {read}");
        }
    }
}

#[tokio::test]
async fn no_call_has_a_path_that_is_our_own_mistake() {
    let house = House::new().await;
    let own = house.account().await.id.to_string();
    for call in super::contract::CALLS {
        let (method, path) = call.split_once(' ').unwrap();
        for account in [own.as_str(), "new", "%ff", ""] {
            for odd in ODD {
                let parts = path.replace("{account}", account);
                let parts =
                    parts.split('/').map(|part| if part.starts_with('{') { odd } else { part });
                let call = format!("{method} {}", parts.collect::<Vec<_>>().join("/"));
                let answer = house.send(request(Some(OPERATOR), &call, "{}")).await;
                assert!(!answer.status.is_server_error(), "{call}: {}", answer.status);
            }
        }
    }
}
