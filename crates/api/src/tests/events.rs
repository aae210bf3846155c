use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::harness::{Account, OPERATOR, TestApp, TestResponse, request};

async fn setup() -> (TestApp, Account) {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("a.b").await;
    (app, account)
}

async fn publish(
    app: &TestApp,
    account: &Account,
    key: &str,
    batch: bool,
    body: &str,
) -> TestResponse {
    let path = if batch { "events/batch" } else { "events" };
    let call = format!("POST /v1/accounts/{}/{path}", account.id);
    let mut request = request(Some(&account.key), &call, body.to_owned());
    if !key.is_empty() {
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    }
    app.send(request).await
}

#[tokio::test]
async fn a_payload_keeps_its_bytes() {
    let (app, account) = setup().await;
    app.endpoint(&account).await;
    app.shards.take();
    let payload = "{ \"z\" : 1.50, \"a\":\t[1e2, \"\\u00e9\\ud83d\\ude00\"],\n\"big\": 12345678901234567890123 }";
    let body = format!("{{\"event_type\":\"a\\u002eb\", \"payload\" : {payload} }}");
    let receipt = publish(&app, &account, "", false, &body).await.expect(202);
    assert_eq!((&receipt["deliveries"], &receipt["event_type"]), (&json!(1), &json!("a.b")));
    assert_eq!(app.shards.take().len(), 1);
    let id = receipt["id"].as_str().unwrap();
    let (stored, _) = app.records.event(account.id, id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(stored.payload.bytes(), payload.as_bytes());
    let shown = app.as_account(&account, &format!("GET /events/{id}"), Value::Null).await;
    assert!(String::from_utf8_lossy(&shown.bytes).contains(payload));
    let list = app.as_account(&account, "GET /events", Value::Null).await.expect(200);
    assert_eq!(list["data"][0]["payload_bytes"], payload.len());
}

#[tokio::test]
async fn every_invalid_field_of_an_event_is_listed_at_once() {
    let (app, account) = setup().await;
    for (body, expected) in [
        (json!({}), vec!["/event_type", "/payload"]),
        (
            json!({"event_type": 1, "payload": 1, "x": 1, "y/z": 2}),
            vec!["/event_type", "/x", "/y~1z"],
        ),
        (json!({"event_type": "..", "payload": 1}), vec!["/event_type"]),
        (json!({"event_type": "no.such", "payload": 1}), vec!["/event_type"]),
        (json!([]), vec!["", "/event_type", "/payload"]),
    ] {
        let found = publish(&app, &account, "", false, &body.to_string()).await.pointers(422);
        assert_eq!(found, expected, "{body}");
    }
    let twice = r#"{"event_type": "a.b", "payload": 1, "payload": 2}"#;
    assert_eq!(publish(&app, &account, "", false, twice).await.pointers(422), ["/payload"]);
    let body = json!({"events": [
        {"event_type": "a.b", "payload": 1}, {"payload": 1}, 7,
        {"event_type": "a.b", "payload": 1, "id": 1},
    ]});
    let found = publish(&app, &account, "", true, &body.to_string()).await.pointers(422);
    assert!(found.contains(&"/events/1/event_type".to_owned()), "{found:?}");
    assert!(found.contains(&"/events/2".to_owned()), "{found:?}");
    assert!(found.contains(&"/events/3/id".to_owned()), "{found:?}");
    let events: Vec<_> =
        ["a.b", "x.y", "a.b", "x.z"].map(|name| json!({"event_type": name, "payload": 1})).into();
    let body = json!({"events": events}).to_string();
    for key in ["", "k"] {
        let found = publish(&app, &account, key, true, &body).await.pointers(422);
        assert_eq!(found, ["/events/1/event_type", "/events/3/event_type"]);
    }
    let none = app.as_account(&account, "GET /events", Value::Null).await.expect(200);
    assert_eq!(none["data"], json!([]), "a rejected batch stored some of its events");
}

#[tokio::test]
async fn unknown_types_are_reported_together_with_other_errors() {
    let (app, account) = setup().await;
    let single = json!({"event_type": "no.such", "x": 1});
    let batch = json!({"events": [
        {"event_type": "a.b", "payload": 1}, {"event_type": "no.such", "payload": 1},
        {"payload": 1, "x": 1}, 7, {"event_type": "no.such"}, {"event_type": "a.b"},
    ]});
    let in_batch = [
        "/events/1/event_type",
        "/events/2/event_type",
        "/events/2/x",
        "/events/3",
        "/events/4/event_type",
        "/events/4/payload",
        "/events/5/payload",
    ];
    for key in ["", "k"] {
        let response = publish(&app, &account, key, false, &single.to_string()).await;
        assert_eq!(sorted(response), ["/event_type", "/payload", "/x"]);
        let response = publish(&app, &account, key, true, &batch.to_string()).await;
        assert_eq!(sorted(response), in_batch);
    }
}

fn sorted(rejected: TestResponse) -> Vec<String> {
    let mut pointers = rejected.pointers(422);
    pointers.sort();
    pointers
}

#[tokio::test]
async fn batch_size_is_limited() {
    let (app, account) = setup().await;
    let batch = |n: usize| {
        let events = vec![json!({"event_type": "a.b", "payload": {}}); n];
        json!({"events": events}).to_string()
    };
    let created = publish(&app, &account, "", true, &batch(1_000)).await.expect(202);
    let ids: Vec<_> =
        created["data"].as_array().unwrap().iter().map(|one| one["id"].as_str()).collect();
    assert_eq!(ids.len(), 1_000);
    assert!(ids.is_sorted());
    for n in [0, 1_001] {
        let found = publish(&app, &account, "", true, &batch(n)).await.pointers(422);
        assert_eq!(found, ["/events"]);
    }
}

#[tokio::test]
async fn payload_depth_and_size_are_limited() {
    let (app, account) = setup().await;
    let body = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"event_type":"a.b","payload":{open}{close}}}"#)
    };
    publish(&app, &account, "", false, &body(64)).await.expect(202);
    for depth in [65, 129, 100_000] {
        let found = publish(&app, &account, "", false, &body(depth)).await.pointers(422);
        assert_eq!(found, ["/payload"], "{depth}");
    }
    let text = "x".repeat(256 * 1024);
    let large = json!({"event_type": "a.b", "payload": text}).to_string();
    publish(&app, &account, "", false, &large).await.assert_problem(413);
    let large = json!({"events": [{"event_type": "a.b", "payload": text}]}).to_string();
    let found = publish(&app, &account, "", true, &large).await.pointers(422);
    assert_eq!(found, ["/events/0/payload"]);
    let large = json!({"events": vec![text; 5]}).to_string();
    publish(&app, &account, "", true, &large).await.assert_problem(413);
}

