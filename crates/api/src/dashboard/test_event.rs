//! The page to select, edit and send a test event, which then shows the request, the response and
//! the duration of each phase.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::attempt::TestReport;
use postrider_domain::endpoint::{Endpoint, State as EndpointState, Subscription};
use postrider_domain::event::EventTypeName;
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::EndpointId;
use postrider_domain::json::indented;
use postrider_service::SentTestEvent;
use postrider_store::EndpointView;

use super::catalogue::Catalogue;
use super::components::{Tone, badge, empty_state, with_query};
use super::exchange::{self as parts, SentRequest, error_text, status_badge};
use super::field::Field;
use super::form::{Errors, Form};
use super::layout::{NavItem, Page, PageContext};
use super::phases::phases as phase_bars;
use crate::App;
use crate::rest::test_events::TestEvent;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::fields::{Fields, Raw};
use crate::web::page::Params;
use crate::web::problem::Problem;

/// The name of the button that loads a type's example without scripts.
const LOAD_EXAMPLE: &str = "show";
const PAYLOAD_HINT: &str = "JSON. Sent exactly as written, without schema validation.";

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/webhooks/{endpoint}/test", get(show).post(send))
}

/// The fields' values.
struct Values {
    event_type: String,
    payload: String,
}

impl Values {
    /// An event type with its example; an unknown type has no payload.
    async fn of(app: &App, event_type: String) -> Result<Self, Problem> {
        let example = match EventTypeName::parse(&event_type) {
            Ok(name) => app.records().event_type(&name).await?.map(|entry| entry.example),
            Err(_) => None,
        };
        let example = example.as_deref().unwrap_or_default();
        let payload = indented(example).unwrap_or_else(|| example.to_owned());
        Ok(Self { event_type, payload })
    }

    /// The values of a submitted form.
    fn read(form: &Form) -> Self {
        Self {
            event_type: form.text("event_type").to_owned(),
            payload: form.text("payload").to_owned(),
        }
    }

    /// The fields of the request. Without a payload, the type's example is sent.
    fn fields(&self) -> Fields<'_> {
        let payload = Some(self.payload.as_str()).filter(|payload| !payload.trim().is_empty());
        let event_type = Some(("event_type", Raw::Text(&self.event_type)));
        let payload = payload.map(|payload| ("payload", Raw::Text(payload)));
        Fields::from_form(event_type.into_iter().chain(payload))
    }
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let requested = params.text("event_type");
    params.finish()?;
    let view = app.service().endpoint(tenant.0, id).await?;
    let catalogue = catalogue(&app, &view.endpoint, requested.as_deref()).await?;
    let event_type = requested.unwrap_or_else(|| first_choice(&view.endpoint, &catalogue));
    let known = catalogue.description(&event_type).is_some();
    let values = Values::of(&app, event_type).await?;
    let errors = match known || catalogue.is_empty() {
        true => Errors::default(),
        false => Errors::single("event_type", UNKNOWN_TYPE),
    };
    let form = self::form(&ctx, &view, &catalogue, &values, errors);
    Ok(page(&ctx, &view, &form))
}

/// The types to select from, including those that the endpoint is subscribed to and the requested
/// one.
async fn catalogue(
    app: &App,
    endpoint: &Endpoint,
    requested: Option<&str>,
) -> Result<Catalogue, Problem> {
    let subscribed = match &endpoint.event_types {
        Subscription::All => None,
        Subscription::Only(names) => Some(names.iter().map(EventTypeName::as_str)),
    };
    Catalogue::load(app, requested.into_iter().chain(subscribed.into_iter().flatten())).await
}

/// The first type that the endpoint is subscribed to, or else the first of all.
fn first_choice(endpoint: &Endpoint, catalogue: &Catalogue) -> String {
    let subscribed = catalogue.names().find(|name| endpoint.event_types.wants(name));
    let first = subscribed.or_else(|| catalogue.names().next());
    first.map(ToString::to_string).unwrap_or_default()
}

