//! A POST that is repeated with its idempotency key takes effect once and gets the first answer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use postrider_domain::ids::EndpointId;
use postrider_store::kv::Range;
use postrider_store::kv::memory::{Faults, Memory};
use serde_json::{Value, json};

use super::contract::calls;
use super::harness::{Account, OPERATOR, TestApp, TestResponse, request};

const REUSED: &str = "urn:postrider:problem:idempotency-key-reused";
const IN_USE: &str = "urn:postrider:problem:idempotency-key-in-use";
const NOT_KEPT: &str = "urn:postrider:problem:answer-not-kept";

async fn setup() -> (TestApp, Account) {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("a.b").await;
    (app, account)
}

/// Sends a POST with an idempotency key; `Null` means no body.
async fn post(app: &TestApp, api_key: &str, key: &str, path: &str, body: &Value) -> TestResponse {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = request(Some(api_key), &format!("POST {path}"), text);
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    app.send(request).await
}

fn new_endpoint() -> Value {
    json!({"name": "e", "url": "https://example.com/", "event_types": ["*"]})
}

/// Asserts a conflict of this type.
#[track_caller]
fn expect_conflict(response: &TestResponse, kind: &str) {
    response.assert_problem(409);
    assert_eq!(response.json()["type"], kind);
}

/// An installation with something for every POST to act upon.
struct World {
    app: TestApp,
    account: Account,
    endpoint: String,
    event: String,
    /// Its first attempt has succeeded.
    delivered: String,
    /// It is pending.
    pending: String,
    replay: String,
}

impl World {
    async fn new() -> Self {
        let (app, account) = setup().await;
        let endpoint = app.endpoint(&account).await;
        let mut events = Vec::new();
        for n in 0..2 {
            let body = json!({"event_type": "a.b", "payload": n});
            events.push(app.as_account(&account, "POST /events", body).await.expect(202));
            if n == 0 {
                let id: EndpointId = endpoint.parse().unwrap();
                app.attempt_next(account.id, id, 200, 5).await;
            }
        }
        let call = format!("GET /endpoints/{endpoint}/deliveries");
        let deliveries = app.as_account(&account, &call, Value::Null).await.expect(200);
        let id = |index: usize| deliveries["data"][index]["id"].as_str().unwrap().to_owned();
        let replay = app.as_account(&account, "POST /replays", json!({})).await.expect(202);
        let (pending, delivered) = (id(0), id(1));
        Self {
            event: events[0]["id"].as_str().unwrap().to_owned(),
            replay: replay["id"].as_str().unwrap().to_owned(),
            app,
            account,
            endpoint,
            delivered,
            pending,
        }
    }

    /// The request of an operation of the OpenAPI document: its path and body. Every POST must be
    /// here; `None` if it is not.
    fn request(&self, operation: &str) -> Option<(String, Value)> {
        let delivery =
            if operation.ends_with("/discard") { &self.pending } else { &self.delivered };
        let path = operation
            .replace("{account}", &self.account.id.to_string())
            .replace("{endpoint}", &self.endpoint)
            .replace("{event}", &self.event)
            .replace("{delivery}", delivery)
            .replace("{replay}", &self.replay);
        let event = json!({"event_type": "a.b", "payload": 7});
        let last = operation.rsplit('/').next().unwrap();
        let body = match last {
            "accounts" => json!({"name": "New", "contact_emails": ["a@example.com"]}),
            "api-keys" => json!({"name": "New"}),
            "endpoints" => new_endpoint(),
            "events" => event,
            "batch" => json!({"events": [event]}),
            "test" => json!({"event_type": "a.b"}),
            "portal-links" | "replays" | "rotate-secret" | "enable" => json!({}),
            "resend" => json!({"endpoint": self.endpoint}),
            "disable" | "discard" | "retry" | "send-now" | "pause" | "resume" | "cancel" => {
                Value::Null
            }
            _ => return None,
        };
        Some((path, body))
    }

    /// Brings about the state in which the operation changes something.
    async fn prepare(&self, operation: &str) {
        let undone = match operation.rsplit('/').next().unwrap() {
            "enable" => "disable",
            "disable" => "enable",
            "resume" => "pause",
            "pause" => "resume",
            _ => return,
        };
        let (resource, _) = operation.rsplit_once('/').unwrap();
        let (path, _) = self.request(&format!("{resource}/{undone}")).unwrap();
        self.app.call(OPERATOR, &format!("POST {path}"), Value::Null).await.expect(200);
    }

