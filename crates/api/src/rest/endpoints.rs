//! Endpoints: where an account's webhooks go.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use http::StatusCode;
use postrider_domain::account::Name;
use postrider_domain::endpoint::{
    Endpoint, Health, Ordering, Secrets, State as Enabling, Subscription,
};
use postrider_domain::event::{EventTypeName, EventTypeNameError};
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::{MAX_EVENT_TYPES_PER_ENDPOINT, MAX_SEARCH_CHARS};
use postrider_domain::signature::Secret;
use postrider_domain::target::TargetUrl;
use postrider_domain::time::Timestamp;
use postrider_store::{EndpointFilter, EndpointView, Held};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::event_types;
use crate::rest::fields::{Field, Fields, Findings, choose};
use crate::rest::wire::List;
use crate::rest::wire::endpoint::{
    ALL_TYPES, ENABLED, EndpointBody, NewEndpointBody, ORDERINGS, STATES, endpoint_state, ordering,
};
use crate::web::auth::Tenant;
use crate::web::extract::{JsonBody, PathId};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;
use crate::web::random;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(enable))
        .routes(routes!(disable))
}

/// Filters for endpoints. Omitted filters match everything.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct FilterParams {
    /// Only endpoints in this state.
    #[param(schema_with = endpoint_state)]
    state: Option<String>,
    /// Those whose name or URL has this in it, in capitals or not: up to 200 characters.
    #[param(max_length = 200)]
    search: Option<String>,
}

/// An endpoint to make.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct NewEndpoint {
    /// What people call it: 1 to 200 characters.
    #[schema(example = "Billing")]
    name: String,
    /// Where webhooks go: an http or https URL whose host is not inside a private network.
    #[schema(example = "https://example.com/webhooks")]
    url: String,
    /// Which events it wants: up to 100 names of the catalogue, `["*"]` for all types, or `[]`
    /// for none.
    #[schema(example = json!(["application.created"]))]
    event_types: Vec<String>,
    /// What is added to each request, name to value: up to 32 headers.
    headers: Option<BTreeMap<String, String>>,
    /// Whether deliveries may overtake each other (`parallel`, the default) or not (`strict`).
    #[schema(schema_with = ordering)]
    ordering: Option<Ordering>,
}

/// What to change of an endpoint; what is absent stays as it is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct EndpointChange {
    /// What people call it: 1 to 200 characters.
    name: Option<String>,
    /// Where webhooks go: an http or https URL whose host is not inside a private network.
    url: Option<String>,
    /// Which events it wants: up to 100 names of the catalogue, `["*"]` for all types, or `[]`
    /// for none. Names that it has already may have left the catalogue.
    event_types: Option<Vec<String>>,
    /// What is added to each request, all of it: up to 32 headers, name to value.
    headers: Option<BTreeMap<String, String>>,
    /// Whether deliveries may overtake each other (`parallel`) or not (`strict`).
    #[schema(schema_with = ordering)]
    ordering: Option<Ordering>,
}

/// What becomes of the deliveries that were held.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only the OpenAPI document is made of it")]
struct Enable {
    /// Whether they are sent (`resume`, the default) or given up (`discard`).
    held: Option<HeldChoice>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HeldChoice {
    Resume,
    Discard,
}

/// What an owner set; all of it for a new endpoint, some of it for a change.
struct Settings {
    name: Option<Name>,
    url: Option<TargetUrl>,
    wanted: Option<Wanted>,
    headers: Option<CustomHeaders>,
    ordering: Option<Ordering>,
}

impl Settings {
    fn of_new(fields: &mut Fields<'_>, app: &App) -> Self {
        Self {
            name: fields.required("name", |field| field.parse(Name::parse)),
            url: fields.required("url", |field| url(field, app)),
            wanted: fields.required("event_types", Wanted::read),
            headers: fields.optional("headers", |field| field.texts(CustomHeaders::parse)),
            ordering: fields.optional("ordering", |field| field.choice(&ORDERINGS)),
        }
    }

    fn of_change(fields: &mut Fields<'_>, app: &App) -> Self {
        Self {
            name: fields.change("name", |field| field.parse(Name::parse)),
            url: fields.change("url", |field| url(field, app)),
            wanted: fields.change("event_types", Wanted::read),
            headers: fields.change("headers", |field| field.texts(CustomHeaders::parse)),
            ordering: fields.change("ordering", |field| field.choice(&ORDERINGS)),
        }
    }

    /// Checks what the fields alone cannot tell. `had` is what a change begins with.
    async fn check(
        &self,
        app: &App,
        had: Option<&Subscription>,
        findings: &mut Findings,
    ) -> Result<(), Problem> {
        match &self.wanted {
            Some(wanted) => wanted.check(app, had, findings).await,
            None => Ok(()),
        }
    }