async fn send(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let mut values = Values::read(&form);
    if form.has(LOAD_EXAMPLE) {
        let page = ctx.urls().test(id);
        let page = with_query(&page, &[("event_type", &*values.event_type)]);
        return Ok(Redirect::to(&page).into_response());
    }
    let sent = match TestEvent::parse(values.fields(), &app).await {
        Ok(test) => {
            app.service().send_test_event(tenant.0, id, test, None).await.map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    let view = app.service().endpoint(tenant.0, id).await?;
    let catalogue = catalogue(&app, &view.endpoint, Some(&values.event_type)).await?;
    match sent {
        Ok(sent) => {
            if values.payload.trim().is_empty() {
                values.payload = String::from_utf8_lossy(sent.payload.bytes()).into_owned();
            }
            let form = self::form(&ctx, &view, &catalogue, &values, Errors::default());
            let body = html! { (result(&sent)) (form) };
            Ok(page(&ctx, &view, &body).into_response())
        }
        Err(problem) => {
            let problem = problem.if_invalid_fields()?;
            let form = self::form(&ctx, &view, &catalogue, &values, Errors::of(Some(&problem)));
            Ok(page(&ctx, &view, &form).with_status_of(&problem).into_response())
        }
    }
}

fn page(
    ctx: &PageContext,
    EndpointView { endpoint, state, .. }: &EndpointView,
    body: &Markup,
) -> Page {
    let urls = ctx.urls();
    let body = html! {
        p.crumbs {
            a href=(urls.webhooks()) { "Webhooks" } " / "
            a href=(urls.webhook(endpoint.id)) { bdi { (endpoint.name.as_str()) } }
        }
        h1 { "Send test event" }
        p {
            "Sends one signed request to " bdi { code { (endpoint.url.as_str()) } } " now. "
            "Test events are not retried, stored or counted."
            @if let EndpointState::Disabled(_) = state { " The webhook is disabled, but the test event is still sent." }
        }
        (body)
    };
    ctx.page(NavItem::Webhooks, "Send test event", body)
}

fn form(
    ctx: &PageContext,
    EndpointView { endpoint, .. }: &EndpointView,
    catalogue: &Catalogue,
    values: &Values,
    errors: Errors<'_>,
) -> Markup {
    let page = ctx.urls().test(endpoint.id);
    if catalogue.is_empty() {
        let text =
            "A test event needs an event type. The operator adds event types to the catalogue.";
        return empty_state("No event types yet", text, None);
    }
    html! {
        section #test aria-labelledby="test-title" {
            h2 #test-title { "Event to send" }
            form method="post" action=(page) {
                (ctx.csrf())
                div.filter {
                    (types(&page, endpoint, catalogue, &values.event_type, errors))
                    button type="submit" name=(LOAD_EXAMPLE) value="yes" { "Load example" }
                }
                (catalogue.truncation_hint())
                (Field::new("payload", "Payload", PAYLOAD_HINT, errors).area(&values.payload))
                p.actions { button.primary type="submit" { "Send test event" } }
            }
        }
    }
}

/// The field for the event type. Selecting one loads its example.
fn types(
    page: &str,
    endpoint: &Endpoint,
    catalogue: &Catalogue,
    chosen: &str,
    errors: Errors<'_>,
) -> Markup {
    let description = catalogue.description(chosen);
    let field = Field::new("event_type", "Event type", description.unwrap_or_default(), errors);
    let (subscribed, others): (Vec<_>, Vec<_>) =
        catalogue.names().partition(|name| endpoint.event_types.wants(name));
    field.wrap(html! {
        select #event_type name="event_type" aria-describedby=(field.described_by())
            aria-invalid=[field.aria_invalid()]
            hx-get=(page) hx-trigger="change" hx-target="#test" hx-select="#test" hx-swap="outerHTML" {
            @if description.is_none() { option value="" selected { "Choose one" } }
            (group("Subscribed", &subscribed, chosen))
            (group("Not subscribed", &others, chosen))
        }
    })
}

fn group(title: &str, names: &[&EventTypeName], chosen: &str) -> Markup {
    html! {
        @if !names.is_empty() {
            optgroup label=(title) {
                @for name in names { option value=(name) selected[name.as_str() == chosen] { (name) } }
            }
        }
    }
}

fn result(SentTestEvent { payload, report }: &SentTestEvent) -> Markup {
    let TestReport { exchange, phases } = report;
    let (response, error) = (exchange.response.as_ref(), exchange.outcome.error());
    let sent = SentRequest { head: &exchange.request, body: Some(payload.bytes()) };
    html! {
        section #result aria-labelledby="result-title" {
            h2 #result-title { "Result" }
            p.headline role="status" {
                @match &error {
                    None => (badge(Tone::Good, "success")),
                    Some(error) => { (badge(Tone::Bad, "failed")) " " (error_text(error.kind)) }
                }
                @if let Some(response) = response { " " (status_badge(response.status)) }
                " after " (exchange.duration_ms()) " ms"
            }
            (phase_bars(*phases))
            (parts::exchange("test", sent, response, error.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::problem::FieldError;

    fn payload(form: &[u8]) -> Result<Option<Vec<u8>>, Vec<FieldError>> {
        let values = Values::read(&Form::parse(form));
        let mut fields = values.fields();
        let event_type = fields.required("event_type", |field| field.string());
        assert_eq!(event_type.as_deref(), Some("a"));
        let payload = fields.non_null("payload", |field| field.payload());
        let errors = fields.into_errors().into_vec();
        match errors.is_empty() {
            true => Ok(payload.map(|payload| payload.bytes().to_vec())),
            false => Err(errors),
        }
    }

    #[test]
    fn a_payload_keeps_its_bytes_and_a_blank_one_is_omitted() {
        let sent = payload(b"event_type=a&payload=%7B+%22x%22%3A1.0%7D");
        assert_eq!(sent.unwrap().unwrap(), br#"{ "x":1.0}"#);
        assert_eq!(payload(b"event_type=a&payload=null").unwrap().unwrap(), b"null");
        assert_eq!(payload(b"event_type=a&payload=+%0D%0A"), Ok(None));
    }

    #[test]
    fn malformed_json_is_reported_with_its_position() {
        for (form, place) in [
            (&b"event_type=a&payload=%7B%0D%0A+%22a%22%3A+oops%0D%0A%7D"[..], "line 2 column 7"),
            (b"event_type=a&payload=%7B", "line 1 column 1"),
            (b"event_type=a&payload=1%2C%22b%22%3A2", "line 1 column 2"),
        ] {
            let errors = payload(form).unwrap_err();
            let detail = &errors[0].detail;
            assert!(
                detail.starts_with("is not valid JSON: ") && detail.ends_with(place),
                "{errors:?}"
            );
        }
    }
}
