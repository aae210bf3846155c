//! The log of emails that notified an account about failing and disabled endpoints.

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

/// Parameters of the list of emails.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct LimitParams {
    /// The maximum number of emails to return. Defaults to 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250)]
    limit: Option<usize>,
}

impl LimitParams {
    fn parse(params: &mut Params) -> Self {
        Self { limit: params.limit() }
    }
}

/// List emails about an endpoint
///
/// Returns the emails that notified the account that the endpoint keeps failing or was disabled
/// because of failures, newest first. An email is listed once it has been submitted to the mail
/// server.
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
    let LimitParams { limit } = LimitParams::parse(&mut params);
    params.finish()?;
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    app.service().endpoint(tenant.0, endpoint).await?;
    let emails = app.records().emails(tenant.0, endpoint, limit).await?;
    Ok(Json(EmailsBody { data: emails.into_iter().map(Into::into).collect() }))
}