    /// Everything that the API shows.
    async fn snapshot(&self) -> Vec<Value> {
        let mut all = vec![self.app.as_operator("GET /v1/accounts", Value::Null).await.expect(200)];
        let endpoint = format!("/endpoints/{}", self.endpoint);
        for path in [
            "/api-keys",
            "/endpoints",
            &endpoint,
            &format!("{endpoint}/secret"),
            &format!("{endpoint}/deliveries"),
            "/events",
            "/replays",
        ] {
            let call = format!("GET /v1/accounts/{}{path}", self.account.id);
            all.push(self.app.as_operator(&call, Value::Null).await.expect(200));
        }
        all
    }
}

#[tokio::test]
async fn every_post_of_the_document_takes_effect_once() {
    let app = TestApp::new().await;
    let operations: BTreeSet<_> = calls(&app).await.into_iter().map(|call| call.name).collect();
    let posts = operations.iter().filter_map(|name| name.strip_prefix("POST "));
    let mut count = 0;
    for operation in posts.filter(|path| path.starts_with("/v1/")) {
        count += 1;
        let world = World::new().await;
        let app = &world.app;
        world.prepare(operation).await;
        let (path, body) = world.request(operation).unwrap_or_else(|| {
            panic!("{operation}: add it to this test, which shows that it honours Idempotency-Key")
        });
        let before = world.snapshot().await;
        let first = post(app, OPERATOR, "k", &path, &body).await;
        assert!(first.status.is_success(), "{operation}: {}", first.json());
        let unchanged = ["/test", "/portal-links", "/send-now"];
        if !unchanged.iter().any(|it| operation.ends_with(it)) {
            assert_ne!(world.snapshot().await, before, "{operation} has no effect");
        }
        // What another client does meanwhile is not undone by the repeated request.
        world.prepare(operation).await;
        app.clock.advance(Duration::from_secs(30));
        let after = world.snapshot().await;
        for _ in 0..2 {
            let again = post(app, OPERATOR, "k", &path, &body).await;
            assert_eq!((again.status, &again.bytes), (first.status, &first.bytes), "{operation}");
            assert_eq!(again.headers["content-type"], first.headers["content-type"]);
        }
        assert_eq!(world.snapshot().await, after, "{operation} took effect twice");

        let other = if operation.contains("/events") && !operation.ends_with("/resend") {
            post(app, OPERATOR, "k", &path, &json!([body])).await.assert_problem(422);
            let event = json!({"event_type": "a.b", "payload": 8});
            let batch = operation.ends_with("/batch");
            let body = if batch { json!({"events": [event]}) } else { event };
            post(app, OPERATOR, "k", &path, &body).await
        } else {
            post(app, OPERATOR, "k", &format!("{path}?again"), &body).await
        };
        expect_conflict(&other, REUSED);
        for bad in ["a b", &"k".repeat(257), ""] {
            post(app, OPERATOR, bad, &path, &body).await.assert_problem(400);
        }
        assert_eq!(world.snapshot().await, after, "{operation}");
    }
    assert_eq!(count, 18);
}

