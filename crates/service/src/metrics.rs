//! Metrics of the use cases. Names follow the OpenTelemetry conventions.

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

/// How an event came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the HTTP API.
    Http,
    /// By the internal messaging API.
    Message,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Message => "message",
        }
    }
}

/// The instruments. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    accepted: Counter<u64>,
}

impl Instruments {
    /// The instruments of the process's meter.
    pub(crate) fn new() -> Self {
        let accepted = global::meter("postrider")
            .u64_counter("postrider.events.accepted")
            .with_unit("{event}")
            .with_description("Accepted events, by channel (`http` or `message`).")
            .build();
        Self { accepted }
    }

    /// Counts newly accepted events.
    pub(crate) fn accepted(&self, way: Way, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.accepted.add(events, &[KeyValue::new("way", way.as_str())]);
    }
}
