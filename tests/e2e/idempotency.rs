//! Idempotency keys: however often it is asked, it happens once.

use anyhow::{Context, Result};
use futures::future::try_join_all;
use postrider_tests::checker::loss;
use postrider_tests::client::Account;
use postrider_tests::client::records::Accepted;
use postrider_tests::cluster::Cluster;
use postrider_tests::cluster::clock::Clock;
use postrider_tests::config::Config;
use postrider_tests::evidence::after;
use postrider_tests::load::{Outcome, Publication};
use postrider_tests::scene::{CONTACT, ORDER, REFUND, Scene};
use postrider_tests::wait::seconds;
use serde_json::json;

use crate::SOON;

#[tokio::test]
async fn the_same_key_and_body_is_the_same_event_also_after_a_kill() -> Result<()> {
    let mut scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("once");
    scene.endpoint(&hook).await?;
    let first: Accepted =
        scene.account.try_publish(ORDER, "{\"n\":1}", Some("k-1")).await?.parse(202)?;
    let again = scene.account.try_publish(ORDER, "{\"n\":1}", Some("k-1")).await?;
    let again: Accepted = again.parse(202)?;
    assert_eq!((&again.id, again.created_at, again.deliveries), (&first.id, first.created_at, 1));
    scene.node.kill().await?;
    scene.node.restart().await?;
    let again = scene.account.try_publish(ORDER, "{\"n\":1}", Some("k-1")).await?;
    assert_eq!(again.parse::<Accepted>(202)?.id, first.id);
    assert_eq!(scene.account.events().await?.len(), 1);

    let other: Accepted =
        scene.account.try_publish(ORDER, "{\"n\":1}", Some("k-2")).await?.parse(202)?;
    assert_ne!(other.id, first.id);
    hook.wait_for(2, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn the_same_key_with_another_body_is_a_conflict() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    scene.account.try_publish(ORDER, "{\"n\":1}", Some("k")).await?.expect(202)?;
    for (event_type, payload) in [(ORDER, "{\"n\":2}"), (REFUND, "{\"n\":1}")] {
        let answer = scene.account.try_publish(event_type, payload, Some("k")).await?;
        answer.problem(&[409])?;
    }
    assert_eq!(scene.account.events().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn keys_of_two_accounts_have_nothing_to_do_with_each_other() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let other = scene.operator.account("Other", &[CONTACT]).await?;
    let mine: Accepted = scene.account.try_publish(ORDER, "1", Some("k")).await?.parse(202)?;
    let theirs: Accepted = other.try_publish(ORDER, "2", Some("k")).await?.parse(202)?;
    assert_ne!(mine.id, theirs.id);
    Ok(())
}

#[tokio::test]
async fn side_by_side_it_happens_once() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("once");
    let endpoint = scene.endpoint(&hook).await?;
    let calls = (0..20).map(|_| scene.account.try_publish(ORDER, "{}", Some("k")));
    let answers = try_join_all(calls).await?;
    let ids: Vec<_> = answers
        .iter()
        .map(|answer| answer.parse::<Accepted>(202).map(|accepted| accepted.id))
        .collect::<Result<_>>()?;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(scene.account.events().await?.len(), 1);
    assert_eq!(scene.account.deliveries(&endpoint.id).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_refused_event_does_not_use_its_key_up() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let refused = scene.account.try_publish("no.such.type", "{}", Some("k")).await?;
    assert!((400..500).contains(&refused.status), "{refused}");
    scene.account.try_publish(ORDER, "{}", Some("k")).await?.expect(202)?;
    let long = "k".repeat(257);
    scene.account.try_publish(ORDER, "{}", Some(&long)).await?.problem(&[400, 422])?;
    Ok(())
}

#[tokio::test]
async fn a_schema_that_comes_later_does_not_change_the_answer() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let mut publication = Publication::new(ORDER, &["{\"n\":1}".to_owned()], Some("k"));
    assert!(matches!(publication.ask(&scene.account).await?, Outcome::Accepted(_)));
    let (example, schema) = (json!({"x": 1}), json!({"required": ["x"]}));
    scene.operator.event_type_with_schema(ORDER, &example, &schema).await?;
    scene.account.try_publish(ORDER, "{\"n\":1}", None).await?.problem(&[422])?;
    publication.ask(&scene.account).await?;
    let violations = loss::same_key_same_answer(&[publication]);
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!(scene.account.events().await?.len(), 1);
    Ok(())
}

/// A client that uses one key a day publishes one event a day, whether or not anybody has swept the
/// key by then: the node whose clock says so does not own the shards that sweep it.
#[tokio::test]
async fn a_key_is_forgotten_after_a_day_and_not_before() -> Result<()> {
    const HOUR: u64 = 3_600;
    const KEYS: usize = 8;
    if let Some(obstacle) = Clock::obstacle() {
        eprintln!("left out: a_key_is_forgotten_after_a_day_and_not_before, since {obstacle}");
        return Ok(());
    }
    let mut cluster = Cluster::prepare(&Config::impatient(), 2)?;
    let clock = cluster.wind(1, 0)?;
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
        // Whoever starts by a clock believes it.
        cluster.start_one(1).await?;
        for publication in &mut publications {
            for _ in 0..2 {
                publication.ask(&later).await?;
                let call = publication.calls.last_mut().context("a call")?;
                // By its clock.
                let ahead = seconds(hours * HOUR);
                call.asked = after(call.asked, ahead);
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
