//! The OpenAPI document, and the API reference that renders it.
//!
//! Each handler declares its own operation. This module adds what operations have in common:
//! security schemes, path parameters, and error responses.

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use postrider_domain::limits::MAX_IDEMPOTENCY_KEY_BYTES;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::security::{
    Http, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    ResponseBuilder, ResponsesBuilder,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_swagger_ui::Config;

use crate::App;
use crate::web::extract::PathText;
use crate::web::problem::{FieldError, PROBLEM_JSON, Problem};

/// The path of the document.
const DOCUMENT: &str = "/openapi.json";
/// The API reference may only load its own files and call this host.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The description of the API.
const INTRODUCTION: &str = "Postrider delivers webhooks.\n\n\
    Errors are returned as problem details (RFC 9457). All invalid fields of a request are reported at \
    once, each with its JSON pointer. Malformed JSON and invalid query parameters return 400; for \
    query parameters, the pointer refers to the query as an object. Well-formed JSON with invalid \
    fields returns 422. Unknown fields and parameters are invalid.\n\n\
    Every POST accepts an `Idempotency-Key`, which makes it safe to retry.\n\n\
    Lists are paginated: they accept `limit` and `cursor`, and return `data` and `next_cursor`. \
    Timestamps are RFC 3339 in UTC with milliseconds. IDs sort by creation time.";

/// The description of the header that makes a request safe to retry.
const IDEMPOTENCY_KEY: &str = "A unique key for this request, 1 to 256 visible ASCII characters. \
    Within 24 hours, a repeated request with the same key, path and body returns the original \
    response and has no further effect. Keys are scoped to the account in the path. Failed requests \
    do not use up their key.";

/// The document without operations, which the handlers add.
pub(crate) fn base_document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Postrider")
        .description(Some(INTRODUCTION))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let mut components = Components::new();
    for (name, description) in [
        ("operator_key", "The operator key. It grants full access."),
        ("account_key", "An account's API key (`prk_…`). It grants access to that account only."),
    ] {
        components.add_security_scheme(name, SecurityScheme::Http(bearer(description)));
    }
    components.schemas.extend([
        (Problem::name().into_owned(), Problem::schema()),
        (FieldError::name().into_owned(), FieldError::schema()),
    ]);
    let either = ["operator_key", "account_key"].map(requirement);
    OpenApiBuilder::new().info(info).components(Some(components)).security(Some(either)).build()
}

fn bearer(description: &str) -> Http {
    HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build()
}

fn requirement(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new::<_, [&str; 0], &str>(scheme, [])
}

/// The routes of the document and of the API reference.
pub(crate) fn routes(mut document: OpenApi) -> Router<App> {
    complete(&mut document);
    let text = document.to_json().expect("an OpenAPI document has only string keys");
    let text = Bytes::from(text);
    let config =
        Arc::new(Config::from(DOCUMENT).validator_url("none").persist_authorization(false));
    let index = config.clone();
    Router::new()
        .route(DOCUMENT, get(async move || ([(CONTENT_TYPE, "application/json")], text.clone())))
        .route("/docs", get(async || Redirect::permanent("/docs/")))
        .route("/docs/", get(async move || page("", index.clone())))
        .route(
            "/docs/{*file}",
            get(async move |PathText(file): PathText| page(&file, config.clone())),
        )
}

/// A file of the API reference.
fn page(file: &str, config: Arc<Config<'static>>) -> Result<Response, Problem> {
    let served = utoipa_swagger_ui::serve(file, config).map_err(|error| {
        tracing::error!(%error, file, "serving a file of the API reference failed");
        Problem::internal()
    })?;
    let served = served.ok_or_else(|| Problem::not_found("page"))?;
    let headers = [
        (CONTENT_TYPE, served.content_type.as_str()),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let encoding = served.gzpipped.then_some([(CONTENT_ENCODING, "gzip")]);
    Ok(match encoding {
        Some(encoding) => (headers, encoding, served.bytes.into_owned()).into_response(),
        None => (headers, served.bytes.into_owned()).into_response(),
    })
}

/// Adds path parameters and error responses to each operation.
fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            name(operation);
            let parts = path_parameters(path).map(RefOr::T);
            operation.parameters.get_or_insert_default().extend(parts);
            let keyed = path.starts_with("/v1/");
            let problems = keyed.then(|| problems(path, operation)).into_iter().flatten();
            let mut responses = ResponsesBuilder::from(std::mem::take(&mut operation.responses));
            for (status, description) in problems {
                responses = responses.response(status, problem(description));
            }
            operation.responses = responses.build();
        }
        if let Some(operation) = item.post.as_mut().filter(|_| path.starts_with("/v1/")) {
            make_repeatable(operation);
        }
    }
}

/// Adds the idempotency key to a POST.
fn make_repeatable(operation: &mut Operation) {
    operation.parameters.get_or_insert_default().push(RefOr::T(
        ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(IDEMPOTENCY_KEY))
            .schema(Some(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .min_length(Some(1))
                    .max_length(Some(MAX_IDEMPOTENCY_KEY_BYTES)),
            ))
            .build(),
    ));
    let responses = &mut operation.responses.responses;
    let reused = "The idempotency key was used with a different request or is in use, or the answer \
                  to the first request was not kept";
    match responses.get_mut("409") {
        Some(RefOr::T(conflict)) => {
            conflict.description = format!("{}. {reused}", conflict.description);
        }
        _ => {
            responses.insert("409".to_owned(), RefOr::T(problem(reused)));
        }
    }
    responses
        .entry("400".to_owned())
        .or_insert_with(|| RefOr::T(problem("The Idempotency-Key header is invalid")));
}

/// Prefixes the operation id with its tag, because handlers of different resources share names.
fn name(operation: &mut Operation) {
    let subject = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
    if let Some(id) = &mut operation.operation_id {
        *id = format!("{}_{id}", subject.to_lowercase().replace(' ', "_"));
    }
}

fn path_parameters(path: &str) -> impl Iterator<Item = Parameter> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| {
        let description = match name {
            "name" => "The name of the event type.".to_owned(),
            "key" => "The ID of the API key.".to_owned(),
            name => format!("The ID of the {name}."),
        };
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(description))
            .schema(Some(Object::with_type(Type::String)))
            .build()
    })
}

/// The error responses that follow from an operation's path, parameters and body.
fn problems(path: &str, operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("401", "Missing or invalid API key"),
        ("429", "Too many concurrent requests; see Retry-After"),
        ("500", "Internal error"),
        ("503", "The store is unavailable; nothing was changed. See Retry-After"),
        (
            "504",
            "The store became unavailable during the request; it may or may not have taken effect",
        ),
    ];
    let operator_only = operation.security.is_some();
    if operator_only {
        all.push(("403", "Requires the operator key"));
    }
    if path.contains('{') {
        all.push(("404", "Not found, or owned by another account"));
    }
    if operation.request_body.is_some() {
        all.extend([
            ("400", "The request body is not valid JSON, or a header is invalid"),
            ("408", "The request body did not arrive in time"),
            ("413", "The request body is too large"),
            ("415", "The Content-Type is not JSON"),
            ("422", "Invalid fields; `errors` lists all of them"),
        ]);
    } else if operation.parameters.iter().flatten().any(in_query) {
        all.push(("400", "Invalid query parameters; `errors` lists all of them"));
    }
    all
}

fn in_query(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
}

fn problem(description: &str) -> utoipa::openapi::Response {
    let content = Content::new(Some(Ref::from_schema_name(Problem::name())));
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build()
}
