use serde_json::{Value, json};

use super::browser::{Browser, assert_contains};
use super::harness::{Account, TestApp};

/// Two event types with examples, and the id of an endpoint subscribed to one of them.
async fn setup() -> (TestApp, Account, String) {
    let app = TestApp::new().await;
    let account = app.account().await;
    for name in ["a.first", "b.wanted"] {
        app.event_type(name).await;
    }
    let body = json!({
        "name": "<b>Hook", "url": "https://example.com/?<script>", "event_types": ["b.wanted"],
    });
    let created = app.as_account(&account, "POST /endpoints", body).await.expect(201);
    let id = created["id"].as_str().unwrap().to_owned();
    (app, account, id)
}

#[tokio::test]
async fn the_form_shows_the_example_of_the_chosen_type() {
    let (app, account, id) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    let page = browser.page(&format!("/webhooks/{id}/test")).await;
    assert_contains(
        &page,
        &[
            "<option value=\"b.wanted\" selected>",
            "<option value=\"a.first\">",
            "{\n  &quot;of&quot;: &quot;b.wanted&quot;\n}",
            "&lt;b&gt;Hook",
            "Send test event",
        ],
    );
    assert!(!page.contains("<b>") && !page.contains("Result"));
    let page = browser.page(&format!("/webhooks/{id}/test?event_type=a.first")).await;
    assert_contains(
        &page,
        &["<option value=\"a.first\" selected>", "&quot;of&quot;: &quot;a.first&quot;"],
    );
    let fields = [("event_type", "a.first"), ("payload", "{"), ("show", "yes")];
    let response = browser.submit(&format!("/webhooks/{id}/test"), &fields).await;
    assert!(
        response.redirect_target().ends_with(&format!("/webhooks/{id}/test?event_type=a.first"))
    );
    for odd in ["no.such", "%3Cscript%3E"] {
        let page = browser.page(&format!("/webhooks/{id}/test?event_type={odd}")).await;
        assert_contains(&page, &["not in the catalogue", "Choose one"]);
        assert!(!page.contains("<script>"));
    }
    assert_eq!(browser.get("/webhooks/ep_00000000000000000000000000/test").await.status, 404);
}

#[tokio::test]
async fn a_test_event_shows_its_request_and_response() {
    let (app, account, id) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    let page = format!("/webhooks/{id}/test");
    let fields = [("event_type", "a.first"), ("payload", "{\"mine\": 1.0}<!--")];
    let rejected = browser.submit(&page, &fields).await.page(422);
    assert_contains(
        &rejected,
        &["It is not valid JSON: trailing characters at line 1 column 14.", "1.0}&lt;!--"],
    );

    let fields = [("event_type", "a.first"), ("payload", "{\"mine\": 1.0}")];
    let shown = browser.submit(&page, &fields).await.page(200);
    assert_contains(
        &shown,
        &[
            "Result",
            "success",
            "204 No Content",
            "after 7 ms",
            "webhook-id",
            "1.235 ms",
            "Waiting for response",
            "&quot;mine&quot;: 1.0",
            "ok \u{fffd}",
            "curl --include --request POST",
            "<option value=\"a.first\" selected>",
        ],
    );
    assert!(!shown.contains("TLS handshake"));

    // An empty payload falls back to the example.
    let fields = [("event_type", "b.wanted"), ("payload", " ")];
    let shown = browser.submit(&page, &fields).await.page(200);
    assert_contains(&shown, &["{&quot;of&quot;:&quot;b.wanted&quot;}"]);

    let fields = [("event_type", "no.such"), ("payload", "{}")];
    assert_contains(
        &browser.submit(&page, &fields).await.page(422),
        &["It is not in the catalogue"],
    );
    assert_eq!(browser.post(&page, &fields).await.status, 403);

    app.as_account(&account, &format!("POST /endpoints/{id}/disable"), Value::Null)
        .await
        .expect(200);
    assert_contains(&browser.page(&page).await, &["the test event is still sent"]);
}

#[tokio::test]
async fn without_event_types_no_test_event_can_be_sent() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let id = app.endpoint(&account).await;
    let browser = Browser::sign_in(&app, &account).await;
    let page = browser.page(&format!("/webhooks/{id}/test")).await;
    assert_contains(&page, &["No event types yet"]);
}

#[tokio::test]
async fn a_chosen_type_beyond_the_listed_ones_is_found() {
    let (app, account, id) = setup().await;
    for number in 0..1_000 {
        app.event_type(&format!("b.x{number:04}")).await;
    }
    let body = json!({"event_types": ["b.x0999", "b.wanted"]});
    app.as_account(&account, &format!("PATCH /endpoints/{id}"), body).await.expect(200);
    let browser = Browser::sign_in(&app, &account).await;

    let form = browser.page(&format!("/webhooks/{id}/settings")).await;
    assert_contains(&form, &["value=\"b.x0999\" checked", "has more than the 1,000 event types"]);
    assert!(!form.contains("No longer in the catalogue") && !form.contains("b.x0998"));

    let page = browser.page(&format!("/webhooks/{id}/test?event_type=b.x0998")).await;
    assert_contains(
        &page,
        &["<option value=\"b.x0998\" selected>", "<option value=\"b.x0999\">", "has more than"],
    );
    assert!(!page.contains("not in the catalogue"));
}
