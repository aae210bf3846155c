//! Statistics of an endpoint's attempts.

use axum::Json;
use axum::extract::State;
use postrider_domain::ids::EndpointId;
use postrider_domain::statistics::Span;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::statistics::{StatisticsBody, span};
use crate::web::auth::Tenant;
use crate::web::choice::choose;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(statistics))
}

/// The time that statistics cover.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SpanParams {
    /// How far back: 1 hour by 5 minutes, 24 hours by 30 minutes (the default), 7 days by 6 hours,
    /// or 30 days by the day.
    #[param(schema_with = span)]
    span: Option<Span>,
}

impl SpanParams {
    pub(crate) fn read(params: &mut Params) -> Span {
        let Self { span } = Self { span: params.take("span", |text| choose(text, &Span::ALL)) };
        span.unwrap_or_default()
    }
}

/// Get an endpoint's statistics
///
/// How its attempts went, by the time at which they began; test events are not among them. Points
/// begin at whole steps in UTC, and the last one is not over yet.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/statistics", tag = "Endpoints",
    params(SpanParams),
    responses((status = OK, description = "The statistics", body = StatisticsBody))
)]
async fn statistics(
    tenant: Tenant,
    PathId(endpoint): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<StatisticsBody>, Problem> {
    let span = SpanParams::read(&mut params);
    params.finish()?;
    app.service().endpoint(tenant.0, endpoint).await?;
    let statistics = app.records().statistics(tenant.0, endpoint, span, app.now()).await?;
    Ok(Json(statistics.into()))
}
