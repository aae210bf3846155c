//! What a node tells of its part in the cluster.
//!
//! Whoever has something to tell makes its own [`Instruments`], once the process's meter is set
//! up: those of the same name are the same. Names follow the OpenTelemetry conventions.

use opentelemetry::global;
use opentelemetry::metrics::{Counter, Gauge};

/// The instruments. Clones share them.
#[derive(Clone, Debug)]
pub struct Instruments {
    taken_over: Counter<u64>,
    fenced: Counter<u64>,
    wakes_sent: Counter<u64>,
    wakes_received: Counter<u64>,
    peers: Gauge<u64>,
    emails: Counter<u64>,
}

impl Instruments {
    /// The instruments of the process's meter.
    #[must_use]
    pub fn new() -> Self {
        let meter = global::meter("postrider");
        let counter = |name, unit, description| {
            meter.u64_counter(name).with_unit(unit).with_description(description).build()
        };
        Self {
            taken_over: counter(
                "postrider.shards.taken_over",
                "{shard}",
                "Shards that were taken from a node that was lost.",
            ),
            fenced: counter(
                "postrider.writes.fenced",
                "{write}",
                "Writes that were refused since the shard has a later owner.",
            ),
            wakes_sent: counter(
                "postrider.wakes.sent",
                "{wake}",
                "Wakes that were sent to other nodes.",
            ),
            wakes_received: counter(
                "postrider.wakes.received",
                "{wake}",
                "Wakes that came from other nodes.",
            ),
            peers: meter
                .u64_gauge("postrider.peers.linked")
                .with_unit("{node}")
                .with_description("Nodes that this one is linked with.")
                .build(),
            emails: counter(
                "postrider.emails.sent",
                "{email}",
                "Emails that the mail server accepted, counted by recipient.",
            ),
        }
    }

    /// Shards were claimed whose owner was lost.
    pub fn taken_over(&self, shards: usize) {
        self.taken_over.add(count(shards), &[]);
    }

    /// Writes were refused for their fence.
    pub fn fenced(&self, writes: usize) {
        self.fenced.add(count(writes), &[]);
    }

    /// Wakes went out to another node.
    pub fn wakes_sent(&self, wakes: usize) {
        self.wakes_sent.add(count(wakes), &[]);
    }

    /// Wakes came in from another node.
    pub fn wakes_received(&self, wakes: usize) {
        self.wakes_received.add(count(wakes), &[]);
    }

    /// So many nodes are linked with this one now.
    pub fn peers(&self, linked: usize) {
        self.peers.record(count(linked), &[]);
    }

    /// Emails were accepted by the mail server.
    pub fn emails_sent(&self, emails: usize) {
        self.emails.add(count(emails), &[]);
    }
}

impl Default for Instruments {
    fn default() -> Self {
        Self::new()
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
