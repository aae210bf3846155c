//! Health checks and metrics, which require no API key.

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::web::problem::{Problem, RETRY_SOON_SECONDS};

/// The media type of the Prometheus text format.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready)).routes(routes!(metrics))
}

/// Check liveness
///
/// Returns 200 while the process is running.
#[utoipa::path(
    get, path = "/healthz", tag = "Health", security(()),
    responses((status = OK, description = "The process is running", body = String, content_type = "text/plain"))
)]
async fn alive() -> &'static str {
    "ok\n"
}

/// Check readiness
///
/// Returns 200 if the store is available, the node has joined its cluster, and its clock is not wrong.
#[utoipa::path(
    get, path = "/readyz", tag = "Health", security(()),
    responses(
        (status = OK, description = "The node is ready", body = String, content_type = "text/plain"),
        (status = SERVICE_UNAVAILABLE, description = "The node is not ready; `detail` has the reason", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match app.0.api.probe.ready().await {
        Ok(()) => Ok("ready\n"),
        Err(reason) => Err(Problem::retry_after(unavailable, RETRY_SOON_SECONDS, &reason)),
    }
}

/// Get metrics
///
/// Returns the node's metrics in the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "Health", security(()),
    responses((status = OK, description = "The metrics", body = String,
        content_type = "text/plain"))
)]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TEXT)], app.0.api.probe.metrics())
}