#[tokio::test]
async fn an_idempotency_key_identifies_one_request() {
    let (app, account) = setup().await;
    app.endpoint(&account).await;
    let body = r#"{"event_type":"a.b","payload":1}"#;
    let first = publish(&app, &account, "k1", false, body).await.expect(202);
    let again = publish(&app, &account, "k1", false, body).await.expect(202);
    assert_eq!(again, first);
    let other = r#"{"event_type":"a.b","payload":2}"#;
    publish(&app, &account, "k1", false, other).await.assert_problem(409);
    let batch = r#"{"events":[{"event_type":"a.b","payload":1}]}"#;
    publish(&app, &account, "k1", true, batch).await.assert_problem(409);
    assert_ne!(publish(&app, &account, "k2", false, body).await.expect(202)["id"], first["id"]);
    let other_account = app.account().await;
    assert_ne!(
        publish(&app, &other_account, "k1", false, body).await.expect(202)["id"],
        first["id"]
    );

    app.as_operator("DELETE /v1/event-types/a.b", Value::Null).await.expect(204);
    let again = publish(&app, &account, "k1", false, body).await.expect(202);
    assert_eq!(again, first, "the key is honoured after its event type was deleted");

    for key in [&"x".repeat(257), "a b", "\u{e9}"] {
        publish(&app, &account, key, false, body).await.assert_problem(400);
    }
}

