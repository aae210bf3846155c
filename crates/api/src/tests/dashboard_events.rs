//! The pages of events and of replays, as a browser without a script uses them.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use postrider_domain::ids::{BootId, Mint};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::harness::{Account, House, request};

const HOSTILE: &str = "<script>alert(1)</script>";

/// Somebody who is signed in with an account's key.
struct Browser<'a> {
    house: &'a House,
    root: String,
    cookie: HeaderValue,
}

struct Shown {
    status: u16,
    headers: HeaderMap,
    html: String,
}

impl Shown {
    /// Where it leads to.
    #[track_caller]
    fn leads_to(&self) -> String {
        assert_eq!(self.status, 303, "{}", self.html);
        self.headers["location"].to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn has(&self, texts: &[&str]) {
        assert_eq!(self.status, 200, "{}", self.html);
        for text in texts {
            assert!(self.html.contains(text), "no {text:?} in {}", self.html);
        }
    }

    /// The token in the page's forms.
    fn csrf(&self) -> String {
        let (_, rest) = self.html.split_once("name=\"csrf\" value=\"").expect("a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

impl<'a> Browser<'a> {
    async fn new(house: &'a House, account: &Account) -> Self {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("key", &account.key)
            .finish();
        let answer = house.send(request(None, "POST /dashboard/sign-in", form)).await;
        let cookie = answer.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
        let root = format!("/dashboard/accounts/{}", account.id);
        Self { house, root, cookie: cookie.parse().unwrap() }
    }

    async fn ask(&self, call: &str, body: String) -> Shown {
        let mut request = request(None, call, body);
        request.headers_mut().insert(COOKIE, self.cookie.clone());
        let answer = self.house.send(request).await;
        let html = String::from_utf8(answer.bytes).unwrap();
        for forbidden in ["<script>", " style=", "<style", " onclick", "hx-on"] {
            assert!(!html.contains(forbidden), "{forbidden} in {html}");
        }
        Shown { status: answer.status.as_u16(), headers: answer.headers, html }
    }

    /// A page below the account's own.
    async fn get(&self, page: &str) -> Shown {
        self.ask(&format!("GET {}{page}", self.root), String::new()).await
    }

    /// Sends the form of a page to another.
    async fn post(&self, from: &str, to: &str, fields: &[(&str, &str)]) -> Shown {
        let csrf = self.get(from).await.csrf();
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrf", &csrf).extend_pairs(fields);
        self.ask(&format!("POST {}{to}", self.root), form.finish()).await
    }

    /// Follows where an answer leads.
    async fn follow(&self, answer: &Shown) -> Shown {
        self.ask(&format!("GET {}", answer.leads_to()), String::new()).await
    }
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
    let browser = Browser::new(&house, &account).await;
    browser.get("/events").await.has(&["No events yet", "aria-current=\"page\""]);
    named(&house, &account, "One", &["*"]).await;
    let event = publish(&house, &account, json!("12345")).await;
    browser.get("/events").await.has(&[&event, "a.b", "7 bytes"]);
    browser.get("/events?event_type=a.b").await.has(&[&event, "value=\"a.b\""]);
    browser.get("/events?event_type=a.c").await.has(&["No such event"]);
    assert_eq!(browser.get("/events?event_type=..").await.status, 400);
}

#[tokio::test]
async fn an_event_shows_its_payload_and_who_received_it() {
    let (house, account) = house().await;
    let browser = Browser::new(&house, &account).await;
    let (kept, gone) = (
        named(&house, &account, &format!("Kept {HOSTILE}"), &["*"]).await,
        named(&house, &account, "Gone", &["*"]).await,
    );
    let event = publish(&house, &account, json!({"x": HOSTILE, "n": [1]})).await;
    house.own(&account, &format!("DELETE /endpoints/{gone}"), Value::Null).await.expect(204);
    let page = browser.get(&format!("/events/{event}")).await;
    let link = format!("{}/webhooks/{kept}\"", browser.root);
    page.has(&[
        "Kept &lt;script&gt;",
        &link,
        &format!("deleted, <code>{gone}</code>"),
        "pending",
        "discarded",
        "As it is sent, byte for byte",
        "&quot;n&quot;: [\n    1\n  ]",
        "every 5s",
    ]);
    let part = browser.get(&format!("/events/{event}/deliveries")).await;
    part.has(&["receiver-list"]);
    assert!(!part.html.contains("<html"));
    assert_eq!(browser.get(&format!("/events/evt_{}", "0".repeat(26))).await.status, 404);
}

#[tokio::test]
async fn an_event_is_sent_again_from_its_page() {
    let (house, account) = house().await;
    let browser = Browser::new(&house, &account).await;
    let event = publish(&house, &account, json!(1)).await;
    let page = format!("/events/{event}");
    browser.get(&page).await.has(&["Nobody received it", "There is no webhook to send it to"]);
    let not = named(&house, &account, "Not", &[]).await;
    let resend = format!("{page}/resend");
    let to_all = browser.post(&page, &resend, &[("to", "all"), ("endpoint", &not)]).await;
    browser.follow(&to_all).await.has(&["no webhook wants its type"]);
    let to_one = browser.post(&page, &resend, &[("to", "one"), ("endpoint", &not)]).await;
    browser.follow(&to_one).await.has(&["a new delivery was made", "pending"]);
    named(&house, &account, "Yes", &["*"]).await;
    let to_all = browser.post(&page, &resend, &[("to", "all")]).await;
    browser.follow(&to_all).await.has(&["new deliveries are made", "Yes"]);

    let odd = browser.post(&page, &resend, &[("to", "one"), ("endpoint", "x")]).await;
    assert_eq!(odd.status, 422);
    assert!(odd.html.contains("It must be an id of the form ep_"), "{}", odd.html);
    house.own(&account, &format!("DELETE /endpoints/{not}"), Value::Null).await.expect(204);
    let gone = browser.post(&page, &resend, &[("to", "one"), ("endpoint", &not)]).await;
    assert_eq!(gone.status, 409);
    let forged = browser.ask(&format!("POST {}{resend}", browser.root), "to=all".to_owned()).await;
    assert_eq!(forged.status, 403);
}

#[tokio::test]
async fn a_replay_is_counted_started_watched_and_cancelled() {
    let (house, account) = house().await;
    let browser = Browser::new(&house, &account).await;
    browser.get("/replays").await.has(&["No replays yet"]);
    let endpoint = named(&house, &account, "One", &["*"]).await;
    publish(&house, &account, json!(1)).await;
    house
        .own(&account, &format!("POST /endpoints/{endpoint}/disable"), Value::Null)
        .await
        .expect(200);
    let enable = format!("POST /endpoints/{endpoint}/enable");
    house.own(&account, &enable, json!({"held": "discard"})).await.expect(200);

    let new = "/replays/new";
    let prefilled = browser.get(&format!("{new}?endpoint={endpoint}")).await;
    prefilled.has(&[&format!("<option value=\"{endpoint}\" selected>"), "in UTC", "a.b"]);
    let mut fields = vec![
        ("endpoint", endpoint.as_str()),
        ("event_types", "a.b"),
        ("states", "discarded"),
        ("since", "2020-01-31T12:00"),
        ("until", ""),
        ("rate", "7"),
        ("do", "count"),
    ];
    let counted = browser.post(new, new, &fields).await;
    counted.has(&["It would take 1 delivery.", "value=\"7\"", "value=\"2020-01-31T12:00\""]);
    browser.get("/replays").await.has(&["No replays yet"]);
    *fields.last_mut().unwrap() = ("do", "start");
    let started = browser.post(new, new, &fields).await;
    let page = browser.follow(&started).await;
    page.has(&[
        "The replay runs.",
        "running",
        "0 of 1 done",
        "<progress",
        "every 2s",
        "7 new deliveries",
    ]);
    let location = started.leads_to();
    let page = location.strip_prefix(&browser.root).unwrap().split('?').next().unwrap();
    browser.get("/replays").await.has(&[page, "running"]);

    browser.get(&format!("{page}/progress?was=running")).await.has(&["0 of 1 done"]);
    let changed = browser.get(&format!("{page}/progress?was=paused")).await;
    assert_eq!(changed.headers["hx-refresh"], "true");
    for (action, said, button) in [
        ("pause", "The replay is paused.", "Resume"),
        ("resume", "The replay runs.", "Pause"),
        ("cancel", "The replay is cancelled.", "cancelled"),
    ] {
        let done = browser.post(page, &format!("{page}/{action}"), &[]).await;
        browser.follow(&done).await.has(&[said, button]);
    }
    let done = browser.get(page).await;
    assert!(!done.html.contains("every 2s") && !done.html.contains("Cancel the replay"));
    let late = browser.post(new, &format!("{page}/resume"), &[]).await;
    assert_eq!(late.status, 409);
}

#[tokio::test]
async fn what_is_wrong_with_a_replay_stands_beside_its_field() {
    let (house, account) = house().await;
    let browser = Browser::new(&house, &account).await;
    let new = "/replays/new";
    let fields = [
        ("endpoint", "x"),
        ("since", HOSTILE),
        ("rate", "many"),
        ("event_types", ".."),
        ("do", "start"),
    ];
    let odd = browser.post(new, new, &fields).await;
    assert_eq!(odd.status, 422);
    for name in ["endpoint", "since", "rate", "event_types", "states"] {
        let (_, rest) = odd.html.split_once(&format!("id=\"{name}-error\"")).expect(name);
        let (_, inner) = rest.split_once('>').unwrap();
        assert!(inner.starts_with("<p>"), "{name}: {inner}");
    }
    assert!(odd.html.contains("value=\"&lt;script&gt;"), "{}", odd.html);
    browser.get("/replays").await.has(&["No replays yet"]);
}

#[tokio::test]
async fn a_webhook_shows_the_emails_that_were_sent() {
    use postrider_domain::endpoint::{Disabled, DisabledReason};
    use postrider_domain::notice::{Email, Notice, Verdict};
    use postrider_domain::time::Clock;

    let (house, account) = house().await;
    let browser = Browser::new(&house, &account).await;
    let id = named(&house, &account, "One", &["*"]).await;
    let page = format!("/webhooks/{id}");
    browser.get(&page).await.has(&["Emails sent", "No emails"]);
    let (endpoint, at) = (id.parse().unwrap(), house.clock.now());
    let shards: Vec<_> = (0..house.records.shards()).collect();
    let boot: BootId = Mint::new().id(at);
    let fences = house.records.claim(&shards, boot).await.unwrap();
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
    browser.get(&page).await.has(&["ops@example.com", "put off", "452 full", "&lt;script&gt;"]);
}

#[tokio::test]
async fn the_pages_of_another_account_are_not_there() {
    let (house, account) = house().await;
    let other = house.account().await;
    let browser = Browser::new(&house, &other).await;
    let event = publish(&house, &account, json!(1)).await;
    let replay = house.own(&account, "POST /replays", json!({})).await.expect(202);
    let replay = replay["id"].as_str().unwrap();
    for page in [format!("/events/{event}"), format!("/replays/{replay}")] {
        assert_eq!(browser.get(&page).await.status, 404, "{page}");
        let root = format!("/dashboard/accounts/{}", account.id);
        let theirs = browser.ask(&format!("GET {root}{page}"), String::new()).await;
        assert_eq!(theirs.status, 404, "{page}");
    }
    for action in [format!("/events/{event}/resend"), format!("/replays/{replay}/cancel")] {
        let refused = browser.post("/replays/new", &action, &[("to", "all")]).await;
        assert_eq!(refused.status, 404, "{action}");
    }
}
