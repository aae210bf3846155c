use postrider_domain::own_outage::{Cause, Outage};
use postrider_domain::time::Clock;
use serde_json::{Value, json};

use super::browser::Browser;
use super::harness::{OPERATOR, TestApp, request};

#[tokio::test]
async fn an_account_is_created_read_updated_and_deleted() {
    let app = TestApp::new().await;
    let body = json!({"name": "Käufer", "contact_emails": ["a@example.com", "b@example.com"]});
    let created = app.as_operator("POST /v1/accounts", body).await.expect(201);
    let call = |method: &str| format!("{method} /v1/accounts/{}", created["id"].as_str().unwrap());
    assert_eq!(created["contact_emails"], json!(["a@example.com", "b@example.com"]));
    assert_eq!(app.as_operator(&call("GET"), Value::Null).await.expect(200), created);

    app.clock.advance(std::time::Duration::from_secs(1));
    let changed = app.as_operator(&call("PATCH"), json!({"name": "New"})).await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["contact_emails"]),
        (&json!("New"), &created["contact_emails"])
    );
    assert!(changed["updated_at"].as_str() > created["updated_at"].as_str());

    app.as_operator(&call("DELETE"), Value::Null).await.expect(204);
    app.as_operator(&call("GET"), Value::Null).await.assert_problem(404);
}

#[tokio::test]
async fn every_invalid_field_is_listed_at_once() {
    let app = TestApp::new().await;
    let body = json!({"name": " ", "contact_emails": ["a@example.com", "x", 7], "extra": 1});
    let pointers = app.as_operator("POST /v1/accounts", body).await.pointers(422);
    assert_eq!(pointers, ["/name", "/contact_emails/1", "/contact_emails/2", "/extra"]);
    let pointers = app.as_operator("POST /v1/accounts", json!({})).await.pointers(422);
    assert_eq!(pointers, ["/name", "/contact_emails"]);
    let body = json!({"name": "x", "contact_emails": []});
    assert_eq!(app.as_operator("POST /v1/accounts", body).await.pointers(422), ["/contact_emails"]);
    let call = format!("PATCH /v1/accounts/{}", app.account().await.id);
    let pointers = app.as_operator(&call, json!({"name": null, "id": "x"})).await.pointers(422);
    assert_eq!(pointers, ["/name", "/id"]);
}

