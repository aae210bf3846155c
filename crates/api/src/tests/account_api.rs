use std::time::Duration;

use postrider_domain::email::{Email, Recipient, RecipientStatus};
use postrider_domain::endpoint::{Disabled, DisabledReason};
use postrider_domain::ids::BootId;
use postrider_domain::notice::{Kind, Notice, Report};
use postrider_domain::time::Clock;
use postrider_store::Wake;
use serde_json::{Value, json};

use super::harness::{Account, TestApp};

async fn setup() -> (TestApp, Account) {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("a.b").await;
    (app, account)
}

#[tokio::test]
async fn an_endpoint_is_created_updated_disabled_enabled_and_deleted() {
    let (app, account) = setup().await;
    let body = json!({
        "name": "Billing", "url": "https://example.com/hook", "event_types": ["a.b"],
        "headers": {"X-Env": "test"}, "ordering": "strict",
    });
    let mut created = app.as_account(&account, "POST /endpoints", body).await.expect(201);
    let secret = created.as_object_mut().unwrap().remove("signing_secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    let call = |call: &str| {
        let (method, rest) = call.split_once(' ').unwrap_or((call, ""));
        format!("{method} /endpoints/{}{rest}", created["id"].as_str().unwrap())
    };
    assert_eq!(app.as_account(&account, &call("GET"), Value::Null).await.expect(200), created);
    assert_eq!(
        created,
        json!({
            "id": created["id"], "name": "Billing", "url": "https://example.com/hook",
            "event_types": ["a.b"], "headers": {"X-Env": "test"}, "ordering": "strict",
            "rate_limit": null, "disable_when": null, "state": "enabled", "disabled": null, "failure_count": 0, "last_error": null,
            "pending": 0, "held": 0, "oldest_pending_at": null,
            "created_at": created["created_at"], "updated_at": created["updated_at"],
        })
    );

    app.shards.take();
    let body = json!({"event_types": ["*"], "headers": {}});
    let changed = app.as_account(&account, &call("PATCH"), body).await.expect(200);
    assert_eq!((&changed["event_types"], &changed["name"]), (&json!(["*"]), &json!("Billing")));
    assert!(matches!(app.shards.take()[..], [Wake::Changed { .. }]));

    let off = app.as_account(&account, &call("POST /disable"), Value::Null).await.expect(200);
    assert_eq!((&off["state"], &off["disabled"]["reason"]), (&json!("disabled"), &json!("manual")));
    let event = json!({"event_type": "a.b", "payload": {}});
    app.as_account(&account, "POST /events", event).await.expect(202);
    let off = app.as_account(&account, &call("GET"), Value::Null).await.expect(200);
    assert_eq!((&off["held"], &off["pending"]), (&json!(1), &json!(0)));
    let on = app.as_account(&account, &call("POST /enable"), Value::Null).await.expect(200);
    assert_eq!(
        (&on["state"], &on["pending"], &on["disabled"]),
        (&json!("enabled"), &json!(1), &Value::Null)
    );

    app.as_account(&account, &call("POST /disable"), Value::Null).await.expect(200);
    let body = json!({"held": "drop"});
    assert_eq!(
        app.as_account(&account, &call("POST /enable"), body).await.pointers(422),
        ["/held"]
    );
    let body = json!({"held": "discard"});
    app.as_account(&account, &call("POST /enable"), body).await.expect(200);

    app.as_account(&account, &call("DELETE"), Value::Null).await.expect(204);
    app.as_account(&account, &call("GET"), Value::Null).await.assert_problem(404);
    app.as_account(&account, &call("DELETE"), Value::Null).await.assert_problem(404);
}

