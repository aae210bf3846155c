//! What is to be exported waits in queues of bounded length, and what does not fit, or what the
//! collector does not take, is lost and counted: nobody who tells something ever waits.
//!
//! ```text
//!   span or log ──▶ Bounded: is there room? ──▶ the SDK's batches, on a thread ──▶ Counted ──▶ HTTP
//!                        └──────── lost, counted ────────────────────────────────┘
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::logs::Severity;
use opentelemetry::metrics::Counter;
use opentelemetry::{Context, InstrumentationScope, KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::time::Instant;

/// Most spans, and most logs, that wait to be exported or are under way.
pub const QUEUE: usize = 4_096;
/// The target of what the log says of exports; it is not exported itself.
pub const TARGET: &str = "postrider::telemetry";
/// How often the log tells of losses at most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What waits of one signal, and what was lost of it.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    signal: &'static str,
    waiting: AtomicUsize,
    lost: Counter<u64>,
    untold: Mutex<Untold>,
}

/// Losses that the log has not told of yet.
#[derive(Debug, Default)]
struct Untold {
    lost: usize,
    told: Option<Instant>,
}

impl Queue {
    /// An empty queue of this signal.
    pub fn new(signal: &'static str) -> Self {
        let lost = global::meter("postrider")
            .u64_counter("postrider.telemetry.lost")
            .with_description("Spans and logs that were not exported, by signal.")
            .build();
        Self(Arc::new(Shared {
            signal,
            waiting: AtomicUsize::new(0),
            lost,
            untold: Mutex::default(),
        }))
    }

    /// Takes a place, if there is one.
    fn enter(&self) -> bool {
        let room = self.0.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE;
        if !room {
            self.0.waiting.fetch_sub(1, Ordering::Relaxed);
            self.lose(1);
        }
        room
    }

    /// Gives places back, of what was exported or not.
    fn leave(&self, count: usize, result: &OTelSdkResult) {
        self.0.waiting.fetch_sub(count, Ordering::Relaxed);
        if result.is_err() {
            self.lose(count);
        }
    }

    fn lose(&self, count: usize) {
        let Shared { signal, lost, untold, .. } = &*self.0;
        lost.add(u64::try_from(count).unwrap_or(u64::MAX), &[KeyValue::new("signal", *signal)]);
        let due = untold.lock().unwrap_or_else(PoisonError::into_inner).add(count, Instant::now());
        if let Some(lost) = due {
            tracing::warn!(target: TARGET, signal, lost, "the collector does not take all that there is to tell");
        }
    }
}

impl Untold {
    /// Adds losses, and gives their sum when it is time to tell of it.
    fn add(&mut self, count: usize, now: Instant) -> Option<usize> {
        self.lost += count;
        let due = self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY);
        due.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.lost)
        })
    }
}

/// A processor that is given no more than fits.
#[derive(Debug)]
pub struct Bounded<P> {
    /// What comes in.
    pub queue: Queue,
    /// Where it goes.
    pub processor: P,
}

/// An exporter whose results are counted.
#[derive(Debug)]
pub struct Counted<E> {
    /// What goes out.
    pub queue: Queue,
    /// Where it goes.
    pub exporter: E,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.enter() {
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
        if self.queue.enter() {
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
        self.queue.leave(count, &result);
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
        self.queue.leave(count, &result);
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
    fn what_does_not_fit_is_lost_until_there_is_room_again() {
        let queue = Queue::new("traces");
        assert_eq!((0..QUEUE + 10).filter(|_| queue.enter()).count(), QUEUE);
        queue.leave(3, &Ok(()));
        queue.leave(2, &Err(OTelSdkError::AlreadyShutdown));
        assert_eq!((0..QUEUE).filter(|_| queue.enter()).count(), 5);
    }

    #[test]
    fn losses_are_told_at_once_and_then_once_a_minute() {
        let (mut untold, start) = (Untold::default(), Instant::now());
        assert_eq!(untold.add(1, start), Some(1));
        assert_eq!(untold.add(2, start + TELL_EVERY / 2), None);
        assert_eq!(untold.add(3, start + TELL_EVERY), Some(5));
    }
}
