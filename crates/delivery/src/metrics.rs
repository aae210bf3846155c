//! The metrics of a node's deliveries. Names follow the OpenTelemetry conventions: the unit is a
//! separate field and not part of the name, and attributes distinguish variants.

use std::time::Duration;

use opentelemetry::metrics::{Counter, Histogram, UpDownCounter};
use opentelemetry::{KeyValue, global};
use postrider_cluster::metrics::Instruments;
use postrider_domain::delivery::{FinalState, Progress};
use postrider_domain::transition::Changes;

use crate::pacing::ThrottledBy;

pub(crate) struct Metrics {
    attempts: Counter<u64>,
    attempt_duration: Histogram<f64>,
    lateness: Histogram<f64>,
    finished: Counter<u64>,
    age: Histogram<f64>,
    disabled: Counter<u64>,
    pub(crate) in_flight: UpDownCounter<i64>,
    pub(crate) endpoints: UpDownCounter<i64>,
    /// The instruments shared by all parts of a node.
    pub(crate) cluster: Instruments,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("postrider");
        let seconds = |name, description| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(BUCKETS.to_vec())
        };
        Self {
            attempts: meter
                .u64_counter("postrider.attempts")
                .with_unit("{attempt}")
                .with_description("Recorded attempts, by outcome: success, or the kind of failure.")
                .build(),
            attempt_duration: seconds("postrider.attempt.duration", "Duration of attempts.")
                .build(),
            lateness: seconds(
                "postrider.attempt.lateness",
                "Delay between an attempt's due time and its start, by what throttled it.",
            )
            .build(),
            finished: meter
                .u64_counter("postrider.deliveries.finished")
                .with_unit("{delivery}")
                .with_description("Deliveries that reached a final state, by state.")
                .build(),
            age: seconds("postrider.delivery.age", "Age of deliveries when they succeeded.")
                .build(),
            disabled: meter
                .u64_counter("postrider.endpoints.disabled")
                .with_unit("{endpoint}")
                .with_description("Endpoints disabled because of failures.")
                .build(),
            in_flight: meter
                .i64_up_down_counter("postrider.attempts.in_flight")
                .with_unit("{attempt}")
                .with_description("Requests in flight.")
                .build(),
            endpoints: meter
                .i64_up_down_counter("postrider.endpoints.active")
                .with_unit("{endpoint}")
                .with_description(
                    "Endpoints with an actor, that is, with deliveries due or in flight.",
                )
                .build(),
            cluster: Instruments::new(),
        }
    }

    pub(crate) fn started(&self, lateness: Duration, throttled_by: Option<ThrottledBy>) {
        let throttled_by = throttled_by.map_or("none", ThrottledBy::as_str);
        let attributes = [KeyValue::new("throttled_by", throttled_by)];
        self.lateness.record(lateness.as_secs_f64(), &attributes);
    }

    pub(crate) fn recorded(&self, changes: &Changes) {
        let outcome = changes.attempt.error.as_ref().map_or("success", |error| error.kind.as_str());
        self.attempts.add(1, &[KeyValue::new("outcome", outcome)]);
        self.attempt_duration.record(f64::from(changes.attempt.duration_ms) / 1000.0, &[]);
        if let Progress::Finished { end, at } = changes.delivery.progress {
            let end = match end {
                FinalState::Delivered => {
                    self.age.record(at.since(changes.delivery.created_at).as_secs_f64(), &[]);
                    "delivered"
                }
                FinalState::Exhausted => "exhausted",
                FinalState::Discarded => "discarded",
            };
            self.finished.add(1, &[KeyValue::new("end", end)]);
        }
        if changes.disabled.is_some() {
            self.disabled.add(1, &[]);
        }
    }
}

/// From a request's milliseconds to a day of retries.
const BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 3600.0,
    86400.0,
];