#[tokio::test]
async fn every_invalid_field_of_an_endpoint_is_listed_at_once() {
    let (app, account) = setup().await;
    let body = json!({
        "name": "", "url": "http://127.0.0.1/", "ordering": "random",
        "event_types": ["a.b", "no.such", "..", 7, "no.other"],
        "headers": {"X-Good": "1", "webhook-id": "x", "X-Bad": 2, "a/b": "c"},
        "zz": true,
    });
    let mut found = app.as_account(&account, "POST /endpoints", body).await.pointers(422);
    found.sort();
    assert_eq!(
        found,
        [
            "/event_types/1",
            "/event_types/2",
            "/event_types/3",
            "/event_types/4",
            "/headers/X-Bad",
            "/headers/a~1b",
            "/headers/webhook-id",
            "/name",
            "/ordering",
            "/url",
            "/zz",
        ]
    );
    let found = app.as_account(&account, "POST /endpoints", json!({})).await.pointers(422);
    assert_eq!(found, ["/name", "/url", "/event_types"]);
    let body = json!({"name": "e", "url": "https://example.com", "event_types": ["a.b", "*"]});
    let found = app.as_account(&account, "POST /endpoints", body).await.pointers(422);
    assert_eq!(found, ["/event_types/1"]);
    let call = format!("PATCH /endpoints/{}", app.endpoint(&account).await);
    let body = json!({"url": "ftp://example.com", "event_types": ["no.such"], "headers": null});
    let found = app.as_account(&account, &call, body).await.pointers(422);
    assert_eq!(found, ["/url", "/headers", "/event_types/0"]);
}

#[tokio::test]
async fn endpoints_are_searched_by_name_url_and_state() {
    let (app, account) = setup().await;
    for (name, url) in
        [("Billing", "https://a.example.com/"), ("Shop", "https://b.example.com/Bill")]
    {
        let body = json!({"name": name, "url": url, "event_types": []});
        app.as_account(&account, "POST /endpoints", body).await.expect(201);
    }
    let other = app.endpoint(&account).await;
    app.as_account(&account, &format!("POST /endpoints/{other}/disable"), Value::Null)
        .await
        .expect(200);
    for (query, names) in [
        ("", vec!["e", "Shop", "Billing"]),
        ("?search=bill", vec!["Shop", "Billing"]),
        ("?search=A.EXAMPLE&state=enabled", vec!["Billing"]),
        ("?state=enabled&limit=1", vec!["Shop"]),
        ("?state=disabled&search=", vec!["e"]),
        ("?search=%25", vec![]),
    ] {
        let page = app.as_account(&account, &format!("GET /endpoints{query}"), Value::Null).await;
        let page = page.expect(200);
        let found = page["data"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
        assert_eq!(found.collect::<Vec<_>>(), names, "{query}");
    }
    let bad = format!("GET /endpoints?state=deleted&search={}", "x".repeat(201));
    assert_eq!(
        app.as_account(&account, &bad, Value::Null).await.pointers(400),
        ["/state", "/search"]
    );
}

#[tokio::test]
async fn statistics_count_attempts() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    let endpoint = id.parse().unwrap();
    let event = json!({"event_type": "a.b", "payload": {}});
    app.as_account(&account, "POST /events", event).await.expect(202);
    app.attempt_next(account.id, endpoint, 503, 120).await;
    app.attempt_next(account.id, endpoint, 200, 80).await;
    let get = async |query: &str| {
        let call = format!("GET /endpoints/{id}/statistics{query}");
        app.as_account(&account, &call, Value::Null).await
    };
    for (query, span, points) in
        [("", "24h", 48), ("?span=1h", "1h", 12), ("?span=7d", "7d", 28), ("?span=30d", "30d", 30)]
    {
        let found = get(query).await.expect(200);
        assert_eq!((&found["span"], &found["complete"]), (&json!(span), &json!(true)));
        let (total, all) = (&found["total"], found["points"].as_array().unwrap());
        assert_eq!(all.len(), points);
        let mut last = all[points - 1].clone();
        assert!(last.as_object_mut().unwrap().remove("at").unwrap().is_string());
        assert_eq!(&last, total);
        assert_eq!((&total["succeeded"], &total["failed"]), (&json!(1), &json!(1)));
        assert_eq!(
            (&total["statuses"], &total["errors"]),
            (&json!({"200": 1, "503": 1}), &json!({}))
        );
        let p99 = total["p99_ms"].as_u64().unwrap();
        assert!((91..=127).contains(&p99), "{p99}");
        assert_eq!(all[0]["p50_ms"], Value::Null);
    }
    assert_eq!(get("?span=2h").await.pointers(400), ["/span"]);
    app.as_account(&account, &format!("DELETE /endpoints/{id}"), Value::Null).await.expect(204);
    get("").await.assert_problem(404);
}

