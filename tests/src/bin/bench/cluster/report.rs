//! What is told of a cluster.

use std::time::Duration;

use postrider_tests::wait::seconds;

use super::aftermath::Takeover;
use super::publishing::Way;
use super::steady::RATE;
use super::takeover::{ANSWERED_AFTER, ENDPOINTS, Takeovers};
use super::throughput::Measured;
use super::work::{Cost, Moment, Recovery};
use crate::node::Throughput;
use crate::report::{Report, memory};

/// A killed node is replaced within.
const TAKEOVER: Duration = seconds(3);

/// What is told of all kills, and where it is in one of them.
type Figure = (&'static str, fn(&Takeover) -> f64);

impl Report {
    pub fn throughput(&mut self, batch: usize, measured: &Measured) {
        for (how, figures) in measured.ways(batch) {
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

    /// Each set-up against the first.
    pub fn speedups(&mut self, batch: usize, all: &[Measured]) {
        let Some((first, others)) = all.split_first() else { return };
        for other in others {
            for ((how, base), (_, figures)) in first.ways(batch).iter().zip(other.ways(batch)) {
                let plain = figures.delivered_per_s / base.delivered_per_s;
                let corrected = plain * first.bare.per_s / other.bare.per_s;
                println!(
                    "{}, {how}: {plain:.2} times the deliveries/s of {} ({corrected:.2} with each \
                     measured against its bare loop)",
                    other.name, first.name,
                );
            }
        }
    }

    pub fn publishing(&mut self, ways: &[Way]) {
        for Way { name, batch, at_once, per_s, p50, p99 } in ways {
            let how =
                if *batch == 1 { "singles".to_owned() } else { format!("batches of {batch}") };
            println!(
                "published {name}, {how}, {at_once} calls at once: {per_s:.0} events/s; a call p50 \
                 {p50:.2} ms, p99 {p99:.2} ms",
            );
        }
        for pair in ways.chunks_exact(2) {
            let ratio = pair[1].per_s / pair[0].per_s;
            println!(
                "{} events a call: {} / {} {ratio:.2}",
                pair[0].batch, pair[1].name, pair[0].name
            );
        }
    }

    pub fn work(&mut self, cost: &Cost) {
        moment(cost.registered, "idle", &cost.idle);
        moment(cost.registered, "with a delivery due each", &cost.working);
        println!(
            "{} in flight to a receiver that does not answer, the others waiting for a permit: \
             {:.1} KiB per endpoint with work",
            cost.in_flight,
            cost.kib_per_endpoint(),
        );
    }

    pub fn recovery(&mut self, recovery: &Recovery) {
        let Recovery { registered, delivered, took, done } = recovery;
        println!(
            "{delivered:.0} delivered, {:.1} s after the receiver answers",
            took.as_secs_f64()
        );
        moment(*registered, "afterwards", done);
        self.goal(
            format!("{registered} deliveries done after the receiver answers"),
            format!("{delivered:.0}"),
            *delivered >= *registered as f64,
        );
    }

    pub fn takeovers(&mut self, takeovers: &Takeovers) {
        let Takeovers { seed, events, took, kills } = takeovers;
        println!(
            "{} times kill -9 in {:.0} s, seed {seed}; {RATE} events/s to {ENDPOINTS} endpoints \
             that answer after {ANSWERED_AFTER:?}, {events} in all, every one delivered",
            kills.len(),
            took.as_secs_f64(),
        );
        let figures: [Figure; 10] = [
            ("shards of the killed node", |kill| kill.shards as f64),
            ("ms until none is unowned or the dead node's", |kill| ms(kill.owned_again)),
            ("ms that a delivery to one of its endpoints was kept at most", |kill| ms(kill.kept)),
            ("ms that any other delivery was kept at most", |kill| ms(kill.kept_elsewhere)),
            ("ms that a delivery took at most before it", |kill| ms(kill.kept_before)),
            ("duplicates while the node was away", |kill| kill.again as f64),
            ("duplicates while it came back", |kill| kill.again_later as f64),
            ("delivered/s before", |kill| kill.before),
            ("delivered/s in the second after the kill", |kill| kill.during),
            ("delivered/s in the two seconds after that", |kill| kill.after),
        ];
        for (what, figure) in figures {
            println!("  {what}: {}", spread(kills.iter().map(figure)));
        }
        let again: usize = kills.iter().map(|kill| kill.again + kill.again_later).sum();
        println!("  {:.2} duplicates per kill", again as f64 / kills.len() as f64);
        self.takeover_goal(kills);
    }

    fn takeover_goal(&mut self, kills: &[Takeover]) {
        let longest = kills.iter().map(|kill| kill.kept.max(kill.owned_again)).max();
        let longest = longest.unwrap_or_default();
        self.goal(
            format!("takeover, the longest of {} kills ≤ {TAKEOVER:?}", kills.len()),
            format!("{longest:.2?}"),
            longest <= TAKEOVER,
        );
    }
}

impl Measured {
    fn ways(&self, batch: usize) -> [(String, &Throughput); 2] {
        [
            ("one event per request".to_owned(), &self.single),
            (format!("batches of {batch}"), &self.batched),
        ]
    }
}

fn moment(registered: usize, when: &str, moment: &Moment) {
    let active: Vec<_> = moment.active.iter().map(|count| format!("{count:.0}")).collect();
    println!(
        "{registered} endpoints, {when}: {} have an actor, by node {}; memory {}",
        moment.active(),
        active.join(", "),
        memory(&moment.memory_mib),
    );
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The least, the median and the most of some figures.
fn spread(figures: impl Iterator<Item = f64>) -> String {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let [Some(least), Some(median), Some(most)] =
        [figures.first(), figures.get(figures.len() / 2), figures.last()]
    else {
        return "nothing".to_owned();
    };
    format!("min {least:.0}, median {median:.0}, max {most:.0}")
}