    fn apply(&self, endpoint: &mut Endpoint) {
        if let Some(name) = &self.name {
            endpoint.name.clone_from(name);
        }
        if let Some(url) = &self.url {
            endpoint.url.clone_from(url);
        }
        if let Some(wanted) = &self.wanted {
            endpoint.event_types = wanted.subscription();
        }
        if let Some(headers) = &self.headers {
            endpoint.headers.clone_from(headers);
        }
        if let Some(ordering) = self.ordering {
            endpoint.ordering = ordering;
        }
    }
}

fn url(field: Field<'_, '_>, app: &App) -> Option<TargetUrl> {
    field.parse(|text| TargetUrl::parse(text, &app.0.api.targets))
}

/// The event types that an owner listed, with their places.
struct Wanted {
    /// Where `*` stands.
    all: Option<String>,
    names: Vec<(String, EventTypeName)>,
}

impl Wanted {
    fn read(field: Field<'_, '_>) -> Option<Self> {
        let items = field.list(0..=MAX_EVENT_TYPES_PER_ENDPOINT, |item| {
            item.parse(|text| match text {
                ALL_TYPES => Ok::<_, EventTypeNameError>(None),
                name => EventTypeName::parse(name).map(Some),
            })
        })?;
        let mut wanted = Self { all: None, names: Vec::new() };
        for (pointer, item) in items {
            match item {
                None => wanted.all = Some(pointer),
                Some(name) => wanted.names.push((pointer, name)),
            }
        }
        Some(wanted)
    }

    /// A name that the endpoint has already stays valid when its type leaves the catalogue.
    async fn check(
        &self,
        app: &App,
        had: Option<&Subscription>,
        findings: &mut Findings,
    ) -> Result<(), Problem> {
        if let Some(pointer) = self.all.as_ref().filter(|_| !self.names.is_empty()) {
            findings.add(pointer, "stands for every type and cannot be combined with names");
        }
        let has = |name| matches!(had, Some(Subscription::Only(names)) if names.contains(name));
        let new: Vec<_> = self.names.iter().filter(|(_, name)| !has(name)).cloned().collect();
        event_types::check_known(app, &new, findings).await
    }

    fn subscription(&self) -> Subscription {
        match self.all {
            Some(_) => Subscription::All,
            None => {
                let names: BTreeSet<_> = self.names.iter().map(|(_, name)| name.clone()).collect();
                Subscription::Only(names)
            }
        }
    }
}

/// List endpoints
///
/// Newest first. With a filter, a page may have fewer items than asked for, even none, and still
/// a next one.
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints", tag = "Endpoints",
    params(FilterParams, ListParams),
    responses((status = OK, description = "A page of endpoints", body = List<EndpointBody>))
)]
async fn list(
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<List<EndpointBody>>, Problem> {
    let filter = filter_of(&mut params);
    let page = params.page();
    params.finish()?;
    Ok(Json(List::of(app.records().find_endpoints(tenant.0, filter, page).await?)))
}

/// The filter that a query asks for.
pub(crate) fn filter_of(params: &mut Params) -> EndpointFilter {
    EndpointFilter {
        enabled: params.take("state", |text| choose(text, &STATES)).map(|state| state == ENABLED),
        text: params.take("search", search).filter(|text| !text.is_empty()),
    }
}

fn search(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0..=MAX_SEARCH_CHARS => Ok(text.to_owned()),
        _ => Err(format!("must have at most {MAX_SEARCH_CHARS} characters")),
    }
}

/// Make an endpoint
///
/// It is enabled at once. The answer holds the secret that its requests are signed with.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints", tag = "Endpoints",
    request_body = NewEndpoint,
    responses((status = CREATED, description = "The endpoint", body = NewEndpointBody))
)]
async fn create(
    tenant: Tenant,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<NewEndpointBody>), Problem> {
    let endpoint = make(&app, tenant.0, &body).await?;
    let signing_secret = endpoint.secrets.current.reveal();
    let endpoint = untouched(endpoint).into();
    Ok((StatusCode::CREATED, Json(NewEndpointBody { endpoint, signing_secret })))
}

/// Makes the endpoint that `body` tells of.
pub(crate) async fn make(app: &App, account: AccountId, body: &Bytes) -> Result<Endpoint, Problem> {
    let mut fields = Fields::of(body)?;
    let settings = Settings::of_new(&mut fields, app);
    settings.check(app, None, fields.findings()).await?;
    let endpoint = new_endpoint(app, account, settings, random::bytes()?);
    let endpoint = fields.finish(endpoint)?;
    match app.records().create_endpoint(&endpoint).await? {
        true => Ok(endpoint),
        false => Err(Problem::not_found("account")),
    }
}

