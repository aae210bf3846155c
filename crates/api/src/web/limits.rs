//! What stands before every request: a bound on how many are in flight, and a net for panics.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::StatusCode;

use crate::App;
use crate::web::problem::{Problem, RETRY_SOON_SECONDS};

/// Most requests that are worked on at once. A body is at most 1 MiB, and a form of the dashboard
/// less, so this bounds memory too.
pub(crate) const MAX_IN_FLIGHT: usize = 2_048;

/// Lets a request in while there is room. Those who watch the process are always let in: it is
/// under load that they must see.
pub(crate) async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !path.starts_with("/v1") && !path.starts_with("/dashboard") {
        return next.run(request).await;
    }
    match app.0.in_flight.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => Problem::later(
            StatusCode::TOO_MANY_REQUESTS,
            RETRY_SOON_SECONDS,
            "Too many requests are being worked on.",
        )
        .into_response(),
    }
}

/// Turns a panic into an answer. The panic hook has logged it.
pub(crate) async fn catch_panic(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Problem::internal().into_response())
}
