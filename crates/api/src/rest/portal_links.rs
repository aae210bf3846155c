//! Portal links: how the operator's product leads its users to the dashboard of their account, and
//! how it ends that.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use postrider_domain::duration;
use postrider_domain::ids::AccountId;
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::dashboard::{self, Link};
use crate::rest::fields::Fields;
use crate::web::auth::{Operator, Tenant};
use crate::web::extract::JsonBody;
use crate::web::problem::Problem;

/// How long a link works when the caller does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);
/// The longest that it may.
const MAX_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, end))
}

/// A portal link to make.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewPortalLink {
    /// How long the link works, and the session that it begins, such as `30m` or `1h30m`: from `1s`
    /// to `7d`; `1h` when absent.
    #[schema(example = "1h")]
    expires_in: Option<String>,
    /// Which page it opens, below the account's own, such as `/webhooks/ep_…` for one endpoint; the
    /// list of webhooks when absent.
    #[schema(example = "/webhooks")]
    path: Option<String>,
}

/// A portal link.
#[derive(Serialize, ToSchema)]
#[schema(as = PortalLink)]
struct PortalLinkBody {
    /// Where to lead somebody. Whoever opens it acts for the account: hand it to nobody else.
    #[schema(example = "https://webhooks.example.com/dashboard/open/AAEC…")]
    url: String,
    /// When it ends at the latest, and with it the sessions that it began.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Make a portal link
///
/// It opens the dashboard as the account, without a key, until it expires or all links of the account
/// are ended. The host in it is that of `[dashboard] public_url`, or else the one that this request was
/// sent to. The body may be left out.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/portal-links", tag = "Portal links",
    security(("operator_key" = [])),
    request_body(content = Option<NewPortalLink>),
    responses((status = CREATED, description = "The link", body = PortalLinkBody))
)]
async fn create(
    _: Operator,
    tenant: Tenant,
    State(app): State<App>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<PortalLinkBody>), Problem> {
    let mut fields = Fields::of_optional(&body)?;
    let life = fields.optional("expires_in", |field| field.parse(life));
    let page = fields.optional("path", |field| {
        field.parse(|path| {
            let page = dashboard::own_page(tenant.0, path);
            page.ok_or("must be a page of the account's dashboard, such as /webhooks")
        })
    });
    let (life, page) = fields.finish(Some((life, page)))?;
    let expires_at = app.wall().plus(life.unwrap_or(DEFAULT_LIFE));
    let page = page.or_else(|| dashboard::own_page(tenant.0, "")).expect("the list is a page");
    let generation = app.records().link_generation(tenant.0).await?;
    let generation = generation.ok_or_else(|| Problem::not_found("account"))?;
    let link = Link { account: tenant.0, generation, expires_at, page };
    let text = app.signer().await?.link(&link);
    let url = format!("{}/dashboard/open/{text}", dashboard::own_url(&app, &headers)?);
    Ok((StatusCode::CREATED, Json(PortalLinkBody { url, expires_at })))
}

/// End all portal links
///
/// Links of the account that were made before open nothing any more, and whoever came by one of them
/// is signed out. Links that are made from now on work.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/portal-links", tag = "Portal links",
    security(("operator_key" = [])),
    responses((status = NO_CONTENT, description = "They are ended"))
)]
async fn end(_: Operator, tenant: Tenant, State(app): State<App>) -> Result<StatusCode, Problem> {
    end_all(&app, tenant.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all links of an account that were made so far.
pub(crate) async fn end_all(app: &App, account: AccountId) -> Result<(), Problem> {
    match app.records().end_links(account).await? {
        true => Ok(()),
        false => Err(Problem::not_found("account")),
    }
}

/// Whether links of this generation are still good: neither they nor their account were ended.
pub(crate) async fn are_good(
    app: &App,
    account: AccountId,
    generation: u64,
) -> Result<bool, Problem> {
    Ok(app.records().link_generation(account).await? == Some(generation))
}

fn life(text: &str) -> Result<Duration, String> {
    let life = duration::parse(text).map_err(|error| error.to_string())?;
    let range = Duration::from_secs(1)..=MAX_LIFE;
    range
        .contains(&life)
        .then_some(life)
        .ok_or_else(|| format!("must be from 1s to {}", duration::format(MAX_LIFE)))
}
