//! The dashboard: access to its pages, and forms that do the same as the API.

use std::time::Duration;

use http::StatusCode;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::kv::memory::Memory;
use serde_json::{Value, json};

use super::browser::{Browser, create_portal_link, portal_link_path};
use super::harness::{Account, OPERATOR, TestApp, request};
use crate::{Dashboard, Origin};

/// The path of a page of an account.
fn at(account: &Account, page: &str) -> String {
    format!("/dashboard/accounts/{}{page}", account.id)
}

#[tokio::test]
async fn an_api_key_signs_in_to_its_account() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let browser = Browser::with_key(&app, &account.key).await;
    let home = browser.get("/dashboard").await;
    assert_eq!(home.redirect_target(), at(&account, "/webhooks"));
    assert!(browser.page(&at(&account, "/webhooks")).await.contains("No webhooks yet"));
    assert_eq!(browser.get("/").await.redirect_target(), "/dashboard");
}

#[tokio::test]
async fn an_anonymous_visitor_signs_in_and_returns_to_the_requested_page() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let anonymous = Browser::anonymous(&app);
    let page = at(&account, "/settings");
    let to = anonymous.get(&page).await.redirect_target().to_owned();
    assert!(to.starts_with("/dashboard/sign-in?back=") && !to.contains("ended"), "{to}");
    assert!(anonymous.page(&to).await.contains(&format!(r#"name="back" value="{page}""#)));
    let signed_in =
        anonymous.post("/dashboard/sign-in", &[("key", &account.key), ("back", &page)]).await;
    assert_eq!(signed_in.redirect_target(), page);
    // A return path outside the dashboard is ignored.
    for elsewhere in ["https://evil.example/", "//evil.example/dashboard", "/v1/accounts"] {
        let fields = [("key", account.key.as_str()), ("back", elsewhere)];
        assert_eq!(
            anonymous.post("/dashboard/sign-in", &fields).await.redirect_target(),
            "/dashboard"
        );
    }
    for (key, status) in [("", 422), ("prk_wrong", 422), (&"x".repeat(10_000), 413)] {
        let rejected = anonymous.post("/dashboard/sign-in", &[("key", key)]).await;
        assert_eq!(rejected.status, status);
        assert!(!rejected.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn an_htmx_request_without_a_session_redirects_the_whole_page_to_sign_in() {
    let app = TestApp::new().await;
    let mut partial = request(None, "GET /dashboard/cluster", String::new());
    let headers = partial.headers_mut();
    headers.insert("hx-request", "true".parse().unwrap());
    headers.insert("hx-current-url", "http://a/dashboard/accounts?x=1".parse().unwrap());
    let response = Browser::anonymous(&app).send(partial).await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
    // After the sign-in, the page is loaded, not the fragment.
    let to = response.headers["hx-redirect"].to_str().unwrap();
    assert_eq!(to, "/dashboard/sign-in?back=%2Fdashboard%2Faccounts&ended=expired");
    assert!(Browser::anonymous(&app).page(to).await.contains("Your session has ended."));
}

#[tokio::test]
async fn an_htmx_request_for_a_deleted_endpoint_reloads_the_page() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let browser = Browser::with_key(&app, &account.key).await;
    let gone = at(&account, &format!("/webhooks/{}/facts", EndpointId::MAX));
    let mut partial = request(None, &format!("GET {gone}"), String::new());
    partial.headers_mut().insert("hx-request", "true".parse().unwrap());
    assert_eq!(browser.send(partial).await.headers["hx-refresh"], "true");
    assert!(!browser.get(&gone).await.headers.contains_key("hx-refresh"));
}

#[tokio::test]
async fn an_asset_of_another_version_is_not_cached() {
    let app = TestApp::new().await;
    let anonymous = Browser::anonymous(&app);
    let script = super::super::dashboard::script_url();
    let other = "/dashboard/assets/0123456789ab/dashboard.js";
    assert!(
        anonymous.get(script).await.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert_eq!(anonymous.get(other).await.headers["cache-control"], "no-store");
    assert_eq!(anonymous.get("/dashboard/assets/0123456789ab/x").await.status, 404);
}

#[tokio::test]
async fn an_account_cannot_open_another_accounts_pages() {
    let app = TestApp::new().await;
    let (mine, other) = (app.account().await, app.account().await);
    let theirs = app.endpoint(&other).await;
    let browser = Browser::with_key(&app, &mine.key).await;
    let own = app.endpoint(&mine).await;
    for page in ["/webhooks", "/settings", "/event-types", &format!("/webhooks/{theirs}")] {
        assert_eq!(browser.get(&at(&other, page)).await.status, StatusCode::NOT_FOUND, "{page}");
    }
    // The same through paths of one's own account.
    for page in ["", "/settings", "/facts", "/deliveries"] {
        let page = at(&mine, &format!("/webhooks/{theirs}{page}"));
        assert_eq!(browser.get(&page).await.status, StatusCode::NOT_FOUND, "{page}");
    }
    let form = at(&mine, &format!("/webhooks/{own}"));
    for action in ["enable", "disable", "delete", "rotate-secret", "settings"] {
        for account in [&mine, &other] {
            let action = at(account, &format!("/webhooks/{theirs}/{action}"));
            let response = browser.submit_from(&form, &action, &[("name", "x")]).await;
            assert!(!response.status.is_success() && !response.status.is_redirection(), "{action}");
        }
    }
    for page in ["/dashboard/accounts", "/dashboard/accounts/new", "/dashboard/cluster"] {
        assert_eq!(browser.get(page).await.status, StatusCode::FORBIDDEN, "{page}");
    }
}

#[tokio::test]
async fn a_session_ends_when_it_expires_or_its_key_or_account_is_deleted() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let browser = Browser::with_key(&app, &account.key).await;
    let page = at(&account, "/settings");
    let keys = format!("/v1/accounts/{}/api-keys", account.id);
    let key = app.as_operator(&format!("GET {keys}"), Value::Null).await.expect(200);
    let key = key["data"][0]["id"].as_str().unwrap();
    browser.page(&page).await;
    app.as_operator(&format!("DELETE {keys}/{key}"), Value::Null).await.expect(204);
    assert!(browser.get(&page).await.redirect_target().contains("sign-in"));

    let linked = Browser::with_portal_link(&app, &account, json!({"expires_in": "90s"})).await;
    linked.page(&page).await;
    let operator = Browser::with_key(&app, OPERATOR).await;
    app.clock.advance(Duration::from_secs(90));
    assert!(linked.get(&page).await.redirect_target().ends_with("&ended=expired"));
    let form = format!("{page}/contacts");
    let to = linked.post(&form, &[]).await.redirect_target().to_owned();
    assert!(linked.page(&to).await.contains("Your changes were not saved."));
    operator.page(&page).await;
    app.clock.advance(Duration::from_secs(12 * 3600));
    assert!(operator.get(&page).await.redirect_target().contains("sign-in"));

    let linked = Browser::with_portal_link(&app, &account, Value::Null).await;
    app.as_operator(&format!("DELETE /v1/accounts/{}", account.id), Value::Null).await.expect(204);
    assert!(linked.get(&page).await.redirect_target().ends_with("&ended=expired"));
}

/// Other nodes and the recipients of a link compare its expiry with their own wall clocks.
#[tokio::test]
async fn portal_links_and_sessions_expire_by_the_wall_clock() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let anonymous = Browser::anonymous(&app);
    // The filtered clock has not yet accepted this step of ten minutes.
    app.clock.step_wall(Duration::from_secs(600));
    let created = create_portal_link(&app, &account, json!({"expires_in": "5m"})).await;
    let expires_at: Timestamp = created["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires_at, app.clock.wall().plus(Duration::from_secs(300)));

    let link = portal_link_path(&app, &account, json!({"expires_in": "5m"})).await;
    assert_eq!(anonymous.get(&link).await.status, StatusCode::SEE_OTHER);
    let linked = Browser::with_portal_link(&app, &account, json!({"expires_in": "5m"})).await;
    linked.page(&at(&account, "/settings")).await;
    app.clock.step_wall(Duration::from_secs(300));
    assert_eq!(anonymous.get(&link).await.status, StatusCode::GONE);
    assert!(
        linked.get(&at(&account, "/settings")).await.redirect_target().ends_with("&ended=expired")
    );
}

#[tokio::test]
async fn a_portal_link_opens_its_page_until_it_expires() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let anonymous = Browser::anonymous(&app);
    let link =
        portal_link_path(&app, &account, json!({"path": "/settings", "expires_in": "1m"})).await;
    let opened = anonymous.get(&link).await;
    assert_eq!(opened.redirect_target(), at(&account, "/settings"));
    let cookie = opened.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Max-Age=604860", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(anonymous.get(&link).await.status, StatusCode::GONE);
    assert_eq!(anonymous.get("/dashboard/open/AAAA").await.status, StatusCode::GONE);

    let call = format!("POST /v1/accounts/{}/portal-links", account.id);
    for (body, pointer) in [
        (json!({"expires_in": "8d"}), "/expires_in"),
        (json!({"expires_in": "0s"}), "/expires_in"),
        (json!({"path": "https://evil.example"}), "/path"),
        (json!({"path": "/../x"}), "/path"),
        (json!({"page": "x"}), "/page"),
    ] {
        assert_eq!(app.as_operator(&call, body).await.pointers(422), [pointer]);
    }
    app.call(&account.key, &call, Value::Null).await.assert_problem(403);
}

#[tokio::test]
async fn revoking_portal_links_ends_every_link_and_session_of_the_account() {
    let app = TestApp::new().await;
    let (account, other) = (app.account().await, app.account().await);
    let page = at(&account, "/settings");
    let link = portal_link_path(&app, &account, Value::Null).await;
    let linked = Browser::with_portal_link(&app, &account, Value::Null).await;
    let elsewhere = Browser::with_portal_link(&app, &other, Value::Null).await;
    let with_key = Browser::with_key(&app, &account.key).await;
    assert!(!with_key.page(&page).await.contains("Revoke all links"));

    let end = format!("DELETE /v1/accounts/{}/portal-links", account.id);
    app.call(&account.key, &end, Value::Null).await.assert_problem(403);
    linked.page(&page).await;
    app.as_operator(&end, Value::Null).await.expect(204);
    assert!(linked.get(&page).await.redirect_target().ends_with("&ended=expired"));
    assert_eq!(Browser::anonymous(&app).get(&link).await.status, StatusCode::GONE);
    with_key.page(&page).await;
    elsewhere.page(&at(&other, "/settings")).await;

    let again = Browser::with_portal_link(&app, &account, Value::Null).await;
    again.page(&page).await;
    let operator = Browser::with_key(&app, OPERATOR).await;
    let ended = operator
        .submit_from(&page, &format!("{page}/links/revoke"), &[])
        .await
        .redirect_target()
        .to_owned();
    assert!(operator.page(&ended).await.contains("Portal links revoked."));
    assert!(again.get(&page).await.redirect_target().ends_with("&ended=expired"));
    let unknown = format!("DELETE /v1/accounts/{}/portal-links", AccountId::MAX);
    app.as_operator(&unknown, Value::Null).await.assert_problem(404);
}

#[tokio::test]
async fn a_configured_site_may_embed_the_dashboard() {
    let dashboard = Dashboard {
        public_url: Some(Origin::parse("https://hooks.example.com").unwrap()),
        embed_in: vec![Origin::parse("https://app.example.com").unwrap()],
    };
    let app = TestApp::with_dashboard(Memory::new(), dashboard.clone()).await;
    let account = app.account().await;
    let call = format!("POST /v1/accounts/{}/portal-links", account.id);
    let created = app.as_operator(&call, Value::Null).await.expect(201);
    let link = created["url"].as_str().unwrap().strip_prefix("https://hooks.example.com").unwrap();
    let opened = Browser::anonymous(&app).get(link).await;
    let cookie = opened.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    for part in ["; Secure", "; SameSite=None", "; Partitioned"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let policy = opened.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors https://app.example.com"), "{policy}");
    let mut browser = Browser::anonymous(&app);
    browser.keep_cookie(&opened);
    browser.page(&at(&account, "/webhooks")).await;

    let page = dashboard.endpoint_page(account.id, EndpointId::MAX).unwrap();
    assert!(page.starts_with("https://hooks.example.com/dashboard/"), "{page}");
    assert!(page.ends_with(&EndpointId::MAX.to_string()), "{page}");
}

#[tokio::test]
async fn only_the_operator_creates_and_deletes_api_keys() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let page = at(&account, "/settings");
    // As in the API: a stolen key must not be able to create another one.
    for browser in [
        Browser::with_key(&app, &account.key).await,
        Browser::with_portal_link(&app, &account, Value::Null).await,
    ] {
        let rejected = browser.submit_from(&page, &format!("{page}/keys"), &[("name", "x")]).await;
        assert_eq!(rejected.status, StatusCode::FORBIDDEN);
        let rejected = browser.submit_from(&page, &format!("{page}/keys/x/delete"), &[]).await;
        assert_eq!(rejected.status, StatusCode::FORBIDDEN);
        assert!(
            browser.page(&page).await.contains("Only the operator can create and delete API keys.")
        );
    }
    let operator = Browser::with_key(&app, OPERATOR).await;
    let created = operator.submit_from(&page, &format!("{page}/keys"), &[("name", "second")]).await;
    assert_eq!(created.status, StatusCode::OK);
    let text = created.text();
    let (_, key) = text.split_once("<code>prk_").expect("the page shows the new key");
    let key = format!("prk_{}", key.split('<').next().unwrap());
    let events = format!("GET /v1/accounts/{}/events", account.id);
    app.call(&key, &events, Value::Null).await.expect(200);
    let shown = operator.page(&page).await;
    assert!(!shown.contains(&key), "the key is shown a second time");
    let (_, id) = shown.split_once("/keys/key_").expect("the page lists the key");
    let delete = format!("{page}/keys/key_{}/delete", id.split('/').next().unwrap());
    operator.submit_from(&page, &delete, &[]).await.redirect_target();
    app.call(&key, &events, Value::Null).await.assert_problem(401);
}

#[tokio::test]
async fn a_stale_form_does_not_overwrite_a_newer_change() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let id = app.endpoint(&account).await;
    let browser = Browser::sign_in(&app, &account).await;
    let settings = format!("/webhooks/{id}/settings");
    let before = browser.page(&settings).await;
    let (_, version) = before.split_once(r#"name="version" value=""#).unwrap();
    let version = version.split('"').next().unwrap();
    app.clock.advance(Duration::from_millis(1));
    let change = json!({"url": "https://example.com/theirs"});
    app.as_account(&account, &format!("PATCH /endpoints/{id}"), change).await.expect(200);

    let mine = [("name", "Mine"), ("url", "https://example.com/mine"), ("version", version)];
    let rejected = browser.submit(&settings, &mine).await;
    assert_eq!(rejected.status, StatusCode::CONFLICT);
    assert!(rejected.text().contains("Someone else saved changes after you opened this page."));
    assert!(rejected.text().contains("Load the current version"));
    assert!(rejected.text().contains("https://example.com/mine"), "the form lost what was entered");
    let stored =
        app.as_account(&account, &format!("GET /endpoints/{id}"), Value::Null).await.expect(200);
    assert_eq!(stored["url"], "https://example.com/theirs");
    browser.submit_from(&settings, &settings, &mine[..2]).await.redirect_target();

    let contacts =
        [("contact_emails", "mine@example.com"), ("version", "2020-01-01T00:00:00.000Z")];
    let rejected = browser.submit("/settings/contacts", &contacts).await;
    assert_eq!(rejected.status, StatusCode::CONFLICT);
    assert!(rejected.text().contains("Someone else saved changes after you opened this page."));
    browser.submit_from("/settings", "/settings/contacts", &contacts[..1]).await.redirect_target();
}

#[tokio::test]
async fn a_form_without_a_valid_csrf_token_is_rejected() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let endpoint = app.endpoint(&account).await;
    let browser = Browser::with_key(&app, &account.key).await;
    let action = at(&account, &format!("/webhooks/{endpoint}/delete"));
    for fields in [&[][..], &[("csrf", "")], &[("csrf", "wrong")]] {
        assert_eq!(browser.post(&action, fields).await.status, StatusCode::FORBIDDEN);
    }
    // Another session's token is rejected as well.
    let other = Browser::with_portal_link(&app, &account, Value::Null).await;
    let page = other.page(&at(&account, "/webhooks")).await;
    let (_, token) = page.split_once(r#"name="csrf" value=""#).unwrap();
    let token = token.split('"').next().unwrap();
    assert_eq!(browser.post(&action, &[("csrf", token)]).await.status, StatusCode::FORBIDDEN);
    // So is a valid token sent from another site's page.
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        for path in [action.as_str(), "/dashboard/sign-in", "/dashboard/sign-out"] {
            let mut request = request(None, &format!("POST {path}"), format!("csrf={token}"));
            request.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(other.send(request).await.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    browser.page(&at(&account, &format!("/webhooks/{endpoint}"))).await;
}

#[tokio::test]
async fn a_webhook_is_created_updated_disabled_enabled_and_deleted() {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("order.created").await;
    let browser = Browser::with_key(&app, &account.key).await;
    let new = at(&account, "/webhooks/new");
    assert!(browser.page(&new).await.contains("order.created"));

    let fields =
        [("name", ""), ("url", "http://10.0.0.1/"), ("event_types", "no.such"), ("headers", "x")];
    let rejected = browser.submit_from(&new, &new, &fields).await;
    assert_eq!(rejected.status, StatusCode::UNPROCESSABLE_ENTITY);
    let text = rejected.text();
    for what in
        ["no colon", "name-error", "1 to 200 characters", "10.0.0.1", "is not in the catalogue"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }

    let fields = [
        ("name", "Billing"),
        ("url", "https://example.com/hook"),
        ("event_types", "order.created"),
        ("headers", "X-Team: blue\r\n"),
        ("ordering", "strict"),
    ];
    let created = browser.submit_from(&new, &new, &fields).await;
    let page = created.redirect_target().split('?').next().unwrap().to_owned();
    let id: EndpointId =
        page.rsplit('/').next().unwrap().parse().expect("the path ends in the endpoint id");
    let call = format!("GET /endpoints/{id}");
    let endpoint = app.as_account(&account, &call, Value::Null).await.expect(200);
    assert_eq!(endpoint["headers"], json!({"X-Team": "blue"}));
    assert_eq!(endpoint["event_types"], json!(["order.created"]));
    assert_eq!(endpoint["ordering"], "strict");

    let settings = format!("{page}/settings");
    let fields = [("name", "Billing"), ("url", "https://example.com/2"), ("all", "on")];
    assert!(
        browser
            .submit_from(&settings, &settings, &fields)
            .await
            .redirect_target()
            .contains("flash=saved")
    );
    let endpoint = app.as_account(&account, &call, Value::Null).await.expect(200);
    assert_eq!(
        (&endpoint["url"], &endpoint["event_types"]),
        (&json!("https://example.com/2"), &json!(["*"]))
    );
    assert_eq!((&endpoint["headers"], &endpoint["ordering"]), (&json!({}), &json!("parallel")));

    browser.submit_from(&page, &format!("{page}/disable"), &[]).await.redirect_target();
    let text = browser.page(&page).await;
    assert!(text.contains("Disabled manually on"), "{text}");
    browser
        .submit_from(&page, &format!("{page}/enable"), &[("held", "discard")])
        .await
        .redirect_target();
    assert!(browser.page(&page).await.contains("Sending normally"));
    let rejected = browser.submit_from(&page, &format!("{page}/enable"), &[("held", "x")]).await;
    assert_eq!(rejected.status, StatusCode::UNPROCESSABLE_ENTITY);

    browser.submit_from(&page, &format!("{page}/delete"), &[]).await.redirect_target();
    assert_eq!(browser.get(&page).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_signing_secret_is_hidden_until_requested_and_rotates() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let id = app.endpoint(&account).await;
    let browser = Browser::with_key(&app, &account.key).await;
    let settings = at(&account, &format!("/webhooks/{id}/settings"));
    let call = format!("GET /endpoints/{id}/secret");
    let secret = async || {
        let secrets = app.as_account(&account, &call, Value::Null).await.expect(200);
        secrets["signing_secret"].as_str().unwrap().to_owned()
    };
    let first = secret().await;
    assert!(!browser.page(&settings).await.contains(&first));
    assert!(browser.page(&format!("{settings}?secret=shown")).await.contains(&first));
    let action = at(&account, &format!("/webhooks/{id}/rotate-secret"));
    browser.submit_from(&settings, &action, &[]).await.redirect_target();
    let second = secret().await;
    assert_ne!(first, second);
    let shown = browser.page(&format!("{settings}?secret=shown")).await;
    assert!(
        shown.contains(&first) && shown.contains(&second),
        "both secrets are shown while they overlap"
    );
}

#[tokio::test]
async fn a_url_is_validated_while_it_is_typed() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let browser = Browser::with_key(&app, &account.key).await;
    let check = async |url: &str| {
        browser.page(&at(&account, &format!("/webhooks/check-url?url={url}"))).await
    };
    assert!(!check("https://example.com/").await.contains("<p>"));
    for bad in ["ftp://example.com", "http://127.0.0.1/", "http://%3Cscript%3E"] {
        let text = check(bad).await;
        assert!(text.contains("<p>") && !text.contains("<script>"), "{text}");
    }
}

#[tokio::test]
async fn the_operator_creates_accounts_and_sees_the_cluster() {
    let app = TestApp::new().await;
    let operator = Browser::with_key(&app, OPERATOR).await;
    assert_eq!(operator.get("/dashboard").await.redirect_target(), "/dashboard/accounts");
    let new = "/dashboard/accounts/new";
    let fields = [("name", "Acme"), ("contact_emails", "x")];
    let rejected = operator.submit_from(new, new, &fields).await;
    assert_eq!(rejected.status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields = [("name", "Acme"), ("contact_emails", "a@example.com\r\n\r\nb@example.com")];
    let created = operator.submit_from(new, new, &fields).await.redirect_target().to_owned();
    assert!(operator.page("/dashboard/accounts").await.contains("Acme"));
    assert!(operator.page(created.split('?').next().unwrap()).await.contains("Acme"));
    let cluster = operator.page("/dashboard/cluster").await;
    for what in ["node-1", "alive", "node-2", "dead", "Shard 3: no owner", "epoch 7", ">1</text>"] {
        assert!(cluster.contains(what), "{what}");
    }
}

#[tokio::test]
async fn every_response_has_security_and_cache_headers() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let browser = Browser::with_key(&app, &account.key).await;
    let script = super::super::dashboard::script_url();
    for path in
        [&at(&account, "/webhooks"), &at(&account, "/no-such"), "/dashboard/sign-in", script]
    {
        let response = browser.get(path).await;
        let policy = response.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        let kept = path == script;
        let cache = response.headers["cache-control"].to_str().unwrap();
        assert_eq!(cache.contains("immutable"), kept, "{path}");
        assert_eq!(cache == "no-store", !kept, "{path}");
    }
    let missing = browser.get(&at(&account, "/no-such")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.text().contains("No such page.") && missing.text().contains("Sign out"));
}

#[tokio::test]
async fn invalid_parameters_and_ids_get_an_error_page() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let id = app.endpoint(&account).await;
    let browser = Browser::with_key(&app, &account.key).await;
    let odd = browser.get(&at(&account, "/webhooks?state=odd")).await.page(400);
    assert!(
        odd.contains(">state</span> must be"),
        "the page shows a JSON pointer instead of the parameter: {odd}"
    );
    for (page, status) in [
        ("/webhooks?state=odd", 400),
        ("/webhooks?cursor=x", 400),
        ("/webhooks?other=1", 400),
        ("/webhooks/ep_x", 404),
        ("/webhooks/%FF", 404),
        ("/event-types/no.such", 404),
        (&format!("/webhooks/{id}?span=2h"), 400),
        (&format!("/webhooks/{id}?state=x&event_type=%20"), 400),
        (&format!("/webhooks/{id}/settings?secret=x"), 400),
    ] {
        let response = browser.get(&at(&account, page)).await;
        assert_eq!(response.status.as_u16(), status, "{page}");
        assert_eq!(response.headers["content-type"], "text/html; charset=utf-8", "{page}");
    }
}

#[tokio::test]
async fn unknown_query_parameters_are_rejected() {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("a.b").await;
    let id = app.endpoint(&account).await;
    let browser = Browser::sign_in(&app, &account).await;
    for page in [
        "/webhooks".to_owned(),
        "/webhooks/new".to_owned(),
        format!("/webhooks/{id}"),
        format!("/webhooks/{id}/settings"),
        format!("/webhooks/{id}/test"),
        "/events".to_owned(),
        "/replays".to_owned(),
        "/replays/new".to_owned(),
        "/event-types".to_owned(),
        "/event-types/a.b".to_owned(),
        "/settings".to_owned(),
    ] {
        assert_eq!(browser.get(&at(&account, &page)).await.status, 200, "{page}");
        let odd = format!("{page}?odd=1");
        assert_eq!(browser.get(&at(&account, &odd)).await.status, 400, "{page}");
    }
}
