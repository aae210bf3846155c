//! Metrics of the use cases. Names follow the OpenTelemetry conventions.

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

/// The channel that an event came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The HTTP API.
    Http,
    /// The actor messaging API.
    Message,
}

impl Channel {
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
    pub(crate) fn accepted(&self, channel: Channel, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.accepted.add(events, &[KeyValue::new("way", channel.as_str())]);
    }
}
