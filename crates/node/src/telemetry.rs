//! What the process tells of itself: metrics through OpenTelemetry, shown as Prometheus text.

use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use postrider_store::embedded::Stats;
use prometheus::{Encoder, Registry, TextEncoder};

/// The metrics of this process.
pub struct Telemetry {
    registry: Registry,
    // Keeps the instruments' readers alive.
    _provider: SdkMeterProvider,
}

impl Telemetry {
    /// Sets up the process's metrics; to be called before any instrument is made.
    ///
    /// # Errors
    /// When the exporter cannot be made.
    pub fn start(node: &str) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter =
            opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
        let resource = Resource::builder()
            .with_service_name("postrider")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
            .build();
        let provider =
            SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build();
        global::set_meter_provider(provider.clone());
        Ok(Self { registry, _provider: provider })
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
}

/// Shows what the store's committer has done.
pub fn observe_store(stats: impl Fn() -> Stats + Send + Sync + Clone + 'static) {
    let meter = global::meter("postrider");
    let counter = |name: &'static str, description: &'static str, read: fn(Stats) -> u64| {
        let stats = stats.clone();
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(stats()), &[]))
            .build()
    };
    counter("postrider.store.commits", "Groups of transactions made durable.", |stats| {
        stats.groups
    });
    counter("postrider.store.transactions", "Transactions in those groups.", |stats| {
        stats.transactions
    });
    counter("postrider.store.conflicts", "Transactions that had to run again.", |stats| {
        stats.conflicts
    });
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
