//! Bounded export queues. Emitting a span or log never blocks: records that do not fit in the
//! queue, and records that the collector does not accept, are dropped and counted.
//!
//! ```text
//!   span or log ──▶ Bounded: is there room? ──▶ the SDK's batches, on a thread ──▶ Counted ──▶ HTTP
//!                        └──────── dropped and counted ──────────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::logs::Severity;
use opentelemetry::metrics::Counter;
use opentelemetry::{Context, InstrumentationScope, KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The capacity for spans, and for logs, that are queued or being exported.
pub const QUEUE_CAPACITY: usize = 4_096;
/// The log target of messages about exports. These are not exported themselves.
pub const LOG_TARGET: &str = "postrider::telemetry";
/// The minimum interval between log messages about losses.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The queue of one signal. Counts queued and lost records.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    signal: &'static str,
    queued: AtomicUsize,
    lost: Counter<u64>,
    unreported: Mutex<UnreportedLosses>,
}

/// Losses that have not been logged yet.
#[derive(Debug, Default)]
struct UnreportedLosses {
    lost: usize,
    last_report: Option<Instant>,
}

impl Queue {
    pub fn new(signal: &'static str) -> Self {
        let lost = global::meter("postrider")
            .u64_counter("postrider.telemetry.lost")
            .with_description("Spans and logs dropped instead of exported, by signal.")
            .build();
        Self(Arc::new(Shared {
            signal,
            queued: AtomicUsize::new(0),
            lost,
            unreported: Mutex::default(),
        }))
    }

    /// Reserves a slot if the queue has room. Otherwise counts a loss.
    fn reserve(&self) -> bool {
        let has_room = self.0.queued.fetch_add(1, Ordering::Relaxed) < QUEUE_CAPACITY;
        if !has_room {
            self.0.queued.fetch_sub(1, Ordering::Relaxed);
            self.record_lost(1);
        }
        has_room
    }

    /// Releases slots after an export. Counts losses if it failed.
    fn release(&self, count: usize, result: &OTelSdkResult) {
        self.0.queued.fetch_sub(count, Ordering::Relaxed);
        if result.is_err() {
            self.record_lost(count);
        }
    }

    fn record_lost(&self, count: usize) {
        let Shared { signal, lost, unreported, .. } = &*self.0;
        lost.add(u64::try_from(count).unwrap_or(u64::MAX), &[KeyValue::new("signal", *signal)]);
        let due = unreported.lock().add(count, Instant::now());
        if let Some(lost) = due {
            tracing::warn!(target: LOG_TARGET, signal, lost, "dropped telemetry: the queue was full or the collector did not accept it");
        }
    }
}

impl UnreportedLosses {
    /// Adds losses. Returns the sum if a log message is due.
    fn add(&mut self, count: usize, now: Instant) -> Option<usize> {
        self.lost += count;
        let due = self
            .last_report
            .is_none_or(|last_report| now.duration_since(last_report) >= REPORT_INTERVAL);
        due.then(|| {
            self.last_report = Some(now);
            std::mem::take(&mut self.lost)
        })
    }
}

/// Passes records to a processor while the queue has room.
#[derive(Debug)]
pub struct Bounded<P> {
    pub queue: Queue,
    pub processor: P,
}

/// Releases queue slots after each export, and counts failures.
#[derive(Debug)]
pub struct Counted<E> {
    pub queue: Queue,
    pub exporter: E,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.reserve() {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Bounded<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.queue.reserve() {
            self.processor.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.processor.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.queue.release(count, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        let result = self.exporter.export(batch).await;
        self.queue.release(count, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.exporter.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn a_full_queue_drops_until_it_has_room() {
        let queue = Queue::new("traces");
        assert_eq!((0..QUEUE_CAPACITY + 10).filter(|_| queue.reserve()).count(), QUEUE_CAPACITY);
        queue.release(3, &Ok(()));
        queue.release(2, &Err(OTelSdkError::AlreadyShutdown));
        assert_eq!((0..QUEUE_CAPACITY).filter(|_| queue.reserve()).count(), 5);
    }

    #[test]
    fn losses_are_logged_at_once_and_then_once_a_minute() {
        let (mut unreported, start) = (UnreportedLosses::default(), Instant::now());
        assert_eq!(unreported.add(1, start), Some(1));
        assert_eq!(unreported.add(2, start + REPORT_INTERVAL / 2), None);
        assert_eq!(unreported.add(3, start + REPORT_INTERVAL), Some(5));
    }
}