#[tokio::test]
async fn an_endpoint_may_keep_a_deleted_event_type() {
    let (app, account) = setup().await;
    for name in ["a.c", "a.d"] {
        app.event_type(name).await;
    }
    let body = json!({"name": "e", "url": "https://example.com/", "event_types": ["a.b", "a.c"]});
    let created = app.as_account(&account, "POST /endpoints", body.clone()).await.expect(201);
    for name in ["a.b", "a.d"] {
        let call = format!("DELETE /v1/event-types/{name}");
        app.as_operator(&call, Value::Null).await.expect(204);
    }
    let call = format!("PATCH /endpoints/{}", created["id"].as_str().unwrap());
    let kept = app.as_account(&account, &call, body.clone()).await.expect(200);
    assert_eq!(kept["event_types"], json!(["a.b", "a.c"]));
    let more = json!({"event_types": ["a.b", "a.d"]});
    let found = app.as_account(&account, &call, more).await.pointers(422);
    assert_eq!(found, ["/event_types/1"]);
    let found = app.as_account(&account, "POST /endpoints", body).await.pointers(422);
    assert_eq!(found, ["/event_types/0"], "a new endpoint cannot subscribe to a deleted type");
    app.as_account(&account, &call, json!({"event_types": ["a.c"]})).await.expect(200);
    let back = json!({"event_types": ["a.b"]});
    assert_eq!(app.as_account(&account, &call, back).await.pointers(422), ["/event_types/0"]);
}

#[tokio::test]
async fn secrets_rotate_with_an_overlap() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    let (get, rotate) =
        (format!("GET /endpoints/{id}/secret"), format!("POST /endpoints/{id}/rotate-secret"));
    let first = app.as_account(&account, &get, Value::Null).await.expect(200);
    assert_eq!(first["replaced"], json!([]));
    let second = app.as_account(&account, &rotate, json!({"overlap": "1h30m"})).await.expect(200);
    assert_eq!(second["replaced"][0]["signing_secret"], first["signing_secret"]);
    assert_ne!(second["signing_secret"], first["signing_secret"]);
    assert_eq!(app.as_account(&account, &get, Value::Null).await.expect(200), second);
    app.clock.advance(Duration::from_secs(5_400));
    let later = app.as_account(&account, &get, Value::Null).await.expect(200);
    assert_eq!(later["replaced"], json!([]));
    let third = app.as_account(&account, &rotate, Value::Null).await.expect(200);
    assert_eq!(third["replaced"][0]["signing_secret"], second["signing_secret"]);
    for overlap in [json!("1w"), json!("31d"), json!(5), json!("-1s")] {
        let found =
            app.as_account(&account, &rotate, json!({"overlap": overlap})).await.pointers(422);
        assert_eq!(found, ["/overlap"]);
    }
}

#[tokio::test]
async fn a_test_event_returns_its_request_and_response() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    app.as_account(&account, &format!("POST /endpoints/{id}/disable"), Value::Null)
        .await
        .expect(200);
    let test = format!("POST /endpoints/{id}/test");
    let result = app.as_account(&account, &test, json!({"event_type": "a.b"})).await.expect(200);
    assert_eq!(
        result,
        json!({
            "request": {
                "method": "POST", "url": "https://example.com/",
                "headers": [["webhook-id", result["request"]["headers"][0][1]]],
                "body": r#"{"of":"a.b"}"#,
            },
            "response": {"status": 204, "headers": [], "body": "ok \u{fffd}"},
            "error": null,
            "duration_ms": 7,
            "phases": {
                "dns_ms": null, "connect_ms": 1.235, "tls_ms": null, "wait_ms": 5.001,
                "read_ms": 0.0,
            },
        })
    );
    let body = json!({"event_type": "a.b", "payload": null});
    let result = app.as_account(&account, &test, body).await.expect(200);
    assert_eq!(result["request"]["body"], "null");
    for event_type in ["no.such", ".."] {
        let body = json!({"event_type": event_type});
        assert_eq!(app.as_account(&account, &test, body).await.pointers(422), ["/event_type"]);
    }
    let events = app.as_account(&account, "GET /events", Value::Null).await.expect(200);
    assert_eq!(events["data"], json!([]), "a test event is not stored");
}

