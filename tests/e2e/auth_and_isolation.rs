//! I10: no route shows one account's data to another, and no key exceeds its rights.

use anyhow::Result;
use http::Method;
use postrider_tests::client::{Account, Api};
use postrider_tests::config::Config;
use postrider_tests::fixture::{CONTACT, Fixture, ORDER};
use serde_json::{Value, json};

use crate::SOON;

/// One of each kind of resource that an account owns.
struct Resources {
    account: Account,
    endpoint: String,
    event: String,
    delivery: String,
    replay: String,
}

impl Resources {
    async fn create(fixture: &Fixture, name: &str) -> Result<Self> {
        let account = fixture.operator.account(name, &[CONTACT]).await?;
        let hook = fixture.hook(name);
        let new = postrider_tests::client::NewEndpoint::at(&hook.url());
        let endpoint = account.create(&new).await?.id;
        let event = account.publish(ORDER, "{}").await?.id;
        hook.wait_for_ended(1, SOON).await?;
        let delivery = account.delivery_of(&event, &endpoint).await?.id;
        // Nothing is exhausted, so the replay exists and does nothing.
        let replay = account.replay(&json!({"states": ["exhausted"]})).await?.id;
        Ok(Self { account, endpoint, event, delivery, replay })
    }

    /// Every route below an account, with these resources' ids.
    fn routes(&self, account: &str) -> Vec<(Method, String, Option<Value>)> {
        let Self { endpoint, event, delivery, replay, .. } = self;
        let new = json!({"name": "n", "url": "http://example.com/", "event_types": []});
        let on = |rest: String| format!("/v1/accounts/{account}{rest}");
        let get = |rest: String| (Method::GET, on(rest), None);
        let post = |rest: String, body: Value| (Method::POST, on(rest), Some(body));
        vec![
            get("/endpoints".to_owned()),
            post("/endpoints".to_owned(), new),
            get(format!("/endpoints/{endpoint}")),
            (Method::PATCH, on(format!("/endpoints/{endpoint}")), Some(json!({"name": "x"}))),
            post(format!("/endpoints/{endpoint}/enable"), json!({})),
            post(format!("/endpoints/{endpoint}/disable"), json!({})),
            post(format!("/endpoints/{endpoint}/test"), json!({"event_type": ORDER})),
            get(format!("/endpoints/{endpoint}/secret")),
            post(format!("/endpoints/{endpoint}/rotate-secret"), json!({})),
            get(format!("/endpoints/{endpoint}/deliveries")),
            (Method::DELETE, on(format!("/endpoints/{endpoint}")), None),
            post("/events".to_owned(), json!({"event_type": ORDER, "payload": {}})),
            post(
                "/events/batch".to_owned(),
                json!({"events": [{"event_type": ORDER, "payload": {}}]}),
            ),
            get("/events".to_owned()),
            get(format!("/events/{event}")),
            get(format!("/deliveries/{delivery}")),
            post(format!("/deliveries/{delivery}/retry"), json!({})),
            post("/replays".to_owned(), json!({})),
            get(format!("/replays/{replay}")),
            post(format!("/replays/{replay}/pause"), json!({})),
            post(format!("/replays/{replay}/resume"), json!({})),
            post(format!("/replays/{replay}/cancel"), json!({})),
        ]
    }
}

/// Calls each route with `api` and expects a problem with `status`.
async fn assert_each_fails(
    api: &Api,
    routes: Vec<(Method, String, Option<Value>)>,
    status: u16,
) -> Result<()> {
    for (method, path, body) in routes {
        let response = api.send(method, &path, &[], body.map(|body| body.to_string())).await?;
        response.problem(&[status])?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_without_a_valid_key_get_401() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let mine = Resources::create(&fixture, "mine").await?;
    let mut routes = mine.routes(&mine.account.id);
    routes.extend([
        (Method::GET, "/v1/accounts".to_owned(), None),
        (Method::GET, "/v1/event-types".to_owned(), None),
        (Method::GET, "/v1/accounts/acct_nobody".to_owned(), None),
    ]);
    let long = "x".repeat(5_000);
    for key in [None, Some(""), Some("wrong"), Some(long.as_str())] {
        assert_each_fails(&fixture.node.api(key), routes.clone(), 401).await?;
    }
    let basic = [("authorization", "Basic dXNlcjpwYXNz")];
    let response = fixture.node.api(None).send(Method::GET, "/v1/accounts", &basic, None).await?;
    response.problem(&[401])?;
    assert!(
        response.headers.contains_key("www-authenticate"),
        "RFC 9110 §11.6.1 requires WWW-Authenticate"
    );
    Ok(())
}

#[tokio::test]
async fn another_accounts_resources_are_not_found() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let mine = Resources::create(&fixture, "mine").await?;
    let theirs = Resources::create(&fixture, "theirs").await?;
    let secret = format!("/endpoints/{}/secret", mine.endpoint);
    let before: Value = mine.account.read(&secret).await?;

    // Their key on paths of my account.
    assert_each_fails(&theirs.account.api, mine.routes(&mine.account.id), 404).await?;
    // Their key on paths of their own account with ids of my resources.
    let smuggled = mine.routes(&theirs.account.id).into_iter().filter(|(_, path, _)| {
        let ids = [&mine.endpoint, &mine.event, &mine.delivery, &mine.replay];
        ids.iter().any(|id| path.contains(id.as_str()))
    });
    assert_each_fails(&theirs.account.api, smuggled.collect(), 404).await?;
    // The operator's key does not join one account's path with another's endpoint either.
    let mismatched = fixture.operator.api.get(&theirs.account.path(&secret)).await?;
    mismatched.problem(&[404])?;

    for list in ["/endpoints", "/events"] {
        let text = theirs.account.api.get(&theirs.account.path(list)).await?.expect(200)?;
        let text = text.to_string();
        assert!(!text.contains(&mine.endpoint) && !text.contains(&mine.event), "{text}");
    }
    let path = theirs.account.path("/replays");
    let body = json!({"endpoint": mine.endpoint, "dry_run": true});
    let response = theirs.account.api.post(&path, &body).await?;
    assert!(
        response.status >= 400 || response.expect(response.status)?["total"] == 0,
        "{response}"
    );

    // None of these calls changed my resources.
    assert_eq!(mine.account.read::<Value>(&secret).await?, before);
    let endpoint = mine.account.endpoint(&mine.endpoint).await?;
    assert_eq!((endpoint.state.as_str(), endpoint.name.as_str()), ("enabled", "mine"));
    assert_eq!(fixture.hook("mine").received().len(), 1);
    Ok(())
}

