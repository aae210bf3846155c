//! Invalid input: one error that names every invalid field, and no partial effect.

use anyhow::{Context, Result};
use http::Method;
use postrider_tests::client::{Answer, NewEndpoint};
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER};
use serde_json::{Value, json};

use crate::SOON;

/// Statuses for malformed (400) and invalid (422) requests.
const INVALID: [u16; 2] = [400, 422];

async fn post(fixture: &Fixture, rest: &str, body: String) -> Result<Answer> {
    fixture.account.api.send(Method::POST, &fixture.account.path(rest), &[], Some(body)).await
}

/// Expects the request to be rejected with exactly these pointers.
async fn assert_rejected(
    fixture: &Fixture,
    rest: &str,
    body: Value,
    pointers: &[&str],
) -> Result<()> {
    let response = post(fixture, rest, body.to_string()).await?;
    let problem = response.problem(&INVALID)?;
    assert_eq!(problem.pointers(), pointers, "{response}");
    let has_details = problem.errors.iter().all(|error| !error.detail.is_empty());
    assert!(has_details && problem.detail.is_some(), "{response}");
    Ok(())
}

/// Asserts that the rejected requests had no effect and that a valid event is still delivered.
async fn assert_unaffected(fixture: &Fixture) -> Result<()> {
    assert!(fixture.account.events().await?.is_empty(), "a rejected event was stored");
    let endpoints: Vec<Value> = fixture.account.list("/endpoints?").await?;
    assert!(endpoints.is_empty(), "a rejected endpoint was created: {endpoints:?}");
    let hook = fixture.hook("good");
    fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await.map(|_| ())
}

#[tokio::test]
async fn every_invalid_field_of_an_event_is_reported_at_once() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    assert_rejected(&fixture, "/events", json!({}), &["/event_type", "/payload"]).await?;
    let wrong = json!({"event_type": 7, "payload": {}, "pay/load": 1, "when": "now"});
    assert_rejected(&fixture, "/events", wrong, &["/event_type", "/pay~1load", "/when"]).await?;
    let unknown = json!({"event_type": "no.such.type", "payload": {}});
    assert_rejected(&fixture, "/events", unknown, &["/event_type"]).await?;
    for name in ["", "a..b", "a b", "*", &"x".repeat(129)] {
        let body = json!({"event_type": name, "payload": 1});
        assert_rejected(&fixture, "/events", body, &["/event_type"]).await?;
    }
    assert_unaffected(&fixture).await
}

#[tokio::test]
async fn bodies_that_are_not_a_json_object_are_rejected() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let bodies = [
        "",
        "{",
        "nul",
        "[]",
        "\"text\"",
        "{\"event_type\":\"order.created\",\"payload\":}",
        "{\"event_type\":\"order.created\",\"payload\":{}} trailing",
        "{\"event_type\":\"order.created\",\"payload\":\"\u{1}\"}",
        "{\"event_type\":\"order.created\",\"payload\":1,\"payload\":2}",
    ];
    for body in bodies {
        post(&fixture, "/events", body.to_owned()).await?.problem(&INVALID)?;
    }
    let path = fixture.account.path("/events");
    let good = json!({"event_type": ORDER, "payload": 1}).to_string();
    let text = [("content-type", "text/plain")];
    let api = &fixture.account.api;
    let response = api.send(Method::PUT, &path, &text, None).await?;
    response.problem(&[405])?;
    let unknown = fixture.account.path("/nothing-here");
    api.send(Method::POST, &unknown, &[], Some(good)).await?.problem(&[404])?;
    assert_unaffected(&fixture).await
}

