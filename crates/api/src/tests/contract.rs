//! The OpenAPI document matches the contract, and every operation in it requires the right key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::harness::{Account, OPERATOR, TestApp, request};

/// Every operation of the contract that this crate serves.
pub(super) const CALLS: [&str; 47] = [
    "DELETE /v1/accounts/{account}",
    "DELETE /v1/accounts/{account}/api-keys/{key}",
    "DELETE /v1/accounts/{account}/endpoints/{endpoint}",
    "DELETE /v1/accounts/{account}/portal-links",
    "DELETE /v1/event-types/{name}",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/accounts",
    "GET /v1/accounts/{account}",
    "GET /v1/accounts/{account}/api-keys",
    "GET /v1/accounts/{account}/deliveries/{delivery}",
    "GET /v1/accounts/{account}/endpoints",
    "GET /v1/accounts/{account}/endpoints/{endpoint}",
    "GET /v1/accounts/{account}/endpoints/{endpoint}/deliveries",
    "GET /v1/accounts/{account}/endpoints/{endpoint}/emails",
    "GET /v1/accounts/{account}/endpoints/{endpoint}/secret",
    "GET /v1/accounts/{account}/endpoints/{endpoint}/statistics",
    "GET /v1/accounts/{account}/events",
    "GET /v1/accounts/{account}/events/{event}",
    "GET /v1/accounts/{account}/events/{event}/deliveries",
    "GET /v1/accounts/{account}/replays",
    "GET /v1/accounts/{account}/replays/{replay}",
    "GET /v1/cluster",
    "GET /v1/event-types",
    "GET /v1/event-types/{name}",
    "PATCH /v1/accounts/{account}",
    "PATCH /v1/accounts/{account}/endpoints/{endpoint}",
    "POST /v1/accounts",
    "POST /v1/accounts/{account}/api-keys",
    "POST /v1/accounts/{account}/deliveries/{delivery}/discard",
    "POST /v1/accounts/{account}/deliveries/{delivery}/retry",
    "POST /v1/accounts/{account}/endpoints",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/disable",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/enable",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/rotate-secret",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/send-now",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/test",
    "POST /v1/accounts/{account}/events",
    "POST /v1/accounts/{account}/events/batch",
    "POST /v1/accounts/{account}/events/{event}/resend",
    "POST /v1/accounts/{account}/portal-links",
    "POST /v1/accounts/{account}/replays",
    "POST /v1/accounts/{account}/replays/{replay}/cancel",
    "POST /v1/accounts/{account}/replays/{replay}/pause",
    "POST /v1/accounts/{account}/replays/{replay}/resume",
    "PUT /v1/event-types/{name}",
];

/// One operation of the document.
pub(super) struct Call {
    /// Method and path, with parameter names in braces.
    pub(super) name: String,
    operation: Value,
    /// The security schemes that the document names; empty for public operations.
    keys: BTreeSet<String>,
}

impl Call {
    /// Method and path, with ids that do not exist.
    fn at(&self, account: &str) -> String {
        let id = |prefix: &str| format!("{prefix}_{}", "0".repeat(26));
        [
            ("{account}", account.to_owned()),
            ("{endpoint}", id("ep")),
            ("{event}", id("evt")),
            ("{delivery}", id("dlv")),
            ("{replay}", id("rpl")),
            ("{key}", id("key")),
            ("{name}", "some.type".to_owned()),
        ]
        .into_iter()
        .fold(self.name.clone(), |call, (part, id)| call.replace(part, &id))
    }

    fn is_operators(&self) -> bool {
        self.keys.contains("operator_key") && !self.keys.contains("account_key")
    }

    fn has_account(&self) -> bool {
        self.name.contains("{account}")
    }
}

async fn document(app: &TestApp) -> Value {
    app.send(request(None, "GET /openapi.json", "")).await.expect(200)
}

pub(super) async fn calls(app: &TestApp) -> Vec<Call> {
    let document = document(app).await;
    let keys = |security: &Value| -> BTreeSet<String> {
        let all = security.as_array().unwrap().iter().flat_map(|one| one.as_object().unwrap());
        all.map(|(key, _)| key.clone()).collect()
    };
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation.get("security").unwrap_or(&document["security"]);
            calls.push(Call {
                name: format!("{} {path}", method.to_uppercase()),
                keys: keys(security),
                operation: operation.clone(),
            });
        }
    }
    calls
}