#[tokio::test]
async fn payloads_are_validated_against_the_schema_of_their_type() {
    let (app, account) = setup().await;
    let schema = json!({
        "type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {"id": {"type": "string"}, "n": {"type": "array", "items": {"minimum": 0}}},
    });
    let body = json!({"description": "", "example": {"id": "x"}, "schema": schema});
    app.as_operator("PUT /v1/event-types/s.t", body).await.expect(200);
    let event = |payload: Value| json!({"event_type": "s.t", "payload": payload});
    let good = event(json!({"id": "1", "n": [1, 2]}));
    app.as_account(&account, "POST /events", good.clone()).await.expect(202);
    let bad = event(json!({"id": 1, "n": [1, -2]}));
    let response = app.as_account(&account, "POST /events", bad.clone()).await;
    assert_eq!(sorted(response), ["/payload/id", "/payload/n/1"]);
    let batch = json!({"events": [good, event(json!(7)), {"event_type": "x.y", "payload": 1}]});
    let response = app.as_account(&account, "POST /events/batch", batch).await;
    assert_eq!(sorted(response), ["/events/1/payload", "/events/2/event_type"]);
    let batch = json!({"events": [event(json!(7)), {"payload": 1}]});
    let response = app.as_account(&account, "POST /events/batch", batch).await;
    assert_eq!(sorted(response), ["/events/0/payload", "/events/1/event_type"]);

    let body = json!({"description": "", "example": {"id": "x"}});
    app.as_operator("PUT /v1/event-types/s.t", body).await.expect(200);
    app.as_account(&account, "POST /events", bad).await.expect(202);
}

/// Pieces of JSON, among them what parsers disagree about.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "1",
    "-0",
    "1.5e3",
    "1e400",
    "18446744073709551616",
    "12345678901234567890123",
    "\"a\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ude00x\"",
    "\"{}\"",
    "\"[1]\"",
    "\"{\\\"a\\\":1}\"",
    "\"$serde_json::private::RawValue\"",
];

/// Some JSON, and some text that is nearly JSON.
fn payload(depth: u32, rng: &mut SmallRng) -> String {
    const NAMES: &[&str] = &["a", "b", "\\ud800", "$serde_json::private::RawValue"];
    match rng.random_range(0..8) {
        kind @ 0..4 if depth > 0 => {
            let items = (0..rng.random_range(0..3)).map(|_| {
                let item = payload(depth - 1, rng);
                let name = NAMES[rng.random_range(0..NAMES.len())];
                if kind < 2 { item } else { format!("\"{name}\": {item}") }
            });
            let items = items.collect::<Vec<_>>().join(", ");
            if kind < 2 { format!("[{items}]") } else { format!("{{{items}}}") }
        }
        _ => PIECES[rng.random_range(0..PIECES.len())].to_owned(),
    }
}

