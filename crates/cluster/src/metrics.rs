//! Metrics of a node's part in the cluster.
//!
//! Each component creates its own [`Instruments`] once the process's meter provider is set up;
//! instruments of the same name share their values. Names follow the OpenTelemetry conventions.

use opentelemetry::global;
use opentelemetry::metrics::{Counter, Gauge};

/// The metric instruments. Clones share them.
#[derive(Clone, Debug)]
pub struct Instruments {
    taken_over: Counter<u64>,
    fenced: Counter<u64>,
    wakes_sent: Counter<u64>,
    wakes_received: Counter<u64>,
    peers: Gauge<u64>,
    emails: Counter<u64>,
    mail_server: Gauge<u64>,
}

impl Instruments {
    /// Creates the instruments on the process's global meter.
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
                "Shards claimed from a dead node.",
            ),
            fenced: counter(
                "postrider.writes.fenced",
                "{write}",
                "Writes rejected because the shard has a later owner.",
            ),
            wakes_sent: counter("postrider.wakes.sent", "{wake}", "Wakes sent to other nodes."),
            wakes_received: counter(
                "postrider.wakes.received",
                "{wake}",
                "Wakes received from other nodes.",
            ),
            peers: meter
                .u64_gauge("postrider.peers.linked")
                .with_unit("{node}")
                .with_description("Nodes that this node is connected to.")
                .build(),
            emails: counter(
                "postrider.emails.sent",
                "{email}",
                "Emails accepted by the mail server, counted per recipient.",
            ),
            mail_server: meter
                .u64_gauge("postrider.email.server_up")
                .with_description("1 if the mail server accepted the last session, 0 if not.")
                .build(),
        }
    }

    /// Counts shards claimed from a dead node.
    pub fn taken_over(&self, shards: usize) {
        self.taken_over.add(count(shards), &[]);
    }

    /// Counts writes rejected by their fence.
    pub fn fenced(&self, writes: usize) {
        self.fenced.add(count(writes), &[]);
    }

    /// Counts wakes sent to another node.
    pub fn wakes_sent(&self, wakes: usize) {
        self.wakes_sent.add(count(wakes), &[]);
    }

    /// Counts wakes received from another node.
    pub fn wakes_received(&self, wakes: usize) {
        self.wakes_received.add(count(wakes), &[]);
    }

    /// Sets the number of connected nodes.
    pub fn peers(&self, connected: usize) {
        self.peers.record(count(connected), &[]);
    }

    /// Counts emails accepted by the mail server.
    pub fn emails_sent(&self, emails: usize) {
        self.emails.add(count(emails), &[]);
    }

    /// Sets whether the mail server accepted the last session.
    pub fn mail_server_up(&self, up: bool) {
        self.mail_server.record(u64::from(up), &[]);
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
