//! The OpenAPI document agrees with the contract, and every call in it asks for the right key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::harness::{Account, House, OPERATOR, request};

/// Every call of the contract that this crate answers.
pub(super) const CALLS: [&str; 45] = [
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
    "POST /v1/accounts/{account}/deliveries/{delivery}/retry",
    "POST /v1/accounts/{account}/endpoints",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/disable",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/enable",
    "POST /v1/accounts/{account}/endpoints/{endpoint}/rotate-secret",
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

/// One call of the document.
struct Call {
    /// Method and path, with the names of the parts.
    name: String,
    operation: Value,
    /// The keys that the document names; none for calls without a key.
    keys: BTreeSet<String>,
}

impl Call {
    /// Method and path, with ids that nothing has.
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

async fn document(house: &House) -> Value {
    house.send(request(None, "GET /openapi.json", "")).await.expect(200)
}

async fn calls(house: &House) -> Vec<Call> {
    let document = document(house).await;
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
async fn the_document_has_every_call_of_the_contract() {
    let house = House::new().await;
    assert!(document(&house).await["openapi"].as_str().unwrap().starts_with("3.1."));
    let found: BTreeSet<_> = calls(&house).await.into_iter().map(|call| call.name).collect();
    let wanted: BTreeSet<_> = CALLS.map(str::to_owned).into();
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn the_document_is_complete() {
    let house = House::new().await;
    let document = document(&house).await;
    let mut ids = BTreeSet::new();
    for call in calls(&house).await {
        let operation = &call.operation;
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id), "two calls are named {}", operation["operationId"]);
        assert!(operation["summary"].is_string(), "{}", call.name);
        for part in call.name.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = part.trim_end_matches('}');
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|it| it["name"] == name), "{}: {name}", call.name);
        }
        // Two schemas of one name would hide each other.
        let asked = references(&operation["requestBody"]);
        let answered = references(&operation["responses"]);
        assert!(asked.iter().all(|schema| !answered.contains(schema)), "{}: {asked:?}", call.name);
        if call.name.contains("/v1/") {
            let responses = operation["responses"].as_object().unwrap();
            for status in ["401", "429", "503"] {
                assert!(responses.contains_key(status), "{}: {status}", call.name);
            }
        }
    }
    for reference in references(&document) {
        let target = document.pointer(reference.trim_start_matches('#'));
        assert!(target.is_some(), "{reference} leads nowhere");
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
async fn without_a_key_or_with_a_wrong_one_nothing_is_told() {
    let house = House::new().await;
    let account = house.account().await;
    for call in calls(&house).await {
        if call.keys.is_empty() {
            assert!(house.send(request(None, &call.name, "")).await.status.is_success());
            continue;
        }
        for key in [None, Some("prk_wrong"), Some("")] {
            let answer = house.send(request(key, &call.at(&account.id.to_string()), "{")).await;
            answer.assert_problem(401);
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{}", call.name);
        }
    }
    for call in ["GET /v1/nothing", "POST /v1/accounts/x/y"] {
        house.send(request(None, call, "")).await.assert_problem(401);
    }
}

#[tokio::test]
async fn an_account_key_on_an_operators_call_is_refused() {
    let house = House::new().await;
    let account = house.account().await;
    let mut seen = 0;
    for call in calls(&house).await.iter().filter(|call| call.is_operators()) {
        let call = call.at(&account.id.to_string());
        house.send(request(Some(&account.key), &call, "{")).await.assert_problem(403);
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[tokio::test]
async fn another_account_is_as_if_it_did_not_exist() {
    let house = House::new().await;
    let (mine, other) = (house.account().await, house.account().await);
    let nobody = format!("acct_{}", "0".repeat(26));
    for id in [&other.id.to_string(), &nobody, "acct_x", "%61cct_x"] {
        for call in calls(&house).await.iter().filter(|call| call.has_account()) {
            let answer = house.send(request(Some(&mine.key), &call.at(id), "{")).await;
            answer.assert_problem(404);
        }
        for call in ["GET /v1/accounts/{}/nothing", "TRACE /v1/accounts/{}/events"] {
            let call = call.replace("{}", id);
            house.send(request(Some(&mine.key), &call, "{")).await.assert_problem(404);
        }
    }
    for call in calls(&house).await.iter().filter(|call| call.has_account()) {
        house.send(request(Some(OPERATOR), &call.at(&nobody), "{")).await.assert_problem(404);
    }
}

#[tokio::test]
async fn what_another_account_has_cannot_be_reached_through_ones_own() {
    let house = House::new().await;
    let (mine, other) = (house.account().await, house.account().await);
    house.event_type("a.b").await;
    let endpoint = house.endpoint(&other).await;
    let event = json!({"event_type": "a.b", "payload": 1});
    let event = house.own(&other, "POST /events", event).await.expect(202);
    let list = format!("GET /endpoints/{endpoint}/deliveries");
    let delivery = house.own(&other, &list, Value::Null).await.expect(200)["data"][0].clone();
    let replay = house.own(&other, "POST /replays", json!({})).await.expect(202);
    let ids = [
        ("{endpoint}", endpoint),
        ("{event}", event["id"].as_str().unwrap().to_owned()),
        ("{delivery}", delivery["id"].as_str().unwrap().to_owned()),
        ("{replay}", replay["id"].as_str().unwrap().to_owned()),
    ];
    let before = everything(&house, &other).await;
    house.workers.take();
    for call in calls(&house).await {
        let Some((part, id)) = ids.iter().find(|(part, _)| call.name.contains(part)) else {
            continue;
        };
        let path = call.name.replace("{account}", &mine.id.to_string()).replace(part, id);
        let body =
            if call.name.ends_with("/test") { json!({"event_type": "a.b"}) } else { json!({}) };
        house.call(&mine.key, &path, body).await.assert_problem(404);
        assert!(house.workers.take().is_empty(), "{} told somebody", call.name);
    }
    assert_eq!(everything(&house, &other).await, before);
}

async fn everything(house: &House, account: &Account) -> Vec<Value> {
    let mut all = Vec::new();
    for call in ["GET /endpoints", "GET /events"] {
        all.push(house.own(account, call, Value::Null).await.expect(200));
    }
    all
}

#[tokio::test]
async fn the_page_needs_no_other_host() {
    let house = House::new().await;
    let page = house.send(request(None, "GET /docs/", "")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'")
    );
    let html = String::from_utf8(page.bytes).unwrap();
    assert!(html.contains("swagger-ui-bundle.js") && !html.contains("http"), "{html}");
    let script = house.send(request(None, "GET /docs/swagger-initializer.js", "")).await;
    let script = String::from_utf8(script.bytes).unwrap();
    assert!(script.contains("/openapi.json") && script.contains("\"none\""), "{script}");
    let bundle = house.send(request(None, "GET /docs/swagger-ui-bundle.js", "")).await;
    assert_eq!(bundle.status, 200);
    assert_eq!(house.send(request(None, "GET /docs", "")).await.headers["location"], "/docs/");
    house.send(request(None, "GET /docs/nothing", "")).await.assert_problem(404);
}
