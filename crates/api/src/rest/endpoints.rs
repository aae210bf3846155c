//! Endpoints: where an account's webhooks go.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use postrider_domain::account::Name;
use postrider_domain::endpoint::{Ordering, Subscription};
use postrider_domain::event::{EventTypeName, EventTypeNameError};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::EndpointId;
use postrider_domain::limits::{MAX_EVENT_TYPES_PER_ENDPOINT, MAX_SEARCH_CHARS};
use postrider_domain::target::TargetUrl;
use postrider_service::endpoints::{self, EventTypes};
use postrider_store::{EndpointFilter, HeldAction};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::rest::wire::List;
use crate::rest::wire::endpoint::{
    ALL_TYPES, ENABLED, EndpointBody, NewEndpointBody, ORDERINGS, STATES, endpoint_state, ordering,
};
use crate::web::auth::Tenant;
use crate::web::choice::choose;
use crate::web::extract::{JsonBody, PathId};
use crate::web::fields::{Field, Fields};
use crate::web::page::{ListParams, Params};
use crate::web::problem::Problem;

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
pub(crate) struct FilterParams {
    /// Only endpoints in this state.
    #[param(value_type = Option<String>, schema_with = endpoint_state)]
    state: Option<&'static str>,
    /// Only endpoints whose name or URL contains this text, in upper or lower case: up to 200
    /// characters.
    #[param(max_length = 200)]
    search: Option<String>,
}

impl FilterParams {
    pub(crate) fn read(params: &mut Params) -> EndpointFilter {
        let Self { state, search } = Self {
            state: params.take("state", |text| choose(text, &STATES)),
            search: params.take("search", search).filter(|text| !text.is_empty()),
        };
        EndpointFilter { enabled: state.map(|state| state == ENABLED), text: search }
    }
}

fn search(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0..=MAX_SEARCH_CHARS => Ok(text.to_owned()),
        _ => Err(format!("must have at most {MAX_SEARCH_CHARS} characters")),
    }
}

/// An endpoint to create.
#[derive(ToSchema)]
pub(crate) struct NewEndpoint {
    /// The endpoint's name: 1 to 200 characters.
    #[schema(value_type = String, example = "Billing")]
    name: Name,
    /// Where webhooks go: an http or https URL whose host is not inside a private network.
    #[schema(value_type = String, example = "https://example.com/webhooks")]
    url: TargetUrl,
    /// The event types that it receives: up to 100 names of the catalogue, `["*"]` for all types, or
    /// `[]` for none.
    #[schema(value_type = Vec<String>, example = json!(["application.created"]))]
    event_types: ListedTypes,
    /// Headers to add to each request, name to value: up to 32.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<CustomHeaders>,
    /// Whether deliveries may overtake each other (`parallel`, the default) or not (`strict`).
    #[schema(schema_with = ordering)]
    ordering: Option<Ordering>,
}

impl NewEndpoint {
    /// The command, or everything that is wrong with the fields.
    pub(crate) async fn read(
        mut fields: Fields<'_>,
        app: &App,
    ) -> Result<endpoints::NewEndpoint, Problem> {
        let name = fields.required("name", |field| field.parse(Name::parse));
        let url = fields.required("url", |field| url(field, app));
        let event_types = fields.required("event_types", ListedTypes::read);
        let headers = fields.optional("headers", |field| field.texts(CustomHeaders::parse));
        let ordering = fields.optional("ordering", |field| field.choice(&ORDERINGS));
        if let Some(event_types) = &event_types {
            event_types.check(&mut fields, app, None).await?;
        }
        let read = || {
            let (name, url, event_types) = (name?, url?, event_types?);
            Some(Self { name, url, event_types, headers, ordering })
        };
        let Self { name, url, event_types, headers, ordering } = fields.finish(read())?;
        let (headers, ordering) = (headers.unwrap_or_default(), ordering.unwrap_or_default());
        Ok(endpoints::NewEndpoint { name, url, event_types: event_types.into(), headers, ordering })
    }
}

/// Changes to an endpoint. Omitted fields stay as they are.
#[derive(ToSchema)]
pub(crate) struct EndpointChange {
    /// The endpoint's name: 1 to 200 characters.
    #[schema(value_type = Option<String>)]
    name: Option<Name>,
    /// Where webhooks go: an http or https URL whose host is not inside a private network.
    #[schema(value_type = Option<String>)]
    url: Option<TargetUrl>,
    /// The event types that it receives: up to 100 names of the catalogue, `["*"]` for all types, or
    /// `[]` for none. Names that it has already may have left the catalogue.
    #[schema(value_type = Option<Vec<String>>)]
    event_types: Option<ListedTypes>,
    /// The headers to add to each request, all of them: up to 32, name to value.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<CustomHeaders>,
    /// Whether deliveries may overtake each other (`parallel`) or not (`strict`).
    #[schema(schema_with = ordering)]
    ordering: Option<Ordering>,
}