#[tokio::test]
async fn accounts_are_listed_newest_first_in_pages() {
    let app = TestApp::new().await;
    let mut created = Vec::new();
    for _ in 0..5 {
        created.insert(0, app.account().await.id.to_string());
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let call = format!("GET /v1/accounts?limit=2&cursor={cursor}");
        let page = app.as_operator(&call, Value::Null).await.expect(200);
        let data = page["data"].as_array().unwrap();
        assert!(data.len() <= 2);
        found.extend(data.iter().map(|account| account["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, created);
    let bad = app.as_operator("GET /v1/accounts?limit=0&cursor=x&y=1", Value::Null).await;
    assert_eq!(bad.pointers(400), ["/limit", "/cursor", "/y"]);
}

#[tokio::test]
async fn an_api_key_is_shown_once_and_stops_working_when_deleted() {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.as_account(&account, "GET /endpoints", Value::Null).await.expect(200);
    let keys = format!("/v1/accounts/{}/api-keys", account.id);
    let list = app.as_operator(&format!("GET {keys}"), Value::Null).await;
    assert!(!String::from_utf8_lossy(&list.bytes).contains(&account.key));
    let list = list.expect(200);
    assert_eq!(list["data"][0]["name"], "test");
    let delete = format!("DELETE {keys}/{}", list["data"][0]["id"].as_str().unwrap());
    app.as_operator(&delete, Value::Null).await.expect(204);
    app.as_operator(&delete, Value::Null).await.assert_problem(404);
    app.as_account(&account, "GET /endpoints", Value::Null).await.assert_problem(401);
}

#[tokio::test]
async fn event_types_are_created_replaced_listed_and_deleted() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let text = r#"{"description":"d","example":{"b":1.50,"a":[ ]},"schema":{"type": "object"}}"#;
    let put = request(Some(super::harness::OPERATOR), "PUT /v1/event-types/a.b", text);
    let first = app.send(put).await;
    assert!(String::from_utf8_lossy(&first.bytes).contains(r#""example":{"b":1.50,"a":[ ]}"#));
    let first = first.expect(200);
    app.clock.advance(std::time::Duration::from_secs(1));
    let body = json!({"description": "", "example": null, "schema": null});
    let second = app.as_operator("PUT /v1/event-types/a.b", body).await.expect(200);
    assert_eq!(second["created_at"], first["created_at"]);
    assert_ne!(second["updated_at"], first["updated_at"]);
    assert_eq!((&second["schema"], &second["example"]), (&Value::Null, &Value::Null));
    app.event_type("a.a").await;

    let read = app.call(&account.key, "GET /v1/event-types/a.b", Value::Null).await.expect(200);
    assert_eq!(read, second);
    let list = app.call(&account.key, "GET /v1/event-types?limit=1", Value::Null).await.expect(200);
    assert_eq!((&list["data"][0]["name"], &list["next_cursor"]), (&json!("a.a"), &json!("a.a")));

    app.as_operator("DELETE /v1/event-types/a.b", Value::Null).await.expect(204);
    for call in ["GET /v1/event-types/a.b", "GET /v1/event-types/-..", "DELETE /v1/event-types/a.b"]
    {
        app.as_operator(call, Value::Null).await.assert_problem(404);
    }
}

#[tokio::test]
async fn all_errors_of_an_invalid_event_type_are_reported_at_once() {
    let app = TestApp::new().await;
    let body = json!({
        "description": "x".repeat(2001),
        "example": {"n": "x".repeat(33_000)},
        "schema": {"properties": {"a": {"type": "strange"}, "b": {"minLength": -1}}},
        "name": "a.b",
    });
    let mut found = app.as_operator("PUT /v1/event-types/a..b", body).await.pointers(422);
    found.sort();
    let schema = ["/schema/properties/a/type", "/schema/properties/b/minLength"];
    assert_eq!(found, ["/description", "/example", "/name", "/name", schema[0], schema[1]]);

    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let body = json!({"description": "", "example": {"n": "x"}, "schema": schema});
    let found = app.as_operator("PUT /v1/event-types/a.b", body).await.pointers(422);
    assert_eq!(found, ["/example/n"]);
    let schema = json!({"properties": {"a": {"$ref": "http://127.0.0.1:1/s.json"}}});
    let body = json!({"description": "", "example": {}, "schema": schema});
    let found = app.as_operator("PUT /v1/event-types/a.b", body).await.pointers(422);
    assert_eq!(found, ["/schema/properties/a/$ref"]);
}

#[tokio::test]
async fn the_cluster_view_lists_nodes_and_owners() {
    let app = TestApp::new().await;
    let cluster = app.as_operator("GET /v1/cluster", Value::Null).await.expect(200);
    let nodes = cluster["nodes"].as_array().unwrap();
    let summary =
        |node: &Value| (node["name"].clone(), node["state"].clone(), node["shards"].clone());
    assert_eq!(summary(&nodes[0]), (json!("node-1"), json!("alive"), json!(2)));
    assert_eq!(summary(&nodes[1]), (json!("node-2"), json!("dead"), json!(1)));
    assert!(nodes[0]["id"].as_str().unwrap().starts_with("boot_"));
    assert_eq!(nodes[0]["version"], "1.2.3");
    assert_eq!((&cluster["shards"], &cluster["unowned"]), (&json!(4), &json!(2)));
    assert!(cluster["oldest_pending_age_ms"].is_null() && cluster.get("owners").is_none());

    let call = "GET /v1/cluster?owners=true";
    let owners = app.as_operator(call, Value::Null).await.expect(200)["owners"].clone();
    let owners = owners.as_array().unwrap().clone();
    assert_eq!(owners.len(), 3, "the shard that was never owned is not listed");
    assert_eq!((&owners[0]["shard"], &owners[0]["epoch"]), (&json!(0), &json!(7)));
    let call = "GET /v1/cluster?owners=maybe&x=1";
    assert_eq!(app.as_operator(call, Value::Null).await.pointers(400), ["/owners", "/x"]);
}

#[tokio::test]
async fn an_outage_of_the_node_is_reported() {
    let app = TestApp::new().await;
    let cluster = async || app.as_operator("GET /v1/cluster", Value::Null).await.expect(200);
    assert_eq!(cluster().await["outages"], json!([]));
    let since = app.clock.now();
    app.outages.lock().push(Outage { cause: Cause::Dns, since });
    let expected = json!([{
        "cause": "dns", "message": "its name servers do not resolve names", "since": since,
    }]);
    assert_eq!(cluster().await["outages"], expected);
    let operator = Browser::with_key(&app, OPERATOR).await;
    let page = operator.page("/dashboard/cluster").await;
    assert!(page.contains("Attention") && page.contains("do not resolve names"), "{page}");
}

#[tokio::test]
async fn the_age_of_the_oldest_pending_delivery_is_reported() {
    let app = TestApp::new().await;
    app.event_type("a").await;
    let account = app.account().await;
    app.endpoint(&account).await;
    let event = json!({"event_type": "a", "payload": {}});
    app.as_account(&account, "POST /events", event).await.expect(202);
    app.clock.advance(std::time::Duration::from_secs(90));
    let cluster = app.as_operator("GET /v1/cluster", Value::Null).await.expect(200);
    assert_eq!(cluster["oldest_pending_age_ms"], 90_000);
}