#[tokio::test]
async fn every_post_documents_the_key() {
    let app = TestApp::new().await;
    let document = app.send(request(None, "GET /openapi.json", "")).await.expect(200);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let keys = parameters.iter().filter(|it| it["name"] == "Idempotency-Key").count();
            let is_post = method == "post" && path.starts_with("/v1/");
            assert_eq!(keys, usize::from(is_post), "{method} {path}");
            for status in ["400", "409"].into_iter().filter(|_| is_post) {
                assert!(operation["responses"][status].is_object(), "{path}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn a_hundred_concurrent_requests_create_one_of_each() {
    for seed in 0..3 {
        let memory = Memory::with_faults(seed, Faults::default());
        let app = TestApp::with_store(memory.clone()).await;
        let account = app.account().await;
        app.event_type("a.b").await;
        let endpoint = app.endpoint(&account).await;
        let event = json!({"event_type": "a.b", "payload": 1});
        app.as_account(&account, "POST /events", event).await.expect(202);
        app.attempt_next(account.id, endpoint.parse().unwrap(), 200, 5).await;
        let call = format!("GET /endpoints/{endpoint}/deliveries");
        let deliveries = app.as_account(&account, &call, Value::Null).await.expect(200);
        let delivery = deliveries["data"][0]["id"].as_str().unwrap();
        memory.set_faults(Faults { conflict: 0.1, lost_after_commit: 0.2, ..Faults::default() });
        let base = format!("/v1/accounts/{}", account.id);
        for (path, body) in [
            (format!("{base}/endpoints"), new_endpoint()),
            (format!("{base}/api-keys"), json!({"name": "k"})),
            (format!("{base}/replays"), json!({})),
            (format!("{base}/deliveries/{delivery}/retry"), Value::Null),
            ("/v1/accounts".to_owned(), json!({"name": "n", "contact_emails": ["a@b.example"]})),
        ] {
            let requests = (0..100).map(|_| post(&app, OPERATOR, &path, &path, &body));
            let answers = join_all(requests).await;
            let bodies: BTreeSet<_> = answers.iter().map(|answer| &answer.bytes).collect();
            assert_eq!(bodies.len(), 1, "{path}: {bodies:?}");
            assert!(answers.iter().all(|answer| answer.status.is_success()), "{path}");
        }
        memory.set_faults(Faults::default());
        for (path, count) in [
            ("/endpoints", 2),
            ("/api-keys", 2),
            ("/replays", 1),
            (call.split_once(' ').unwrap().1, 2),
        ] {
            let call = format!("GET {base}{path}");
            let list = app.as_operator(&call, Value::Null).await.expect(200);
            assert_eq!(list["data"].as_array().unwrap().len(), count, "{path}");
        }
        let accounts = app.as_operator("GET /v1/accounts", Value::Null).await.expect(200);
        assert_eq!(accounts["data"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn an_answer_is_only_for_those_who_may_make_the_request() {
    let (app, account) = setup().await;
    let other = app.account().await;
    let path = format!("/v1/accounts/{}/api-keys", account.id);
    let body = json!({"name": "k"});
    post(&app, OPERATOR, "k", &path, &body).await.expect(201);
    post(&app, &account.key, "k", &path, &body).await.assert_problem(403);
    post(&app, &other.key, "k", &path, &body).await.assert_problem(404);
    post(&app, "prk_wrong", "k", &path, &body).await.assert_problem(401);

    let endpoints = |account: &Account| format!("/v1/accounts/{}/endpoints", account.id);
    let mine = post(&app, &account.key, "e", &endpoints(&account), &new_endpoint()).await;
    let mine = mine.expect(201);
    let theirs = post(&app, &other.key, "e", &endpoints(&other), &new_endpoint()).await;
    assert_ne!(theirs.expect(201)["id"], mine["id"]);
    post(&app, &other.key, "e", &endpoints(&account), &new_endpoint()).await.assert_problem(404);
    // The operator and the account's keys have the same rights here.
    let again = post(&app, OPERATOR, "e", &endpoints(&account), &new_endpoint()).await;
    assert_eq!(again.expect(201), mine);
    // The account's keys are not those of requests without an account.
    let body = json!({"name": "n", "contact_emails": ["a@example.com"]});
    post(&app, OPERATOR, "e", "/v1/accounts", &body).await.expect(201);
}

#[tokio::test]
async fn one_key_does_not_publish_an_event_and_create_an_endpoint() {
    let (app, account) = setup().await;
    let base = format!("/v1/accounts/{}", account.id);
    let event = json!({"event_type": "a.b", "payload": 1});
    for (key, first, second) in [("1", "events", "endpoints"), ("2", "endpoints", "events")] {
        let body = |path| if path == "events" { event.clone() } else { new_endpoint() };
        let path = |name: &str| format!("{base}/{name}");
        let answer = post(&app, &account.key, key, &path(first), &body(first)).await;
        assert!(answer.status.is_success());
        let answer = post(&app, &account.key, key, &path(second), &body(second)).await;
        expect_conflict(&answer, REUSED);
    }
}

#[tokio::test]
async fn a_failed_request_does_not_use_up_its_key() {
    let memory = Memory::with_faults(1, Faults::default());
    let app = TestApp::with_store(memory.clone()).await;
    let account = app.account().await;
    let path = format!("/v1/accounts/{}/endpoints", account.id);
    let unknown = json!({"name": "e", "url": "https://example.com/", "event_types": ["a.b"]});
    assert_eq!(
        post(&app, &account.key, "k", &path, &unknown).await.pointers(422),
        ["/event_types/0"]
    );
    app.event_type("a.b").await;
    let created = post(&app, &account.key, "k", &path, &unknown).await.expect(201);
    // What is wrong with it by now does not matter.
    app.as_operator("DELETE /v1/event-types/a.b", Value::Null).await.expect(204);
    assert_eq!(post(&app, &account.key, "k", &path, &unknown).await.expect(201), created);

    let endpoint = format!("{path}/{}", created["id"].as_str().unwrap());
    let disable = format!("{endpoint}/disable");
    app.call(&account.key, &format!("POST {disable}"), Value::Null).await.expect(200);
    let send = format!("{endpoint}/send-now");
    post(&app, &account.key, "s", &send, &Value::Null).await.assert_problem(409);
    let enable = format!("POST {endpoint}/enable");
    app.call(&account.key, &enable, Value::Null).await.expect(200);
    post(&app, &account.key, "s", &send, &Value::Null).await.expect(200);
    app.call(&account.key, &format!("DELETE {endpoint}"), Value::Null).await.expect(204);
    post(&app, &account.key, "s", &send, &Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_key_expires_after_24_hours_and_not_before() {
    let (app, account) = setup().await;
    let path = format!("/v1/accounts/{}/endpoints", account.id);
    let first = post(&app, &account.key, "daily", &path, &new_endpoint()).await.expect(201);
    app.clock.advance(Duration::from_secs(24 * 3600 - 1));
    let same = post(&app, &account.key, "daily", &path, &new_endpoint()).await.expect(201);
    assert_eq!(same, first);
    app.clock.advance(Duration::from_secs(1));
    let second = post(&app, &account.key, "daily", &path, &new_endpoint()).await.expect(201);
    assert_ne!(second["id"], first["id"]);
    let same = post(&app, &account.key, "daily", &path, &new_endpoint()).await.expect(201);
    assert_eq!(same, second);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_kept() {
    let (app, account) = setup().await;
    let endpoint = app.endpoint(&account).await;
    let path = format!("/v1/accounts/{}/endpoints/{endpoint}/test", account.id);
    let body = json!({"event_type": "a.b", "payload": "x".repeat(100_000)});
    post(&app, &account.key, "k", &path, &body).await.expect(200);
    expect_conflict(&post(&app, &account.key, "k", &path, &body).await, NOT_KEPT);
}

#[tokio::test]
async fn an_interrupted_test_event_is_sent_again_under_the_same_id() {
    let (app, account) = setup().await;
    let endpoint = app.endpoint(&account).await;
    let path = format!("/v1/accounts/{}/endpoints/{endpoint}/test", account.id);
    app.event_type("test.panic").await;
    let body = json!({"event_type": "test.panic"});
    post(&app, &account.key, "k", &path, &body).await.assert_problem(500);
    app.clock.advance(Duration::from_secs(119));
    let early = post(&app, &account.key, "k", &path, &body).await;
    expect_conflict(&early, IN_USE);
    assert_eq!(early.headers["retry-after"], "1");
    app.clock.advance(Duration::from_secs(1));
    post(&app, &account.key, "k", &path, &body).await.assert_problem(500);
    expect_conflict(&post(&app, &account.key, "k", &path, &body).await, IN_USE);
}

#[tokio::test]
async fn a_new_api_key_is_not_readable_in_the_store() {
    let (app, account) = setup().await;
    let path = format!("/v1/accounts/{}/api-keys", account.id);
    let body = json!({"name": "k"});
    let created = post(&app, OPERATOR, "k", &path, &body).await.expect(201);
    let secret = created["key"].as_str().unwrap().as_bytes().to_vec();
    let rows = app.store.rows(Range::new(Vec::new(), vec![0xff])).await.unwrap();
    assert!(rows.len() > 5);
    assert!(!rows.iter().any(|(_, value)| value.windows(secret.len()).any(|it| it == secret)));
}
