//! A full disk: events are rejected with 503, nothing is lost, and the node recovers once there is
//! space on the disk, or data was deleted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use postrider_tests::client::{Account, Answer};
use postrider_tests::config::Config;
use postrider_tests::fixture::{CONTACT, Fixture, ORDER};
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::wait::{self, seconds};
use tempfile::TempDir;

/// Holds a store and its reserve, and fills up quickly.
const DISK: &str = "size=96m";
/// More events of this size than the disk holds.
const EVENTS: usize = 1_000;
const EVENT_BYTES: usize = 200_000;
/// 1 while events are refused.
const NEARLY_FULL: &str = "postrider_store_nearly_full";

/// A small file system, which only root can mount.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(directory.path())
            .output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        Ok(mounted.then_some(Self(directory)))
    }

    /// A fixture whose node has its data on this disk.
    async fn fixture(&self) -> Result<Fixture> {
        let mail = MailServer::start().await?;
        let config = Config::short_retries().smtp(mail.address());
        let mut node = Node::prepare_at(config, &self.path().join("data"))?;
        node.restart().await?;
        Fixture::with_node(node, mail).await
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler())?;
        for piece in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        Ok(())
    }

    fn free_space(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove the file that fills the disk")
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the node may still hold files.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Publishes large events until one is refused. Returns the IDs of the others, and the refusal.
async fn publish_until_refused(account: &Account) -> Result<(BTreeSet<String>, Answer)> {
    let padding = "x".repeat(EVENT_BYTES);
    let mut accepted = BTreeSet::new();
    for n in 0..EVENTS {
        let payload = format!("{{\"n\":{n},\"padding\":\"{padding}\"}}");
        let response = account.try_publish(ORDER, &payload, None).await?;
        if response.status == 503 {
            return Ok((accepted, response));
        }
        accepted.insert(id_of(&response)?);
    }
    bail!("the disk was never full")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_rejects_events_with_503_until_there_is_space() -> Result<()> {
    let Some(disk) = Disk::mount()? else {
        eprintln!("skipped: only root can mount a small disk");
        return Ok(());
    };
    let fixture = disk.fixture().await?;
    let hook = fixture.hook("through");
    fixture.endpoint(&hook).await?;
    disk.fill()?;

    let (mut accepted, refused) = publish_until_refused(&fixture.account).await?;
    refused.problem(&[503])?;
    ensure!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    // Reads still work, and the accepted events are still there.
    let path = fixture.account.path("/events?limit=1");
    fixture.account.api.get(&path).await?.expect(200)?;

    disk.free_space()?;
    let again = async || {
        let response = fixture.account.try_publish(ORDER, "{\"n\":-1}", None).await?;
        Ok((response.status == 202).then_some(response))
    };
    let response = wait::until("events are accepted again", seconds(30), again).await?;
    accepted.insert(id_of(&response)?);

    let events: BTreeSet<_> =
        fixture.account.events().await?.into_iter().map(|event| event.id).collect();
    ensure!(events == accepted, "the stored events are not exactly the accepted ones");
    hook.wait_for(accepted.len(), seconds(30)).await?;
    let arrived: BTreeSet<_> =
        hook.received().iter().filter_map(|request| request.webhook_id()).collect();
    ensure!(arrived == accepted, "the delivered events are not exactly the accepted ones");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_data_makes_room_on_a_full_disk() -> Result<()> {
    let Some(disk) = Disk::mount()? else {
        eprintln!("skipped: only root can mount a small disk");
        return Ok(());
    };
    let mut fixture = disk.fixture().await?;
    let hook = fixture.hook("through");
    fixture.endpoint(&hook).await?;
    let large = fixture.operator.account("Large", &[CONTACT]).await?;
    disk.fill()?;
    let (stored, _) = publish_until_refused(&large).await?;

    // The node starts on a full disk, and refuses events from the first one on.
    fixture.node.stop().await?;
    fixture.node.restart().await?;
    fixture.account.try_publish(ORDER, "{\"n\":0}", None).await?.problem(&[503])?;
    ensure!(metric(&fixture, NEARLY_FULL).await? > 0.5, "the metric does not show the full disk");

    fixture.operator.api.delete(&large.path("")).await?.succeeded()?;
    let again = async || {
        let response = fixture.account.try_publish(ORDER, "{\"n\":1}", None).await?;
        Ok((response.status == 202).then_some(response))
    };
    let first = wait::until("events are accepted again", seconds(30), again).await?;
    let mut ids = BTreeSet::from([id_of(&first)?]);
    ensure!(metric(&fixture, NEARLY_FULL).await? < 0.5, "the metric does not show the room");

    fixture.node.stop().await?;
    fixture.node.restart().await?;
    let padding = "x".repeat(EVENT_BYTES);
    // Much more than the reserve.
    for n in 0..stored.len() / 2 {
        let payload = format!("{{\"n\":{n},\"padding\":\"{padding}\"}}");
        ids.insert(id_of(&fixture.account.try_publish(ORDER, &payload, None).await?)?);
    }
    hook.wait_for(ids.len(), seconds(30)).await?;
    let arrived: BTreeSet<_> =
        hook.received().iter().filter_map(|request| request.webhook_id()).collect();
    ensure!(arrived == ids, "the delivered events are not exactly the accepted ones");
    Ok(())
}

/// The value of a metric of the node.
async fn metric(fixture: &Fixture, name: &str) -> Result<f64> {
    let response = fixture.node.api(None).get("/metrics").await?;
    let text = String::from_utf8_lossy(&response.body);
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_whitespace().last());
    Ok(value.with_context(|| format!("no {name} in {text}"))?.parse()?)
}

fn id_of(accepted: &Answer) -> Result<String> {
    Ok(accepted.expect(202)?["id"].as_str().context("there is no id")?.to_owned())
}
