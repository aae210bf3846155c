//! I10: no account sees another's data through any route, and no key does what it should not.

use anyhow::Result;
use http::Method;
use postrider_tests::client::{Account, Api};
use postrider_tests::config::Config;
use postrider_tests::scene::{CONTACT, ORDER, Scene};
use serde_json::{Value, json};

use crate::SOON;

/// Everything that one account owns.
struct Belongings {
    account: Account,
    endpoint: String,
    event: String,
    delivery: String,
    replay: String,
}

impl Belongings {
    async fn make(scene: &Scene, name: &str) -> Result<Self> {
        let account = scene.operator.account(name, &[CONTACT]).await?;
        let hook = scene.hook(name);
        let new = postrider_tests::client::NewEndpoint::at(&hook.url());
        let endpoint = account.create(&new).await?.id;
        let event = account.publish(ORDER, "{}").await?.id;
        hook.wait_for_ended(1, SOON).await?;
        let delivery = account.delivery_of(&event, &endpoint).await?.id;
        // None of its kind: it exists, and does nothing.
        let replay = account.replay(&json!({"states": ["exhausted"]})).await?.id;
        Ok(Self { account, endpoint, event, delivery, replay })
    }

    /// Every route of an account, with these ids in it.
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

/// Calls each route with `api` and wants a problem with `status`.
async fn each_is(
    api: &Api,
    routes: Vec<(Method, String, Option<Value>)>,
    status: u16,
) -> Result<()> {
    for (method, path, body) in routes {
        let answer = api.send(method, &path, &[], body.map(|body| body.to_string())).await?;
        answer.problem(&[status])?;
    }
    Ok(())
}

#[tokio::test]
async fn no_key_and_wrong_keys_open_nothing() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let mine = Belongings::make(&scene, "mine").await?;
    let mut routes = mine.routes(&mine.account.id);
    routes.extend([
        (Method::GET, "/v1/accounts".to_owned(), None),
        (Method::GET, "/v1/event-types".to_owned(), None),
        (Method::GET, "/v1/accounts/acct_nobody".to_owned(), None),
    ]);
    let long = "x".repeat(5_000);
    for key in [None, Some(""), Some("wrong"), Some(long.as_str())] {
        each_is(&scene.node.api(key), routes.clone(), 401).await?;
    }
    let basic = [("authorization", "Basic dXNlcjpwYXNz")];
    let answer = scene.node.api(None).send(Method::GET, "/v1/accounts", &basic, None).await?;
    answer.problem(&[401])?;
    assert!(answer.headers.contains_key("www-authenticate"), "RFC 9110 §11.6.1 asks for it");
    Ok(())
}

#[tokio::test]
async fn another_accounts_things_do_not_exist() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let mine = Belongings::make(&scene, "mine").await?;
    let theirs = Belongings::make(&scene, "theirs").await?;
    let secret = format!("/endpoints/{}/secret", mine.endpoint);
    let before: Value = mine.account.read(&secret).await?;

    // My account's id in the path, with their key.
    each_is(&theirs.account.api, mine.routes(&mine.account.id), 404).await?;
    // Their own account's id in the path, and my things behind it.
    let smuggled = mine.routes(&theirs.account.id).into_iter().filter(|(_, path, _)| {
        let things = [&mine.endpoint, &mine.event, &mine.delivery, &mine.replay];
        things.iter().any(|thing| path.contains(thing.as_str()))
    });
    each_is(&theirs.account.api, smuggled.collect(), 404).await?;
    // An operator who mixes two accounts up gets no further.
    let mixed = scene.operator.api.get(&theirs.account.path(&secret)).await?;
    mixed.problem(&[404])?;

    for list in ["/endpoints", "/events"] {
        let text = theirs.account.api.get(&theirs.account.path(list)).await?.expect(200)?;
        let text = text.to_string();
        assert!(!text.contains(&mine.endpoint) && !text.contains(&mine.event), "{text}");
    }
    let path = theirs.account.path("/replays");
    let body = json!({"endpoint": mine.endpoint, "dry_run": true});
    let answer = theirs.account.api.post(&path, &body).await?;
    assert!(answer.status >= 400 || answer.expect(answer.status)?["total"] == 0, "{answer}");

    // All of that left mine as it was.
    assert_eq!(mine.account.read::<Value>(&secret).await?, before);
    let endpoint = mine.account.endpoint(&mine.endpoint).await?;
    assert_eq!((endpoint.state.as_str(), endpoint.name.as_str()), ("enabled", "mine"));
    assert_eq!(scene.hook("mine").received().len(), 1);
    Ok(())
}

#[tokio::test]
async fn an_accounts_events_reach_its_own_endpoints_alone() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let mine = Belongings::make(&scene, "mine").await?;
    let theirs = Belongings::make(&scene, "theirs").await?;
    mine.account.publish(ORDER, "{\"n\":2}").await?;
    scene.hook("mine").wait_for(2, SOON).await?;
    theirs.account.publish(ORDER, "{\"n\":3}").await?;
    scene.hook("theirs").wait_for(2, SOON).await?;
    assert_eq!(scene.hook("mine").received().len(), 2);
    Ok(())
}

#[tokio::test]
async fn account_keys_do_no_operators_work() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let own = format!("/v1/accounts/{}", scene.account.id);
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
    each_is(&scene.account.api, routes, 403).await?;
    // Any key may read the catalogue.
    let known = scene.account.api.get(&format!("/v1/event-types/{ORDER}")).await?.expect(200)?;
    assert_eq!(known["name"], ORDER);
    Ok(())
}

#[tokio::test]
async fn keys_are_shown_once_and_end_when_deleted() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let key = scene.operator.key(&scene.account.id).await?;
    let keys = format!("/v1/accounts/{}/api-keys", scene.account.id);
    let listed = scene.operator.api.get(&keys).await?.expect(200)?.to_string();
    assert!(listed.contains(&key.id) && !listed.contains(&key.key), "{listed}");
    let other = scene.account.api.with_key(Some(&key.key));
    let events = scene.account.path("/events");
    other.get(&events).await?.expect(200)?;
    scene.operator.api.delete(&format!("{keys}/{}", key.id)).await?.succeeded()?;
    other.get(&events).await?.problem(&[401])?;
    scene.account.api.get(&events).await?.expect(200)?;

    let account = format!("/v1/accounts/{}", scene.account.id);
    scene.operator.api.delete(&account).await?.succeeded()?;
    scene.account.api.get(&events).await?.problem(&[401, 404])?;
    scene.operator.api.get(&account).await?.problem(&[404])?;
    Ok(())
}

#[tokio::test]
async fn no_secret_is_written_into_the_log_or_the_data_directory() -> Result<()> {
    let scene = Scene::start(Config::impatient().env("RUST_LOG", "debug")).await?;
    let mine = Belongings::make(&scene, "mine").await?;
    let key = scene.operator.key(&mine.account.id).await?.key;
    mine.account.api.with_key(Some(&key)).get(&mine.account.path("/events")).await?.expect(200)?;
    assert!(!scene.node.log().contains(&key), "the log shows a key");
    for file in std::fs::read_dir(scene.node.data_dir())? {
        let path = file?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
            assert!(!found, "{} holds a key that should be hashed", path.display());
        }
    }
    Ok(())
}
