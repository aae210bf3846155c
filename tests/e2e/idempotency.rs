//! Idempotency keys: a repeated request takes effect once.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::{join, join_all, try_join_all};
use http::Method;
use postrider_tests::checker::loss;
use postrider_tests::client::records::Accepted;
use postrider_tests::client::{Account, NewEndpoint};
use postrider_tests::cluster::Cluster;
use postrider_tests::cluster::clock::Clock;
use postrider_tests::config::Config;
use postrider_tests::evidence::after;
use postrider_tests::fixture::{CONTACT, Fixture, ORDER, REFUND};
use postrider_tests::load::{Outcome, Publication};
use postrider_tests::wait::seconds;
use serde_json::{Value, json};

use crate::SOON;

#[tokio::test]
async fn the_same_key_and_body_return_the_same_event_even_after_a_kill() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("once");
    fixture.endpoint(&hook).await?;
    let first: Accepted =
        fixture.account.try_publish(ORDER, "{\"n\":1}", Some("k-1")).await?.parse(202)?;
    let again = fixture.account.try_publish(ORDER, "{\"n\":1}", Some("k-1")).await?;
    let again: Accepted = again.parse(202)?;
    assert_eq!((&again.id, again.created_at, again.deliveries), (&first.id, first.created_at, 1));
    fixture.node.kill().await?;
    fixture.node.restart().await?;
    let again = fixture.account.try_publish(ORDER, "{\"n\":1}", Some("k-1")).await?;
    assert_eq!(again.parse::<Accepted>(202)?.id, first.id);
    assert_eq!(fixture.account.events().await?.len(), 1);

    let other: Accepted =
        fixture.account.try_publish(ORDER, "{\"n\":1}", Some("k-2")).await?.parse(202)?;
    assert_ne!(other.id, first.id);
    hook.wait_for(2, SOON).await?;
    Ok(())
}

