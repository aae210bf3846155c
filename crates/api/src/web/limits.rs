//! Middleware that limits concurrent requests and converts panics into responses.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::StatusCode;

use crate::App;
use crate::web::problem::{Problem, RETRY_SOON_SECONDS};

/// The maximum number of concurrent requests. Because a body has at most 1 MiB, and a dashboard
/// form less, this also bounds memory.
pub(crate) const MAX_IN_FLIGHT: usize = 2_048;

/// Rejects requests over the concurrency limit. Health checks and metrics are exempt, so that they
/// work under load.
pub(crate) async fn limit_concurrency(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if !path.starts_with("/v1") && !path.starts_with("/dashboard") {
        return next.run(request).await;
    }
    match app.0.in_flight.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::retry_after(
            StatusCode::TOO_MANY_REQUESTS,
            RETRY_SOON_SECONDS,
            "Too many concurrent requests. Retry later.",
        )
        .into_response(),
    }
}

/// Converts a panic into a 500 response. The panic hook has logged it.
pub(crate) async fn catch_panic(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Problem::internal().into_response())
}
