//! How the process is, for those who watch it. No key is needed.

use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::web::problem::{Problem, RETRY_SOON_SECONDS};

/// The text format of Prometheus.
const METRICS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready)).routes(routes!(metrics))
}

/// Whether the process lives
#[utoipa::path(
    get, path = "/healthz", tag = "Health", security(()),
    responses((status = OK, description = "It lives", body = String, content_type = "text/plain"))
)]
async fn alive() -> &'static str {
    "ok\n"
}

/// Whether requests can be served
///
/// The store answers, and the node has joined its cluster.
#[utoipa::path(
    get, path = "/readyz", tag = "Health", security(()),
    responses(
        (status = OK, description = "They can", body = String, content_type = "text/plain"),
        (status = SERVICE_UNAVAILABLE, description = "They cannot, and why", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    let later = StatusCode::SERVICE_UNAVAILABLE;
    match app.0.api.probe.ready().await {
        Ok(()) => Ok("ready\n"),
        Err(missing) => Err(Problem::later(later, RETRY_SOON_SECONDS, &missing)),
    }
}

/// Metrics in the text format of Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "Health", security(()),
    responses((status = OK, description = "The metrics", body = String,
        content_type = "text/plain"))
)]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TEXT)], app.0.api.probe.metrics())
}
