//! The report on a cluster.

use std::time::Duration;

use postrider_tests::wait::seconds;

use super::kill_impact::Takeover;
use super::publishing::Channel;
use super::steady_load::RATE;
use super::takeover::{ENDPOINTS, RESPONSE_DELAY, Takeovers};
use super::throughput::Measured;
use super::work::{Cost, NodeSample, Recovery};
use crate::node::Throughput;
use crate::report::{Report, memory};

/// The goal for taking over from a killed node.
const TAKEOVER: Duration = seconds(3);

/// A figure reported over all kills, with its accessor.
type Figure = (&'static str, fn(&Takeover) -> f64);

impl Report {
    pub fn throughput(&mut self, batch: usize, measured: &Measured) {
        for (how, figures) in measured.rows(batch) {
            println!(
                "{}, {how}: accepted {:.0}/s, delivered {:.0}/s, {:.3} of the bare loop, \
                 {:.3} CPU-s per 1,000 deliveries, memory {}",
                measured.name,
                figures.accepted_per_s,
                figures.delivered_per_s,
                figures.delivered_per_s / measured.bare.per_s,
                figures.cpu_s_per_1000,
                memory(&figures.memory_mib),
            );
            if measured.nodes > 1 {
                println!(
                    "{}, {how}: {:.0} wakes/s between nodes, {:.2} per event",
                    measured.name, figures.wakes_per_s, figures.wakes_per_event,
                );
            }
        }
    }

    /// Compares each setup with the first.
    pub fn speedups(&mut self, batch: usize, all: &[Measured]) {
        let Some((first, others)) = all.split_first() else { return };
        for other in others {
            for ((how, base), (_, figures)) in first.rows(batch).iter().zip(other.rows(batch)) {
                let speedup = figures.delivered_per_s / base.delivered_per_s;
                let normalized = speedup * first.bare.per_s / other.bare.per_s;
                println!(
                    "{}, {how}: {speedup:.2} times the deliveries/s of {} ({normalized:.2} relative to \
                     their bare loops)",
                    other.name, first.name,
                );
            }
        }
    }

    pub fn publishing(&mut self, channels: &[Channel]) {
        for Channel { name, batch, concurrency, per_s, p50, p99 } in channels {
            let how = if *batch == 1 {
                "single events".to_owned()
            } else {
                format!("batches of {batch}")
            };
            println!(
                "published {name}, {how}, {concurrency} concurrent calls: {per_s:.0} events/s; call p50 \
                 {p50:.2} ms, p99 {p99:.2} ms",
            );
        }
        for pair in channels.chunks_exact(2) {
            let ratio = pair[1].per_s / pair[0].per_s;
            println!(
                "{} events per call: {} / {} {ratio:.2}",
                pair[0].batch, pair[1].name, pair[0].name
            );
        }
    }

    pub fn work(&mut self, cost: &Cost) {
        sample(cost.registered, "idle", &cost.idle);
        sample(cost.registered, "with a delivery due each", &cost.working);
        println!(
            "{} requests in flight to a hanging receiver, the others waiting for a permit: \
             {:.1} KiB per endpoint with work",
            cost.in_flight,
            cost.kib_per_endpoint(),
        );
    }

    pub fn recovery(&mut self, recovery: &Recovery) {
        let Recovery { registered, delivered, took, end } = recovery;
        println!(
            "{delivered:.0} delivered within {:.1} s after the receiver recovered",
            took.as_secs_f64()
        );
        sample(*registered, "afterwards", end);
        self.goal(
            format!("{registered} deliveries done after the receiver recovers"),
            format!("{delivered:.0}"),
            *delivered >= *registered as f64,
        );
    }

    pub fn takeovers(&mut self, takeovers: &Takeovers) {
        let Takeovers { seed, events, took, kills } = takeovers;
        println!(
            "{} kills (SIGKILL) in {:.0} s, seed {seed}; {RATE} events/s to {ENDPOINTS} endpoints \
             that respond after {RESPONSE_DELAY:?}, {events} in total, all delivered",
            kills.len(),
            took.as_secs_f64(),
        );
        let figures: [Figure; 10] = [
            ("shards of the killed node", |kill| kill.shards as f64),
            ("ms until all of them have a new owner", |kill| ms(kill.owned_again)),
            ("max delay (ms) of a delivery in its shards", |kill| ms(kill.max_delay)),
            ("max delay (ms) of any other delivery", |kill| ms(kill.max_delay_elsewhere)),
            ("max delay (ms) before the kill", |kill| ms(kill.max_delay_before)),
            ("duplicates while the node was down", |kill| kill.duplicates as f64),
            ("duplicates while it came back", |kill| kill.duplicates_later as f64),
            ("delivered/s before", |kill| kill.before),
            ("delivered/s in the second after the kill", |kill| kill.during),
            ("delivered/s in the two seconds after that", |kill| kill.after),
        ];
        for (what, figure) in figures {
            println!("  {what}: {}", spread(kills.iter().map(figure)));
        }
        let duplicates: usize =
            kills.iter().map(|kill| kill.duplicates + kill.duplicates_later).sum();
        println!("  {:.2} duplicates per kill", duplicates as f64 / kills.len() as f64);
        self.takeover_goal(kills);
    }

    fn takeover_goal(&mut self, kills: &[Takeover]) {
        let longest = kills.iter().map(|kill| kill.max_delay.max(kill.owned_again)).max();
        let longest = longest.unwrap_or_default();
        self.goal(
            format!("longest takeover of {} kills ≤ {TAKEOVER:?}", kills.len()),
            format!("{longest:.2?}"),
            longest <= TAKEOVER,
        );
    }
}

impl Measured {
    fn rows(&self, batch: usize) -> [(String, &Throughput); 2] {
        [
            ("one event per request".to_owned(), &self.single),
            (format!("batches of {batch}"), &self.batched),
        ]
    }
}

fn sample(registered: usize, when: &str, sample: &NodeSample) {
    let active: Vec<_> = sample.active.iter().map(|count| format!("{count:.0}")).collect();
    println!(
        "{registered} endpoints, {when}: {} have an actor (by node: {}); memory {}",
        sample.active(),
        active.join(", "),
        memory(&sample.memory_mib),
    );
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Minimum, median and maximum.
fn spread(figures: impl Iterator<Item = f64>) -> String {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let [Some(least), Some(median), Some(most)] =
        [figures.first(), figures.get(figures.len() / 2), figures.last()]
    else {
        return "no data".to_owned();
    };
    format!("min {least:.0}, median {median:.0}, max {most:.0}")
}
