//! The pages of events and of replays, and the log of emails.

use postrider_domain::email::{Email, Verdict};
use postrider_domain::endpoint::{Disabled, DisabledReason};
use postrider_domain::ids::BootId;
use postrider_domain::notice::Notice;
use postrider_domain::time::Clock;
use serde_json::{Value, json};

use super::harness::{Account, Answer, House};
use super::visitor::{Visitor, says};

const HOSTILE: &str = "<script>alert(1)</script>";

/// Where an answer leads to.
async fn follow(visitor: &Visitor<'_>, answer: &Answer) -> String {
    visitor.page(answer.leads_to()).await
}

async fn house() -> (House, Account) {
    let house = House::new().await;
    let account = house.account().await;
    house.event_type("a.b").await;
    (house, account)
}

async fn named(house: &House, account: &Account, name: &str, event_types: &[&str]) -> String {
    let body = json!({"name": name, "url": "https://example.com/", "event_types": event_types});
    let made = house.own(account, "POST /endpoints", body).await.expect(201);
    made["id"].as_str().unwrap().to_owned()
}

async fn publish(house: &House, account: &Account, payload: Value) -> String {
    let body = json!({"event_type": "a.b", "payload": payload});
    let event = house.own(account, "POST /events", body).await.expect(202);
    event["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_are_listed_by_type() {
    let (house, account) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    says(&visitor.page("/events").await, &["No events yet", "aria-current=\"page\""]);
    named(&house, &account, "One", &["*"]).await;
    let event = publish(&house, &account, json!("12345")).await;
    says(&visitor.page("/events").await, &[&event, "a.b", "7 bytes"]);
    says(&visitor.page("/events?event_type=a.b").await, &[&event, "value=\"a.b\""]);
    says(&visitor.page("/events?event_type=a.c").await, &["No such event"]);
    assert_eq!(visitor.get("/events?event_type=..").await.status, 400);
}

#[tokio::test]
async fn an_event_shows_its_payload_and_who_received_it() {
    let (house, account) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let (kept, gone) = (
        named(&house, &account, &format!("Kept {HOSTILE}"), &["*"]).await,
        named(&house, &account, "Gone", &["*"]).await,
    );
    let event = publish(&house, &account, json!({"x": HOSTILE, "n": [1]})).await;
    house.own(&account, &format!("DELETE /endpoints/{gone}"), Value::Null).await.expect(204);
    let page = visitor.page(&format!("/events/{event}")).await;
    says(
        &page,
        &[
            "Kept &lt;script&gt;",
            &format!("/webhooks/{kept}\""),
            &format!("deleted, <code>{gone}</code>"),
            "pending",
            "discarded",
            "As sent, ",
            "&quot;n&quot;: [\n    1\n  ]",
            "every 5s",
        ],
    );
    assert!(!page.contains("<script>"), "{page}");
    let part = visitor.page(&format!("/events/{event}/deliveries")).await;
    says(&part, &["receiver-list"]);
    assert!(!part.contains("<html"));
    assert_eq!(visitor.get(&format!("/events/evt_{}", "0".repeat(26))).await.status, 404);
}

#[tokio::test]
async fn an_event_is_sent_again_from_its_page() {
    let (house, account) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let event = publish(&house, &account, json!(1)).await;
    let page = format!("/events/{event}");
    says(&visitor.page(&page).await, &["Nobody received it", "There is no webhook to send it to"]);
    let not = named(&house, &account, "Not", &[]).await;
    let resend = format!("{page}/resend");
    let to_all = visitor.fill(&page, &resend, &[("to", "all"), ("endpoint", &not)]).await;
    says(&follow(&visitor, &to_all).await, &["no webhook wants its type"]);
    let to_one = visitor.fill(&page, &resend, &[("to", "one"), ("endpoint", &not)]).await;
    says(&follow(&visitor, &to_one).await, &["a new delivery was made", "pending"]);
    named(&house, &account, "Yes", &["*"]).await;
    let to_all = visitor.fill(&page, &resend, &[("to", "all")]).await;
    says(&follow(&visitor, &to_all).await, &["new deliveries are made", "Yes"]);

    let odd = visitor.fill(&page, &resend, &[("to", "one"), ("endpoint", "x")]).await;
    says(&odd.page(422), &["It must be an id of the form ep_"]);
    house.own(&account, &format!("DELETE /endpoints/{not}"), Value::Null).await.expect(204);
    let gone = visitor.fill(&page, &resend, &[("to", "one"), ("endpoint", &not)]).await;
    assert_eq!(gone.status, 409);
    let forged = visitor.submit(&resend, &[("to", "all")]).await;
    assert_eq!(forged.status, 403);
}

#[tokio::test]
async fn a_replay_is_counted_started_watched_and_cancelled() {
    let (house, account) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    says(&visitor.page("/replays").await, &["No replays yet"]);
    let endpoint = named(&house, &account, "One", &["*"]).await;
    publish(&house, &account, json!(1)).await;
    house
        .own(&account, &format!("POST /endpoints/{endpoint}/disable"), Value::Null)
        .await
        .expect(200);
    let enable = format!("POST /endpoints/{endpoint}/enable");
    house.own(&account, &enable, json!({"held": "discard"})).await.expect(200);

    let new = "/replays/new";
    let prefilled = visitor.page(&format!("{new}?endpoint={endpoint}")).await;
    says(&prefilled, &[&format!("<option value=\"{endpoint}\" selected>"), "in UTC", "a.b"]);
    let mut fields = vec![
        ("endpoint", endpoint.as_str()),
        ("event_types", "a.b"),
        ("states", "discarded"),
        ("since", "2020-01-31T12:00"),
        ("until", ""),
        ("rate", "7"),
        ("do", "count"),
    ];
    let counted = visitor.fill(new, new, &fields).await;
    says(
        &counted.page(200),
        &["It would take 1 delivery.", "value=\"7\"", "value=\"2020-01-31T12:00\""],
    );
    says(&visitor.page("/replays").await, &["No replays yet"]);
    *fields.last_mut().unwrap() = ("do", "start");
    let started = visitor.fill(new, new, &fields).await;
    let runs =
        ["The replay runs.", "running", "0 of 1 done", "<progress", "every 2s", "7 new deliveries"];
    says(&follow(&visitor, &started).await, &runs);
    let page = started.leads_to().split('?').next().unwrap();
    says(&visitor.page("/replays").await, &[page, "running"]);

    says(&visitor.page(&format!("{page}/progress?was=running")).await, &["0 of 1 done"]);
    let changed = visitor.get(&format!("{page}/progress?was=paused")).await;
    assert_eq!(changed.headers["hx-refresh"], "true");
    for (action, said, button) in [
        ("pause", "The replay is paused.", "Resume"),
        ("resume", "The replay runs.", "Pause"),
        ("cancel", "The replay is cancelled.", "cancelled"),
    ] {
        let done = visitor.fill(page, &format!("{page}/{action}"), &[]).await;
        says(&follow(&visitor, &done).await, &[said, button]);
    }
    let done = visitor.page(page).await;
    assert!(!done.contains("every 2s") && !done.contains("Cancel the replay"));
    let late = visitor.fill(new, &format!("{page}/resume"), &[]).await;
    assert_eq!(late.status, 409);
}

#[tokio::test]
async fn what_is_wrong_with_a_replay_stands_beside_its_field() {
    let (house, account) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let new = "/replays/new";
    let fields = [
        ("endpoint", "x"),
        ("since", HOSTILE),
        ("rate", "many"),
        ("event_types", ".."),
        ("do", "start"),
    ];
    let odd = visitor.fill(new, new, &fields).await.page(422);
    for name in ["endpoint", "since", "rate", "event_types", "states"] {
        let (_, rest) = odd.split_once(&format!("id=\"{name}-error\"")).expect(name);
        let (_, inner) = rest.split_once('>').unwrap();
        assert!(inner.starts_with("<p>"), "{name}: {inner}");
    }
    says(&odd, &["value=\"&lt;script&gt;"]);
    says(&visitor.page("/replays").await, &["No replays yet"]);
}

#[tokio::test]
async fn a_webhook_shows_the_emails_that_were_sent() {
    let (house, account) = house().await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let id = named(&house, &account, "One", &["*"]).await;
    let page = format!("/webhooks/{id}");
    says(&visitor.page(&page).await, &["Emails sent", "No emails"]);
    let (endpoint, at) = (id.parse().unwrap(), house.clock.now());
    let shards: Vec<_> = (0..house.records.shards()).collect();
    let fences = house.records.claim(&shards, BootId::MIN).await.unwrap();
    let notice = Notice {
        account: account.id,
        endpoint,
        disabled: Disabled { reason: DisabledReason::Exhausted, at, delivery: None },
        failure_count: 11,
        last_error: None,
    };
    let mut email = Email { disabled_at: at, at, subject: HOSTILE.to_owned(), to: Vec::new() };
    email.note("ops@example.com", Verdict::Deferred("452 full".to_owned()));
    let fence = fences[usize::from(house.records.shard_of(endpoint))];
    house.records.log_email(fence, &notice, &email).await.unwrap();
    says(&visitor.page(&page).await, &["ops@example.com", "put off", "452 full", "&lt;script&gt;"]);
}

#[tokio::test]
async fn the_pages_of_another_account_are_not_there() {
    let (house, account) = house().await;
    let other = house.account().await;
    let visitor = Visitor::sign_in(&house, &other).await;
    let event = publish(&house, &account, json!(1)).await;
    let replay = house.own(&account, "POST /replays", json!({})).await.expect(202);
    let replay = replay["id"].as_str().unwrap();
    for page in [format!("/events/{event}"), format!("/replays/{replay}")] {
        assert_eq!(visitor.get(&page).await.status, 404, "{page}");
        let root = format!("/dashboard/accounts/{}", account.id);
        let theirs = visitor.get(&format!("{root}{page}")).await;
        assert_eq!(theirs.status, 404, "{page}");
    }
    for action in [format!("/events/{event}/resend"), format!("/replays/{replay}/cancel")] {
        let refused = visitor.fill("/replays/new", &action, &[("to", "all")]).await;
        assert_eq!(refused.status, 404, "{action}");
    }
}