/// Requests that a `kill -9` interrupts are repeated until they are answered. Each creates one.
#[tokio::test]
async fn a_kill_during_a_request_does_not_create_anything_twice() -> Result<()> {
    const KILLS: u64 = 12;
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let account = fixture.account.clone();
    let creations = [
        ("/endpoints", NewEndpoint::at("https://example.com/").body()),
        ("/replays", json!({})),
        ("/api-keys", json!({"name": "k"})),
    ];
    let api = fixture.operator.api.clone();
    let send = async |round: u64, path: &str, body: &Value| {
        let key = format!("{round}{path}");
        let headers = [("idempotency-key", key.as_str())];
        api.send(Method::POST, &account.path(path), &headers, Some(body.to_string())).await
    };
    let mut answered = 0;
    for round in 0..KILLS {
        let first = creations.iter().map(|(path, body)| send(round, path, body));
        let kill = async {
            // Spread over the few milliseconds that such a request takes.
            tokio::time::sleep(Duration::from_millis(round)).await;
            fixture.node.kill().await
        };
        let (first, killed) = join(join_all(first), kill).await;
        killed?;
        fixture.node.restart().await?;
        for ((path, body), first) in creations.iter().zip(first) {
            let again = send(round, path, body).await?;
            again.succeeded()?;
            if let Ok(first) = first {
                answered += 1;
                assert_eq!((first.status, first.body), (again.status, again.body));
            }
        }
    }
    eprintln!("{answered} of {} requests were answered before the kill", 3 * KILLS);
    for (path, _) in &creations {
        let list = api.get(&account.path(&format!("{path}?limit=250"))).await?;
        let count = list.expect(200)?["data"].as_array().context("no list")?.len();
        // The fixture has a key.
        let before = usize::from(*path == "/api-keys");
        assert_eq!(count - before, usize::try_from(KILLS)?, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn the_same_key_with_another_body_is_a_conflict() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    fixture.account.try_publish(ORDER, "{\"n\":1}", Some("k")).await?.expect(202)?;
    for (event_type, payload) in [(ORDER, "{\"n\":2}"), (REFUND, "{\"n\":1}")] {
        let response = fixture.account.try_publish(event_type, payload, Some("k")).await?;
        response.problem(&[409])?;
    }
    assert_eq!(fixture.account.events().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn idempotency_keys_are_scoped_to_their_account() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let other = fixture.operator.account("Other", &[CONTACT]).await?;
    let mine: Accepted = fixture.account.try_publish(ORDER, "1", Some("k")).await?.parse(202)?;
    let theirs: Accepted = other.try_publish(ORDER, "2", Some("k")).await?.parse(202)?;
    assert_ne!(mine.id, theirs.id);
    Ok(())
}

#[tokio::test]
async fn concurrent_requests_with_one_key_create_one_event() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("once");
    let endpoint = fixture.endpoint(&hook).await?;
    let calls = (0..20).map(|_| fixture.account.try_publish(ORDER, "{}", Some("k")));
    let answers = try_join_all(calls).await?;
    let ids: Vec<_> = answers
        .iter()
        .map(|response| response.parse::<Accepted>(202).map(|accepted| accepted.id))
        .collect::<Result<_>>()?;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fixture.account.events().await?.len(), 1);
    assert_eq!(fixture.account.deliveries(&endpoint.id).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_rejected_event_does_not_consume_its_key() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let refused = fixture.account.try_publish("no.such.type", "{}", Some("k")).await?;
    assert!((400..500).contains(&refused.status), "{refused}");
    fixture.account.try_publish(ORDER, "{}", Some("k")).await?.expect(202)?;
    let long = "k".repeat(257);
    fixture.account.try_publish(ORDER, "{}", Some(&long)).await?.problem(&[400, 422])?;
    Ok(())
}

#[tokio::test]
async fn a_schema_added_later_does_not_change_the_response_to_a_key() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let mut publication = Publication::new(ORDER, &["{\"n\":1}".to_owned()], Some("k"));
    assert!(matches!(publication.ask(&fixture.account).await?, Outcome::Accepted(_)));
    let (example, schema) = (json!({"x": 1}), json!({"required": ["x"]}));
    fixture.operator.event_type_with_schema(ORDER, &example, &schema).await?;
    fixture.account.try_publish(ORDER, "{\"n\":1}", None).await?.problem(&[422])?;
    publication.ask(&fixture.account).await?;
    let violations = loss::same_key_same_answer(&[publication]);
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!(fixture.account.events().await?.len(), 1);
    Ok(())
}

/// A key expires after 24 hours even if it has not been swept by then: a client that reuses one key
/// every day publishes one event a day. The node whose clock is ahead does not own the shards that
/// sweep the keys.
#[tokio::test]
async fn an_idempotency_key_expires_after_24_hours_and_not_before() -> Result<()> {
    const HOUR: u64 = 3_600;
    const KEYS: usize = 8;
    if let Some(skip_reason) = Clock::skip_reason() {
        eprintln!(
            "skipped an_idempotency_key_expires_after_24_hours_and_not_before: {skip_reason}"
        );
        return Ok(());
    }
    let mut cluster = Cluster::prepare(&Config::short_retries(), 2)?;
    let clock = cluster.skew_clock(1, 0)?;
    cluster.start_one(0).await?;
    let operator = cluster.operator()?;
    operator.event_type(ORDER, &json!({"n": 1})).await?;
    let account = operator.account("Acme", &[CONTACT]).await?;
    let later = Account::new(account.id.clone(), account.api.at(&cluster.bases()[1]));
    let mut publications: Vec<_> = (0..KEYS)
        .map(|n| Publication::new(ORDER, &[format!(r#"{{"n":{n}}}"#)], Some(&format!("daily-{n}"))))
        .collect();
    for publication in &mut publications {
        publication.ask(&account).await?;
    }
    for hours in [23, 25] {
        clock.set(i64::try_from(hours * HOUR)?)?;
        // A node believes the clock it starts with.
        cluster.start_one(1).await?;
        for publication in &mut publications {
            for _ in 0..2 {
                publication.ask(&later).await?;
                let call = publication.calls.last_mut().context("there is no call")?;
                // The times of the call, by that node's clock.
                let ahead = seconds(hours * HOUR);
                call.sent_at = after(call.sent_at, ahead);
                call.answered = call.answered.map(|time| after(time, ahead));
            }
        }
        cluster.leave(1).await?;
    }
    let violations = loss::same_key_same_answer(&publications);
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!(account.events().await?.len(), 2 * KEYS);
    cluster.stop().await
}
