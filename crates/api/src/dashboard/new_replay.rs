//! The page of a new replay: which deliveries it takes, how many those are, and its start.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::EndpointId;
use postrider_store::{MOST_COUNTED, ReplayCount};
use serde_json::{Map, Value};

use super::catalogue::Catalogue;
use super::field::{Field, errors, toggle};
use super::form::{self, Errors, Form};
use super::format::{count, grouped};
use super::frame::{Page, Place, Visit};
use super::said::Said;
use super::webhook_choice::WebhookChoice;
use crate::App;
use crate::rest::fields::name_of;
use crate::rest::replays::{self, DEFAULT_RATE, MAX_RATE, Made};
use crate::rest::wire::replay::REPLAYABLE;
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/replays/new", get(show).post(make))
}

/// What the fields hold, as it was written.
struct Values {
    endpoint: String,
    event_types: BTreeSet<String>,
    states: BTreeSet<String>,
    since: String,
    until: String,
    rate: String,
}

impl Values {
    /// Deliveries to an endpoint, or to all, that came to no good end.
    fn blank(endpoint: Option<EndpointId>) -> Self {
        let failed = [DeliveryState::Exhausted, DeliveryState::Discarded];
        Self {
            endpoint: endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
            event_types: BTreeSet::new(),
            states: failed.iter().map(name_of).collect(),
            since: String::new(),
            until: String::new(),
            rate: DEFAULT_RATE.to_string(),
        }
    }

    fn read(form: &Form) -> Self {
        let text = |name| form.text(name).trim().to_owned();
        let all = |name| form.all(name).into_iter().map(str::to_owned).collect();
        let time = |name| without_zone(form.text(name).trim()).to_owned();
        Self {
            endpoint: text("endpoint"),
            event_types: all("event_types"),
            states: all("states"),
            since: time("since"),
            until: time("until"),
            rate: text("rate"),
        }
    }

    /// What the API reads. An empty field restricts nothing; but no state at all takes nothing.
    fn body(&self, dry_run: bool) -> Bytes {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        if !self.endpoint.is_empty() {
            put("endpoint", self.endpoint.as_str().into());
        }
        if !self.event_types.is_empty() {
            put("event_types", self.event_types.iter().cloned().collect());
        }
        put("states", self.states.iter().cloned().collect());
        for (name, text) in [("since", &self.since), ("until", &self.until)] {
            if !text.is_empty() {
                put(name, utc(text).into());
            }
        }
        if !self.rate.is_empty() {
            let rate = self.rate.parse::<u32>();
            put("rate", rate.map_or_else(|_| self.rate.as_str().into(), Value::from));
        }
        put("dry_run", dry_run.into());
        form::body(&Value::Object(fields))
    }

    fn show(
        &self,
        webhooks: &WebhookChoice,
        catalogue: &Catalogue,
        problem: Option<&Problem>,
    ) -> Markup {
        let errors = Errors::of(problem);
        let any = Some("All webhooks");
        html! {
            (webhooks.field(any, &self.endpoint, errors))
            (self.event_types_field(catalogue, &errors.at("event_types")))
            (self.states_field(&errors.at("states")))
            (time_field("since", "Since", "Deliveries made at this time or later, in UTC.", &self.since, errors))
            (time_field("until", "Until", "Deliveries made before this time, in UTC.", &self.until, errors))
            (self.rate_field(errors))
        }
    }

    fn event_types_field(&self, catalogue: &Catalogue, wrong: &[String]) -> Markup {
        html! {
            fieldset.types {
                legend { "Event types" }
                p.hint { "None chosen: deliveries of all types." }
                (catalogue.choices(&self.event_types))
                (errors("event_types", wrong))
            }
        }
    }

    fn states_field(&self, wrong: &[String]) -> Markup {
        html! {
            fieldset {
                legend { "Deliveries that are" }
                @for state in REPLAYABLE {
                    @let name = name_of(&state);
                    (toggle(
                        html! { input type="checkbox" name="states" value=(name) checked[self.states.contains(&name)]; },
                        html! { span.strong { (name) } },
                        meaning(state),
                    ))
                }
                (errors("states", wrong))
            }
        }
    }

    fn rate_field(&self, errors: Errors<'_>) -> Markup {
        let field = Field::new("rate", "Rate", "Most new deliveries a second.", errors);
        field.around(html! {
            input #rate type="number" name="rate" value=(self.rate) min="1" max=(MAX_RATE) step="1"
                aria-describedby=(field.described_by()) aria-invalid=[field.is_wrong()];
        })
    }
}

fn meaning(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Delivered => "They were answered with a 2XX.",
        DeliveryState::Exhausted => "Every attempt failed.",
        DeliveryState::Discarded => "They were given up, with what was held.",
        DeliveryState::Pending | DeliveryState::Held => "They are still to be made.",
    }
}

/// A time in UTC as a browser's field of a time shows it. The script of the pages sends it with its
/// zone, after it let the reader write it in another one.
fn without_zone(text: &str) -> &str {
    let time = text.strip_suffix(['Z', 'z']);
    time.filter(|time| time.ends_with(|last: char| last.is_ascii_digit())).unwrap_or(text)
}

