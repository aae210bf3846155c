//! Operations on statistics.

use axum::Json;
use axum::extract::State;
use postrider_domain::ids::EndpointId;
use postrider_domain::statistics::TimeRange;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::statistics::{StatisticsBody, span};
use crate::web::auth::Tenant;
use crate::web::choice::parse_choice;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(statistics))
}

/// Parameters of statistics.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TimeRangeParams {
    /// The time span up to now: `1h` in steps of 5 minutes, `24h` in steps of 30 minutes, `7d` in
    /// steps of 6 hours, or `30d` in steps of a day. Defaults to `24h`.
    #[param(schema_with = span)]
    span: Option<TimeRange>,
}

impl TimeRangeParams {
    pub(crate) fn parse(params: &mut Params) -> Self {
        Self { span: params.take("span", |text| parse_choice(text, &TimeRange::ALL)) }
    }
}

impl From<TimeRangeParams> for TimeRange {
    fn from(TimeRangeParams { span }: TimeRangeParams) -> Self {
        span.unwrap_or_default()
    }
}

/// Get an endpoint's statistics
///
/// Returns the results of the endpoint's attempts by start time. Test events are not included.
/// Steps are aligned to UTC, and the last step is still in progress.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/statistics", tag = "Endpoints",
    params(TimeRangeParams),
    responses((status = OK, description = "The statistics", body = StatisticsBody))
)]
async fn statistics(
    tenant: Tenant,
    PathId(endpoint): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<StatisticsBody>, Problem> {
    let span = TimeRangeParams::parse(&mut params).into();
    params.finish()?;
    app.service().endpoint(tenant.0, endpoint).await?;
    let statistics = app.records().statistics(tenant.0, endpoint, span, app.now()).await?;
    Ok(Json(statistics.into()))
}