#[tokio::test]
async fn a_payload_is_accepted_or_rejected_alike_with_and_without_a_schema() {
    let (app, account) = setup().await;
    for schema in [json!(true), json!({})] {
        let body = json!({"description": "", "example": 1, "schema": schema});
        app.as_operator(&format!("PUT /v1/event-types/s.{}", schema.is_object()), body)
            .await
            .expect(200);
    }
    let mut rng = SmallRng::seed_from_u64(13);
    let mut counts = BTreeMap::new();
    for _ in 0..2_000 {
        let payload = payload(3, &mut rng);
        let mut answers = Vec::new();
        for name in ["a.b", "s.false", "s.true"] {
            let body = format!(r#"{{"event_type":"{name}","payload":{payload}}}"#);
            let single = publish(&app, &account, "", false, &body).await;
            let batch = format!(r#"{{"events":[{body}]}}"#);
            let batch = publish(&app, &account, "", true, &batch).await;
            assert_eq!(single.status, batch.status, "{payload}");
            let errors = match single.status.as_u16() {
                422 => single.json()["errors"].clone(),
                _ => Value::Null,
            };
            answers.push((single.status, errors));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{payload}: {answers:?}");
        *counts.entry(answers[0].0.as_u16()).or_insert(0) += 1;
    }
    // The payloads are worth it.
    assert!([202, 400, 422].iter().all(|status| counts[status] > 100), "{counts:?}");
}

#[tokio::test]
async fn payloads_that_parsers_disagree_about_are_rejected_everywhere() {
    let (app, account) = setup().await;
    let endpoint = app.endpoint(&account).await;
    for (payload, at, detail) in [
        (r#"{"a": [1, "\ud800"]}"#, "/a/1", "has half of a surrogate pair at line 1 column 18"),
        (r#"{"\ud83d\u0041": 1}"#, "", "has half of a surrogate pair"),
        ("1e400", "", "has a number beyond the range of a 64-bit float"),
        (r#""{\"a\": 1}""#, "", "is a string that contains JSON: double-encoded?"),
        (r#""\"[1]\"""#, "", "is a string that contains JSON: double-encoded?"),
    ] {
        let event = format!(r#"{{"event_type": "a.b", "payload": {payload}}}"#);
        let example = format!(r#"{{"description": "", "example": {payload}}}"#);
        let with_schema = format!(r#"{{"description": "", "example": {payload}, "schema": {{}}}}"#);
        let account_path = format!("/v1/accounts/{}", account.id);
        for (key, call, body, pointer) in [
            (&account.key, format!("POST {account_path}/events"), &event, "/payload"),
            (
                &account.key,
                format!("POST {account_path}/events/batch"),
                &format!(r#"{{"events": [{event}]}}"#),
                "/events/0/payload",
            ),
            (
                &account.key,
                format!("POST {account_path}/endpoints/{endpoint}/test"),
                &event,
                "/payload",
            ),
            (&OPERATOR.to_owned(), "PUT /v1/event-types/e.x".to_owned(), &example, "/example"),
            (&OPERATOR.to_owned(), "PUT /v1/event-types/e.x".to_owned(), &with_schema, "/example"),
        ] {
            let response = app.send(request(Some(key), &call, body.clone())).await;
            assert_eq!(response.status, 422, "{call} {body}");
            let errors = response.json()["errors"].clone();
            assert_eq!(errors.as_array().unwrap().len(), 1, "{call} {body}: {errors}");
            assert_eq!(errors[0]["pointer"], format!("{pointer}{at}"), "{call} {body}");
            let found = errors[0]["detail"].as_str().unwrap();
            assert!(found.starts_with(detail), "{call} {body}: {found}");
        }
    }
}

#[tokio::test]
async fn a_type_whose_schema_names_strings_takes_json_in_a_string() {
    let (app, account) = setup().await;
    let endpoint = app.endpoint(&account).await;
    let text = json!("{\"a\": 1}");
    let body = json!({"description": "", "example": text, "schema": {"type": "string"}});
    app.as_operator("PUT /v1/event-types/t.s", body).await.expect(200);
    let event = json!({"event_type": "t.s", "payload": text});
    app.as_account(&account, "POST /events", event.clone()).await.expect(202);
    let test = format!("POST /endpoints/{endpoint}/test");
    app.as_account(&account, &test, event).await.expect(200);
}

#[tokio::test]
async fn events_can_be_filtered_by_type() {
    let (app, account) = setup().await;
    app.event_type("a.c").await;
    for event_type in ["a.b", "a.c", "a.b"] {
        let body = json!({"event_type": event_type, "payload": 1});
        app.as_account(&account, "POST /events", body).await.expect(202);
    }
    for (query, count) in [("", 3), ("?event_type=a.b", 2), ("?event_type=a.d", 0)] {
        let page = app.as_account(&account, &format!("GET /events{query}"), Value::Null).await;
        assert_eq!(page.expect(200)["data"].as_array().unwrap().len(), count, "{query}");
    }
    let bad = app.as_account(&account, "GET /events?event_type=..", Value::Null).await;
    assert_eq!(bad.pointers(400), ["/event_type"]);
}
