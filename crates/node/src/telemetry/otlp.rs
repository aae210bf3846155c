//! Exports traces, metrics and logs to a collector over OTLP (HTTP/protobuf).
//!
//! The SDK runs a thread for each signal, which batches records and waits for each export. The HTTP
//! requests run on the node's runtime. OpenTelemetry's environment variables apply, such as
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_SCHEDULE_DELAY` and `OTEL_METRIC_EXPORT_INTERVAL`.

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

use super::bounded::{Bounded, Counted, LOG_TARGET, QUEUE_CAPACITY, Queue};

/// The timeout of an export, including retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The interval of metric exports, unless the environment overrides it.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);
/// The time limit for the final export when the node stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The base URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector(Url);

impl Collector {
    /// The URL of one signal.
    fn signal_url(&self, name: &str) -> String {
        format!("{}/v1/{name}", self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Collector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FORMAT: &str = "must be a URL such as http://127.0.0.1:4318, or empty";
        let url: Url = text.parse().map_err(|_| FORMAT)?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            Err(FORMAT)
        } else if !url.username().is_empty() || url.password().is_some() {
            Err("must not contain a password; set OTEL_EXPORTER_OTLP_HEADERS instead")
        } else if url.query().is_some() || url.fragment().is_some() {
            Err(
                "must not have a query or fragment; /v1/traces, /v1/metrics and /v1/logs are appended",
            )
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

/// Builds the exporters to a collector.
pub struct Exporters {
    collector: Collector,
    client: Arc<dyn HttpClient>,
    resource: Resource,
}

impl Exporters {
    /// Call this within the runtime that is to make the requests.
    ///
    /// # Errors
    /// If the HTTP client cannot be created.
    pub fn new(collector: Collector, resource: Resource) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(EXPORT_TIMEOUT)
            .build()?;
        let client = Arc::new(Client { http, runtime: Handle::current() });
        Ok(Self { collector, client, resource })
    }

    /// The exporter of metrics.
    ///
    /// # Errors
    /// If an environment variable has an invalid value.
    pub fn metrics(&self) -> anyhow::Result<PeriodicReader<MetricExporter>> {
        let exporter = self.configure(MetricExporter::builder().with_http(), "metrics").build()?;
        let reader = PeriodicReader::builder(exporter);
        Ok(match std::env::var_os("OTEL_METRIC_EXPORT_INTERVAL") {
            Some(_) => reader.build(),
            None => reader.with_interval(METRICS_INTERVAL).build(),
        })
    }

    /// Starts exporting traces and logs. The global meter must be set before, to count losses.
    ///
    /// # Errors
    /// As for [`Self::metrics`].
    pub fn start(self) -> anyhow::Result<Otlp> {
        let queue = Queue::new("traces");
        let exporter = self.configure(SpanExporter::builder().with_http(), "traces").build()?;
        let batches = BatchSpanProcessor::builder(Counted { queue: queue.clone(), exporter })
            .with_batch_config(
                trace::BatchConfigBuilder::default().with_max_queue_size(QUEUE_CAPACITY).build(),
            )
            .build();
        let traces = SdkTracerProvider::builder()
            .with_resource(self.resource.clone())
            .with_span_processor(Bounded { queue, processor: batches })
            .build();
        let queue = Queue::new("logs");
        let exporter = self.configure(LogExporter::builder().with_http(), "logs").build()?;
        let batches = BatchLogProcessor::builder(Counted { queue: queue.clone(), exporter })
            .with_batch_config(
                logs::BatchConfigBuilder::default().with_max_queue_size(QUEUE_CAPACITY).build(),
            )
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_resource(self.resource.clone())
            .with_log_processor(Bounded { queue, processor: batches })
            .build();
        Ok(Otlp { traces, logs })
    }

    fn configure<B: WithExportConfig + WithHttpConfig>(&self, builder: B, signal: &str) -> B {
        builder
            .with_shared_http_client(self.client.clone())
            .with_endpoint(self.collector.signal_url(signal))
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_timeout(EXPORT_TIMEOUT)
            .with_retry_policy(RetryPolicy::recommended())
    }
}

/// The exporters of traces and logs.
#[derive(Clone, Debug)]
pub struct Otlp {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Otlp {
    /// A layer that exports spans. The caller filters them.
    pub fn spans(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        tracing_opentelemetry::layer()
            .with_tracer(self.traces.tracer("postrider"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
    }

    /// A layer that exports events as logs. The caller filters them.
    pub fn logs(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        OpenTelemetryTracingBridge::new(&self.logs)
    }
}

/// Flushes all exporters, for at most [`FLUSH_TIMEOUT`], and stops them.
pub async fn stop(otlp: Otlp, metrics: opentelemetry_sdk::metrics::SdkMeterProvider) {
    let Otlp { traces, logs } = otlp;
    // The SDK blocks meanwhile, and may exceed the timeout it is given. A blocking thread of the
    // runtime would delay the exit of the process.
    let traces = spawn_thread(move || traces.shutdown_with_timeout(FLUSH_TIMEOUT));
    let logs = spawn_thread(move || logs.shutdown_with_timeout(FLUSH_TIMEOUT));
    let metrics = spawn_thread(move || metrics.shutdown_with_timeout(FLUSH_TIMEOUT));
    let all = async { tokio::join!(traces, logs, metrics) };
    if tokio::time::timeout(FLUSH_TIMEOUT, all).await.is_err() {
        tracing::warn!(target: LOG_TARGET, "flushing telemetry to the collector timed out");
    }
}

fn spawn_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    // If the thread cannot start, the sender is dropped and the receiver returns at once.
    let _ = std::thread::Builder::new().spawn(move || done.send(work()));
    result
}

/// Makes requests on the node's runtime, because the SDK's threads have none.
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
    fn the_path_of_a_signal_is_appended_to_the_collectors() {
        let signal = |text: &str| text.parse::<Collector>().map(|c| c.signal_url("traces"));
        let at = |text: &str| Ok(text.to_owned());
        assert_eq!(signal("http://127.0.0.1:4318"), at("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(signal("https://example.com/otlp/"), at("https://example.com/otlp/v1/traces"));
    }

    #[test]
    fn invalid_collector_urls_are_rejected() {
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
