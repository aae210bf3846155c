//! The routes that are no business: health, metrics, and the interface's own description.

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::scene::Scene;
use serde_json::{Value, json};

use crate::SOON;

/// Every call of the interface contract that this version has.
const CALLS: [(&str, &[&str]); 30] = [
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
    ("/v1/accounts/{account}/replays", &["get", "post"]),
    ("/v1/accounts/{account}/replays/{replay}", &["get"]),
    ("/v1/accounts/{account}/replays/{replay}/pause", &["post"]),
    ("/v1/accounts/{account}/replays/{replay}/resume", &["post"]),
    ("/v1/accounts/{account}/replays/{replay}/cancel", &["post"]),
    ("/healthz", &["get"]),
];

/// A path with the names of its parameters left out: `/v1/accounts/{}`.
fn shape(path: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn the_openapi_document_has_every_call() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let document = scene.node.api(None).get("/openapi.json").await?.expect(200)?;
    let version = document["openapi"].as_str().unwrap_or_default();
    ensure!(version.starts_with("3.1"), "{version}");
    let paths = document["paths"].as_object().context("paths")?;
    for (path, methods) in CALLS.iter().filter(|(path, _)| path.starts_with("/v1")) {
        let found = paths.iter().find(|(known, _)| shape(known) == shape(path));
        let (_, operations) = found.with_context(|| format!("{path} is not described"))?;
        for method in *methods {
            ensure!(operations[method].is_object(), "{method} {path} is not described");
        }
    }
    let page = scene.node.api(None).get("/docs").await?;
    let page = if page.status < 400 { page } else { scene.node.api(None).get("/docs/").await? };
    ensure!(page.status < 400, "{page}");
    Ok(())
}

#[tokio::test]
async fn health_and_metrics_need_no_key() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("counted");
    scene.endpoint(&hook).await?;
    scene.publish(&json!({})).await?;
    hook.wait_for_ended(1, SOON).await?;
    let api = scene.node.api(None);
    for path in ["/healthz", "/readyz"] {
        let answer = api.get(path).await?;
        ensure!(answer.status == 200, "{answer}");
    }
    let metrics = api.get("/metrics").await?;
    ensure!(metrics.status == 200, "{metrics}");
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    ensure!(text.contains("# TYPE") && text.contains("postrider"), "{text}");
    Ok(())
}

#[tokio::test]
async fn what_is_created_can_be_read_changed_and_deleted() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let operator = &scene.operator.api;
    let path = format!("/v1/accounts/{}", scene.account.id);
    let account = operator.get(&path).await?.expect(200)?;
    ensure!(account["name"] == "Acme" && account["contact_emails"] == json!(["ops@example.com"]));
    let changed = operator.patch(&path, &json!({"name": "Acme Ltd"})).await?.expect(200)?;
    ensure!(changed["name"] == "Acme Ltd" && changed["id"] == account["id"], "{changed}");

    let endpoint = scene.endpoint(&scene.hook("a")).await?;
    let change = json!({"name": "New", "headers": {"X-A": "1"}, "ordering": "strict"});
    let changed = scene.account.change(&endpoint.id, &change).await?;
    ensure!((changed.name.as_str(), changed.ordering.as_str()) == ("New", "strict"));
    ensure!(changed.url == endpoint.url && changed.headers.len() == 1, "{changed:?}");

    let entry = json!({"description": "d", "example": {"b": 1, "a": [1.50]}});
    operator.put("/v1/event-types/a.b", &entry).await?.succeeded()?;
    let read = operator.get("/v1/event-types/a.b").await?.expect(200)?;
    ensure!(read["name"] == "a.b" && read["example"] == entry["example"], "{read}");
    operator.delete("/v1/event-types/a.b").await?.succeeded()?;
    operator.get("/v1/event-types/a.b").await?.problem(&[404])?;

    let event = scene.account.publish("order.created", "{\"n\":1}").await?;
    let read: Value = scene.account.read(&format!("/events/{}", event.id)).await?;
    ensure!(read["id"] == event.id.as_str() && read["payload"] == json!({"n": 1}), "{read}");
    Ok(())
}

#[tokio::test]
async fn ids_sort_by_creation_and_times_are_utc_in_milliseconds() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(scene.publish(&json!({"n": n})).await?.id);
    }
    ensure!(ids.is_sorted(), "{ids:?}");
    ensure!(ids[0].starts_with("evt_") && !ids[0].contains('.'), "{}", ids[0]);
    let event: Value = scene.account.read(&format!("/events/{}", ids[0])).await?;
    let time = event["created_at"].as_str().context("a time")?;
    ensure!(time.len() == "2026-01-31T12:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    Ok(())
}
