//! The span of a publish request, following the OpenTelemetry semantic conventions for HTTP
//! servers. It continues the trace of the caller's `traceparent`, and the deliveries continue it.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method};
use postrider_cluster::trace::{self, TARGET, TraceContext};
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Handles publish requests in a span. Other requests have no span.
pub(crate) async fn trace_publish(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let span = start(&request);
    if span.is_disabled() {
        return next.run(request).await;
    }
    let response = next.run(request).instrument(span.clone()).await;
    end(&span, &response);
    response
}

fn start(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "accept",
        otel.name = format!("POST {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.route = route,
        url.path = request.uri().path(),
        url.scheme = "http",
        http.response.status_code = Empty,
        error.type = Empty,
    );
    trace::follow(&span, parent(request.headers()));
    span
}

fn end(span: &Span, response: &Response) {
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

/// The caller's trace context. Invalid or multiple `traceparent` headers are ignored, as required
/// by the W3C specification.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all("traceparent").iter();
    match (values.next(), values.next()) {
        (Some(only), None) => only.to_str().ok()?.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_single_valid_traceparent_is_used() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parse = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", HeaderValue::from_static(value));
            }
            parent(&headers).map(|context| context.to_string())
        };
        assert_eq!(parse(&[text]).as_deref(), Some(text));
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["nonsense"]), None);
        assert_eq!(parse(&[text, text]), None);
    }
}