impl EndpointChange {
    /// The command for an endpoint that `had` these event types, or everything that is wrong with
    /// the fields.
    pub(crate) async fn read(
        mut fields: Fields<'_>,
        app: &App,
        had: &Subscription,
    ) -> Result<endpoints::EndpointChange, Problem> {
        let read = Self {
            name: fields.change("name", |field| field.parse(Name::parse)),
            url: fields.change("url", |field| url(field, app)),
            event_types: fields.change("event_types", ListedTypes::read),
            headers: fields.change("headers", |field| field.texts(CustomHeaders::parse)),
            ordering: fields.change("ordering", |field| field.choice(&ORDERINGS)),
        };
        if let Some(event_types) = &read.event_types {
            event_types.check(&mut fields, app, Some(had)).await?;
        }
        let Self { name, url, event_types, headers, ordering } = fields.finish(Some(read))?;
        let event_types = event_types.map(Into::into);
        Ok(endpoints::EndpointChange { name, url, event_types, headers, ordering })
    }
}

fn url(field: Field<'_, '_>, app: &App) -> Option<TargetUrl> {
    field.parse(|text| TargetUrl::parse(text, &app.0.api.targets))
}

/// The event types that an endpoint is to receive, each with its pointer.
struct ListedTypes {
    /// The pointer of `*`.
    all: Option<String>,
    names: Vec<(String, EventTypeName)>,
}

impl ListedTypes {
    fn read(field: Field<'_, '_>) -> Option<Self> {
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

    /// Adds what is wrong with the list as a whole. If there are other errors, it also adds the
    /// types that the catalogue does not have, so that the caller learns all errors at once; without
    /// other errors, the service finds those.
    async fn check(
        &self,
        fields: &mut Fields<'_>,
        app: &App,
        had: Option<&Subscription>,
    ) -> Result<(), Problem> {
        if let Some(pointer) = self.all.as_ref().filter(|_| !self.names.is_empty()) {
            fields.findings().add(pointer, "means every type and cannot be combined with names");
        }
        if fields.are_invalid() {
            let names = self.names.iter().map(|(_, name)| name);
            for index in app.service().unknown_event_types(names, had).await? {
                fields.findings().add(&self.names[index].0, UNKNOWN_TYPE);
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

/// What becomes of the deliveries that were held.
#[derive(ToSchema)]
pub(crate) struct Enable {
    /// Send the held deliveries (`resume`, the default), or give them up (`discard`).
    held: Option<HeldChoice>,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HeldChoice {
    Resume,
    Discard,
}

impl Enable {
    pub(crate) fn read(mut fields: Fields<'_>) -> Result<HeldAction, Problem> {
        let choices = [HeldChoice::Resume, HeldChoice::Discard];
        let held = fields.optional("held", |field| field.choice(&choices));
        let Self { held } = fields.finish(Some(Self { held }))?;
        Ok(match held {
            None | Some(HeldChoice::Resume) => HeldAction::Resume,
            Some(HeldChoice::Discard) => HeldAction::Discard,
        })
    }
}

/// List endpoints
///
/// Newest first. With a filter, a page may have fewer items than `limit`, even none, and still have a
/// `next_cursor`.
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
    let filter = FilterParams::read(&mut params);
    let page = params.page();
    params.finish()?;
    Ok(Json(List::of(app.records().find_endpoints(tenant.0, filter, page).await?)))
}

/// Create an endpoint
///
/// It is enabled. The response contains the secret that signs its requests.
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
    let new = NewEndpoint::read(Fields::of(&body)?, &app).await?;
    let view = app.service().create_endpoint(tenant.0, new).await?;
    let signing_secret = view.endpoint.secrets.current.reveal();
    Ok((StatusCode::CREATED, Json(NewEndpointBody { endpoint: view.into(), signing_secret })))
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

/// Change an endpoint
///
/// Omitted fields stay as they are. The change applies to attempts that begin after it.
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
    let fields = Fields::of(&body)?;
    let before = app.service().endpoint(tenant.0, id).await?.endpoint;
    let change = EndpointChange::read(fields, &app, &before.event_types).await?;
    Ok(Json(app.service().change_endpoint(tenant.0, id, change, None).await?.into()))
}

/// Delete an endpoint
///
/// Its pending and held deliveries are discarded.
#[utoipa::path(
    delete, path = "/v1/accounts/{account}/endpoints/{endpoint}", tag = "Endpoints",
    responses((status = NO_CONTENT, description = "Deleted"))
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
/// Held deliveries are sent at a limited rate, or given up. The body may be omitted. An enabled
/// endpoint stays as it is.
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
    let held = Enable::read(Fields::of_optional(&body)?)?;
    Ok(Json(app.service().enable(tenant.0, id, held).await?.into()))
}

/// Disable an endpoint
///
/// Nothing more is sent to it: pending and new deliveries are held. A disabled endpoint stays as it
/// is.
#[utoipa::path(
    post, path = "/v1/accounts/{account}/endpoints/{endpoint}/disable", tag = "Endpoints",
    responses((status = OK, description = "The endpoint as it is now", body = EndpointBody))
)]
async fn disable(
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Json<EndpointBody>, Problem> {
    Ok(Json(app.service().disable(tenant.0, id).await?.into()))
}
