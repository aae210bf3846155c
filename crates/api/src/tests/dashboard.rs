//! The dashboard: who may see which page, and that forms do what the API does.

use std::time::Duration;

use http::StatusCode;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::kv::memory::Memory;
use serde_json::{Value, json};

use super::harness::{Account, House, OPERATOR, request};
use super::visitor::{Visitor, made_link, portal_link};
use crate::{Dashboard, Origin};

/// A page of an account.
fn at(account: &Account, page: &str) -> String {
    format!("/dashboard/accounts/{}{page}", account.id)
}

#[tokio::test]
async fn a_key_opens_its_account() {
    let house = House::new().await;
    let account = house.account().await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let home = visitor.get("/dashboard").await;
    assert_eq!(home.leads_to(), at(&account, "/webhooks"));
    assert!(visitor.page(&at(&account, "/webhooks")).await.contains("No webhooks yet"));
    assert_eq!(visitor.get("/").await.leads_to(), "/dashboard");
}

#[tokio::test]
async fn a_stranger_is_led_to_the_sign_in_page_and_back() {
    let house = House::new().await;
    let account = house.account().await;
    let stranger = Visitor::stranger(&house);
    let page = at(&account, "/settings");
    let to = stranger.get(&page).await.leads_to().to_owned();
    assert!(to.starts_with("/dashboard/sign-in?back=") && !to.contains("over"), "{to}");
    assert!(stranger.page(&to).await.contains(&format!(r#"name="back" value="{page}""#)));
    let signed_in =
        stranger.submit("/dashboard/sign-in", &[("key", &account.key), ("back", &page)]).await;
    assert_eq!(signed_in.leads_to(), page);
    // Nowhere else.
    for elsewhere in ["https://evil.example/", "//evil.example/dashboard", "/v1/accounts"] {
        let fields = [("key", account.key.as_str()), ("back", elsewhere)];
        assert_eq!(stranger.submit("/dashboard/sign-in", &fields).await.leads_to(), "/dashboard");
    }
    for (key, status) in [("", 422), ("prk_wrong", 422), (&"x".repeat(10_000), 413)] {
        let refused = stranger.submit("/dashboard/sign-in", &[("key", key)]).await;
        assert_eq!(refused.status, status);
        assert!(!refused.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn a_part_of_a_page_leads_the_whole_page_to_sign_in() {
    let house = House::new().await;
    let mut asked = request(None, "GET /dashboard/cluster", String::new());
    let headers = asked.headers_mut();
    headers.insert("hx-request", "true".parse().unwrap());
    headers.insert("hx-current-url", "http://a/dashboard/accounts?x=1".parse().unwrap());
    let answer = Visitor::stranger(&house).send(asked).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    // Not to the part itself.
    let to = answer.headers["hx-redirect"].to_str().unwrap();
    assert_eq!(to, "/dashboard/sign-in?back=%2Fdashboard%2Faccounts&over=session");
    assert!(Visitor::stranger(&house).page(to).await.contains("Your session has ended."));
}

#[tokio::test]
async fn a_part_of_a_page_that_is_gone_has_the_page_loaded_anew() {
    let house = House::new().await;
    let account = house.account().await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let gone = at(&account, &format!("/webhooks/{}/facts", EndpointId::MAX));
    let mut asked = request(None, &format!("GET {gone}"), String::new());
    asked.headers_mut().insert("hx-request", "true".parse().unwrap());
    assert_eq!(visitor.send(asked).await.headers["hx-refresh"], "true");
    assert!(!visitor.get(&gone).await.headers.contains_key("hx-refresh"));
}

#[tokio::test]
async fn a_file_of_another_version_is_not_kept() {
    let house = House::new().await;
    let stranger = Visitor::stranger(&house);
    let script = super::super::dashboard::link_of_script();
    let other = "/dashboard/assets/0123456789ab/dashboard.js";
    assert!(
        stranger.get(script).await.headers["cache-control"].to_str().unwrap().contains("immutable")
    );
    assert_eq!(stranger.get(other).await.headers["cache-control"], "no-store");
    assert_eq!(stranger.get("/dashboard/assets/0123456789ab/x").await.status, 404);
}

#[tokio::test]
async fn no_account_sees_anothers_pages() {
    let house = House::new().await;
    let (mine, other) = (house.account().await, house.account().await);
    let theirs = house.endpoint(&other).await;
    let visitor = Visitor::with_key(&house, &mine.key).await;
    let own = house.endpoint(&mine).await;
    for page in ["/webhooks", "/settings", "/event-types", &format!("/webhooks/{theirs}")] {
        assert_eq!(visitor.get(&at(&other, page)).await.status, StatusCode::NOT_FOUND, "{page}");
    }
    // Nor through one's own address.
    for page in ["", "/settings", "/facts", "/deliveries"] {
        let page = at(&mine, &format!("/webhooks/{theirs}{page}"));
        assert_eq!(visitor.get(&page).await.status, StatusCode::NOT_FOUND, "{page}");
    }
    let form = at(&mine, &format!("/webhooks/{own}"));
    for action in ["enable", "disable", "delete", "rotate-secret", "settings"] {
        for account in [&mine, &other] {
            let action = at(account, &format!("/webhooks/{theirs}/{action}"));
            let answer = visitor.fill(&form, &action, &[("name", "x")]).await;
            assert!(!answer.status.is_success() && !answer.status.is_redirection(), "{action}");
        }
    }
    for page in ["/dashboard/accounts", "/dashboard/accounts/new", "/dashboard/cluster"] {
        assert_eq!(visitor.get(page).await.status, StatusCode::FORBIDDEN, "{page}");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_key_with_time_and_with_its_account() {
    let house = House::new().await;
    let account = house.account().await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let page = at(&account, "/settings");
    let keys = format!("/v1/accounts/{}/api-keys", account.id);
    let key = house.operator(&format!("GET {keys}"), Value::Null).await.expect(200);
    let key = key["data"][0]["id"].as_str().unwrap();
    visitor.page(&page).await;
    house.operator(&format!("DELETE {keys}/{key}"), Value::Null).await.expect(204);
    assert!(visitor.get(&page).await.leads_to().contains("sign-in"));

    let linked = Visitor::by_link(&house, &account, json!({"expires_in": "90s"})).await;
    linked.page(&page).await;
    let operator = Visitor::with_key(&house, OPERATOR).await;
    house.clock.advance(Duration::from_secs(90));
    assert!(linked.get(&page).await.leads_to().ends_with("&over=session"));
    let form = format!("{page}/contacts");
    let to = linked.submit(&form, &[]).await.leads_to().to_owned();
    assert!(linked.page(&to).await.contains("What you were filling in was not saved."));
    operator.page(&page).await;
    house.clock.advance(Duration::from_secs(12 * 3600));
    assert!(operator.get(&page).await.leads_to().contains("sign-in"));

    let linked = Visitor::by_link(&house, &account, Value::Null).await;
    house.operator(&format!("DELETE /v1/accounts/{}", account.id), Value::Null).await.expect(204);
    assert!(linked.get(&page).await.leads_to().ends_with("&over=session"));
}

/// Other nodes, and those who are given a link, hold its end against their own clocks.
#[tokio::test]
async fn links_and_sessions_go_by_the_wall_clock_and_not_by_the_steadied_one() {
    let house = House::new().await;
    let account = house.account().await;
    let stranger = Visitor::stranger(&house);
    // Ten minutes that the steadied clock does not believe yet.
    house.clock.step_wall(Duration::from_secs(600));
    let made = made_link(&house, &account, json!({"expires_in": "5m"})).await;
    let expires_at: Timestamp = made["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires_at, house.clock.wall().plus(Duration::from_secs(300)));

    let link = portal_link(&house, &account, json!({"expires_in": "5m"})).await;
    assert_eq!(stranger.get(&link).await.status, StatusCode::SEE_OTHER);
    let linked = Visitor::by_link(&house, &account, json!({"expires_in": "5m"})).await;
    linked.page(&at(&account, "/settings")).await;
    house.clock.step_wall(Duration::from_secs(300));
    assert_eq!(stranger.get(&link).await.status, StatusCode::GONE);
    assert!(linked.get(&at(&account, "/settings")).await.leads_to().ends_with("&over=session"));
}

#[tokio::test]
async fn a_portal_link_opens_its_page_for_a_limited_time() {
    let house = House::new().await;
    let account = house.account().await;
    let stranger = Visitor::stranger(&house);
    let link =
        portal_link(&house, &account, json!({"path": "/settings", "expires_in": "1m"})).await;
    let opened = stranger.get(&link).await;
    assert_eq!(opened.leads_to(), at(&account, "/settings"));
    let cookie = opened.headers["set-cookie"].to_str().unwrap();
    for part in ["HttpOnly", "SameSite=Lax", "Max-Age=604860", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(stranger.get(&link).await.status, StatusCode::GONE);
    assert_eq!(stranger.get("/dashboard/open/AAAA").await.status, StatusCode::GONE);

    let call = format!("POST /v1/accounts/{}/portal-links", account.id);
    for (body, pointer) in [
        (json!({"expires_in": "8d"}), "/expires_in"),
        (json!({"expires_in": "0s"}), "/expires_in"),
        (json!({"path": "https://evil.example"}), "/path"),
        (json!({"path": "/../x"}), "/path"),
        (json!({"page": "x"}), "/page"),
    ] {
        assert_eq!(house.operator(&call, body).await.pointers(422), [pointer]);
    }
    house.call(&account.key, &call, Value::Null).await.assert_problem(403);
}

#[tokio::test]
async fn all_portal_links_of_an_account_are_ended_at_once() {
    let house = House::new().await;
    let (account, other) = (house.account().await, house.account().await);
    let page = at(&account, "/settings");
    let link = portal_link(&house, &account, Value::Null).await;
    let linked = Visitor::by_link(&house, &account, Value::Null).await;
    let elsewhere = Visitor::by_link(&house, &other, Value::Null).await;
    let with_key = Visitor::with_key(&house, &account.key).await;
    assert!(!with_key.page(&page).await.contains("End all links"));

    let end = format!("DELETE /v1/accounts/{}/portal-links", account.id);
    house.call(&account.key, &end, Value::Null).await.assert_problem(403);
    linked.page(&page).await;
    house.operator(&end, Value::Null).await.expect(204);
    assert!(linked.get(&page).await.leads_to().ends_with("&over=session"));
    assert_eq!(Visitor::stranger(&house).get(&link).await.status, StatusCode::GONE);
    with_key.page(&page).await;
    elsewhere.page(&at(&other, "/settings")).await;

    let again = Visitor::by_link(&house, &account, Value::Null).await;
    again.page(&page).await;
    let operator = Visitor::with_key(&house, OPERATOR).await;
    let ended = operator.fill(&page, &format!("{page}/links/end"), &[]).await.leads_to().to_owned();
    assert!(operator.page(&ended).await.contains("All links are ended."));
    assert!(again.get(&page).await.leads_to().ends_with("&over=session"));
    let nobody = format!("DELETE /v1/accounts/{}/portal-links", AccountId::MAX);
    house.operator(&nobody, Value::Null).await.assert_problem(404);
}

#[tokio::test]
async fn another_site_may_show_the_pages_where_it_is_configured() {
    let dashboard = Dashboard {
        public_url: Some(Origin::parse("https://hooks.example.com").unwrap()),
        embed_in: vec![Origin::parse("https://app.example.com").unwrap()],
    };
    let house = House::reached(Memory::new(), dashboard.clone()).await;
    let account = house.account().await;
    let call = format!("POST /v1/accounts/{}/portal-links", account.id);
    let made = house.operator(&call, Value::Null).await.expect(201);
    let link = made["url"].as_str().unwrap().strip_prefix("https://hooks.example.com").unwrap();
    let opened = Visitor::stranger(&house).get(link).await;
    let cookie = opened.headers["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-") && cookie.contains("; Secure; SameSite=None; Partitioned")
    );
    let policy = opened.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("frame-ancestors https://app.example.com"), "{policy}");
    let mut visitor = Visitor::stranger(&house);
    visitor.keep(&opened);
    visitor.page(&at(&account, "/webhooks")).await;

    let page = dashboard.page_of(account.id, EndpointId::MAX).unwrap();
    assert!(page.starts_with("https://hooks.example.com/dashboard/"), "{page}");
    assert!(page.ends_with(&EndpointId::MAX.to_string()), "{page}");
}

#[tokio::test]
async fn the_operator_alone_makes_and_deletes_keys() {
    let house = House::new().await;
    let account = house.account().await;
    let page = at(&account, "/settings");
    // As in the API: a key that was stolen must not make itself a successor.
    for visitor in [
        Visitor::with_key(&house, &account.key).await,
        Visitor::by_link(&house, &account, Value::Null).await,
    ] {
        let refused = visitor.fill(&page, &format!("{page}/keys"), &[("name", "x")]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        let refused = visitor.fill(&page, &format!("{page}/keys/x/delete"), &[]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(visitor.page(&page).await.contains("The operator makes and deletes keys."));
    }
    let operator = Visitor::with_key(&house, OPERATOR).await;
    let made = operator.fill(&page, &format!("{page}/keys"), &[("name", "second")]).await;
    assert_eq!(made.status, StatusCode::OK);
    let text = made.text();
    let (_, key) = text.split_once("<code>prk_").expect("the key");
    let key = format!("prk_{}", key.split('<').next().unwrap());
    let events = format!("GET /v1/accounts/{}/events", account.id);
    house.call(&key, &events, Value::Null).await.expect(200);
    let shown = operator.page(&page).await;
    assert!(!shown.contains(&key), "it is shown once");
    let (_, id) = shown.split_once("/keys/key_").expect("a key to delete");
    let delete = format!("{page}/keys/key_{}/delete", id.split('/').next().unwrap());
    operator.fill(&page, &delete, &[]).await.leads_to();
    house.call(&key, &events, Value::Null).await.assert_problem(401);
}

#[tokio::test]
async fn what_somebody_else_changed_meanwhile_is_not_undone() {
    let house = House::new().await;
    let account = house.account().await;
    let id = house.endpoint(&account).await;
    let visitor = Visitor::sign_in(&house, &account).await;
    let settings = format!("/webhooks/{id}/settings");
    let before = visitor.page(&settings).await;
    let (_, seen) = before.split_once(r#"name="seen" value=""#).unwrap();
    let seen = seen.split('"').next().unwrap();
    house.clock.advance(Duration::from_millis(1));
    let change = json!({"url": "https://example.com/theirs"});
    house.own(&account, &format!("PATCH /endpoints/{id}"), change).await.expect(200);

    let mine = [("name", "Mine"), ("url", "https://example.com/mine"), ("seen", seen)];
    let refused = visitor.bring(&settings, &mine).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text().contains("Somebody changed this meanwhile."));
    assert!(refused.text().contains("Load the current version"));
    assert!(refused.text().contains("https://example.com/mine"), "what was filled in is kept");
    let stored =
        house.own(&account, &format!("GET /endpoints/{id}"), Value::Null).await.expect(200);
    assert_eq!(stored["url"], "https://example.com/theirs");
    visitor.fill(&settings, &settings, &mine[..2]).await.leads_to();

    let contacts = [("contact_emails", "mine@example.com"), ("seen", "2020-01-01T00:00:00.000Z")];
    let refused = visitor.bring("/settings/contacts", &contacts).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text().contains("Somebody changed this meanwhile."));
    visitor.fill("/settings", "/settings/contacts", &contacts[..1]).await.leads_to();
}

#[tokio::test]
async fn a_form_that_is_not_ours_does_nothing() {
    let house = House::new().await;
    let account = house.account().await;
    let endpoint = house.endpoint(&account).await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let action = at(&account, &format!("/webhooks/{endpoint}/delete"));
    for fields in [&[][..], &[("csrf", "")], &[("csrf", "wrong")]] {
        assert_eq!(visitor.submit(&action, fields).await.status, StatusCode::FORBIDDEN);
    }
    // Another session's token is no good, either.
    let other = Visitor::by_link(&house, &account, Value::Null).await;
    let page = other.page(&at(&account, "/webhooks")).await;
    let (_, token) = page.split_once(r#"name="csrf" value=""#).unwrap();
    let token = token.split('"').next().unwrap();
    assert_eq!(visitor.submit(&action, &[("csrf", token)]).await.status, StatusCode::FORBIDDEN);
    // Nor is a good one that another site's page sends.
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        for path in [action.as_str(), "/dashboard/sign-in", "/dashboard/sign-out"] {
            let mut request = request(None, &format!("POST {path}"), format!("csrf={token}"));
            request.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(other.send(request).await.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    visitor.page(&at(&account, &format!("/webhooks/{endpoint}"))).await;
}

#[tokio::test]
async fn a_webhook_is_made_changed_disabled_enabled_and_deleted() {
    let house = House::new().await;
    let account = house.account().await;
    house.event_type("order.created").await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let new = at(&account, "/webhooks/new");
    assert!(visitor.page(&new).await.contains("order.created"));

    let fields =
        [("name", ""), ("url", "http://10.0.0.1/"), ("event_types", "no.such"), ("headers", "x")];
    let refused = visitor.fill(&new, &new, &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let text = refused.text();
    for what in ["no colon", "name-error", "must have", "10.0.0.1", "is not in the catalogue"] {
        assert!(text.contains(what), "{what}: {text}");
    }

    let fields = [
        ("name", "Billing"),
        ("url", "https://example.com/hook"),
        ("event_types", "order.created"),
        ("headers", "X-Team: blue\r\n"),
        ("ordering", "strict"),
    ];
    let made = visitor.fill(&new, &new, &fields).await;
    let page = made.leads_to().split('?').next().unwrap().to_owned();
    let id: EndpointId = page.rsplit('/').next().unwrap().parse().expect("it ends in the id");
    let call = format!("GET /endpoints/{id}");
    let endpoint = house.own(&account, &call, Value::Null).await.expect(200);
    assert_eq!(endpoint["headers"], json!({"X-Team": "blue"}));
    assert_eq!(endpoint["event_types"], json!(["order.created"]));
    assert_eq!(endpoint["ordering"], "strict");

    let settings = format!("{page}/settings");
    let fields = [("name", "Billing"), ("url", "https://example.com/2"), ("all", "on")];
    assert!(visitor.fill(&settings, &settings, &fields).await.leads_to().contains("said=saved"));
    let endpoint = house.own(&account, &call, Value::Null).await.expect(200);
    assert_eq!(
        (&endpoint["url"], &endpoint["event_types"]),
        (&json!("https://example.com/2"), &json!(["*"]))
    );
    assert_eq!((&endpoint["headers"], &endpoint["ordering"]), (&json!({}), &json!("parallel")));

    visitor.fill(&page, &format!("{page}/disable"), &[]).await.leads_to();
    let text = visitor.page(&page).await;
    assert!(text.contains("Disabled by hand since"), "{text}");
    visitor.fill(&page, &format!("{page}/enable"), &[("held", "discard")]).await.leads_to();
    assert!(visitor.page(&page).await.contains("nothing is failing"));
    let refused = visitor.fill(&page, &format!("{page}/enable"), &[("held", "x")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);

    visitor.fill(&page, &format!("{page}/delete"), &[]).await.leads_to();
    assert_eq!(visitor.get(&page).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_secret_is_hidden_until_asked_and_rotates() {
    let house = House::new().await;
    let account = house.account().await;
    let id = house.endpoint(&account).await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let settings = at(&account, &format!("/webhooks/{id}/settings"));
    let call = format!("GET /endpoints/{id}/secret");
    let secret = async || {
        let secrets = house.own(&account, &call, Value::Null).await.expect(200);
        secrets["signing_secret"].as_str().unwrap().to_owned()
    };
    let first = secret().await;
    assert!(!visitor.page(&settings).await.contains(&first));
    assert!(visitor.page(&format!("{settings}?secret=shown")).await.contains(&first));
    let action = at(&account, &format!("/webhooks/{id}/rotate-secret"));
    visitor.fill(&settings, &action, &[]).await.leads_to();
    let second = secret().await;
    assert_ne!(first, second);
    let shown = visitor.page(&format!("{settings}?secret=shown")).await;
    assert!(shown.contains(&first) && shown.contains(&second), "both sign for a day");
}

#[tokio::test]
async fn a_url_is_checked_while_it_is_typed() {
    let house = House::new().await;
    let account = house.account().await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let check = async |url: &str| {
        visitor.page(&at(&account, &format!("/webhooks/check-url?url={url}"))).await
    };
    assert!(!check("https://example.com/").await.contains("<p>"));
    for bad in ["ftp://example.com", "http://127.0.0.1/", "http://%3Cscript%3E"] {
        let text = check(bad).await;
        assert!(text.contains("<p>") && !text.contains("<script>"), "{text}");
    }
}

#[tokio::test]
async fn the_operator_makes_accounts_and_sees_the_cluster() {
    let house = House::new().await;
    let operator = Visitor::with_key(&house, OPERATOR).await;
    assert_eq!(operator.get("/dashboard").await.leads_to(), "/dashboard/accounts");
    let new = "/dashboard/accounts/new";
    let fields = [("name", "Acme"), ("contact_emails", "x")];
    let refused = operator.fill(new, new, &fields).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields = [("name", "Acme"), ("contact_emails", "a@example.com\r\n\r\nb@example.com")];
    let made = operator.fill(new, new, &fields).await.leads_to().to_owned();
    assert!(operator.page("/dashboard/accounts").await.contains("Acme"));
    assert!(operator.page(made.split('?').next().unwrap()).await.contains("Acme"));
    let cluster = operator.page("/dashboard/cluster").await;
    for what in ["node-1", "alive", "node-2", "dead", "Shard 3: no owner", "epoch 7", ">1</text>"] {
        assert!(cluster.contains(what), "{what}");
    }
}

#[tokio::test]
async fn every_answer_says_what_a_browser_may_do_with_it() {
    let house = House::new().await;
    let account = house.account().await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let script = super::super::dashboard::link_of_script();
    for path in
        [&at(&account, "/webhooks"), &at(&account, "/no-such"), "/dashboard/sign-in", script]
    {
        let answer = visitor.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(
            policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let kept = path == script;
        let cache = answer.headers["cache-control"].to_str().unwrap();
        assert_eq!(cache.contains("immutable"), kept, "{path}");
        assert_eq!(cache == "no-store", !kept, "{path}");
    }
    let missing = visitor.get(&at(&account, "/no-such")).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(
        missing.text().contains("There is no such page.") && missing.text().contains("Sign out")
    );
}

#[tokio::test]
async fn garbage_is_refused_with_a_page() {
    let house = House::new().await;
    let account = house.account().await;
    let id = house.endpoint(&account).await;
    let visitor = Visitor::with_key(&house, &account.key).await;
    let odd = visitor.get(&at(&account, "/webhooks?state=odd")).await.page(400);
    assert!(odd.contains(">state</span> must be"), "no pointer into JSON: {odd}");
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
        let answer = visitor.get(&at(&account, page)).await;
        assert_eq!(answer.status.as_u16(), status, "{page}");
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8", "{page}");
    }
}

#[tokio::test]
async fn a_parameter_that_no_page_knows_is_refused() {
    let house = House::new().await;
    let account = house.account().await;
    house.event_type("a.b").await;
    let id = house.endpoint(&account).await;
    let visitor = Visitor::sign_in(&house, &account).await;
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
        assert_eq!(visitor.get(&at(&account, &page)).await.status, 200, "{page}");
        let odd = format!("{page}?odd=1");
        assert_eq!(visitor.get(&at(&account, &odd)).await.status, 400, "{page}");
    }
}