#[tokio::test]
async fn deliveries_are_listed_shown_and_retried() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    let event = json!({"event_type": "a.b", "payload": {"x": 1}});
    let event = app.as_account(&account, "POST /events", event).await.expect(202);
    let list = format!("GET /endpoints/{id}/deliveries");
    let page = app.as_account(&account, &list, Value::Null).await.expect(200);
    let delivery = &page["data"][0];
    assert_eq!(delivery["event_id"], event["id"]);
    assert_eq!((&delivery["state"], &delivery["attempt_count"]), (&json!("pending"), &json!(0)));
    let path = format!("/deliveries/{}", delivery["id"].as_str().unwrap());
    let shown = app.as_account(&account, &format!("GET {path}"), Value::Null).await.expect(200);
    assert_eq!((&shown["id"], &shown["attempts"]), (&delivery["id"], &json!([])));

    app.shards.take();
    let retry = format!("POST {path}/retry");
    let forward = app.as_account(&account, &retry, Value::Null).await.expect(200);
    assert_eq!(forward["id"], delivery["id"], "a pending delivery is sent now");
    let discard = format!("POST {path}/discard");
    let discarded = app.as_account(&account, &discard, Value::Null).await.expect(200);
    assert_eq!(discarded["state"], json!("discarded"));
    let ended = app.as_account(&account, &discard, Value::Null).await;
    ended.assert_problem(409);
    assert_eq!(ended.json()["title"], "The delivery has ended");
    let again = app.as_account(&account, &retry, Value::Null).await.expect(201);
    assert_ne!(again["id"], delivery["id"]);
    assert_eq!(again["event_id"], event["id"]);
    assert!(!app.shards.take().is_empty());

    for (query, count) in [
        ("?state=pending", 1),
        ("?state=discarded", 1),
        ("?state=delivered", 0),
        ("?event_type=a.b&limit=1", 1),
        ("?event_type=other", 0),
        ("?since=2000-01-01T00:00:00Z", 2),
        ("?since=2100-01-01T00:00:00Z&state=", 0),
    ] {
        let page =
            app.as_account(&account, &format!("{list}{query}"), Value::Null).await.expect(200);
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{query}");
    }
    let bad = format!("{list}?state=lost&event_type=..&since=20260101T000000Z&limit=x&cursor=y");
    let found = app.as_account(&account, &bad, Value::Null).await.pointers(400);
    assert_eq!(found, ["/state", "/event_type", "/since", "/limit", "/cursor"]);

    app.as_account(&account, &format!("DELETE /endpoints/{id}"), Value::Null).await.expect(204);
    app.shards.take();
    let rejected = app.as_account(&account, &format!("POST {path}/retry"), Value::Null).await;
    rejected.assert_problem(409);
    assert_eq!(rejected.json()["title"], "The endpoint was deleted");
    assert!(app.shards.take().is_empty());
    let unknown = format!("POST /deliveries/dlv_{}/retry", "0".repeat(26));
    app.as_account(&account, &unknown, Value::Null).await.assert_problem(404);
}

#[tokio::test]
async fn pending_deliveries_are_sent_now_unless_the_endpoint_is_disabled() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    let event = json!({"event_type": "a.b", "payload": {"x": 1}});
    app.as_account(&account, "POST /events", event).await.expect(202);
    app.shards.take();
    let send = format!("POST /endpoints/{id}/send-now");
    let sent = app.as_account(&account, &send, Value::Null).await.expect(200);
    assert_eq!(sent, json!({"brought_forward": 1}));
    assert!(!app.shards.take().is_empty());
    let disable = format!("POST /endpoints/{id}/disable");
    app.as_account(&account, &disable, Value::Null).await.expect(200);
    let refused = app.as_account(&account, &send, Value::Null).await;
    refused.assert_problem(409);
    assert_eq!(refused.json()["title"], "The endpoint is disabled");
}

