//! Bad input: a clear error that names every field, and nothing is half done.

use anyhow::{Context, Result};
use http::Method;
use postrider_tests::client::{Answer, NewEndpoint};
use postrider_tests::config::Config;
use postrider_tests::scene::{ORDER, Scene};
use serde_json::{Value, json};

use crate::SOON;

/// Well-formed or not, the request itself is at fault.
const BAD: [u16; 2] = [400, 422];

async fn post(scene: &Scene, rest: &str, body: String) -> Result<Answer> {
    scene.account.api.send(Method::POST, &scene.account.path(rest), &[], Some(body)).await
}

/// Calls, and wants these pointers and no others.
async fn refused(scene: &Scene, rest: &str, body: Value, pointers: &[&str]) -> Result<()> {
    let answer = post(scene, rest, body.to_string()).await?;
    let problem = answer.problem(&BAD)?;
    assert_eq!(problem.pointers(), pointers, "{answer}");
    let wordy = problem.errors.iter().all(|error| !error.detail.is_empty());
    assert!(wordy && problem.detail.is_some(), "{answer}");
    Ok(())
}

/// After all that was refused, nothing is there, and the next good event passes.
async fn unharmed(scene: &Scene) -> Result<()> {
    assert!(scene.account.events().await?.is_empty(), "something was accepted");
    let endpoints: Vec<Value> = scene.account.list("/endpoints?").await?;
    assert!(endpoints.is_empty(), "an endpoint was created: {endpoints:?}");
    let hook = scene.hook("good");
    scene.endpoint(&hook).await?;
    scene.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await.map(|_| ())
}

#[tokio::test]
async fn every_wrong_field_of_an_event_is_named_at_once() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    refused(&scene, "/events", json!({}), &["/event_type", "/payload"]).await?;
    let wrong = json!({"event_type": 7, "payload": {}, "pay/load": 1, "when": "now"});
    refused(&scene, "/events", wrong, &["/event_type", "/pay~1load", "/when"]).await?;
    let unknown = json!({"event_type": "no.such.type", "payload": {}});
    refused(&scene, "/events", unknown, &["/event_type"]).await?;
    for name in ["", "a..b", "a b", "*", &"x".repeat(129)] {
        let body = json!({"event_type": name, "payload": 1});
        refused(&scene, "/events", body, &["/event_type"]).await?;
    }
    unharmed(&scene).await
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
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
        post(&scene, "/events", body.to_owned()).await?.problem(&BAD)?;
    }
    let path = scene.account.path("/events");
    let good = json!({"event_type": ORDER, "payload": 1}).to_string();
    let text = [("content-type", "text/plain")];
    let api = &scene.account.api;
    let answer = api.send(Method::PUT, &path, &text, None).await?;
    answer.problem(&[405])?;
    let unknown = scene.account.path("/nothing-here");
    api.send(Method::POST, &unknown, &[], Some(good)).await?.problem(&[404])?;
    unharmed(&scene).await
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_depth() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let event = |payload: &str| format!(r#"{{"event_type":"{ORDER}","payload":{payload}}}"#);
    let large = format!("\"{}\"", "x".repeat(256 * 1024));
    post(&scene, "/events", event(&large)).await?.problem(&[413])?;
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    post(&scene, "/events", event(&nested(65))).await?.problem(&BAD)?;
    post(&scene, "/events", event(&nested(100_000))).await?.problem(&BAD)?;
    let huge = vec![event(&format!("\"{}\"", "x".repeat(200 * 1024))); 6].join(",");
    post(&scene, "/events/batch", format!(r#"{{"events":[{huge}]}}"#)).await?.problem(&[413])?;
    let many = vec![event("1"); 1_001].join(",");
    let answer = post(&scene, "/events/batch", format!(r#"{{"events":[{many}]}}"#)).await?;
    assert_eq!(answer.problem(&BAD)?.pointers(), ["/events"], "{answer}");
    unharmed(&scene).await?;

    // What is just within the bounds passes.
    post(&scene, "/events", event(&nested(64))).await?.expect(202)?;
    let fits = format!("\"{}\"", "x".repeat(256 * 1024 - 100));
    post(&scene, "/events", event(&fits)).await?.expect(202)?;
    let thousand = vec![event("1"); 1_000].join(",");
    post(&scene, "/events/batch", format!(r#"{{"events":[{thousand}]}}"#)).await?.expect(202)?;
    Ok(())
}

#[tokio::test]
async fn one_bad_event_refuses_its_batch_with_its_place() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let good = json!({"event_type": ORDER, "payload": {}});
    let bad = json!({"event_type": "no.such.type", "payload": {}});
    let worse = json!({"payload": {}, "extra": 1});
    let body = json!({"events": [good, bad, good, worse, 5]});
    let pointers = ["/events/1/event_type", "/events/3/event_type", "/events/3/extra", "/events/4"];
    // The catalogue may be asked only about what can be read.
    let answer = post(&scene, "/events/batch", body.to_string()).await?;
    assert_eq!(answer.problem(&BAD)?.pointers(), pointers, "{answer}");
    refused(&scene, "/events/batch", json!({"events": []}), &["/events"]).await?;
    refused(&scene, "/events/batch", json!({}), &["/events"]).await?;
    unharmed(&scene).await
}

#[tokio::test]
async fn a_payload_must_satisfy_its_schema() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let schema = json!({
        "type": "object", "required": ["order"],
        "properties": {"order": {"type": "integer"}, "lines": {"items": {"type": "string"}}},
    });
    let example = json!({"order": 1});
    scene.operator.event_type_with_schema("order.checked", &example, &schema).await?;
    let event = |payload: Value| json!({"event_type": "order.checked", "payload": payload});
    let wrong = event(json!({"order": "x", "lines": ["a", 2]}));
    let answer = post(&scene, "/events", wrong.to_string()).await?;
    let problem = answer.problem(&[422])?;
    assert_eq!(problem.pointers(), ["/payload/lines/1", "/payload/order"], "{answer}");
    refused(&scene, "/events", event(json!({})), &["/payload"]).await?;
    let batch = json!({"events": [event(json!({"order": 1})), event(json!([]))]});
    refused(&scene, "/events/batch", batch, &["/events/1/payload"]).await?;
    unharmed(&scene).await?;
    scene.account.publish("order.checked", "{\"order\":7}").await?;
    Ok(())
}

#[tokio::test]
async fn a_catalogue_entry_must_make_sense() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let put = async |name: &str, body: Value| {
        scene.operator.api.put(&format!("/v1/event-types/{name}"), &body).await
    };
    let no_schema = json!({"description": "d", "example": {}, "schema": {"type": "strange"}});
    assert_eq!(put("a.b", no_schema).await?.problem(&BAD)?.pointers(), ["/schema/type"]);
    let unlike = json!({"description": "d", "example": 1, "schema": {"type": "string"}});
    assert_eq!(put("a.b", unlike).await?.problem(&BAD)?.pointers(), ["/example"]);
    let wrong = json!({"description": 1, "schema": 2, "extra": 3});
    let answer = put("a.b", wrong).await?;
    let problem = answer.problem(&BAD)?;
    let pointers = problem.pointers();
    for pointer in ["/description", "/example", "/extra", "/schema"] {
        assert!(pointers.contains(&pointer), "{pointer} is not in {answer}");
    }
    put("a..b", json!({"description": "d", "example": 1})).await?.problem(&[400, 404, 422])?;
    scene.operator.api.get("/v1/event-types/a.b").await?.problem(&[404])?;
    Ok(())
}

#[tokio::test]
async fn every_wrong_field_of_an_endpoint_is_named_at_once() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let wrong = json!({
        "name": "", "url": "ftp://example.com/", "event_types": ["no.such.type", 3, ORDER],
        "headers": {"X-Good": "1", "Host": "me", "X/Bad": "v", "X-Value": "a\r\nb", "n": 1},
        "ordering": "random", "colour": "blue",
    });
    let answer = post(&scene, "/endpoints", wrong.to_string()).await?;
    let problem = answer.problem(&BAD)?;
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
    assert_eq!(problem.pointers(), expected, "{answer}");
    refused(&scene, "/endpoints", json!({}), &["/event_types", "/name", "/url"]).await?;
    unharmed(&scene).await
}

#[tokio::test]
async fn urls_must_be_http_without_userinfo() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
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
        let mut body = body.as_object().cloned().context("an object")?;
        body.insert("url".to_owned(), json!(url));
        refused(&scene, "/endpoints", Value::Object(body), &["/url"]).await?;
    }
    unharmed(&scene).await
}

