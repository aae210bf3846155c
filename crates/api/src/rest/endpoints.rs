//! Operations on endpoints.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use postrider_domain::account::Name;
use postrider_domain::disable::DisableWhen;
use postrider_domain::endpoint::{Ordering, Subscription};
use postrider_domain::event::{EventTypeName, EventTypeNameError};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::EndpointId;
use postrider_domain::limits::{MAX_EVENT_TYPES_PER_ENDPOINT, MAX_SEARCH_CHARS};
use postrider_domain::rate_limit::{MAX_BURST, RateLimit};
use postrider_domain::target::TargetUrl;
use postrider_service::endpoints::{self, EventTypes};
use postrider_store::{EndpointFilter, EndpointView, HeldAction};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::endpoint::{
    ALL_TYPES, ENABLED, EndpointBody, NewEndpointBody, ORDERINGS, RateLimitBody, STATES,
    disable_when, endpoint_state, ordering,
};
use crate::web::auth::Tenant;
use crate::web::choice::parse_choice;
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::{Field, Fields};
use crate::web::idempotency::{EmptyPost, JsonPost};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(send_now))
}

/// Filters for endpoints. Omitted filters match everything.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterParams {
    /// Returns only endpoints in this state.
    #[param(value_type = Option<String>, schema_with = endpoint_state)]
    state: Option<&'static str>,
    /// Returns only endpoints whose name or URL contains this text, ignoring case. At most 200
    /// characters.
    #[param(max_length = 200)]
    search: Option<String>,
}

impl FilterParams {
    pub(crate) fn parse(params: &mut Params) -> Self {
        Self {
            state: params.take("state", |text| parse_choice(text, &STATES)),
            search: params.take("search", search).filter(|text| !text.is_empty()),
        }
    }
}

impl From<FilterParams> for EndpointFilter {
    fn from(FilterParams { state, search }: FilterParams) -> Self {
        Self { enabled: state.map(|state| state == ENABLED), text: search }
    }
}

fn search(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0..=MAX_SEARCH_CHARS => Ok(text.to_owned()),
        _ => Err(format!("must have at most {MAX_SEARCH_CHARS} characters")),
    }
}

/// The endpoint to create.
#[derive(ToSchema)]
pub(crate) struct NewEndpoint {
    /// The endpoint's name, 1 to 200 characters.
    #[schema(value_type = String, example = "Billing")]
    name: Name,
    /// The http or https URL to send webhooks to. Private network addresses are not allowed, unless
    /// the installation is configured to allow them. Path and query are sent exactly as given;
    /// only characters that a request line cannot carry, such as spaces, are percent-encoded. The
    /// host must be complete: placeholders such as `{{tenant}}` are rejected.
    #[schema(value_type = String, example = "https://example.com/webhooks")]
    url: TargetUrl,
    /// The event types to subscribe to: up to 100 types of the catalogue, `["*"]` for all types, or
    /// `[]` for none.
    #[schema(value_type = Vec<String>, example = json!(["application.created"]))]
    event_types: ListedTypes,
    /// Custom headers to add to each request, as a map of names to values. At most 32 headers. If
    /// one of the names has a capital letter, all names of a request are sent in title case
    /// (`X-Api-Key`), otherwise in lower case.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<CustomHeaders>,
    /// The ordering of deliveries. `parallel`: several deliveries at a time; later ones may
    /// overtake a failing one. `strict`: one delivery at a time, in the order of acceptance; a
    /// failing delivery blocks later ones. Defaults to `parallel`.
    #[schema(schema_with = ordering)]
    ordering: Option<Ordering>,
    /// The maximum rate of requests; null, the default, is unlimited.
    #[schema(value_type = Option<RateLimitBody>)]
    rate_limit: Option<RateLimit>,
    /// When the endpoint is disabled: `exhausted` (when a delivery has used up its attempts) or
    /// `exhausted_and_nothing_delivered` (only if no other delivery has succeeded since that
    /// delivery's first attempt). Null, the default, is the installation's setting.
    #[schema(schema_with = disable_when)]
    disable_when: Option<DisableWhen>,
}