#[tokio::test]
async fn rate_limits_and_disabling_are_settings_of_the_endpoint() {
    let (app, account) = setup().await;
    let new = json!({
        "name": "Hook", "url": "https://example.com/", "event_types": ["*"],
        "rate_limit": {"per_second": 2.5, "burst": 10},
        "disable_when": "exhausted_and_nothing_delivered",
    });
    let made = app.as_account(&account, "POST /endpoints", new).await.expect(201);
    assert_eq!(made["rate_limit"], json!({"per_second": 2.5, "burst": 10}));
    assert_eq!(made["disable_when"], json!("exhausted_and_nothing_delivered"));
    let update = format!("PATCH /endpoints/{}", made["id"].as_str().unwrap());
    let change = async |change: Value| app.as_account(&account, &update, change).await;
    let same = change(json!({"name": "Other"})).await.expect(200);
    assert_eq!(same["rate_limit"], made["rate_limit"]);
    let changed = change(json!({"rate_limit": {"per_second": 1}, "disable_when": null})).await;
    let changed = changed.expect(200);
    assert_eq!(changed["rate_limit"], json!({"per_second": 1.0, "burst": 1}));
    assert_eq!(changed["disable_when"], Value::Null);
    let unlimited = change(json!({"rate_limit": null})).await.expect(200);
    assert_eq!(unlimited["rate_limit"], Value::Null);
    for (bad, pointer) in [
        (json!({"rate_limit": 5}), "/rate_limit"),
        (json!({"rate_limit": {}}), "/rate_limit/per_second"),
        (json!({"rate_limit": {"per_second": "1"}}), "/rate_limit/per_second"),
        (json!({"rate_limit": {"per_second": 0}}), "/rate_limit/per_second"),
        (json!({"rate_limit": {"per_second": 1, "burst": 0}}), "/rate_limit/burst"),
        (json!({"rate_limit": {"per_second": 1, "bursts": 1}}), "/rate_limit/bursts"),
        (json!({"disable_when": "never"}), "/disable_when"),
    ] {
        assert_eq!(change(bad.clone()).await.pointers(422), [pointer], "{bad}");
    }
}

#[tokio::test]
async fn an_event_is_resent_to_one_endpoint_or_to_all_subscribers() {
    let (app, account) = setup().await;
    let (first, second) = (app.endpoint(&account).await, app.endpoint(&account).await);
    let event = json!({"event_type": "a.b", "payload": {"x": 1}});
    let event = app.as_account(&account, "POST /events", event).await.expect(202);
    let path = format!("/events/{}", event["id"].as_str().unwrap());
    let (list, resend) = (format!("GET {path}/deliveries"), format!("POST {path}/resend"));
    let page = app.as_account(&account, &list, Value::Null).await.expect(200);
    assert_eq!(page["data"].as_array().unwrap().len(), 2);

    app.shards.take();
    let all = app.as_account(&account, &resend, Value::Null).await.expect(202);
    assert_eq!(all, json!({"deliveries": 2}));
    assert_eq!(app.shards.take().len(), 2);
    let off = json!({"event_types": []});
    app.as_account(&account, &format!("PATCH /endpoints/{first}"), off).await.expect(200);
    let one = app.as_account(&account, &resend, json!({"endpoint": first})).await.expect(202);
    assert_eq!(one, json!({"deliveries": 1}), "a resend to one endpoint ignores its subscriptions");
    let one = app.as_account(&account, &resend, json!({"endpoint": null})).await.expect(202);
    assert_eq!(one, json!({"deliveries": 1}), "only the other endpoint is subscribed now");

    let newest =
        app.as_account(&account, &format!("{list}?limit=1"), Value::Null).await.expect(200);
    assert_eq!(newest["data"][0]["endpoint_id"], second.as_str());
    let cursor = newest["next_cursor"].as_str().unwrap();
    let call = format!("{list}?cursor={cursor}");
    let others = app.as_account(&account, &call, Value::Null).await.expect(200);
    assert_eq!(others["data"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&others["data"][0]["endpoint_id"], &others["next_cursor"]),
        (&json!(first), &Value::Null)
    );
    app.as_account(&account, &format!("{list}?state=held"), Value::Null).await.assert_problem(400);

    for (body, pointer) in [(json!({"endpoint": "x"}), "/endpoint"), (json!({"to": 1}), "/to")] {
        assert_eq!(app.as_account(&account, &resend, body).await.pointers(422), [pointer]);
    }
    let nowhere = json!({"endpoint": format!("ep_{}", "0".repeat(26))});
    app.as_account(&account, &resend, nowhere).await.assert_problem(404);
    app.as_account(&account, &format!("DELETE /endpoints/{first}"), Value::Null).await.expect(204);
    let rejected = app.as_account(&account, &resend, json!({"endpoint": first})).await;
    rejected.assert_problem(409);
    assert_eq!(rejected.json()["title"], "The endpoint was deleted");
}

