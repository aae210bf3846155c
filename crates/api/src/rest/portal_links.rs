//! Operations on portal links, with which the operator signs users in to the dashboard of their
//! account.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use postrider_domain::ids::AccountId;
use postrider_domain::portal_link::{DEFAULT_LIFETIME, Grant, parse_lifetime};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::dashboard::{self, PortalLink};
use crate::web::auth::{Operator, Tenant};
use crate::web::fields::Fields;
use crate::web::idempotency::JsonPost;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, revoke))
}

/// The portal link to create.
#[derive(ToSchema)]
struct NewPortalLink {
    /// The lifetime of the link and of the sessions that it starts, such as `30m` or `1h30m`. From
    /// `1s` to `7d`. Defaults to `1h`.
    #[schema(value_type = Option<String>, example = "1h")]
    expires_in: Option<Duration>,
    /// The page of the account's dashboard to open, such as `/webhooks/ep_…` for an endpoint.
    /// Defaults to the list of webhooks.
    #[schema(example = "/webhooks")]
    path: Option<String>,
}

impl NewPortalLink {
    fn parse(mut fields: Fields<'_>, account: AccountId) -> Result<Self, Problem> {
        let expires_in = fields.optional("expires_in", |field| field.parse(parse_lifetime));
        let path = fields.optional("path", |field| {
            field.parse(|path| {
                let page = dashboard::account_page(account, path);
                page.ok_or(
                    "must be the path of a page of the account's dashboard, such as /webhooks",
                )
            })
        });
        fields.finish(Some(Self { expires_in, path }))
    }
}

/// A portal link.
#[derive(Serialize, ToSchema)]
#[schema(as = PortalLink)]
struct PortalLinkBody {
    /// The URL. It grants access to the account: treat it as a secret.
    #[schema(example = "https://webhooks.example.com/dashboard/open/AAEC…")]
    url: String,
    /// When the link and the sessions that it started expire.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Create a portal link
///
/// Creates a URL that signs the user in to the account's dashboard without an API key. It is valid
/// until it expires or the account's portal links are revoked. Its base is the configured
/// `[dashboard] public_url`, or else the host of this request. The body may be omitted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/portal-links", tag = "Portal links",
    security(("operator_key" = [])),
    request_body(content = Option<NewPortalLink>),
    responses((status = CREATED, description = "The created portal link", body = PortalLinkBody))
)]
async fn create(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    headers: HeaderMap,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let NewPortalLink { expires_in, path } =
        NewPortalLink::parse(Fields::from_optional_json(&body)?, tenant.0)?;
    let grant =
        app.service().grant_portal_link(tenant.0, expires_in.unwrap_or(DEFAULT_LIFETIME)).await?;
    let page = path.or_else(|| dashboard::account_page(tenant.0, "")).expect("the list is a page");
    let Grant { account, generation, expires_at } = grant;
    let text = app.signer().await?.sign_link(&PortalLink { account, generation, expires_at, page });
    let url = format!("{}/dashboard/open/{text}", dashboard::base_url(&app, &headers)?);
    request.answer(StatusCode::CREATED, &PortalLinkBody { url, expires_at }).await
}

/// Revoke all portal links
///
/// Invalidates all existing portal links of the account and ends the sessions that they started.
/// New links can still be created.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/portal-links", tag = "Portal links", operation_id = "end",
    security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "The portal links were revoked"))
)]
async fn revoke(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().revoke_portal_links(tenant.0).await?;
    Ok(StatusCode::NO_CONTENT)
}
