//! An OTLP collector: an HTTP server that accepts traces, metrics and logs in protobuf and keeps
//! them.
//!
//! It can stop and listen again on the same port. Tests wait for telemetry with
//! [`Collector::until`]. A [`Trace`] has all spans of one trace, from any node.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::background::Background;
use crate::port::Port;

#[derive(Debug)]
pub struct Collector {
    port: Port,
    state: Arc<State>,
    /// `None` while it is stopped.
    thread: Option<Background>,
}

#[derive(Debug)]
struct State {
    exported: Mutex<Exported>,
    /// Counts exports, to wake waiting tests.
    changes: watch::Sender<u64>,
}

/// The telemetry received so far.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    pub spans: Vec<Span>,
    pub logs: Vec<Log>,
    /// Metrics by name.
    pub metrics: BTreeMap<String, Metric>,
}

/// Attributes, as text.
pub type Attributes = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub struct Span {
    pub resource: Attributes,
    /// In hexadecimal.
    pub trace_id: String,
    /// In hexadecimal.
    pub span_id: String,
    /// Empty without a parent.
    pub parent_id: String,
    pub name: String,
    /// The OTLP number: 2 is a server, 3 a client, 4 a producer, 5 a consumer.
    pub kind: i32,
    /// Start, in nanoseconds since 1970.
    pub began: u64,
    /// End, in nanoseconds since 1970.
    pub ended: u64,
    /// Whether its status is an error.
    pub failed: bool,
    pub attributes: Attributes,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub resource: Attributes,
    pub body: String,
    /// Empty outside a trace.
    pub trace_id: String,
    /// `INFO`, `WARN`, …
    pub severity: String,
    pub attributes: Attributes,
}

#[derive(Clone, Debug)]
pub struct Metric {
    pub resource: Attributes,
    pub unit: String,
    /// The sum of its newest points: values, or counts of a histogram.
    pub sum: f64,
}

/// The spans of one trace.
#[derive(Clone, Debug)]
pub struct Trace {
    pub id: String,
    /// Ordered by start.
    pub spans: Vec<Span>,
}

impl Collector {
    /// Starts a collector on a free port on 127.0.0.1.
    pub fn start() -> Result<Self> {
        let mut collector = Self::stopped()?;
        collector.start_listening()?;
        Ok(collector)
    }

    /// A collector that is not listening yet.
    pub fn stopped() -> Result<Self> {
        let state = State { exported: Mutex::default(), changes: watch::Sender::new(0) };
        Ok(Self { port: Port::reserve()?, state: Arc::new(state), thread: None })
    }

    /// Closes the connections and the port.
    pub fn stop_listening(&mut self) {
        self.thread = None;
    }

    /// Listens, again on the same port.
    pub fn start_listening(&mut self) -> Result<()> {
        ensure!(self.thread.is_none(), "the collector is already running");
        let listener = self.port.listen().context("listen for telemetry")?.into_std()?;
        let thread = Background::start("collector")?;
        let state = Arc::clone(&self.state);
        thread.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
                    // Ignore broken connections: the sender retries.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
            #[expect(unreachable_code, reason = "gives the task's error type")]
            Ok::<(), std::io::Error>(())
        });
        self.thread = Some(thread);
        Ok(())
    }

    /// The value for `[telemetry] otlp_endpoint`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The telemetry received so far.
    #[must_use]
    pub fn exported(&self) -> Exported {
        self.state.exported().clone()
    }

    /// Waits until `wanted` returns a value for the telemetry received so far.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Exported) -> Option<T>,
    ) -> Result<T> {
        let mut changes = self.state.changes.subscribe();
        let waiting = async {
            loop {
                if let Some(value) = wanted(&self.state.exported()) {
                    return Ok(value);
                }
                changes.changed().await.context("the collector has stopped")?;
            }
        };
        match tokio::time::timeout(within, waiting).await {
            Ok(value) => value,
            Err(_) => bail!("timed out after {within:?} waiting until {what}"),
        }
    }

    /// Waits until the trace `id` has spans with all of these names.
    pub async fn trace(&self, id: &str, names: &[&str], within: Duration) -> Result<Trace> {
        let what = format!("the trace {id} has {names:?}");
        let complete = |exported: &Exported| {
            let trace = exported.trace(id);
            names.iter().all(|name| trace.spans.iter().any(|s| s.name == *name)).then_some(trace)
        };
        self.until(&what, within, complete).await.map_err(|error| {
            let spans = self.exported().trace(id).spans;
            let names: Vec<_> = spans.into_iter().map(|span| span.name).collect();
            anyhow::anyhow!("{error:#}; it has {names:?}")
        })
    }
}

impl Exported {
    /// The spans of one trace.
    #[must_use]
    pub fn trace(&self, id: &str) -> Trace {
        let mut spans: Vec<_> = self.spans.iter().filter(|s| s.trace_id == id).cloned().collect();
        spans.sort_by_key(|span| span.began);
        Trace { id: id.to_owned(), spans }
    }