/// A time that a browser writes without a zone, which is meant to be UTC. Whatever else stands there
/// is left as it is, for the API to judge.
fn utc(text: &str) -> String {
    match text.len() {
        // 2026-01-31T12:00, and with seconds or their fractions.
        16 => format!("{text}:00Z"),
        19.. => format!("{text}Z"),
        _ => text.to_owned(),
    }
}

fn time_field(name: &str, label: &str, hint: &str, value: &str, errors: Errors<'_>) -> Markup {
    let field = Field::new(name, label, hint, errors);
    field.around(html! {
        input id=(name) type="datetime-local" name=(name) value=(value) step="1" data-utc
            min="1970-01-02T00:00:00" max="9999-12-30T00:00:00"
            aria-describedby=(field.described_by()) aria-invalid=[field.is_wrong()];
    })
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let endpoint = params.take("endpoint", str::parse::<EndpointId>);
    params.finish()?;
    page(&visit, &app, &tenant, &Values::blank(endpoint), None).await
}

/// What is to be said of what the fields hold.
enum Answer<'a> {
    Counted(ReplayCount),
    Refused(&'a Problem),
}

async fn page(
    visit: &Visit,
    app: &App,
    tenant: &Tenant,
    values: &Values,
    answer: Option<Answer<'_>>,
) -> Result<Page, Problem> {
    let links = visit.links();
    let webhooks = WebhookChoice::of(app, tenant.0).await?;
    let chosen = values.event_types.iter().map(String::as_str);
    let catalogue = Catalogue::with(app, chosen).await?;
    let (counted, problem) = match answer {
        Some(Answer::Counted(count)) => (Some(count), None),
        Some(Answer::Refused(problem)) => (None, Some(problem)),
        None => (None, None),
    };
    let body = html! {
        p.crumbs { a href=(links.replays()) { "Replays" } }
        h1 { "New replay" }
        p { "Each past delivery that it takes is made anew, to the same webhook, with its own retries." }
        form method="post" action=(links.new_replay()) {
            (visit.csrf())
            (values.show(&webhooks, &catalogue, problem))
            @if let Some(counted) = counted { p.said role="status" { (total(counted)) } }
            p.actions {
                button type="submit" name="do" value="count" { "Count" }
                button.primary type="submit" name="do" value="start" { "Start" }
                a href=(links.replays()) { "Cancel" }
            }
        }
    };
    Ok(visit.page(Place::Replays, "New replay", body))
}

fn total(counted: ReplayCount) -> String {
    let deliveries = count(counted.total, "delivery", "deliveries");
    match (counted.exact, counted.total) {
        (true, 0) => "It would take no delivery.".to_owned(),
        (true, _) => format!("It would take {deliveries}."),
        (false, _) => {
            let most = grouped(MOST_COUNTED as u64);
            format!("It would take {deliveries} or more: counting stops after looking at {most}.")
        }
    }
}

async fn make(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let values = Values::read(&form);
    // The Enter key takes the first button, which only counts.
    let dry_run = form.text("do") != "start";
    match replays::make(&app, tenant.0, &values.body(dry_run)).await {
        Ok(Made::Started(replay)) => {
            let page = visit.links().replay(replay.id);
            Ok(Redirect::to(&Said::Started.at(&page)).into_response())
        }
        Ok(Made::Counted(count)) => {
            let answer = Some(Answer::Counted(count));
            Ok(page(&visit, &app, &tenant, &values, answer).await?.into_response())
        }
        Err(problem) => {
            let problem = problem.of_fields()?;
            let answer = Some(Answer::Refused(&problem));
            let page = page(&visit, &app, &tenant, &values, answer).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(form: &str, dry_run: bool) -> String {
        String::from_utf8(Values::read(&Form::parse(form.as_bytes())).body(dry_run).to_vec())
            .unwrap()
    }

    #[test]
    fn the_fields_become_what_the_api_reads() {
        let form = "endpoint=ep_1&event_types=b&event_types=a&states=exhausted\
            &since=2026-01-31T12:00&until=2026-02-01T12:00:30Z&rate=5";
        let expected = r#"{"endpoint":"ep_1","event_types":["a","b"],"states":["exhausted"],"since":"2026-01-31T12:00:00Z","until":"2026-02-01T12:00:30Z","rate":5,"dry_run":true}"#;
        let fields = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(fields(&body(form, true)), fields(expected));
        let empty = fields(&body("endpoint=&since=&until=&rate=", false));
        assert_eq!(empty, fields(r#"{"states":[],"dry_run":false}"#));
        assert_eq!(fields(&body("rate=many", false))["rate"], "many");
    }

    #[test]
    fn times_without_a_zone_are_in_utc() {
        for (text, expected) in [
            ("2026-01-31T12:00", "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:01", "2026-01-31T12:00:01Z"),
            ("2026-01-31T12:00:01.5", "2026-01-31T12:00:01.5Z"),
            ("2026-01-31T12:00:01Z", "2026-01-31T12:00:01Z"),
            ("2026-01-31T12:00:01ZZ", "2026-01-31T12:00:01ZZZ"),
            ("Z", "Z"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(utc(without_zone(text)), expected);
        }
    }

    #[test]
    fn a_count_that_was_stopped_says_so() {
        let said = |total, exact| self::total(ReplayCount { total, exact });
        assert_eq!(said(0, true), "It would take no delivery.");
        assert_eq!(said(1, true), "It would take 1 delivery.");
        assert!(said(1_234, false).starts_with("It would take 1,234 deliveries or more"));
    }
}
