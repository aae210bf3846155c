//! The API as a whole: health, metrics, the OpenAPI document, and each kind of resource.

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use serde_json::{Value, json};

use crate::SOON;

/// Every operation of the API contract that this version has.
const OPERATIONS: [(&str, &[&str]); 32] = [
    ("/v1/accounts", &["get", "post"]),
    ("/v1/accounts/{account}", &["get", "patch", "delete"]),
    ("/v1/accounts/{account}/portal-links", &["post", "delete"]),
    ("/v1/accounts/{account}/api-keys", &["get", "post"]),
    ("/v1/accounts/{account}/api-keys/{key}", &["delete"]),
    ("/v1/event-types", &["get"]),
    ("/v1/event-types/{name}", &["get", "put", "delete"]),
    ("/v1/accounts/{account}/endpoints", &["get", "post"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}", &["get", "patch", "delete"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/enable", &["post"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/disable", &["post"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/test", &["post"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/send-now", &["post"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/secret", &["get"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/rotate-secret", &["post"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/statistics", &["get"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/deliveries", &["get"]),
    ("/v1/accounts/{account}/endpoints/{endpoint}/emails", &["get"]),
    ("/v1/accounts/{account}/events", &["get", "post"]),
    ("/v1/accounts/{account}/events/batch", &["post"]),
    ("/v1/accounts/{account}/events/{event}", &["get"]),
    ("/v1/accounts/{account}/events/{event}/deliveries", &["get"]),
    ("/v1/accounts/{account}/events/{event}/resend", &["post"]),
    ("/v1/accounts/{account}/deliveries/{delivery}", &["get"]),
    ("/v1/accounts/{account}/deliveries/{delivery}/retry", &["post"]),
    ("/v1/accounts/{account}/deliveries/{delivery}/discard", &["post"]),
    ("/v1/accounts/{account}/replays", &["get", "post"]),
    ("/v1/accounts/{account}/replays/{replay}", &["get"]),
    ("/v1/accounts/{account}/replays/{replay}/pause", &["post"]),
    ("/v1/accounts/{account}/replays/{replay}/resume", &["post"]),
    ("/v1/accounts/{account}/replays/{replay}/cancel", &["post"]),
    ("/healthz", &["get"]),
];

/// A path without the names of its parameters: `/v1/accounts/{}`.
fn shape(path: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn the_openapi_document_describes_every_operation() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let document = fixture.node.api(None).get("/openapi.json").await?.expect(200)?;
    let version = document["openapi"].as_str().unwrap_or_default();
    ensure!(version.starts_with("3.1"), "{version}");
    let paths = document["paths"].as_object().context("paths")?;
    for (path, methods) in OPERATIONS.iter().filter(|(path, _)| path.starts_with("/v1")) {
        let found = paths.iter().find(|(known, _)| shape(known) == shape(path));
        let (_, operations) =
            found.with_context(|| format!("{path} is missing from the OpenAPI document"))?;
        for method in *methods {
            ensure!(
                operations[method].is_object(),
                "{method} {path} is missing from the OpenAPI document"
            );
        }
    }
    let page = fixture.node.api(None).get("/docs").await?;
    let page = if page.status < 400 { page } else { fixture.node.api(None).get("/docs/").await? };
    ensure!(page.status < 400, "{page}");
    Ok(())
}

#[tokio::test]
async fn health_and_metrics_need_no_key() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("counted");
    fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    hook.wait_for_ended(1, SOON).await?;
    let api = fixture.node.api(None);
    for path in ["/healthz", "/readyz"] {
        let response = api.get(path).await?;
        ensure!(response.status == 200, "{response}");
    }
    let metrics = api.get("/metrics").await?;
    ensure!(metrics.status == 200, "{metrics}");
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    ensure!(text.contains("# TYPE") && text.contains("postrider"), "{text}");
    Ok(())
}

#[tokio::test]
async fn resources_can_be_created_read_updated_and_deleted() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let operator = &fixture.operator.api;
    let path = format!("/v1/accounts/{}", fixture.account.id);
    let account = operator.get(&path).await?.expect(200)?;
    ensure!(account["name"] == "Acme" && account["contact_emails"] == json!(["ops@example.com"]));
    let changed = operator.patch(&path, &json!({"name": "Acme Ltd"})).await?.expect(200)?;
    ensure!(changed["name"] == "Acme Ltd" && changed["id"] == account["id"], "{changed}");

    let endpoint = fixture.endpoint(&fixture.hook("a")).await?;
    let change = json!({"name": "New", "headers": {"X-A": "1"}, "ordering": "strict"});
    let changed = fixture.account.change(&endpoint.id, &change).await?;
    ensure!((changed.name.as_str(), changed.ordering.as_str()) == ("New", "strict"));
    ensure!(changed.url == endpoint.url && changed.headers.len() == 1, "{changed:?}");

    let entry = json!({"description": "d", "example": {"b": 1, "a": [1.50]}});
    operator.put("/v1/event-types/a.b", &entry).await?.succeeded()?;
    let read = operator.get("/v1/event-types/a.b").await?.expect(200)?;
    ensure!(read["name"] == "a.b" && read["example"] == entry["example"], "{read}");
    operator.delete("/v1/event-types/a.b").await?.succeeded()?;
    operator.get("/v1/event-types/a.b").await?.problem(&[404])?;

    let event = fixture.account.publish("order.created", "{\"n\":1}").await?;
    let read: Value = fixture.account.read(&format!("/events/{}", event.id)).await?;
    ensure!(read["id"] == event.id.as_str() && read["payload"] == json!({"n": 1}), "{read}");
    Ok(())
}

#[tokio::test]
async fn ids_sort_by_creation_and_times_are_utc_in_milliseconds() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(fixture.publish(&json!({"n": n})).await?.id);
    }
    ensure!(ids.is_sorted(), "{ids:?}");
    ensure!(ids[0].starts_with("evt_") && !ids[0].contains('.'), "{}", ids[0]);
    let event: Value = fixture.account.read(&format!("/events/{}", ids[0])).await?;
    let time = event["created_at"].as_str().context("there is no time")?;
    ensure!(time.len() == "2026-01-31T12:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    Ok(())
}
