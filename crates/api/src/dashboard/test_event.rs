//! The page on which a test event is chosen, edited and sent, and which then shows what went over the
//! wire, what came back and how long each phase took.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use maud::{Markup, html};
use postrider_domain::endpoint::{Endpoint, State as Enabling, Subscription};
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::ids::EndpointId;
use postrider_store::EndpointView;
use serde_json::Value;

use super::catalogue::Catalogue;
use super::exchange::{Sent, exchange, failure, status};
use super::field::Field;
use super::form::{Errors, Form};
use super::frame::{Page, Place, Visit};
use super::indent::indented;
use super::parts::{Kind, address, badge, empty};
use super::phases::phases;
use crate::App;
use crate::rest::test_events::{self, Tested};
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::{FieldError, Problem};

/// What the button brings in that asks for a type's example, where no script does it.
const SHOW: &str = "show";
const PAYLOAD_HINT: &str =
    "JSON. The receiver gets these very bytes; they are not held against the type's schema.";

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/webhooks/{endpoint}/test", get(show).post(send))
}

/// What the fields hold.
struct Values {
    event_type: String,
    payload: String,
}

impl Values {
    /// A type with its example; nothing of a type that there is not.
    async fn of(app: &App, event_type: String) -> Result<Self, Problem> {
        let example = match EventTypeName::parse(&event_type) {
            Ok(name) => app.records().event_type(&name).await?.map(|entry| entry.example),
            Err(_) => None,
        };
        let example = example.as_deref().unwrap_or_default();
        let payload = indented(example).unwrap_or_else(|| example.to_owned());
        Ok(Self { event_type, payload })
    }

    /// The fields as somebody filled them in.
    fn read(form: &Form) -> Self {
        Self {
            event_type: form.text("event_type").to_owned(),
            payload: form.text("payload").to_owned(),
        }
    }