#[tokio::test]
async fn bodies_are_limited_in_size_and_depth() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let event = |payload: &str| format!(r#"{{"event_type":"{ORDER}","payload":{payload}}}"#);
    let large = format!("\"{}\"", "x".repeat(256 * 1024));
    post(&fixture, "/events", event(&large)).await?.problem(&[413])?;
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    post(&fixture, "/events", event(&nested(65))).await?.problem(&INVALID)?;
    post(&fixture, "/events", event(&nested(100_000))).await?.problem(&INVALID)?;
    let huge = vec![event(&format!("\"{}\"", "x".repeat(200 * 1024))); 6].join(",");
    post(&fixture, "/events/batch", format!(r#"{{"events":[{huge}]}}"#)).await?.problem(&[413])?;
    let many = vec![event("1"); 1_001].join(",");
    let response = post(&fixture, "/events/batch", format!(r#"{{"events":[{many}]}}"#)).await?;
    assert_eq!(response.problem(&INVALID)?.pointers(), ["/events"], "{response}");
    assert_unaffected(&fixture).await?;

    // Requests just within the limits are accepted.
    post(&fixture, "/events", event(&nested(64))).await?.expect(202)?;
    let fits = format!("\"{}\"", "x".repeat(256 * 1024 - 100));
    post(&fixture, "/events", event(&fits)).await?.expect(202)?;
    let thousand = vec![event("1"); 1_000].join(",");
    post(&fixture, "/events/batch", format!(r#"{{"events":[{thousand}]}}"#)).await?.expect(202)?;
    Ok(())
}

#[tokio::test]
async fn an_invalid_event_rejects_its_batch_and_is_reported_by_index() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let good = json!({"event_type": ORDER, "payload": {}});
    let bad = json!({"event_type": "no.such.type", "payload": {}});
    let worse = json!({"payload": {}, "extra": 1});
    let body = json!({"events": [good, bad, good, worse, 5]});
    let pointers = ["/events/1/event_type", "/events/3/event_type", "/events/3/extra", "/events/4"];
    // Unparseable elements do not hide errors of the others.
    let response = post(&fixture, "/events/batch", body.to_string()).await?;
    assert_eq!(response.problem(&INVALID)?.pointers(), pointers, "{response}");
    assert_rejected(&fixture, "/events/batch", json!({"events": []}), &["/events"]).await?;
    assert_rejected(&fixture, "/events/batch", json!({}), &["/events"]).await?;
    assert_unaffected(&fixture).await
}

#[tokio::test]
async fn a_payload_must_match_its_schema() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let schema = json!({
        "type": "object", "required": ["order"],
        "properties": {"order": {"type": "integer"}, "lines": {"items": {"type": "string"}}},
    });
    let example = json!({"order": 1});
    fixture.operator.event_type_with_schema("order.checked", &example, &schema).await?;
    let event = |payload: Value| json!({"event_type": "order.checked", "payload": payload});
    let wrong = event(json!({"order": "x", "lines": ["a", 2]}));
    let response = post(&fixture, "/events", wrong.to_string()).await?;
    let problem = response.problem(&[422])?;
    assert_eq!(problem.pointers(), ["/payload/lines/1", "/payload/order"], "{response}");
    assert_rejected(&fixture, "/events", event(json!({})), &["/payload"]).await?;
    let batch = json!({"events": [event(json!({"order": 1})), event(json!([]))]});
    assert_rejected(&fixture, "/events/batch", batch, &["/events/1/payload"]).await?;
    assert_unaffected(&fixture).await?;
    fixture.account.publish("order.checked", "{\"order\":7}").await?;
    Ok(())
}

#[tokio::test]
async fn an_invalid_event_type_is_rejected() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let put = async |name: &str, body: Value| {
        fixture.operator.api.put(&format!("/v1/event-types/{name}"), &body).await
    };
    let no_schema = json!({"description": "d", "example": {}, "schema": {"type": "strange"}});
    assert_eq!(put("a.b", no_schema).await?.problem(&INVALID)?.pointers(), ["/schema/type"]);
    let unlike = json!({"description": "d", "example": 1, "schema": {"type": "string"}});
    assert_eq!(put("a.b", unlike).await?.problem(&INVALID)?.pointers(), ["/example"]);
    let wrong = json!({"description": 1, "schema": 2, "extra": 3});
    let response = put("a.b", wrong).await?;
    let problem = response.problem(&INVALID)?;
    let pointers = problem.pointers();
    for pointer in ["/description", "/example", "/extra", "/schema"] {
        assert!(pointers.contains(&pointer), "{pointer} is not in {response}");
    }
    put("a..b", json!({"description": "d", "example": 1})).await?.problem(&[400, 404, 422])?;
    fixture.operator.api.get("/v1/event-types/a.b").await?.problem(&[404])?;
    Ok(())
}

#[tokio::test]
async fn every_invalid_field_of_an_endpoint_is_reported_at_once() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let wrong = json!({
        "name": "", "url": "ftp://example.com/", "event_types": ["no.such.type", 3, ORDER],
        "headers": {"X-Good": "1", "Host": "me", "X/Bad": "v", "X-Value": "a\r\nb", "n": 1},
        "ordering": "random", "colour": "blue",
    });
    let response = post(&fixture, "/endpoints", wrong.to_string()).await?;
    let problem = response.problem(&INVALID)?;
    let expected = [
        "/colour",
        "/event_types/0",
        "/event_types/1",
        "/headers/Host",
        "/headers/X-Value",
        "/headers/X~1Bad",
        "/headers/n",
        "/name",
        "/ordering",
        "/url",
    ];
    assert_eq!(problem.pointers(), expected, "{response}");
    assert_rejected(&fixture, "/endpoints", json!({}), &["/event_types", "/name", "/url"]).await?;
    assert_unaffected(&fixture).await
}

#[tokio::test]
async fn urls_must_be_http_without_userinfo() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let long = format!("https://example.com/{}", "x".repeat(3_000));
    let urls = [
        "",
        "example.com",
        "/path",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http://",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://@example.com/",
        "http://exa mple.com/",
        "http://example.com:99999/",
        long.as_str(),
    ];
    for url in urls {
        let body = NewEndpoint::at("http://example.com/named").body();
        let mut body = body.as_object().cloned().context("there is no object")?;
        body.insert("url".to_owned(), json!(url));
        assert_rejected(&fixture, "/endpoints", Value::Object(body), &["/url"]).await?;
    }
    assert_unaffected(&fixture).await
}

#[tokio::test]
async fn reserved_and_malformed_headers_are_rejected() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let names = [
        "Host",
        "Content-Type",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "User-Agent",
        "Webhook-Id",
        "webhook-timestamp",
        "WEBHOOK-SIGNATURE",
        "webhook-event-type",
        "X Space",
        "X:Colon",
        "X\nNewline",
        "",
        "Ünicode",
    ];
    for name in names {
        let body = NewEndpoint::at("http://example.com/").header(name, "v").body();
        let pointer = format!("/headers/{name}");
        assert_rejected(&fixture, "/endpoints", body, &[pointer.as_str()]).await?;
    }
    for value in ["a\r\nX-Injected: 1", "a\0b", "a\nb", "ü"] {
        let body = NewEndpoint::at("http://example.com/").header("X-A", value).body();
        assert_rejected(&fixture, "/endpoints", body, &["/headers/X-A"]).await?;
    }
    assert_unaffected(&fixture).await
}

