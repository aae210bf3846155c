//! Metrics of the use cases. Names follow the OpenTelemetry semantic conventions.

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

/// The channel through which an event was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The REST API.
    Http,
    /// The actor API.
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

/// The metric instruments. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    accepted: Counter<u64>,
}

impl Instruments {
    /// Creates the instruments with the global meter.
    pub(crate) fn new() -> Self {
        let accepted = global::meter("postrider")
            .u64_counter("postrider.events.accepted")
            .with_unit("{event}")
            .with_description("Accepted events, by channel (`http` or `message`).")
            .build();
        Self { accepted }
    }

    /// Counts accepted events.
    pub(crate) fn accepted(&self, channel: Channel, events: usize) {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        self.accepted.add(events, &[KeyValue::new("way", channel.as_str())]);
    }
}
