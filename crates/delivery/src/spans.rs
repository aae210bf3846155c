//! The spans of an attempt: the request, following the semantic conventions for HTTP clients, and
//! the commit of its record. [`postrider_cluster::trace`] shows their place in a trace.

use std::fmt;

use postrider_cluster::trace::{self, TARGET, TraceContext};
use postrider_domain::assignment::Fence;
use postrider_domain::attempt::Exchange;
use postrider_domain::delivery::Delivery;
use postrider_domain::target::TargetUrl;
use postrider_store::Applied;
use tracing::Span;
use tracing::field::Empty;

use crate::reach::Reach;
use crate::sender::OutOfResources;

/// The request of a delivery's next attempt, following from the span that published the event.
pub(crate) fn attempt(
    delivery: &Delivery,
    target: &TargetUrl,
    parent: Option<TraceContext>,
) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "POST",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "POST",
        url.full = %RedactedUrl(target),
        server.address = target.origin().host_str(),
        server.port = target.origin().port_or_known_default(),
        http.response.status_code = Empty,
        error.type = Empty,
        postrider.account.id = %delivery.account,
        postrider.endpoint.id = %delivery.endpoint,
        postrider.event.id = %delivery.event,
        postrider.event.type = delivery.event_type.as_str(),
        postrider.delivery.id = %delivery.id,
        postrider.attempt.number = delivery.attempt_count + 1,
    );
    trace::follow(&span, parent);
    span
}

/// Records the result on a request's span.
pub(crate) fn record_result(span: &Span, sent: &Result<(Exchange, Reach), OutOfResources>) {
    if span.is_disabled() {
        return;
    }
    let (exchange, out_of_resources) = match sent {
        Ok((exchange, _)) => (exchange, false),
        Err(error) => (&*error.exchange, true),
    };
    let status = exchange.response.as_ref().map(|response| response.status);
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    let error = match (exchange.outcome.error(), status) {
        _ if out_of_resources => "out_of_resources".to_owned(),
        (None, _) => return,
        (Some(_), Some(status)) => status.to_string(),
        (Some(error), None) => error.kind.as_str().to_owned(),
    };
    span.record("error.type", error);
    span.record("otel.status_code", "ERROR");
}

/// The commit of an attempt's record, following from its request. It is not a child span in the
/// `tracing` crate, because children keep their parents open and the request is over.
pub(crate) fn commit(delivery: &Delivery, fence: Fence, request: Option<TraceContext>) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "commit",
        otel.status_code = Empty,
        error.type = Empty,
        postrider.event.id = %delivery.event,
        postrider.delivery.id = %delivery.id,
        postrider.attempt.number = delivery.attempt_count + 1,
        postrider.shard = fence.shard,
        postrider.epoch = fence.epoch,
    );
    trace::follow(&span, request);
    span
}

/// Records on a commit's span why the attempt was not recorded, if it was not.
pub(crate) fn record_commit(span: &Span, applied: Option<&Applied>) {
    let error = match applied {
        Some(Applied::Recorded(_)) => return,
        Some(Applied::Stale) => "stale",
        Some(Applied::Fenced) => "fenced",
        None => "unrecordable",
    };
    span.record("error.type", error);
    span.record("otel.status_code", "ERROR");
}

/// A URL without the parts that may be secret: user, password and query.
struct RedactedUrl<'a>(&'a TargetUrl);

impl fmt::Display for RedactedUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0.origin();
        let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
        write!(f, "{scheme}://{host}")?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::target::AddressPolicy;

    use super::*;

    #[test]
    fn a_redacted_url_has_no_secrets() {
        let policy = AddressPolicy::new(vec![]);
        let redacted = |text| {
            TargetUrl::parse(text, &policy).map(|url| RedactedUrl(&url).to_string()).expect("a URL")
        };
        assert_eq!(redacted("https://example.com/a/b?token=1"), "https://example.com/a/b");
        assert_eq!(redacted("http://example.com:8443?x"), "http://example.com:8443/");
    }
}
