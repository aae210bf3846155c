//! Three nodes under load, whose wall clocks are some seconds apart from the start. That of one of
//! them jumps by an hour, to and fro.
//!
//! What its records say of times cannot be compared with what the others' say, nor with the
//! receiver's log, so the invariants by the clock are left out: I5 (the schedule), I6 by matching
//! requests with records, I7 (its grace), I13 (lateness on record), and of I3 what compares
//! times. What remains: nothing is lost (I1) or made up (I2), epochs (I3), numbers (I4), one
//! success each, which without a killed node is all of I6, notices (I8), durations (I9), bounds
//! (I12); and that all is settled soon after the clock is right again.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use postrider_tests::client::records::Delivery;
use postrider_tests::cluster::Cluster;
use postrider_tests::cluster::clock::Clock;
use postrider_tests::evidence::Evidence;
use postrider_tests::fault::{Fault, Kind};
use postrider_tests::mail::MailServer;
use postrider_tests::receiver::Receiver;
use postrider_tests::wait::{millis, seconds};

use crate::crowd::Habits;
use crate::stage::Stage;
use crate::story::{self, Story};

/// How far the clock jumps, one after another; between two of them it shows what it did before.
const JUMPS_S: [i64; 4] = [3_600, -3_600, 3_600, -3_600];
/// How long it stays wrong, and how long right.
const WRONG_FOR_MS: u64 = 6_000;
const RIGHT_FOR_MS: u64 = 2_000;
/// The node whose clock is ahead, and jumps. What it makes has ids from a time to come.
const AHEAD: usize = 1;
/// The node whose clock is behind.
const BEHIND: usize = 2;
/// How far both are from the first.
const APART_S: i64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_clock_jumps() -> Result<()> {
    if let Some(obstacle) = Clock::obstacle() {
        eprintln!("left out: nothing_is_lost_when_a_clock_jumps, since {obstacle}");
        return Ok(());
    }
    let (seed, _) = story::chosen(0)?;
    let mail = MailServer::start().await?;
    let mut cluster = Cluster::prepare(&story::config().smtp(mail.address()), 3)?;
    let ahead = cluster.wind(AHEAD, APART_S)?;
    cluster.wind(BEHIND, -APART_S)?;
    let stage = Stage::around(cluster, 3, mail, Receiver::start().await?).await?;
    let name = stage.cluster.name(AHEAD).to_owned();
    let habits = Habits {
        publish_every: millis(900),
        clocks_apart: seconds(2 * APART_S.unsigned_abs()),
        replay_at: Some(AHEAD),
    };
    let story = Story::begin(stage, seed, millis(100)).await?;
    let mut story = story.among(seed, habits).await?.clocks_differ();
    tokio::time::sleep(seconds(2)).await;
    for jump_s in JUMPS_S {
        let from = Timestamp::now();
        ahead.set(APART_S + jump_s)?;
        // Nothing tells when the node has seen it; it looks every second.
        tokio::time::sleep(millis(WRONG_FOR_MS)).await;
        ahead.set(APART_S)?;
        tokio::time::sleep(millis(RIGHT_FOR_MS)).await;
        story.note([Fault { kind: Kind::Clock, node: name.clone(), from, to: Timestamp::now() }]);
    }
    let told = story.end(Vec::new(), vec![(Kind::Clock, JUMPS_S.len())]).await?;
    only_what_is_of_the_future_waits(&told.evidence)?;
    story::judge("clock", seed, &told)
}

/// What waits was accepted or tried by the node whose clock was ahead: it is late, not lost.
/// At a strict endpoint all others wait behind it.
fn only_what_is_of_the_future_waits(evidence: &Evidence) -> Result<()> {
    let now = Timestamp::now();
    let strict = |delivery: &Delivery| {
        let mut endpoints = evidence.store.endpoints.iter();
        endpoints.any(|e| e.id == delivery.endpoint_id && e.ordering == "strict")
    };
    let of_the_future = |delivery: &Delivery| {
        delivery.created_at > now || delivery.attempts.iter().any(|attempt| attempt.at > now)
    };
    let deliveries = evidence.store.deliveries.iter();
    let waiting: Vec<_> = deliveries.filter(|d| d.state == "pending" && !strict(d)).collect();
    let wrongly = waiting.iter().filter(|delivery| !of_the_future(delivery)).count();
    eprintln!("clock: {} deliveries wait for the hour that the clock was ahead", waiting.len());
    ensure!(wrongly == 0, "{wrongly} deliveries wait for no reason");
    Ok(())
}
