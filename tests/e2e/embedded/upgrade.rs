//! Data written by earlier versions.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use postrider_tests::archive::{self, Expected, Finished, MANY, NEWS_EVENTS, RECEIVER, Unpacked};
use postrider_tests::client::Account;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{CONTACT, ORDER};
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::receiver::{Received, Receiver};
use postrider_tests::wait::{self, seconds};
use serde_json::json;

const SOON: Duration = seconds(60);
const READS_AT_ONCE: usize = 16;

#[tokio::test]
async fn data_of_every_earlier_format_is_read_and_its_work_is_resumed() -> Result<()> {
    for archive in archive::archives()? {
        resume(&archive).await.with_context(|| archive.display().to_string())?;
    }
    Ok(())
}

async fn resume(archive: &Path) -> Result<()> {
    let unpacked = Unpacked::of(archive).await?;
    let expected = &unpacked.expected;
    let receiver = Receiver::start_on(RECEIVER)?;
    let mut mail = MailServer::start().await?;
    let config = Config::new().smtp(mail.address());
    let mut node = Node::prepare_at(config, &unpacked.data())?;
    node.restart().await?;
    let account = Account::new(expected.account.clone(), node.api(Some(&expected.key)));
    finished_deliveries_are_readable(&account, expected).await?;
    pending_deliveries_are_sent(&receiver, expected).await?;
    fan_outs_complete(&account).await?;
    let emails = mail.wait_for(1, SOON).await?;
    ensure!(emails[0].to == [CONTACT] && emails[0].subject.contains("broken"), "{emails:?}");
    held_deliveries_are_sent(&account, &receiver, expected).await?;
    the_replay_completes(&account, expected).await?;

    node.stop().await?;
    mail.stop_listening().await;
    node.restart().await?;
    account.publish(ORDER, r#"{"n": 100}"#).await?;
    for name in ["healthy", "strict", "rotated", "broken", "paused"] {
        let last = |request: &Received| request.body == r#"{"n": 100}"#.as_bytes();
        arrives(&receiver, expected, name, 1, last).await?;
    }
    let rotated = receiver.hook("rotated").received();
    ensure!(rotated.iter().all(|request| request.header("x-tenant").as_deref() == Some("acme")));
    let gone = account.api.get(&account.path(&format!("/endpoints/{}", expected.gone))).await?;
    ensure!(gone.status == 404, "{gone}");
    Ok(())
}

async fn finished_deliveries_are_readable(account: &Account, expected: &Expected) -> Result<()> {
    stream::iter(&expected.finished)
        .map(async |(id, finished)| {
            let found = Finished::of(&account.delivery(id).await?);
            ensure!(found == *finished, "{id} is {found:?}, not {finished:?}");
            Ok(())
        })
        .buffer_unordered(READS_AT_ONCE)
        .try_collect()
        .await
}

async fn pending_deliveries_are_sent(receiver: &Receiver, expected: &Expected) -> Result<()> {
    for (name, payloads) in &expected.pending {
        let arrived = arrives(receiver, expected, name, payloads.len(), |_| true).await?;
        let mut arrived: Vec<_> =
            arrived.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        if name != "blocked" {
            arrived.sort_unstable();
        }
        ensure!(arrived == *payloads, "{name}: {arrived:?}");
    }
    Ok(())
}

async fn held_deliveries_are_sent(
    account: &Account,
    receiver: &Receiver,
    expected: &Expected,
) -> Result<()> {
    for (name, payloads) in &expected.held {
        account.enable(&expected.endpoints[name].id, "resume").await?;
        let held = |request: &Received| payloads.iter().any(|p| request.body == p.as_bytes());
        arrives(receiver, expected, name, payloads.len(), held).await?;
    }
    Ok(())
}

async fn fan_outs_complete(account: &Account) -> Result<()> {
    let all_hold = async || {
        let endpoints = account.list::<Endpoint>("/endpoints?").await?;
        let many = endpoints.iter().filter(|endpoint| endpoint.name.starts_with("many-"));
        let held: Vec<_> = many.map(|endpoint| endpoint.held).collect();
        ensure!(held.iter().all(|held| *held <= NEWS_EVENTS as u64), "{held:?}");
        Ok((held == [NEWS_EVENTS as u64; MANY]).then_some(()))
    };
    wait::until("every event has reached every endpoint", SOON, all_hold).await
}

async fn the_replay_completes(account: &Account, expected: &Expected) -> Result<()> {
    let path = account.path(&format!("/replays/{}/resume", expected.replay));
    account.api.post(&path, &json!({})).await?.succeeded()?;
    let completed = async || {
        let replay = account.replay_progress(&expected.replay).await?;
        Ok((replay.state == "completed" && replay.done == replay.total).then_some(()))
    };
    wait::until("the replay is completed", SOON, completed).await
}

/// Waits for requests to an endpoint and verifies their signatures.
async fn arrives(
    receiver: &Receiver,
    expected: &Expected,
    name: &str,
    count: usize,
    wanted: impl Fn(&Received) -> bool,
) -> Result<Vec<Received>> {
    let path = receiver.hook(name).path().to_owned();
    let what = format!("{count} requests arrive at {path}");
    let arrived = receiver
        .until(&what, SOON, |received| {
            let mine = received.iter().filter(|request| request.path == path && wanted(request));
            let mine: Vec<_> = mine.cloned().collect();
            (mine.len() >= count).then_some(mine)
        })
        .await?;
    for request in &arrived {
        request.verify(&expected.endpoints[name].secret)?;
    }
    Ok(arrived)
}
