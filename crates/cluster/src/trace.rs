//! How one trace leads from the request that published an event to the attempts that deliver it.
//!
//! ```text
//!   accept (server, or consumer)      follows from the caller's traceparent, if it sent one
//!   ├── nudge (producer)              telling the owners; on to other nodes as text
//!   └── POST (client)                 an attempt: on whatever node owns the endpoint
//!        └── commit (internal)        its record's transaction
//! ```
//!
//! What goes on is the context of the accept span: [`attach`] puts it on the deliveries of a
//! wake, where it rides in memory, and in a message between nodes as text. An attempt whose
//! delivery was read from the store knows of no trace and begins one; the ids of event and
//! delivery, which every span has as attributes, lead from one to the other.
//!
//! Every span is made at [`TARGET`], in which only the layer that exports traces takes an
//! interest: while nothing is exported a span costs the look at one atomic, and logs show none.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use postrider_store::Wake;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub use postrider_domain::trace::TraceContext;

/// The target of every span that is to be exported.
pub const TARGET: &str = "postrider::trace";

/// The span of telling the owners of work; within whatever span is the current one.
pub(crate) fn nudge(wakes: usize) -> Span {
    tracing::info_span!(target: TARGET, "nudge", otel.kind = "producer", postrider.wakes = wakes)
}

/// Makes a new span follow from `parent`; without one it begins a trace.
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
    // Refused when traces are not exported, or to a span that others know of already.
    let _ = span.set_parent(context);
}

/// What is to follow from `span`. None when it is not recorded.
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

/// What is to follow from the current span.
#[must_use]
pub fn current() -> Option<TraceContext> {
    of(&Span::current())
}

/// Puts deliveries that are ready, and of no trace yet, into the current one.
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
