//! A full disk: 503, nothing lost, and it recovers when there is room.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::scene::{ORDER, Scene};
use postrider_tests::wait::{self, seconds};
use serde_json::Value;
use tempfile::TempDir;

/// Large enough for a store and its reserve, small enough to fill quickly.
const DISK: &str = "size=96m";
/// More events than the disk holds, of this many bytes each.
const EVENTS: usize = 1_000;
const EVENT_BYTES: usize = 200_000;

/// A small file system of its own, which only the superuser can make.
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

    fn make_room(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove what fills the disk")
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
async fn a_full_disk_is_503_and_recovers() -> Result<()> {
    let Some(disk) = Disk::mount()? else {
        eprintln!("SKIPPED: only the superuser can mount a small disk");
        return Ok(());
    };
    let mail = MailServer::start().await?;
    let config = Config::impatient().smtp(mail.address());
    let mut node = Node::prepare_at(config, &disk.path().join("data"))?;
    node.restart().await?;
    let scene = Scene::around(node, mail).await?;
    let hook = scene.hook("through");
    scene.endpoint(&hook).await?;
    disk.fill()?;

    let padding = "x".repeat(EVENT_BYTES);
    let mut accepted = BTreeSet::new();
    let mut refused = None;
    for n in 0..EVENTS {
        let payload = format!("{{\"n\":{n},\"padding\":\"{padding}\"}}");
        let answer = scene.account.try_publish(ORDER, &payload, None).await?;
        if answer.status == 503 {
            refused = Some(answer);
            break;
        }
        let id = answer.expect(202)?["id"].as_str().map(str::to_owned);
        accepted.insert(id.context("an id")?);
    }
    let refused = refused.context("the disk was never full")?;
    refused.problem(&[503])?;
    ensure!(refused.headers.contains_key("retry-after"), "{:?}", refused.headers);
    // It still answers, and what was accepted is still there.
    let path = scene.account.path("/events?limit=1");
    scene.account.api.get(&path).await?.expect(200)?;

    disk.make_room()?;
    let again = async || {
        let answer = scene.account.try_publish(ORDER, "{\"n\":-1}", None).await?;
        Ok((answer.status == 202).then_some(answer))
    };
    let answer = wait::until("it accepts again", seconds(30), again).await?;
    let body: Value = answer.expect(202)?;
    accepted.insert(body["id"].as_str().context("an id")?.to_owned());

    let events: BTreeSet<_> =
        scene.account.events().await?.into_iter().map(|event| event.id).collect();
    ensure!(events == accepted, "what was refused was accepted, or what was accepted was lost");
    hook.wait_for(accepted.len(), seconds(30)).await?;
    let arrived: BTreeSet<_> =
        hook.received().iter().filter_map(|request| request.webhook_id()).collect();
    ensure!(arrived == accepted);
    Ok(())
}