    fn record(&mut self, path: &str, body: &[u8]) -> Result<()> {
        match path {
            "/v1/traces" => self.record_spans(ExportTraceServiceRequest::decode(body)?),
            "/v1/metrics" => self.record_metrics(ExportMetricsServiceRequest::decode(body)?),
            "/v1/logs" => self.record_logs(ExportLogsServiceRequest::decode(body)?),
            _ => bail!("{path} is not an OTLP path"),
        }
        Ok(())
    }

    fn record_spans(&mut self, request: ExportTraceServiceRequest) {
        for of_resource in request.resource_spans {
            let resource = of(of_resource.resource);
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.push(Span {
                    resource: resource.clone(),
                    trace_id: hex(&span.trace_id),
                    span_id: hex(&span.span_id),
                    parent_id: hex(&span.parent_span_id),
                    name: span.name,
                    kind: span.kind,
                    began: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    failed: span.status.is_some_and(|status| status.code == 2),
                    attributes: attributes(span.attributes),
                });
            }
        }
    }

    fn record_logs(&mut self, request: ExportLogsServiceRequest) {
        for of_resource in request.resource_logs {
            let resource = of(of_resource.resource);
            for log in of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                self.logs.push(Log {
                    resource: resource.clone(),
                    body: text(log.body),
                    trace_id: hex(&log.trace_id),
                    severity: log.severity_text,
                    attributes: attributes(log.attributes),
                });
            }
        }
    }

    fn record_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for of_resource in request.resource_metrics {
            let resource = of(of_resource.resource);
            for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let sum = metric.data.as_ref().map_or(0.0, sum);
                let (resource, unit) = (resource.clone(), metric.unit);
                self.metrics.insert(metric.name, Metric { resource, unit, sum });
            }
        }
    }
}

impl Trace {
    /// The only span of this name.
    pub fn span(&self, name: &str) -> Result<&Span> {
        let mut named = self.spans.iter().filter(|span| span.name == name);
        match (named.next(), named.next()) {
            (Some(span), None) => Ok(span),
            (None, _) => bail!("no span named {name:?} in {self:#?}"),
            (Some(_), Some(_)) => bail!("several spans named {name:?} in {self:#?}"),
        }
    }

    /// The names of the spans from the root down to `name`, each the parent of the next.
    pub fn path_to(&self, name: &str) -> Result<Vec<&str>> {
        let mut span = self.span(name)?;
        let mut path = vec![span.name.as_str()];
        while let Some(parent) = self.spans.iter().find(|other| other.span_id == span.parent_id) {
            ensure!(path.len() < self.spans.len(), "a span is its own ancestor: {self:#?}");
            span = parent;
            path.insert(0, &span.name);
        }
        Ok(path)
    }

    /// The `service.instance.id`s of the nodes that exported the spans.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.spans.iter().map(Span::node).collect()
    }
}

impl Span {
    /// The `service.instance.id` of the node that exported it.
    #[must_use]
    pub fn node(&self) -> &str {
        self.resource.get("service.instance.id").map_or("", String::as_str)
    }

    /// An attribute; empty if missing.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl State {
    fn exported(&self) -> MutexGuard<'_, Exported> {
        self.exported.lock()
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let protobuf = request
        .headers()
        .get("content-type")
        .is_some_and(|value| value == "application/x-protobuf");
    let recorded = match request.into_body().collect().await {
        Ok(body) if protobuf => state.exported().record(&path, &body.to_bytes()),
        Ok(_) => Err(anyhow::anyhow!("the body is not protobuf")),
        Err(error) => Err(error.into()),
    };
    state.changes.send_modify(|n| *n += 1);
    let mut response = Response::new(Full::default());
    if let Err(error) = recorded {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        *response.body_mut() = error.to_string().into();
    }
    Ok(response)
}

fn of(resource: Option<Resource>) -> Attributes {
    attributes(resource.map(|resource| resource.attributes).unwrap_or_default())
}

fn attributes(pairs: Vec<KeyValue>) -> Attributes {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "tests have small counts")]
fn sum(data: &Data) -> f64 {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    let number = |value: &Option<Value>| match value {
        Some(Value::AsDouble(number)) => *number,
        Some(Value::AsInt(number)) => *number as f64,
        None => 0.0,
    };
    match data {
        Data::Gauge(gauge) => gauge.data_points.iter().map(|point| number(&point.value)).sum(),
        Data::Sum(sum) => sum.data_points.iter().map(|point| number(&point.value)).sum(),
        Data::Histogram(data) => data.data_points.iter().map(|point| point.count as f64).sum(),
        Data::ExponentialHistogram(_) | Data::Summary(_) => 0.0,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