#[tokio::test]
async fn the_openapi_document_has_every_operation() {
    let app = TestApp::new().await;
    assert!(document(&app).await["openapi"].as_str().unwrap().starts_with("3.1."));
    let found: BTreeSet<_> = calls(&app).await.into_iter().map(|call| call.name).collect();
    let wanted: BTreeSet<_> = CALLS.map(str::to_owned).into();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn every_documented_operation_is_complete() {
    let app = TestApp::new().await;
    let document = document(&app).await;
    let mut ids = BTreeSet::new();
    for call in calls(&app).await {
        let operation = &call.operation;
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "two operations have the id {}", operation["operationId"]);
        assert!(operation["summary"].is_string(), "{}", call.name);
        for part in call.name.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = part.trim_end_matches('}');
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|it| it["name"] == name), "{}: {name}", call.name);
        }
        // Request and response schemas with the same name would shadow each other.
        let requested = references(&operation["requestBody"]);
        let returned = references(&operation["responses"]);
        assert!(
            requested.iter().all(|schema| !returned.contains(schema)),
            "{}: {requested:?}",
            call.name
        );
        if call.name.contains("/v1/") {
            let responses = operation["responses"].as_object().unwrap();
            for status in ["401", "429", "503"] {
                assert!(responses.contains_key(status), "{}: {status}", call.name);
            }
        }
    }
    for reference in references(&document) {
        let target = document.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference} cannot be resolved");
    }
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_missing_or_wrong_key_gets_401() {
    let app = TestApp::new().await;
    let account = app.account().await;
    for call in calls(&app).await {
        if call.keys.is_empty() {
            assert!(app.send(request(None, &call.name, "")).await.status.is_success());
            continue;
        }
        for key in [None, Some("prk_wrong"), Some("")] {
            let response = app.send(request(key, &call.at(&account.id.to_string()), "{")).await;
            response.assert_problem(401);
            assert_eq!(response.headers["www-authenticate"], "Bearer", "{}", call.name);
        }
    }
    for call in ["GET /v1/nothing", "POST /v1/accounts/x/y"] {
        app.send(request(None, call, "")).await.assert_problem(401);
    }
}

#[tokio::test]
async fn an_account_key_gets_403_on_operator_operations() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let mut seen = 0;
    for call in calls(&app).await.iter().filter(|call| call.is_operators()) {
        let call = call.at(&account.id.to_string());
        app.send(request(Some(&account.key), &call, "{")).await.assert_problem(403);
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[tokio::test]
async fn another_account_gets_404() {
    let app = TestApp::new().await;
    let (mine, other) = (app.account().await, app.account().await);
    let unknown = format!("acct_{}", "0".repeat(26));
    for id in [&other.id.to_string(), &unknown, "acct_x", "%61cct_x"] {
        for call in calls(&app).await.iter().filter(|call| call.has_account()) {
            let response = app.send(request(Some(&mine.key), &call.at(id), "{")).await;
            response.assert_problem(404);
        }
        for call in ["GET /v1/accounts/{}/nothing", "TRACE /v1/accounts/{}/events"] {
            let call = call.replace("{}", id);
            app.send(request(Some(&mine.key), &call, "{")).await.assert_problem(404);
        }
    }
    for call in calls(&app).await.iter().filter(|call| call.has_account()) {
        app.send(request(Some(OPERATOR), &call.at(&unknown), "{")).await.assert_problem(404);
    }
}

#[tokio::test]
async fn an_account_cannot_access_another_accounts_resources() {
    let app = TestApp::new().await;
    let (mine, other) = (app.account().await, app.account().await);
    app.event_type("a.b").await;
    let endpoint = app.endpoint(&other).await;
    let event = json!({"event_type": "a.b", "payload": 1});
    let event = app.as_account(&other, "POST /events", event).await.expect(202);
    let list = format!("GET /endpoints/{endpoint}/deliveries");
    let delivery = app.as_account(&other, &list, Value::Null).await.expect(200)["data"][0].clone();
    let replay = app.as_account(&other, "POST /replays", json!({})).await.expect(202);
    let ids = [
        ("{endpoint}", endpoint),
        ("{event}", event["id"].as_str().unwrap().to_owned()),
        ("{delivery}", delivery["id"].as_str().unwrap().to_owned()),
        ("{replay}", replay["id"].as_str().unwrap().to_owned()),
    ];
    let before = snapshot(&app, &other).await;
    app.shards.take();
    for call in calls(&app).await {
        let Some((part, id)) = ids.iter().find(|(part, _)| call.name.contains(part)) else {
            continue;
        };
        let path = call.name.replace("{account}", &mine.id.to_string()).replace(part, id);
        let body =
            if call.name.ends_with("/test") { json!({"event_type": "a.b"}) } else { json!({}) };
        app.call(&mine.key, &path, body).await.assert_problem(404);
        assert!(app.shards.take().is_empty(), "{} woke a shard of another account", call.name);
    }
    assert_eq!(snapshot(&app, &other).await, before);
}

async fn snapshot(app: &TestApp, account: &Account) -> Vec<Value> {
    let mut all = Vec::new();
    for call in ["GET /endpoints", "GET /events"] {
        all.push(app.as_account(account, call, Value::Null).await.expect(200));
    }
    all
}

#[tokio::test]
async fn the_docs_page_loads_nothing_from_other_hosts() {
    let app = TestApp::new().await;
    let page = app.send(request(None, "GET /docs/", "")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    let html = String::from_utf8(page.bytes).unwrap();
    assert!(html.contains("swagger-ui-bundle.js") && !html.contains("http"), "{html}");
    let script = app.send(request(None, "GET /docs/swagger-initializer.js", "")).await;
    let script = String::from_utf8(script.bytes).unwrap();
    assert!(script.contains("/openapi.json") && script.contains("\"none\""), "{script}");
    let bundle = app.send(request(None, "GET /docs/swagger-ui-bundle.js", "")).await;
    assert_eq!(bundle.status, 200);
    assert_eq!(app.send(request(None, "GET /docs", "")).await.headers["location"], "/docs/");
    app.send(request(None, "GET /docs/nothing", "")).await.assert_problem(404);
}