impl NewEndpoint {
    /// Parses the command, or returns all field errors.
    pub(crate) async fn parse(
        mut fields: Fields<'_>,
        app: &App,
    ) -> Result<endpoints::NewEndpoint, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        let url = fields.required("url", |field| url(field, app));
        let event_types = fields.required("event_types", ListedTypes::parse);
        let headers = fields.optional("headers", |field| field.string_map(CustomHeaders::parse));
        let ordering = fields.optional("ordering", |field| field.choice(&ORDERINGS));
        let rate_limit = fields.optional("rate_limit", rate_limit);
        let disable_when = fields.optional("disable_when", |field| field.choice(&DisableWhen::ALL));
        if let Some(event_types) = &event_types {
            event_types.check(&mut fields, app, None).await?;
        }
        let parsed = || {
            let (name, url, event_types) = (name?, url?, event_types?);
            Some(Self { name, url, event_types, headers, ordering, rate_limit, disable_when })
        };
        fields.finish(parsed()).map(Into::into)
    }
}

impl From<NewEndpoint> for endpoints::NewEndpoint {
    fn from(new: NewEndpoint) -> Self {
        Self {
            name: new.name,
            url: new.url,
            event_types: new.event_types.into(),
            headers: new.headers.unwrap_or_default(),
            ordering: new.ordering.unwrap_or_default(),
            rate_limit: new.rate_limit,
            disable_when: new.disable_when,
        }
    }
}

/// The fields of an endpoint to update. Omitted fields are left unchanged.
#[derive(ToSchema)]
#[schema(as = EndpointChange)]
pub(crate) struct EndpointUpdate {
    /// The endpoint's name, 1 to 200 characters.
    #[schema(value_type = Option<String>)]
    name: Option<Name>,
    /// The http or https URL to send webhooks to. Private network addresses are not allowed, unless
    /// the installation is configured to allow them. Path and query are sent exactly as given;
    /// only characters that a request line cannot carry, such as spaces, are percent-encoded. The
    /// host must be complete: placeholders such as `{{tenant}}` are rejected.
    #[schema(value_type = Option<String>)]
    url: Option<TargetUrl>,
    /// The event types to subscribe to: up to 100 types of the catalogue, `["*"]` for all types, or
    /// `[]` for none. Types that the endpoint already subscribes to are accepted even if they are
    /// no longer in the catalogue.
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<ListedTypes>,
    /// Custom headers to add to each request, as a map of names to values. At most 32 headers. They
    /// replace all existing custom headers. If one of the names has a capital letter, all names of a
    /// request are sent in title case (`X-Api-Key`), otherwise in lower case.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<CustomHeaders>,
    /// The ordering of deliveries. `parallel`: several deliveries at a time; later ones may
    /// overtake a failing one. `strict`: one delivery at a time, in the order of acceptance; a
    /// failing delivery blocks later ones.
    #[schema(schema_with = ordering)]
    ordering: Option<Ordering>,
    /// The maximum rate of requests; null is unlimited.
    #[schema(value_type = Option<RateLimitBody>)]
    rate_limit: Option<Option<RateLimit>>,
    /// When the endpoint is disabled: `exhausted` (when a delivery has used up its attempts) or
    /// `exhausted_and_nothing_delivered` (only if no other delivery has succeeded since that
    /// delivery's first attempt). Null is the installation's setting.
    #[schema(schema_with = disable_when)]
    disable_when: Option<Option<DisableWhen>>,
}

impl EndpointUpdate {
    /// Parses the command for an endpoint with the `current` subscription, or returns all field
    /// errors.
    pub(crate) async fn parse(
        mut fields: Fields<'_>,
        app: &App,
        current: &Subscription,
    ) -> Result<endpoints::EndpointUpdate, Problem> {
        let parsed = Self {
            name: fields.non_null("name", |field| field.parse(Name::parse)),
            url: fields.non_null("url", |field| url(field, app)),
            event_types: fields.non_null("event_types", ListedTypes::parse),
            headers: fields.non_null("headers", |field| field.string_map(CustomHeaders::parse)),
            ordering: fields.non_null("ordering", |field| field.choice(&ORDERINGS)),
            rate_limit: fields.nullable("rate_limit", rate_limit),
            disable_when: fields.nullable("disable_when", |field| field.choice(&DisableWhen::ALL)),
        };
        if let Some(event_types) = &parsed.event_types {
            event_types.check(&mut fields, app, Some(current)).await?;
        }
        fields.finish(Some(parsed)).map(Into::into)
    }
}

