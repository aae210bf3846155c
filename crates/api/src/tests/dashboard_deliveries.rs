use std::time::Duration;

use postrider_domain::attempt::Response;
use postrider_domain::ids::DeliveryId;
use postrider_domain::outcome::{self, ErrorKind, Failure, Outcome};
use serde_json::{Value, json};

use super::browser::{Browser, assert_contains};
use super::harness::{Account, TestApp};

const HOSTILE: &str = "\"'></pre><script>alert(1)</script>";

/// An app with one endpoint.
struct Fixture {
    app: TestApp,
    account: Account,
    endpoint: String,
}

impl Fixture {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let account = app.account().await;
        app.event_type("a.b").await;
        let endpoint = app.endpoint(&account).await;
        Self { app, account, endpoint }
    }

    /// Publishes an event and returns its delivery.
    async fn publish(&self) -> DeliveryId {
        let body = json!({"event_type": "a.b", "payload": {"it": HOSTILE}});
        let event = self.app.as_account(&self.account, "POST /events", body).await.expect(202);
        let list = format!("GET /endpoints/{}/deliveries", self.endpoint);
        let list = self.app.as_account(&self.account, &list, Value::Null).await.expect(200);
        assert_eq!(list["data"][0]["event_id"], event["id"]);
        list["data"][0]["id"].as_str().unwrap().parse().unwrap()
    }

    /// Records an attempt with this result.
    async fn attempt(&self, id: DeliveryId, response: Option<Response>, outcome: Outcome) {
        self.app.record_attempt(self.account.id, id, response, outcome, 12).await;
    }

    async fn fail(&self, id: DeliveryId) {
        let failure = Failure::new(ErrorKind::Timeout, &format!("no response {HOSTILE}"));
        self.attempt(id, None, Outcome::Failure(failure)).await;
    }

    fn browser(&self) -> impl Future<Output = Browser<'_>> {
        Browser::sign_in(&self.app, &self.account)
    }
}

fn response(status: u16, headers: &[(&str, &str)]) -> Response {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Response { status, headers: headers.collect(), body: HOSTILE.as_bytes().into() }
}

#[tokio::test]
async fn the_timeline_shows_each_attempt() {
    let fixture = Fixture::new().await;
    let id = fixture.publish().await;
    let browser = fixture.browser().await;
    let page = format!("/deliveries/{id}");
    assert_contains(
        &browser.page(&page).await,
        &["An attempt is due", "0 of 11 attempts", "every 2s"],
    );

    fixture.app.clock.advance(Duration::from_millis(1_500));
    fixture.fail(id).await;
    fixture.app.clock.advance(Duration::from_secs(75));
    let moved = response(302, &[("location", "/new"), ("x", HOSTILE)]);
    let outcome = outcome::of_status(302, Some("/new"), None);
    fixture.attempt(id, Some(moved), outcome).await;
    let shown = browser.page(&page).await;
    assert_contains(
        &shown,
        &[
            "2 attempts failed. The next one is due in",
            "2 of 11 attempts",
            "1 s later",
            "1 min 15 s later",
            "Timed out",
            "no response &quot;'&gt;",
            "302 Found",
            "<code>https://example.com/new</code>",
            "will be due",
            "Attempt 3",
        ],
    );
    assert_eq!(shown.matches("<details open>").count(), 1, "only the last attempt is expanded");
    let open = shown.find("<details open>").unwrap();
    assert!(shown.find("Attempt 1").unwrap() < open && open < shown.find("Attempt 2").unwrap());
    assert!(!shown.contains("<script>alert"), "{shown}");

    fixture.attempt(id, Some(response(200, &[])), outcome::of_status(200, None, None)).await;
    let shown = browser.page(&page).await;
    assert_contains(
        &shown,
        &["Delivered at", "1 min 16 s after it was created", "200 OK", "Delivered."],
    );
    assert!(!shown.contains("every 2s"), "a finished delivery still polls");
}

#[tokio::test]
async fn a_changed_delivery_refreshes_the_page() {
    let fixture = Fixture::new().await;
    let id = fixture.publish().await;
    let browser = fixture.browser().await;
    let banner = format!("/deliveries/{id}/banner?version=pending-0");
    let same = browser.get(&banner).await;
    assert!(!same.headers.contains_key("hx-refresh"));
    assert_eq!(same.headers["content-type"], "text/html; charset=utf-8");
    let fragment = String::from_utf8(same.bytes).unwrap();
    assert_contains(&fragment, &["id=\"banner\"", "version=pending-0"]);
    fixture.fail(id).await;
    assert_eq!(browser.get(&banner).await.headers["hx-refresh"], "true");
}

#[tokio::test]
async fn each_final_state_is_explained() {
    let fixture = Fixture::new().await;
    let browser = fixture.browser().await;
    let (exhausted, held) = (fixture.publish().await, fixture.publish().await);
    for _ in 0..11 {
        fixture.fail(exhausted).await;
    }
    let shown = browser.page(&format!("/deliveries/{exhausted}")).await;
    assert_contains(
        &shown,
        &["Gave up after 11 attempts", "11 of 11 attempts", "Gave up: no attempts left"],
    );
    let shown = browser.page(&format!("/deliveries/{held}")).await;
    assert_contains(&shown, &["On hold while", "will be made once the webhook is enabled"]);
    let delete = format!("DELETE /endpoints/{}", fixture.endpoint);
    fixture.app.as_account(&fixture.account, &delete, Value::Null).await.expect(204);
    let shown = browser.page(&format!("/deliveries/{held}")).await;
    assert_contains(&shown, &["Discarded by someone, or because the webhook was deleted"]);
    assert!(!shown.contains("Resend"), "a delivery to a deleted endpoint can still be sent again");
    let again = browser.submit(&format!("/deliveries/{held}/retry"), &[]).await;
    assert_contains(&again.page(409), &["Deleted endpoints cannot receive deliveries."]);
}

#[tokio::test]
async fn a_delivery_can_be_retried() {
    let fixture = Fixture::new().await;
    let id = fixture.publish().await;
    let browser = fixture.browser().await;
    let retry = format!("/deliveries/{id}/retry");
    assert_eq!(browser.post(&retry, &[]).await.status, 403);
    let response = browser.submit(&retry, &[]).await;
    assert_eq!(response.status, 303);
    let page = browser.page(response.redirect_target()).await;
    assert_contains(&page, &["Pending deliveries are being sent now.", "Send now", "Discard"]);
    let response = browser.submit(&format!("/deliveries/{id}/discard"), &[]).await;
    let page = browser.page(response.redirect_target()).await;
    assert_contains(&page, &["Delivery discarded.", "Resend"]);
    let response = browser.submit(&retry, &[]).await;
    assert_eq!(response.status, 303);
    let way = response.redirect_target();
    assert!(way.contains("/deliveries/dlv_") && !way.contains(&id.to_string()), "{way}");
    assert_contains(&browser.page(way).await, &["Resent."]);
}

#[tokio::test]
async fn another_accounts_delivery_is_not_found() {
    let fixture = Fixture::new().await;
    let id = fixture.publish().await;
    let other = fixture.app.account().await;
    let browser = Browser::sign_in(&fixture.app, &other).await;
    for page in [format!("/deliveries/{id}"), format!("/deliveries/{id}/banner")] {
        assert_eq!(browser.get(&page).await.status, 404);
    }
    assert_eq!(browser.get(&format!("/deliveries/{}", DeliveryId::MIN)).await.status, 404);
    assert_eq!(browser.submit(&format!("/deliveries/{id}/retry"), &[]).await.status, 404);
}
