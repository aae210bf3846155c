//! The log of emails: what an account's people were told of the disablings of an endpoint.

use axum::Json;
use axum::extract::State;
use postrider_domain::ids::EndpointId;
use postrider_domain::limits::DEFAULT_PAGE;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::email::EmailsBody;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(emails))
}

/// The length of the list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct LimitParams {
    /// Most emails; 50 if omitted.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250)]
    limit: Option<usize>,
}

impl LimitParams {
    fn read(params: &mut Params) -> Self {
        Self { limit: params.limit() }
    }
}

/// List the emails about an endpoint
///
/// One for each time that it was disabled by its failures, the latest first, once the mail server
/// was asked to take it.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}/emails", tag = "Endpoints",
    params(LimitParams),
    responses((status = OK, description = "The emails", body = EmailsBody))
)]
async fn emails(
    tenant: Tenant,
    PathId(endpoint): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<EmailsBody>, Problem> {
    let LimitParams { limit } = LimitParams::read(&mut params);
    params.finish()?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    app.service().endpoint(tenant.0, endpoint).await?;
    let emails = app.records().emails(tenant.0, endpoint, limit).await?;
    Ok(Json(EmailsBody { data: emails.into_iter().map(Into::into).collect() }))
}
