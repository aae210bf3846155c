//! Traces, metrics and logs, on their way to a collector: OTLP, as protobuf over HTTP.
//!
//! Each signal has a thread of the SDK's, which makes batches and awaits their export; the
//! requests run on the node's runtime. What OpenTelemetry lets be set by the environment, such
//! as `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_SCHEDULE_DELAY` and `OTEL_METRIC_EXPORT_INTERVAL`,
//! can be set there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::PeriodicReader;
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, SdkTracerProvider};
use reqwest::Url;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing_subscriber::{Layer, Registry};

use super::bounded::{Bounded, Counted, QUEUE, Queue, TARGET};

/// How long an export may take, with its retries.
const EXPORT: Duration = Duration::from_secs(5);
/// How often metrics are exported, unless the environment says otherwise.
const METRICS_EVERY: Duration = Duration::from_secs(10);
/// How long what is left may take when the node stops.
const FLUSH: Duration = Duration::from_secs(2);

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector(Url);

impl Collector {
    /// The address of one signal.
    fn signal(&self, name: &str) -> String {
        format!("{}/v1/{name}", self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Collector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be a URL such as http://127.0.0.1:4318, or empty";
        let url: Url = text.parse().map_err(|_| FORM)?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            Err(FORM)
        } else if !url.username().is_empty() || url.password().is_some() {
            Err("must not hold a password; put it into OTEL_EXPORTER_OTLP_HEADERS")
        } else if url.query().is_some() || url.fragment().is_some() {
            Err("must end with its path: /v1/traces, /v1/metrics and /v1/logs are added to it")
        } else {
            Ok(Self(url))
        }
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The way to the collector.
pub struct Exporters {
    collector: Collector,
    client: Arc<dyn HttpClient>,
    resource: Resource,
}

impl Exporters {
    /// To be called within the runtime on which requests are to be made.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new(collector: Collector, resource: Resource) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(EXPORT)
            .build()?;
        let client = Arc::new(Client { http, runtime: Handle::current() });
        Ok(Self { collector, client, resource })
    }

    /// What exports metrics.
    ///
    /// # Errors
    /// When the environment sets it up in a way that cannot be.
    pub fn metrics(&self) -> anyhow::Result<PeriodicReader<MetricExporter>> {
        let exporter = self.over_http(MetricExporter::builder().with_http(), "metrics").build()?;
        let reader = PeriodicReader::builder(exporter);
        Ok(match std::env::var_os("OTEL_METRIC_EXPORT_INTERVAL") {
            Some(_) => reader.build(),
            None => reader.with_interval(METRICS_EVERY).build(),
        })
    }

    /// Starts to export traces and logs. Metrics must be set up by now: losses are counted.
    ///
    /// # Errors
    /// As for metrics.
    pub fn start(self) -> anyhow::Result<Otlp> {
        let queue = Queue::new("traces");
        let exporter = self.over_http(SpanExporter::builder().with_http(), "traces").build()?;
        let batches = BatchSpanProcessor::builder(Counted { queue: queue.clone(), exporter })
            .with_batch_config(
                trace::BatchConfigBuilder::default().with_max_queue_size(QUEUE).build(),
            )
            .build();
        let traces = SdkTracerProvider::builder()
            .with_resource(self.resource.clone())
            .with_span_processor(Bounded { queue, processor: batches })
            .build();
        let queue = Queue::new("logs");
        let exporter = self.over_http(LogExporter::builder().with_http(), "logs").build()?;
        let batches = BatchLogProcessor::builder(Counted { queue: queue.clone(), exporter })
            .with_batch_config(
                logs::BatchConfigBuilder::default().with_max_queue_size(QUEUE).build(),
            )
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_resource(self.resource.clone())
            .with_log_processor(Bounded { queue, processor: batches })
            .build();
        Ok(Otlp { traces, logs })
    }

    fn over_http<B: WithExportConfig + WithHttpConfig>(&self, builder: B, signal: &str) -> B {
        builder
            .with_shared_http_client(self.client.clone())
            .with_endpoint(self.collector.signal(signal))
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(EXPORT)
            .with_retry_policy(RetryPolicy::recommended())
    }
}

/// What exports traces and logs.
#[derive(Clone, Debug)]
pub struct Otlp {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Otlp {
    /// Takes spans in; the caller chooses which.
    pub fn spans(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        tracing_opentelemetry::layer()
            .with_tracer(self.traces.tracer("postrider"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    }

    /// Takes events in, as logs; the caller chooses which.
    pub fn logs(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        OpenTelemetryTracingBridge::new(&self.logs)
    }
}

/// Exports what is left, for at most [`FLUSH`], and stops.
pub async fn stop(otlp: Otlp, metrics: opentelemetry_sdk::metrics::SdkMeterProvider) {
    let Otlp { traces, logs } = otlp;
    // The SDK blocks while it does so, for longer than it is told to. A thread of the runtime's
    // would keep the process from ending.
    let traces = on_a_thread(move || traces.shutdown_with_timeout(FLUSH));
    let logs = on_a_thread(move || logs.shutdown_with_timeout(FLUSH));
    let metrics = on_a_thread(move || metrics.shutdown_with_timeout(FLUSH));
    let all = async { tokio::join!(traces, logs, metrics) };
    if tokio::time::timeout(FLUSH, all).await.is_err() {
        tracing::warn!(target: TARGET, "the collector did not take the last of what there was to tell in time");
    }
}

fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    // Without a thread the sender is dropped, and nobody waits.
    let _ = std::thread::Builder::new().spawn(move || done.send(work()));
    result
}

/// Makes requests on the runtime: the SDK's threads have none.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        self.runtime.spawn(async move { http.send_bytes(request).await }).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_its_path_under_that_of_the_collector() {
        let signal = |text: &str| text.parse::<Collector>().map(|c| c.signal("traces"));
        let at = |text: &str| Ok(text.to_owned());
        assert_eq!(signal("http://127.0.0.1:4318"), at("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(signal("https://example.com/otlp/"), at("https://example.com/otlp/v1/traces"));
    }

    #[test]
    fn what_is_no_collector_is_refused() {
        let refused = [
            "127.0.0.1:4318",
            "grpc://127.0.0.1:4317",
            "http://",
            "http://user:secret@example.com",
            "http://example.com?token=1",
        ];
        for text in refused {
            let error = text.parse::<Collector>().expect_err(text);
            assert!(error.starts_with("must") && !error.contains("secret"), "{text}: {error}");
        }
    }
}
