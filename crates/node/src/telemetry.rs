//! Telemetry: metrics in Prometheus text format and, if a collector is configured, traces, metrics
//! and logs over OTLP.
//!
//! | File | Contents |
//! |---|---|
//! | [`otlp`] | export to the collector |
//! | [`bounded`] | bounded queues that drop instead of blocking, and count what they drop |

mod bounded;
mod otlp;

use std::time::Duration;

use opentelemetry::metrics::AsyncInstrument;
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use postrider_store::kv::{Stats, Store};
use prometheus::{Encoder, Registry, TextEncoder};

pub use otlp::{Collector, Otlp};

pub struct Telemetry {
    registry: Registry,
    metrics: SdkMeterProvider,
    otlp: Option<Otlp>,
}

impl Telemetry {
    /// Sets up metrics and exporters. Call this before creating any instrument, and before starting
    /// logging, which uses the exporters.
    ///
    /// # Errors
    /// If an exporter cannot be created.
    pub fn start(node: &str, collector: Option<&Collector>) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter =
            opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
        let resource = Resource::builder()
            .with_service_name("postrider")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
            .build();
        let exporters = collector
            .map(|collector| otlp::Exporters::new(collector.clone(), resource.clone()))
            .transpose()?;
        let mut metrics = SdkMeterProvider::builder().with_reader(exporter).with_resource(resource);
        if let Some(exporters) = &exporters {
            metrics = metrics.with_reader(exporters.metrics()?);
        }
        let metrics = metrics.build();
        global::set_meter_provider(metrics.clone());
        let otlp = exporters.map(otlp::Exporters::start).transpose()?;
        Ok(Self { registry, metrics, otlp })
    }

    /// The exporters of traces and logs, if a collector is configured.
    #[must_use]
    pub fn otlp(&self) -> Option<&Otlp> {
        self.otlp.as_ref()
    }

    /// The metrics in Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot encode the metrics");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Flushes the exporters, within a time limit.
    pub async fn stop(&self) {
        if let Some(otlp) = &self.otlp {
            otlp::stop(otlp.clone(), self.metrics.clone()).await;
        }
    }
}

/// Exposes the store's statistics as metrics.
pub fn observe_store(store: &Store) {
    let meter = global::meter("postrider");
    let watched = store.clone();
    meter
        .u64_observable_gauge("postrider.store.nearly_full")
        .with_description(
            "1 while new events are rejected because the disk is nearly full, else 0.",
        )
        .with_callback(move |observer| observer.observe(watched.is_nearly_full().into(), &[]))
        .build();
    let store = store.clone();
    let stats = move || store.stats();
    let counter = |name: &'static str, unit, description: &'static str, read: fn(Stats) -> u64| {
        let stats = stats.clone();
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(stats()), &[]))
            .build()
    };
    counter(
        "postrider.store.commits",
        "{commit}",
        "Group commits. Each makes one or more transactions durable.",
        |stats| stats.groups,
    );
    counter(
        "postrider.store.transactions",
        "{transaction}",
        "Transactions committed, in all groups.",
        |stats| stats.transactions,
    );
    counter(
        "postrider.store.conflicts",
        "{transaction}",
        "Transactions retried because of a conflict.",
        |stats| stats.conflicts,
    );
    let gauge =
        |name: &'static str, unit, description: &'static str, read: fn(Stats) -> Option<u64>| {
            let stats = stats.clone();
            let observe = move |observer: &dyn AsyncInstrument<u64>| {
                if let Some(value) = read(stats()) {
                    observer.observe(value, &[]);
                }
            };
            meter
                .u64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(observe)
                .build()
        };
    gauge(
        "postrider.store.file.size",
        "By",
        "The size of the embedded store's data file up to the last page ever used.",
        |stats| Some(stats.file?.used),
    );
    gauge(
        "postrider.store.file.free",
        "By",
        "The part of the embedded store's data file that holds no data and is used again.",
        |stats| Some(stats.file?.free),
    );
    let time = stats.clone();
    meter
        .f64_observable_counter("postrider.store.commit.time")
        .with_unit("s")
        .with_description("Time spent in group commits.")
        .with_callback(move |observer| observer.observe(seconds(time().commit_time_total), &[]))
        .build();
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