#[tokio::test]
async fn events_reach_only_endpoints_of_their_own_account() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let mine = Resources::create(&fixture, "mine").await?;
    let theirs = Resources::create(&fixture, "theirs").await?;
    mine.account.publish(ORDER, "{\"n\":2}").await?;
    fixture.hook("mine").wait_for(2, SOON).await?;
    theirs.account.publish(ORDER, "{\"n\":3}").await?;
    fixture.hook("theirs").wait_for(2, SOON).await?;
    assert_eq!(fixture.hook("mine").received().len(), 2);
    Ok(())
}

#[tokio::test]
async fn account_keys_cannot_call_operator_routes() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let own = format!("/v1/accounts/{}", fixture.account.id);
    let entry = json!({"description": "d", "example": 1});
    let routes = vec![
        (Method::GET, "/v1/accounts".to_owned(), None),
        (Method::POST, "/v1/accounts".to_owned(), Some(json!({"name": "x", "contact_emails": []}))),
        (Method::PATCH, own.clone(), Some(json!({"name": "x"}))),
        (Method::DELETE, own.clone(), None),
        (Method::POST, format!("{own}/api-keys"), Some(json!({"name": "x"}))),
        (Method::GET, format!("{own}/api-keys"), None),
        (Method::PUT, "/v1/event-types/a.b".to_owned(), Some(entry)),
        (Method::DELETE, format!("/v1/event-types/{ORDER}"), None),
    ];
    assert_each_fails(&fixture.account.api, routes, 403).await?;
    // Any key may read event types.
    let known = fixture.account.api.get(&format!("/v1/event-types/{ORDER}")).await?.expect(200)?;
    assert_eq!(known["name"], ORDER);
    Ok(())
}

#[tokio::test]
async fn api_keys_are_shown_once_and_stop_working_when_deleted() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let key = fixture.operator.key(&fixture.account.id).await?;
    let keys = format!("/v1/accounts/{}/api-keys", fixture.account.id);
    let listed = fixture.operator.api.get(&keys).await?.expect(200)?.to_string();
    assert!(listed.contains(&key.id) && !listed.contains(&key.key), "{listed}");
    let other = fixture.account.api.with_key(Some(&key.key));
    let events = fixture.account.path("/events");
    other.get(&events).await?.expect(200)?;
    fixture.operator.api.delete(&format!("{keys}/{}", key.id)).await?.succeeded()?;
    other.get(&events).await?.problem(&[401])?;
    fixture.account.api.get(&events).await?.expect(200)?;

    let account = format!("/v1/accounts/{}", fixture.account.id);
    fixture.operator.api.delete(&account).await?.succeeded()?;
    fixture.account.api.get(&events).await?.problem(&[401, 404])?;
    fixture.operator.api.get(&account).await?.problem(&[404])?;
    Ok(())
}

#[tokio::test]
async fn api_keys_appear_neither_in_the_log_nor_in_the_data_directory() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries().env("RUST_LOG", "debug")).await?;
    let mine = Resources::create(&fixture, "mine").await?;
    let key = fixture.operator.key(&mine.account.id).await?.key;
    mine.account.api.with_key(Some(&key)).get(&mine.account.path("/events")).await?.expect(200)?;
    assert!(!fixture.node.log().contains(&key), "the log contains an API key");
    for file in std::fs::read_dir(fixture.node.data_dir())? {
        let path = file?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
            assert!(
                !found,
                "{} contains an API key that should only be stored hashed",
                path.display()
            );
        }
    }
    Ok(())
}