impl From<EndpointUpdate> for endpoints::EndpointUpdate {
    fn from(update: EndpointUpdate) -> Self {
        Self {
            name: update.name,
            url: update.url,
            event_types: update.event_types.map(Into::into),
            headers: update.headers,
            ordering: update.ordering,
            rate_limit: update.rate_limit,
            disable_when: update.disable_when,
        }
    }
}

fn url(field: Field<'_, '_>, app: &App) -> Option<TargetUrl> {
    field.parse(|text| TargetUrl::parse(text, &app.0.api.targets))
}

/// Parses a rate limit. Each value is checked on its own, so that all errors are found.
fn rate_limit(field: Field<'_, '_>) -> Option<RateLimit> {
    field.object(|fields| {
        let per_second = fields.required("per_second", |field| field.number());
        let burst = fields.optional("burst", |field| field.integer(1..=MAX_BURST));
        match RateLimit::new(per_second?, burst.unwrap_or(1)) {
            Ok(limit) => Some(limit),
            Err(error) => {
                fields.add_error("per_second", error);
                None
            }
        }
    })
}

/// The event types to subscribe to, each with its pointer.
struct ListedTypes {
    /// The pointer of `*`.
    all: Option<String>,
    names: Vec<(String, EventTypeName)>,
}

impl ListedTypes {
    fn parse(field: Field<'_, '_>) -> Option<Self> {
        let items = field.list(0..=MAX_EVENT_TYPES_PER_ENDPOINT, |item| {
            item.parse(|text| match text {
                ALL_TYPES => Ok::<_, EventTypeNameError>(None),
                name => EventTypeName::parse(name).map(Some),
            })
        })?;
        let mut listed = Self { all: None, names: Vec::new() };
        for (pointer, item) in items {
            match item {
                None => listed.all = Some(pointer),
                Some(name) => listed.names.push((pointer, name)),
            }
        }
        Some(listed)
    }

    /// Adds the errors of the list as a whole. If there are other errors, adds those of unknown
    /// event types too, so that all errors are reported at once. Otherwise the service checks the
    /// types.
    async fn check(
        &self,
        fields: &mut Fields<'_>,
        app: &App,
        current: Option<&Subscription>,
    ) -> Result<(), Problem> {
        if let Some(pointer) = self.all.as_ref().filter(|_| !self.names.is_empty()) {
            fields.errors_mut().add(pointer, "cannot be combined with other event types");
        }
        if fields.has_errors() {
            let names = self.names.iter().map(|(_, name)| name);
            for index in app.service().unknown_event_types(names, current).await? {
                fields.errors_mut().add(&self.names[index].0, UNKNOWN_TYPE);
            }
        }
        Ok(())
    }
}

impl From<ListedTypes> for EventTypes {
    fn from(ListedTypes { all, names }: ListedTypes) -> Self {
        match all {
            Some(_) => Self::All,
            None => Self::Only(names.into_iter().map(|(_, name)| name).collect()),
        }
    }
}

/// Options for enabling an endpoint.
#[derive(ToSchema)]
#[schema(as = Enable)]
pub(crate) struct EnableEndpoint {
    /// The action for held deliveries: `resume` sends them, `discard` discards them. Defaults to
    /// `resume`.
    held: Option<HeldChoice>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HeldChoice {
    Resume,
    Discard,
}

impl EnableEndpoint {
    pub(crate) fn parse(mut fields: Fields<'_>) -> Result<Self, Problem> {
        let choices = [HeldChoice::Resume, HeldChoice::Discard];
        let held = fields.optional("held", |field| field.choice(&choices));
        fields.finish(Some(Self { held }))
    }
}

impl From<EnableEndpoint> for HeldAction {
    fn from(EnableEndpoint { held }: EnableEndpoint) -> Self {
        match held {
            None | Some(HeldChoice::Resume) => Self::Resume,
            Some(HeldChoice::Discard) => Self::Discard,
        }
    }
}

/// List endpoints
///
/// Returns the account's endpoints, newest first. With a filter, a page may contain fewer items
/// than `limit`, or none, and still have a `next_cursor`.
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
    let filter = FilterParams::parse(&mut params).into();
    let page = params.page();
    params.finish()?;
    Ok(Json(List::from_page(app.records().find_endpoints(tenant.0, filter, page).await?)))
}

