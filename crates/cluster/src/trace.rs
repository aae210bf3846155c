//! Connects the request that published an event to the attempts that deliver it, in one trace.
//!
//! ```text
//!   accept (server, or consumer)      child of the caller's traceparent, if it sent one
//!   ├── wake (producer)               waking the owners, also on other nodes
//!   └── POST (client)                 an attempt, on the node that owns the endpoint
//!        └── commit (internal)        the transaction that records the attempt
//! ```
//!
//! The context of the accept span is propagated: [`attach`] adds it to the deliveries of a wake, in
//! memory and, between nodes, as text in the message. An attempt whose delivery was read from the
//! store has no such context and starts a new trace; every span has the ids of event and delivery
//! as attributes, which link the two traces.
//!
//! Every span has the target [`TARGET`], which only the layer that exports traces enables: without
//! an exporter a span costs one atomic load, and logs show none.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use postrider_store::Wake;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use postrider_domain::trace::TraceContext;

/// The target of all exported spans.
pub const TARGET: &str = "postrider::trace";

/// The span of waking owners, a child of the current span.
pub(crate) fn wake_span(wakes: usize) -> Span {
    tracing::info_span!(target: TARGET, "wake", otel.kind = "producer", postrider.wakes = wakes)
}

/// Makes a new span a child of `parent`. Without a parent it starts a trace.
pub fn follow(span: &Span, parent: Option<TraceContext>) {
    let Some(parent) = parent.filter(|_| !span.is_disabled()) else { return };
    let parent = SpanContext::new(
        TraceId::from_bytes(parent.trace_id()),
        SpanId::from_bytes(parent.span_id()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::NONE,
    );
    let context = opentelemetry::Context::new().with_remote_span_context(parent);
    // Fails if traces are not exported, or if the span has already been propagated.
    let _ = span.set_parent(context);
}

/// The trace context of `span`, for its children. `None` if the span is not recorded.
#[must_use]
pub fn of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let flags = context.trace_flags().to_u8();
    TraceContext::new(context.trace_id().to_bytes(), context.span_id().to_bytes(), flags)
}

/// The trace context of the current span.
#[must_use]
pub fn current() -> Option<TraceContext> {
    of(&Span::current())
}

/// Adds the current trace context to the deliveries that have none.
pub fn attach(wakes: &mut [Wake]) {
    let Some(current) = current() else { return };
    for wake in wakes {
        if let Wake::Endpoint { ready: Some(ready), .. } = wake {
            ready.trace.get_or_insert(current);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_exporter_there_are_no_spans() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
        let span = tracing::info_span!(target: TARGET, "publish");
        follow(&span, parent);
        assert!(span.is_disabled());
        assert_eq!(of(&span), None);
        assert_eq!(span.in_scope(current), None);
    }
}
