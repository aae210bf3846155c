//! A full disk: events are rejected with 503, nothing is lost, and the node recovers once there is
//! space.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::wait::{self, seconds};
use serde_json::Value;
use tempfile::TempDir;

/// Holds a store and its reserve, and fills up quickly.
const DISK: &str = "size=96m";
/// More events of this size than the disk holds.
const EVENTS: usize = 1_000;
const EVENT_BYTES: usize = 200_000;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_rejects_events_with_503_until_there_is_space() -> Result<()> {
    let Some(disk) = Disk::mount()? else {
        eprintln!("skipped: only root can mount a small disk");
        return Ok(());
    };
    let mail = MailServer::start().await?;
    let config = Config::short_retries().smtp(mail.address());
    let mut node = Node::prepare_at(config, &disk.path().join("data"))?;
    node.restart().await?;
    let fixture = Fixture::with_node(node, mail).await?;
    let hook = fixture.hook("through");
    fixture.endpoint(&hook).await?;
    disk.fill()?;

    let padding = "x".repeat(EVENT_BYTES);
    let mut accepted = BTreeSet::new();
    let mut refused = None;
    for n in 0..EVENTS {
        let payload = format!("{{\"n\":{n},\"padding\":\"{padding}\"}}");
        let response = fixture.account.try_publish(ORDER, &payload, None).await?;
        if response.status == 503 {
            refused = Some(response);
            break;
        }
        let id = response.expect(202)?["id"].as_str().map(str::to_owned);
        accepted.insert(id.context("there is no id")?);
    }
    let refused = refused.context("the disk was never full")?;
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
    let body: Value = response.expect(202)?;
    accepted.insert(body["id"].as_str().context("there is no id")?.to_owned());

    let events: BTreeSet<_> =
        fixture.account.events().await?.into_iter().map(|event| event.id).collect();
    ensure!(events == accepted, "the stored events are not exactly the accepted ones");
    hook.wait_for(accepted.len(), seconds(30)).await?;
    let arrived: BTreeSet<_> =
        hook.received().iter().filter_map(|request| request.webhook_id()).collect();
    ensure!(arrived == accepted, "the delivered events are not exactly the accepted ones");
    Ok(())
}