/// Create an endpoint
///
/// The endpoint is enabled immediately. The response contains the secret that signs its requests.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints", tag = "Endpoints",
    request_body = NewEndpoint,
    responses((status = CREATED, description = "The created endpoint", body = NewEndpointBody))
)]
async fn create(
    tenant: Tenant,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let new = NewEndpoint::parse(Fields::from_json(&body)?, &app).await?;
    let create = |once| app.service().create_endpoint(tenant.0, new, once);
    let render = |view: &EndpointView| {
        let signing_secret = view.endpoint.secrets.current.reveal();
        let endpoint = view.clone().into();
        (StatusCode::CREATED, NewEndpointBody { endpoint, signing_secret })
    };
    request.run(create, render).await
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
    Ok(Json(app.service().endpoint(tenant.0, id).await?.into()))
}

/// Update an endpoint
///
/// Omitted fields are left unchanged. The update applies to all attempts that start after it.
#[utoipa::path(
    patch, path = "/v1/accounts/{account}/endpoints/{endpoint}", tag = "Endpoints",
    request_body = EndpointUpdate,
    responses((status = OK, description = "The updated endpoint", body = EndpointBody))
)]
async fn update(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonBody(body): JsonBody,
) -> Result<Json<EndpointBody>, Problem> {
    let fields = Fields::from_json(&body)?;
    let current = app.service().endpoint(tenant.0, id).await?.endpoint;
    let update = EndpointUpdate::parse(fields, &app, &current.event_types).await?;
    Ok(Json(app.service().update_endpoint(tenant.0, id, update, None).await?.into()))
}

/// Delete an endpoint
///
/// Deletes the endpoint and discards its pending and held deliveries.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/endpoints/{endpoint}", tag = "Endpoints",
    responses((status = NO_CONTENT, description = "The endpoint was deleted"))
)]
async fn delete(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<StatusCode, Problem> {
    app.service().delete_endpoint(tenant.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enable an endpoint
///
/// Enables the endpoint, and sends its held deliveries at a limited rate or discards them. Each
/// held delivery starts a new retry schedule. Has no effect on an enabled endpoint. The body may be
/// omitted.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/enable", tag = "Endpoints",
    request_body(content = Option<EnableEndpoint>),
    responses((status = OK, description = "The updated endpoint", body = EndpointBody))
)]
async fn enable(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    JsonPost { body, request }: JsonPost,
) -> Result<Response, Problem> {
    let held = EnableEndpoint::parse(Fields::from_optional_json(&body)?)?.into();
    let enable = |once| app.service().enable_endpoint(tenant.0, id, held, once);
    request.run(enable, |view| (StatusCode::OK, EndpointBody::from(view.clone()))).await
}

/// Disable an endpoint
///
/// Stops sending to the endpoint. Pending and new deliveries are held until it is enabled again.
/// Has no effect on a disabled endpoint.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/disable", tag = "Endpoints",
    responses((status = OK, description = "The updated endpoint", body = EndpointBody))
)]
async fn disable(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    let disable = |once| app.service().disable_endpoint(tenant.0, id, once);
    request.run(disable, |view| (StatusCode::OK, EndpointBody::from(view.clone()))).await
}

/// The result of sending all pending deliveries now.
#[derive(Serialize, ToSchema)]
#[schema(as = SentNow)]
struct SendNowResult {
    /// The number of pending deliveries, which are all due now.
    brought_forward: u64,
}

/// Send all pending deliveries now
///
/// Makes all pending deliveries of the endpoint due now, for example because its server works
/// again. They are sent at a limited rate, and their attempts count on in their retry schedules.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/send-now", tag = "Endpoints",
    responses(
        (status = OK, description = "The deliveries are due now", body = SendNowResult),
        (status = CONFLICT, description = "The endpoint is disabled", body = Problem,
            content_type = "application/problem+json"),
    )
)]
async fn send_now(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    EmptyPost(request): EmptyPost,
) -> Result<Response, Problem> {
    let send = |once| app.service().send_now(tenant.0, id, once);
    let render = |count: &u64| (StatusCode::OK, SendNowResult { brought_forward: *count });
    request.run(send, render).await
}
