//! The span of a request to publish, as the semantic conventions for HTTP servers have it. It
//! follows from the caller's `traceparent`, and what is accepted in it follows from it.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method};
use postrider_cluster::trace::{self, TARGET, TraceContext};
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Handles a request to publish in a span of its own, and any other as it is.
pub(crate) async fn accept(request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let span = begin(&request);
    if span.is_disabled() {
        return next.run(request).await;
    }
    let response = next.run(request).instrument(span.clone()).await;
    end(&span, &response);
    response
}

fn begin(request: &Request) -> Span {
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

/// What the caller's request is a part of. A header that is no `traceparent`, or one of several,
/// counts for nothing, as the standard has it.
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
    fn a_traceparent_counts_if_there_is_one_and_it_can_be_read() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", HeaderValue::from_static(value));
            }
            parent(&headers).map(|context| context.to_string())
        };
        assert_eq!(read(&[text]).as_deref(), Some(text));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["nonsense"]), None);
        assert_eq!(read(&[text, text]), None);
    }
}