#[tokio::test]
async fn our_own_headers_cannot_be_overridden() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
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
        refused(&scene, "/endpoints", body, &[pointer.as_str()]).await?;
    }
    for value in ["a\r\nX-Injected: 1", "a\0b", "a\nb", "ü"] {
        let body = NewEndpoint::at("http://example.com/").header("X-A", value).body();
        refused(&scene, "/endpoints", body, &["/headers/X-A"]).await?;
    }
    unharmed(&scene).await
}

#[tokio::test]
async fn a_refused_change_changes_nothing() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let before = scene.endpoint(&scene.hook("a")).await?;
    let path = scene.account.path(&format!("/endpoints/{}", before.id));
    let change = json!({"name": "new", "url": "http://10.0.0.1/", "state": "disabled"});
    let answer = scene.account.api.patch(&path, &change).await?;
    assert_eq!(answer.problem(&BAD)?.pointers(), ["/state", "/url"], "{answer}");
    let after = scene.account.endpoint(&before.id).await?;
    assert_eq!((after.name, after.url), (before.name, before.url));
    Ok(())
}

#[tokio::test]
async fn other_calls_name_their_fields_too() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let endpoint = scene.endpoint(&scene.hook("a")).await?;
    let at = |rest: &str| format!("/endpoints/{}{rest}", endpoint.id);
    refused(&scene, &at("/enable"), json!({"held": "burn"}), &["/held"]).await?;
    refused(&scene, &at("/test"), json!({"event_type": "no.such"}), &["/event_type"]).await?;
    refused(&scene, &at("/test"), json!({"payload": 1}), &["/event_type"]).await?;
    refused(&scene, &at("/rotate-secret"), json!({"overlap": "soon"}), &["/overlap"]).await?;
    let accounts = json!({"name": 5, "contact_emails": ["ok@example.com", "no"], "plan": "x"});
    let answer = scene.operator.api.post("/v1/accounts", &accounts).await?;
    let pointers = ["/contact_emails/1", "/name", "/plan"];
    assert_eq!(answer.problem(&BAD)?.pointers(), pointers, "{answer}");
    for query in ["limit=0", "limit=many", "cursor=%00", "limit=5&colour=blue"] {
        let path = scene.account.path(&format!("/events?{query}"));
        scene.account.api.get(&path).await?.problem(&BAD)?;
    }
    let path = scene.account.path(&at("/deliveries?state=lost"));
    scene.account.api.get(&path).await?.problem(&BAD)?;
    Ok(())
}
