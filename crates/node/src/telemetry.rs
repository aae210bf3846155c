//! What the process tells of itself: metrics as Prometheus text, and, when there is a collector,
//! traces, metrics and logs by OTLP.
//!
//! | File | Is |
//! |---|---|
//! | [`otlp`] | the way to the collector |
//! | [`bounded`] | queues that never make anybody wait, and what is lost at them |

mod bounded;
mod otlp;

use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use postrider_store::kv::Stats;
use prometheus::{Encoder, Registry, TextEncoder};

pub use otlp::{Collector, Otlp};

/// The telemetry of this process.
pub struct Telemetry {
    registry: Registry,
    metrics: SdkMeterProvider,
    otlp: Option<Otlp>,
}

impl Telemetry {
    /// Sets up what the process tells; to be called before any instrument is made, and before
    /// logging, which takes part in it.
    ///
    /// # Errors
    /// When an exporter cannot be made.
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

    /// What exports traces and logs, if there is a collector.
    #[must_use]
    pub fn otlp(&self) -> Option<&Otlp> {
        self.otlp.as_ref()
    }

    /// The metrics in the text format of Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Exports what is left, within bounds of time.
    pub async fn stop(&self) {
        if let Some(otlp) = &self.otlp {
            otlp::stop(otlp.clone(), self.metrics.clone()).await;
        }
    }
}

/// Shows what the store's committer has done.
pub fn observe_store(stats: impl Fn() -> Stats + Send + Sync + Clone + 'static) {
    let meter = global::meter("postrider");
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
        "Groups of transactions made durable.",
        |stats| stats.groups,
    );
    counter(
        "postrider.store.transactions",
        "{transaction}",
        "Transactions in those groups.",
        |stats| stats.transactions,
    );
    counter(
        "postrider.store.conflicts",
        "{transaction}",
        "Transactions that had to run again.",
        |stats| stats.conflicts,
    );
    let time = stats.clone();
    meter
        .f64_observable_counter("postrider.store.commit.time")
        .with_unit("s")
        .with_description("Time spent making groups durable.")
        .with_callback(move |observer| observer.observe(seconds(time().commit_time_total), &[]))
        .build();
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