    /// What the API reads. Without a payload, that is the type's example.
    ///
    /// # Errors
    /// When the payload is none: within a body, nobody could tell where it goes wrong.
    fn body(&self) -> Result<Bytes, Problem> {
        let event_type = Value::from(&*self.event_type);
        if self.payload.trim().is_empty() {
            return Ok(Bytes::from(format!(r#"{{"event_type":{event_type}}}"#)));
        }
        match Payload::parse(Bytes::from(self.payload.clone())) {
            Ok(_) => {
                let payload = &self.payload;
                let body = format!(r#"{{"event_type":{event_type},"payload":{payload}}}"#);
                Ok(Bytes::from(body))
            }
            Err(error) => {
                let (pointer, detail) = ("/payload".to_owned(), error.to_string());
                Err(Problem::invalid_fields(vec![FieldError { pointer, detail }]))
            }
        }
    }
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let asked = params.text("event_type");
    params.finish()?;
    let view = app.door().endpoint(tenant.0, id).await?;
    let catalogue = catalogue(&app, &view.endpoint, asked.as_deref()).await?;
    let event_type = asked.unwrap_or_else(|| first_choice(&view.endpoint, &catalogue));
    let known = catalogue.description(&event_type).is_some();
    let values = Values::of(&app, event_type).await?;
    let unknown = (!known && !catalogue.is_empty()).then(|| {
        let (pointer, detail) = ("/event_type".to_owned(), UNKNOWN_TYPE.to_owned());
        Problem::invalid_fields(vec![FieldError { pointer, detail }])
    });
    let form = self::form(&visit, &view, &catalogue, &values, unknown.as_ref());
    Ok(page(&visit, &view, &form))
}

/// The types to choose from: what the endpoint wants is among them, and what was asked for.
async fn catalogue(
    app: &App,
    endpoint: &Endpoint,
    asked: Option<&str>,
) -> Result<Catalogue, Problem> {
    let wanted = match &endpoint.event_types {
        Subscription::All => None,
        Subscription::Only(names) => Some(names.iter().map(EventTypeName::as_str)),
    };
    Catalogue::with(app, asked.into_iter().chain(wanted.into_iter().flatten())).await
}

/// The first type that the endpoint wants, or else the first of all.
fn first_choice(endpoint: &Endpoint, catalogue: &Catalogue) -> String {
    let wanted = catalogue.names().find(|name| endpoint.event_types.wants(name));
    let first = wanted.or_else(|| catalogue.names().next());
    first.map(ToString::to_string).unwrap_or_default()
}

async fn send(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let mut values = Values::read(&form);
    if form.has(SHOW) {
        let page = visit.links().test(id);
        let page = address(&page, &[("event_type", &*values.event_type)]);
        return Ok(Redirect::to(&page).into_response());
    }
    let tested = match values.body() {
        Ok(body) => test_events::send(&app, tenant.0, id, &body).await,
        Err(problem) => Err(problem),
    };
    let view = app.door().endpoint(tenant.0, id).await?;
    let catalogue = catalogue(&app, &view.endpoint, Some(&values.event_type)).await?;
    match tested {
        Ok(tested) => {
            if values.payload.trim().is_empty() {
                values.payload = String::from_utf8_lossy(tested.payload.bytes()).into_owned();
            }
            let form = self::form(&visit, &view, &catalogue, &values, None);
            let body = html! { (result(&tested)) (form) };
            Ok(page(&visit, &view, &body).into_response())
        }
        Err(problem) => {
            let problem = problem.of_fields()?;
            let form = self::form(&visit, &view, &catalogue, &values, Some(&problem));
            Ok(page(&visit, &view, &form).refused(&problem).into_response())
        }
    }
}

fn page(visit: &Visit, EndpointView { endpoint, state, .. }: &EndpointView, body: &Markup) -> Page {
    let links = visit.links();
    let body = html! {
        p.crumbs {
            a href=(links.webhooks()) { "Webhooks" } " / "
            a href=(links.webhook(endpoint.id)) { bdi { (endpoint.name.as_str()) } }
        }
        h1 { "Send a test event" }
        p {
            "Makes one request to " bdi { code { (endpoint.url.as_str()) } } " now, signed like any other. "
            "Nothing is tried again, stored or counted."
            @if let Enabling::Disabled(_) = state { " The webhook is disabled; a test event is sent all the same." }
        }
        (body)
    };
    visit.page(Place::Webhooks, "Send a test event", body)
}

fn form(
    visit: &Visit,
    EndpointView { endpoint, .. }: &EndpointView,
    catalogue: &Catalogue,
    values: &Values,
    problem: Option<&Problem>,
) -> Markup {
    let page = visit.links().test(endpoint.id);
    let wrong = Errors::of(problem);
    if catalogue.is_empty() {
        let text = "A test event has a type of the catalogue; the operator puts them there.";
        return empty("No event types yet", text, None);
    }
    html! {
        section #test aria-labelledby="test-title" {
            h2 #test-title { "What to send" }
            form method="post" action=(page) {
                (visit.csrf())
                div.filter {
                    (types(&page, endpoint, catalogue, &values.event_type, wrong))
                    button type="submit" name=(SHOW) value="yes" { "Show example" }
                }
                (catalogue.rest())
                (Field::new("payload", "Payload", PAYLOAD_HINT, wrong).area(&values.payload))
                p.actions { button.primary type="submit" { "Send test event" } }
            }
        }
    }
}

/// The type, of which the example is shown once it is chosen.
fn types(
    page: &str,
    endpoint: &Endpoint,
    catalogue: &Catalogue,
    chosen: &str,
    errors: Errors<'_>,
) -> Markup {
    let description = catalogue.description(chosen);
    let field = Field::new("event_type", "Event type", description.unwrap_or_default(), errors);
    let (wanted, others): (Vec<_>, Vec<_>) =
        catalogue.names().partition(|name| endpoint.event_types.wants(name));
    field.around(html! {
        select #event_type name="event_type" aria-describedby=(field.described_by())
            aria-invalid=[field.is_wrong()]
            hx-get=(page) hx-trigger="change" hx-target="#test" hx-select="#test" hx-swap="outerHTML" {
            @if description.is_none() { option value="" selected { "Choose one" } }
            (group("What this webhook wants", &wanted, chosen))
            (group("What it does not want", &others, chosen))
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

fn result(Tested { payload, report }: &Tested) -> Markup {
    let sent = Sent { head: &report.request, body: Some(payload.bytes()) };
    html! {
        section #result aria-labelledby="result-title" {
            h2 #result-title { "Result" }
            p.headline role="status" {
                @match &report.error {
                    None => (badge(Kind::Good, "success")),
                    Some(error) => { (badge(Kind::Bad, "failed")) " " (failure(error.kind)) }
                }
                @if let Some(response) = &report.response { " " (status(response.status)) }
                " after " (report.duration_ms) " ms"
            }
            (phases(report.phases))
            (exchange("test", sent, report.response.as_ref(), report.error.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::form::Errors;

    fn body(form: &[u8]) -> Result<String, Problem> {
        let body = Values::read(&Form::parse(form)).body()?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn the_fields_become_what_the_api_reads() {
        let given = body(b"event_type=a%22b&payload=%7B+%22x%22%3A1.0%7D");
        assert_eq!(given.unwrap(), r#"{"event_type":"a\"b","payload":{ "x":1.0}}"#);
        assert_eq!(body(b"event_type=a&payload=+%0D%0A").unwrap(), r#"{"event_type":"a"}"#);
        assert_eq!(
            body(b"event_type=a&payload=null").unwrap(),
            r#"{"event_type":"a","payload":null}"#
        );
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        // The last one would be a field of its own.
        for (form, place) in [
            (&b"payload=%7B%0D%0A+%22a%22%3A+oops%0D%0A%7D"[..], "line 2 column 7"),
            (b"payload=%7B", "line 1 column 1"),
            (b"payload=1%2C%22b%22%3A2", "line 1 column 2"),
        ] {
            let problem = body(form).unwrap_err();
            let errors = Errors::of(Some(&problem)).at("payload");
            assert!(
                errors[0].starts_with("is not JSON: ") && errors[0].ends_with(place),
                "{errors:?}"
            );
        }
    }
}
