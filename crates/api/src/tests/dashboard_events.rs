//! The pages of events and replays, and the email log.

use postrider_domain::email::{Email, RecipientStatus};
use postrider_domain::endpoint::{Disabled, DisabledReason};
use postrider_domain::ids::BootId;
use postrider_domain::notice::{Kind, Notice, Report};
use postrider_domain::time::Clock;
use serde_json::{Value, json};

use super::browser::{Browser, assert_contains};
use super::harness::{Account, TestApp, TestResponse};

const HOSTILE: &str = "<script>alert(1)</script>";

/// The page that a response redirects to.
async fn follow(browser: &Browser<'_>, response: &TestResponse) -> String {
    browser.page(response.redirect_target()).await
}

async fn setup() -> (TestApp, Account) {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("a.b").await;
    (app, account)
}

async fn named(app: &TestApp, account: &Account, name: &str, event_types: &[&str]) -> String {
    let body = json!({"name": name, "url": "https://example.com/", "event_types": event_types});
    let created = app.as_account(account, "POST /endpoints", body).await.expect(201);
    created["id"].as_str().unwrap().to_owned()
}

async fn publish(app: &TestApp, account: &Account, payload: Value) -> String {
    let body = json!({"event_type": "a.b", "payload": payload});
    let event = app.as_account(account, "POST /events", body).await.expect(202);
    event["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_can_be_filtered_by_type() {
    let (app, account) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    assert_contains(&browser.page("/events").await, &["No events yet", "aria-current=\"page\""]);
    named(&app, &account, "One", &["*"]).await;
    let event = publish(&app, &account, json!("12345")).await;
    assert_contains(&browser.page("/events").await, &[&event, "a.b", "7 bytes"]);
    assert_contains(&browser.page("/events?event_type=a.b").await, &[&event, "value=\"a.b\""]);
    assert_contains(&browser.page("/events?event_type=a.c").await, &["No matching events"]);
    assert_eq!(browser.get("/events?event_type=..").await.status, 400);
}

#[tokio::test]
async fn an_event_shows_its_payload_and_who_received_it() {
    let (app, account) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    let (kept, gone) = (
        named(&app, &account, &format!("Kept {HOSTILE}"), &["*"]).await,
        named(&app, &account, "Gone", &["*"]).await,
    );
    let event = publish(&app, &account, json!({"x": HOSTILE, "n": [1]})).await;
    app.as_account(&account, &format!("DELETE /endpoints/{gone}"), Value::Null).await.expect(204);
    let page = browser.page(&format!("/events/{event}")).await;
    assert_contains(
        &page,
        &[
            "Kept &lt;script&gt;",
            &format!("/webhooks/{kept}\""),
            &format!("deleted, <code>{gone}</code>"),
            "pending",
            "discarded",
            "Raw (",
            "&quot;n&quot;: [\n    1\n  ]",
            "every 5s",
        ],
    );
    assert!(!page.contains("<script>"), "{page}");
    let part = browser.page(&format!("/events/{event}/deliveries")).await;
    assert_contains(&part, &["delivery-list"]);
    assert!(!part.contains("<html"));
    assert_eq!(browser.get(&format!("/events/evt_{}", "0".repeat(26))).await.status, 404);
}

#[tokio::test]
async fn an_event_can_be_resent_from_its_page() {
    let (app, account) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    let event = publish(&app, &account, json!(1)).await;
    let page = format!("/events/{event}");
    assert_contains(&browser.page(&page).await, &["No deliveries", "No webhooks to send to"]);
    let not = named(&app, &account, "Not", &[]).await;
    let resend = format!("{page}/resend");
    let to_all = browser.submit_from(&page, &resend, &[("to", "all"), ("endpoint", &not)]).await;
    assert_contains(
        &follow(&browser, &to_all).await,
        &["no webhook is subscribed to this event type"],
    );
    let to_one = browser.submit_from(&page, &resend, &[("to", "one"), ("endpoint", &not)]).await;
    assert_contains(&follow(&browser, &to_one).await, &["A new delivery was created", "pending"]);
    named(&app, &account, "Yes", &["*"]).await;
    let to_all = browser.submit_from(&page, &resend, &[("to", "all")]).await;
    assert_contains(&follow(&browser, &to_all).await, &["New deliveries were created", "Yes"]);

    let odd = browser.submit_from(&page, &resend, &[("to", "one"), ("endpoint", "x")]).await;
    assert_contains(&odd.page(422), &["It must be an ID of the form ep_"]);
    app.as_account(&account, &format!("DELETE /endpoints/{not}"), Value::Null).await.expect(204);
    let gone = browser.submit_from(&page, &resend, &[("to", "one"), ("endpoint", &not)]).await;
    assert_eq!(gone.status, 409);
    let forged = browser.post(&resend, &[("to", "all")]).await;
    assert_eq!(forged.status, 403);
}

#[tokio::test]
async fn a_replay_is_counted_started_watched_and_cancelled() {
    let (app, account) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    assert_contains(&browser.page("/replays").await, &["No replays yet"]);
    let endpoint = named(&app, &account, "One", &["*"]).await;
    publish(&app, &account, json!(1)).await;
    app.as_account(&account, &format!("POST /endpoints/{endpoint}/disable"), Value::Null)
        .await
        .expect(200);
    let enable = format!("POST /endpoints/{endpoint}/enable");
    app.as_account(&account, &enable, json!({"held": "discard"})).await.expect(200);

    let new = "/replays/new";
    let prefilled = browser.page(&format!("{new}?endpoint={endpoint}")).await;
    assert_contains(
        &prefilled,
        &[&format!("<option value=\"{endpoint}\" selected>"), "in UTC", "a.b"],
    );
    let mut fields = vec![
        ("endpoint", endpoint.as_str()),
        ("event_types", "a.b"),
        ("states", "discarded"),
        ("since", "2020-01-31T12:00"),
        ("until", ""),
        ("rate", "7"),
        ("do", "count"),
    ];
    let counted = browser.submit_from(new, new, &fields).await;
    assert_contains(
        &counted.page(200),
        &["1 delivery matches.", "value=\"7\"", "value=\"2020-01-31T12:00\""],
    );
    assert_contains(&browser.page("/replays").await, &["No replays yet"]);
    *fields.last_mut().unwrap() = ("do", "start");
    let started = browser.submit_from(new, new, &fields).await;
    let runs = [
        "The replay is running.",
        "running",
        "0 of 1 done",
        "<progress",
        "every 2s",
        "7 deliveries per second",
    ];
    assert_contains(&follow(&browser, &started).await, &runs);
    let page = started.redirect_target().split('?').next().unwrap();
    assert_contains(&browser.page("/replays").await, &[page, "running"]);

    let same = browser.page(&format!("{page}/progress?version=running")).await;
    assert_contains(&same, &["0 of 1 done"]);
    let changed = browser.get(&format!("{page}/progress?version=paused")).await;
    assert_eq!(changed.headers["hx-refresh"], "true");
    for (action, message, button) in [
        ("pause", "The replay is paused.", "Resume"),
        ("resume", "The replay is running.", "Pause"),
        ("cancel", "The replay is cancelled.", "cancelled"),
    ] {
        let done = browser.submit_from(page, &format!("{page}/{action}"), &[]).await;
        assert_contains(&follow(&browser, &done).await, &[message, button]);
    }
    let done = browser.page(page).await;
    assert!(!done.contains("every 2s") && !done.contains("Cancel replay"));
    let late = browser.submit_from(new, &format!("{page}/resume"), &[]).await;
    assert_eq!(late.status, 409);
}

#[tokio::test]
async fn replay_form_errors_appear_beside_their_fields() {
    let (app, account) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    let new = "/replays/new";
    let fields = [
        ("endpoint", "x"),
        ("since", HOSTILE),
        ("rate", "many"),
        ("event_types", ".."),
        ("do", "start"),
    ];
    let odd = browser.submit_from(new, new, &fields).await.page(422);
    for name in ["endpoint", "since", "rate", "event_types", "states"] {
        let (_, rest) = odd.split_once(&format!("id=\"{name}-error\"")).expect(name);
        let (_, inner) = rest.split_once('>').unwrap();
        assert!(inner.starts_with("<p>"), "{name}: {inner}");
    }
    assert_contains(&odd, &["value=\"&lt;script&gt;"]);
    assert_contains(&browser.page("/replays").await, &["No replays yet"]);
}

#[tokio::test]
async fn a_webhook_shows_the_emails_that_were_sent() {
    let (app, account) = setup().await;
    let browser = Browser::sign_in(&app, &account).await;
    let id = named(&app, &account, "One", &["*"]).await;
    let page = format!("/webhooks/{id}");
    assert_contains(&browser.page(&page).await, &["Emails sent", "No emails"]);
    let (endpoint, at) = (id.parse().unwrap(), app.clock.now());
    let shards: Vec<_> = (0..app.records.shards()).collect();
    let fences = app.records.claim(&shards, BootId::MIN).await.unwrap();
    let notice = Notice {
        account: account.id,
        endpoint,
        report: Report::Disabled(Disabled {
            reason: DisabledReason::Exhausted,
            at,
            delivery: None,
        }),
        failure_count: 11,
        last_error: None,
    };
    let mut email = Email {
        kind: Kind::Disabled,
        disabled_at: Some(at),
        at,
        subject: HOSTILE.to_owned(),
        to: Vec::new(),
    };
    email.set_status("ops@example.com", RecipientStatus::Deferred("452 full".to_owned()));
    let fence = fences[usize::from(app.records.shard_of(endpoint))];
    app.records.log_emails(fence, &[(&notice, &email)]).await.unwrap();
    assert_contains(
        &browser.page(&page).await,
        &["ops@example.com", "deferred", "452 full", "&lt;script&gt;"],
    );
}

#[tokio::test]
async fn another_accounts_events_and_replays_are_not_found() {
    let (app, account) = setup().await;
    let other = app.account().await;
    let browser = Browser::sign_in(&app, &other).await;
    let event = publish(&app, &account, json!(1)).await;
    let replay = app.as_account(&account, "POST /replays", json!({})).await.expect(202);
    let replay = replay["id"].as_str().unwrap();
    for page in [format!("/events/{event}"), format!("/replays/{replay}")] {
        assert_eq!(browser.get(&page).await.status, 404, "{page}");
        let root = format!("/dashboard/accounts/{}", account.id);
        let theirs = browser.get(&format!("{root}{page}")).await;
        assert_eq!(theirs.status, 404, "{page}");
    }
    for action in [format!("/events/{event}/resend"), format!("/replays/{replay}/cancel")] {
        let rejected = browser.submit_from("/replays/new", &action, &[("to", "all")]).await;
        assert_eq!(rejected.status, 404, "{action}");
    }
}