#[tokio::test]
async fn the_emails_about_an_endpoint_are_listed() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    let endpoint = id.parse().unwrap();
    let shards: Vec<_> = (0..app.records.shards()).collect();
    let fences = app.records.claim(&shards, BootId::MIN).await.unwrap();
    let at = app.clock.now();
    let notice = Notice {
        account: account.id,
        endpoint,
        report: Report::Disabled(Disabled {
            reason: DisabledReason::Exhausted,
            at,
            delivery: None,
        }),
        failure_count: 11,
        last_error: None,
    };
    let recipient = |address: &str, status| Recipient { address: address.to_owned(), status };
    let to = vec![
        recipient("a@example.com", RecipientStatus::Accepted),
        recipient("b@example.com", RecipientStatus::Deferred("450 later".to_owned())),
    ];
    let email = Email {
        kind: Kind::Disabled,
        disabled_at: Some(at),
        at,
        subject: "It was disabled".to_owned(),
        to,
    };
    let fence = fences[usize::from(app.records.shard_of(endpoint))];
    app.records.log_emails(fence, &[(&notice, &email)]).await.unwrap();
    let list = format!("GET /endpoints/{id}/emails");
    let body = app.as_account(&account, &format!("{list}?limit=1"), Value::Null).await.expect(200);
    let at = at.to_string();
    assert_eq!(
        body,
        json!({"data": [{
            "kind": "disabled", "disabled_at": at, "at": at, "subject": "It was disabled",
            "to": [
                {"address": "a@example.com", "verdict": "accepted", "reason": null},
                {"address": "b@example.com", "verdict": "deferred", "reason": "450 later"},
            ],
        }]})
    );
    app.as_account(&account, &format!("{list}?limit=0"), Value::Null).await.assert_problem(400);
}

#[tokio::test]
async fn a_replay_is_created_paused_resumed_and_cancelled() {
    let (app, account) = setup().await;
    let id = app.endpoint(&account).await;
    let event = json!({"event_type": "a.b", "payload": {"x": 1}});
    app.as_account(&account, "POST /events", event).await.expect(202);
    let disable = format!("POST /endpoints/{id}/disable");
    app.as_account(&account, &disable, Value::Null).await.expect(200);
    let enable = format!("POST /endpoints/{id}/enable");
    app.as_account(&account, &enable, json!({"held": "discard"})).await.expect(200);

    let body = json!({"endpoint": id, "dry_run": true});
    let counted = app.as_account(&account, "POST /replays", body).await.expect(200);
    assert_eq!((&counted["dry_run"], &counted["exact"]), (&json!(true), &json!(true)));
    assert_eq!(counted["total"], 1, "deliveries are discarded as soon as the call returns");
    app.shards.take();
    let body = json!({"endpoint": id, "states": ["discarded", "exhausted"], "rate": 5});
    let created = app.as_account(&account, "POST /replays", body).await.expect(202);
    assert!(matches!(app.shards.take()[..], [Wake::Jobs { .. }]));
    assert_eq!(
        (&created["state"], &created["rate"], &created["done"]),
        (&json!("running"), &json!(5), &json!(0))
    );
    let path = format!("/replays/{}", created["id"].as_str().unwrap());
    let read = app.as_account(&account, &format!("GET {path}"), Value::Null).await.expect(200);
    assert_eq!(read, created);
    let list = app.as_account(&account, "GET /replays?limit=1", Value::Null).await.expect(200);
    assert_eq!(list, json!({"data": [created], "next_cursor": null}));
    for (command, state) in
        [("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")]
    {
        let call = format!("POST {path}/{command}");
        let now = app.as_account(&account, &call, Value::Null).await.expect(200);
        assert_eq!(now["state"], state);
    }
    app.as_account(&account, &format!("POST {path}/resume"), Value::Null).await.assert_problem(409);
}

#[tokio::test]
async fn every_invalid_field_of_a_replay_is_listed_at_once() {
    let (app, account) = setup().await;
    let body = json!({
        "endpoint": format!("ep_{}", "0".repeat(26)), "event_types": [], "rate": 0,
        "states": ["held", "delivered", "x"], "since": "2026-01-02T00:00:00Z",
        "until": "2026-01-01T00:00:00Z", "dry_run": "yes", "speed": 1,
    });
    let mut found = app.as_account(&account, "POST /replays", body).await.pointers(422);
    found.sort();
    assert_eq!(
        found,
        [
            "/dry_run",
            "/endpoint",
            "/event_types",
            "/rate",
            "/speed",
            "/states/0",
            "/states/2",
            "/until",
        ]
    );
}