/// An endpoint as its owner set it, unless something is missing.
fn new_endpoint(
    app: &App,
    account: AccountId,
    settings: Settings,
    secret: [u8; 32],
) -> Option<Endpoint> {
    let now = app.now();
    Some(Endpoint {
        id: app.mint().id(now),
        account,
        name: settings.name?,
        url: settings.url?,
        event_types: settings.wanted?.subscription(),
        headers: settings.headers.unwrap_or_default(),
        ordering: settings.ordering.unwrap_or_default(),
        secrets: Secrets::new(Secret::from_bytes(secret)),
        created_at: now,
        updated_at: now,
    })
}

/// A new endpoint, to which nothing was sent.
fn untouched(endpoint: Endpoint) -> EndpointView {
    EndpointView {
        endpoint,
        state: Enabling::Enabled,
        health: Health::default(),
        unfinished: 0,
        oldest_pending_at: None,
    }
}

/// Get an endpoint
#[utoipa::path(
    get, path = "/v1/accounts/{account}/endpoints/{endpoint}", tag = "Endpoints",
    responses((status = OK, description = "The endpoint", body = EndpointBody))
)]
async fn get(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Json<EndpointBody>, Problem> {
    Ok(Json(app.door().endpoint(tenant.0, id).await?.into()))
}

/// Change an endpoint
///
/// What is absent stays as it is. Attempts that begin later go by the new settings.
#[utoipa::path(
    patch, path = "/v1/accounts/{account}/endpoints/{endpoint}", tag = "Endpoints",
    request_body = EndpointChange,
    responses((status = OK, description = "The endpoint as it is now", body = EndpointBody))
)]
async fn update(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<EndpointBody>, Problem> {
    Ok(Json(change(&app, tenant.0, id, &body, None).await?.into()))
}

/// Makes the change that `body` tells of, unless there was another one since the one that was `seen`.
pub(crate) async fn change(
    app: &App,
    account: AccountId,
    id: EndpointId,
    body: &Bytes,
    seen: Option<Timestamp>,
) -> Result<EndpointView, Problem> {
    let mut fields = Fields::of(body)?;
    let before = app.door().endpoint(account, id).await?.endpoint;
    let settings = Settings::of_change(&mut fields, app);
    settings.check(app, Some(&before.event_types), fields.findings()).await?;
    let settings = fields.finish(Some(settings))?;
    let now = app.now();
    let change = |endpoint: &mut Endpoint| {
        settings.apply(endpoint);
        endpoint.updated_at = now;
    };
    let unless_changed = |endpoint: &mut Endpoint| {
        if seen.is_none_or(|seen| endpoint.updated_at == seen) {
            change(endpoint);
        }
    };
    let view = app.records().update_endpoint(account, id, unless_changed).await?;
    let view = app.door().changed(view)?;
    // It may have been made by a run whose commit nobody heard of.
    let mut changed = view.endpoint.clone();
    change(&mut changed);
    if view.endpoint == changed { Ok(view) } else { Err(Problem::changed_meanwhile()) }
}

/// Remove an endpoint
///
/// Deliveries that are pending or held are discarded.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/endpoints/{endpoint}", tag = "Endpoints",
    responses((status = NO_CONTENT, description = "It is gone"))
)]
async fn delete(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    remove(&app, tenant.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes an endpoint.
pub(crate) async fn remove(app: &App, account: AccountId, id: EndpointId) -> Result<(), Problem> {
    if !app.records().delete_endpoint(account, id).await? {
        return Err(Problem::not_found("endpoint"));
    }
    app.router().changed(account, id);
    Ok(())
}

/// Enable an endpoint
///
/// Deliveries that were held are sent, at a measured pace, or given up. The body may be left out.
/// An endpoint that is enabled stays as it is.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/enable", tag = "Endpoints",
    request_body(content = Option<Enable>),
    responses((status = OK, description = "The endpoint as it is now", body = EndpointBody))
)]
async fn enable(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<EndpointBody>, Problem> {
    Ok(Json(enable_as(&app, tenant.0, id, &body).await?.0.into()))
}

/// Enables an endpoint as `body` tells, and gives it with what becomes of what was held.
pub(crate) async fn enable_as(
    app: &App,
    account: AccountId,
    id: EndpointId,
    body: &Bytes,
) -> Result<(EndpointView, Held), Problem> {
    let mut fields = Fields::of_optional(body)?;
    let choices = [HeldChoice::Resume, HeldChoice::Discard];
    let held = fields.optional("held", |field| field.choice(&choices));
    let held = match fields.finish(Some(held))? {
        None | Some(HeldChoice::Resume) => Held::Resume,
        Some(HeldChoice::Discard) => Held::Discard,
    };
    Ok((app.door().enable(account, id, held).await?, held))
}

/// Disable an endpoint
///
/// Nothing more is sent to it; deliveries that are pending, and new ones, are held. An endpoint
/// that is disabled stays as it is.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/disable", tag = "Endpoints",
    responses((status = OK, description = "The endpoint as it is now", body = EndpointBody))
)]
async fn disable(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Json<EndpointBody>, Problem> {
    Ok(Json(app.door().disable(tenant.0, id).await?.into()))
}
