//! Three nodes under load whose wall clocks are some seconds apart from the start. One of the
//! clocks jumps back and forth by an hour.
//!
//! Times in that node's records cannot be compared with the other nodes' records or with the
//! receiver's log. The invariants that compare times are therefore not checked: I5 (the schedule),
//! I6 where it matches requests with records, I7 (the grace period), I13 (recorded lateness), and
//! the parts of I3 that compare times. The others are: nothing is lost (I1) or made up (I2), epochs
//! (I3), attempt numbers (I4), one success per delivery, which is all of I6 when no node is killed,
//! notices (I8), durations (I9) and bounds (I12). In addition, no due delivery may stay pending
//! once the clock is right again.

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

use crate::cluster_fixture::ClusterFixture;
use crate::fan_out::FanOutConfig;
use crate::report;
use crate::run::{self, Run};

/// The jumps of the clock; between two jumps it is right again.
const JUMPS_S: [i64; 4] = [3_600, -3_600, 3_600, -3_600];
/// How long the clock stays wrong after a jump, and right before the next.
const WRONG_FOR_MS: u64 = 6_000;
const RIGHT_FOR_MS: u64 = 2_000;
/// The node whose clock is ahead and jumps. Its ids contain times in the future.
const AHEAD: usize = 1;
/// The node whose clock is behind.
const BEHIND: usize = 2;
/// The difference of both clocks from the first node's.
const APART_S: i64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_clock_jumps() -> Result<()> {
    if let Some(skip_reason) = Clock::skip_reason() {
        eprintln!("skipped nothing_is_lost_when_a_clock_jumps: {skip_reason}");
        return Ok(());
    }
    let (seed, _) = run::seed_and_kills(0)?;
    let mail = MailServer::start().await?;
    let mut cluster = Cluster::prepare(&run::config().smtp(mail.address()), 3)?;
    let ahead = cluster.skew_clock(AHEAD, APART_S)?;
    cluster.skew_clock(BEHIND, -APART_S)?;
    let fixture = ClusterFixture::start_with(cluster, 3, mail, Receiver::start().await?).await?;
    let name = fixture.cluster.name(AHEAD).to_owned();
    let config = FanOutConfig {
        publish_every: millis(900),
        clocks_apart: seconds(2 * APART_S.unsigned_abs()),
        replay_at: Some(AHEAD),
    };
    let run = Run::start(fixture, seed, millis(100)).await?;
    let mut run = run.with_fan_out(seed, config).await?.with_differing_clocks();
    tokio::time::sleep(seconds(2)).await;
    for jump_s in JUMPS_S {
        let from = Timestamp::now();
        ahead.set(APART_S + jump_s)?;
        // The node reads the clock every second; nothing shows when it has noticed the jump.
        tokio::time::sleep(millis(WRONG_FOR_MS)).await;
        ahead.set(APART_S)?;
        tokio::time::sleep(millis(RIGHT_FOR_MS)).await;
        run.record_faults([Fault {
            kind: Kind::Clock,
            node: name.clone(),
            from,
            to: Timestamp::now(),
        }]);
    }
    let outcome = run.finish(Vec::new(), vec![(Kind::Clock, JUMPS_S.len())]).await?;
    only_future_deliveries_are_pending(&outcome.evidence)?;
    report::print_and_check("clock", seed, &outcome)
}

/// Pending deliveries were accepted or attempted by the node whose clock was ahead: they are late,
/// not lost. At a strict endpoint, all later deliveries wait behind them.
fn only_future_deliveries_are_pending(evidence: &Evidence) -> Result<()> {
    let now = Timestamp::now();
    let strict = |delivery: &Delivery| {
        let mut endpoints = evidence.store.endpoints.iter();
        endpoints.any(|e| e.id == delivery.endpoint_id && e.ordering == "strict")
    };
    let is_in_the_future = |delivery: &Delivery| {
        delivery.created_at > now || delivery.attempts.iter().any(|attempt| attempt.at > now)
    };
    let deliveries = evidence.store.deliveries.iter();
    let waiting: Vec<_> = deliveries.filter(|d| d.state == "pending" && !strict(d)).collect();
    let unexplained = waiting.iter().filter(|delivery| !is_in_the_future(delivery)).count();
    eprintln!(
        "clock: {} deliveries are pending because their times are in the future",
        waiting.len()
    );
    ensure!(
        unexplained == 0,
        "{unexplained} deliveries are pending although none of their times is in the future"
    );
    Ok(())
}