#[tokio::test]
async fn a_rejected_update_changes_nothing() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let before = fixture.endpoint(&fixture.hook("a")).await?;
    let path = fixture.account.path(&format!("/endpoints/{}", before.id));
    let change = json!({"name": "new", "url": "http://10.0.0.1/", "state": "disabled"});
    let response = fixture.account.api.patch(&path, &change).await?;
    assert_eq!(response.problem(&INVALID)?.pointers(), ["/state", "/url"], "{response}");
    let after = fixture.account.endpoint(&before.id).await?;
    assert_eq!((after.name, after.url), (before.name, before.url));
    Ok(())
}

#[tokio::test]
async fn other_operations_report_invalid_fields_as_well() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let endpoint = fixture.endpoint(&fixture.hook("a")).await?;
    let at = |rest: &str| format!("/endpoints/{}{rest}", endpoint.id);
    assert_rejected(&fixture, &at("/enable"), json!({"held": "burn"}), &["/held"]).await?;
    assert_rejected(&fixture, &at("/test"), json!({"event_type": "no.such"}), &["/event_type"])
        .await?;
    assert_rejected(&fixture, &at("/test"), json!({"payload": 1}), &["/event_type"]).await?;
    assert_rejected(&fixture, &at("/rotate-secret"), json!({"overlap": "soon"}), &["/overlap"])
        .await?;
    let accounts = json!({"name": 5, "contact_emails": ["ok@example.com", "no"], "plan": "x"});
    let response = fixture.operator.api.post("/v1/accounts", &accounts).await?;
    let pointers = ["/contact_emails/1", "/name", "/plan"];
    assert_eq!(response.problem(&INVALID)?.pointers(), pointers, "{response}");
    for query in ["limit=0", "limit=many", "cursor=%00", "limit=5&colour=blue"] {
        let path = fixture.account.path(&format!("/events?{query}"));
        fixture.account.api.get(&path).await?.problem(&INVALID)?;
    }
    let path = fixture.account.path(&at("/deliveries?state=lost"));
    fixture.account.api.get(&path).await?.problem(&INVALID)?;
    Ok(())
}
