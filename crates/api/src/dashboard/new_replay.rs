//! The page of a new replay: its filter, the number of matching deliveries, and its start.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::EndpointId;
use postrider_domain::replay::{DEFAULT_RATE, MAX_RATE, REPLAYABLE, Replay};
use postrider_service::replays;
use postrider_store::{MAX_REPLAY_COUNT, ReplayCount};

use super::catalogue::Catalogue;
use super::field::{Field, errors, toggle};
use super::flash::Flash;
use super::form::{Errors, Form};
use super::format::{count, grouped};
use super::layout::{NavItem, Page, PageContext};
use super::webhook_select::WebhookSelect;
use crate::App;
use crate::rest::replays::NewReplay;
use crate::web::auth::Tenant;
use crate::web::choice::json_name;
use crate::web::fields::{Fields, Raw};
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/replays/new", get(show).post(create))
}

/// The fields' values as they were entered.
#[derive(Clone)]
struct Values {
    endpoint: String,
    event_types: BTreeSet<String>,
    states: BTreeSet<String>,
    since: String,
    until: String,
    rate: String,
}

impl Values {
    /// Unsuccessful deliveries to one endpoint, or to all.
    fn unsuccessful(endpoint: Option<EndpointId>) -> Self {
        let failed = [DeliveryState::Exhausted, DeliveryState::Discarded];
        Self {
            endpoint: endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
            event_types: BTreeSet::new(),
            states: failed.iter().map(json_name).collect(),
            since: String::new(),
            until: String::new(),
            rate: DEFAULT_RATE.to_string(),
        }
    }

    fn read(form: &Form) -> Self {
        let text = |name| form.text(name).trim().to_owned();
        let all = |name| form.values(name).into_iter().map(str::to_owned).collect();
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

    /// The same values, with the times in RFC 3339 as the API expects them.
    fn rfc3339(&self) -> Self {
        let time = |text: &String| if text.is_empty() { String::new() } else { to_rfc3339(text) };
        Self { since: time(&self.since), until: time(&self.until), ..self.clone() }
    }

    /// The fields of the request. Empty ones match everything, except that at least one state is
    /// required.
    fn fields(&self) -> Fields<'_> {
        let event_types = texts(&self.event_types);
        let event_types =
            (!event_types.is_empty()).then_some(("event_types", Raw::Texts(event_types)));
        let fields = [
            non_empty("endpoint", &self.endpoint),
            event_types,
            Some(("states", Raw::Texts(texts(&self.states)))),
            non_empty("since", &self.since),
            non_empty("until", &self.until),
            non_empty("rate", &self.rate),
        ];
        Fields::from_form(fields.into_iter().flatten())
    }

    fn show(
        &self,
        webhooks: &WebhookSelect,
        catalogue: &Catalogue,
        problem: Option<&Problem>,
    ) -> Markup {
        let errors = Errors::of(problem);
        let all_label = Some("All webhooks");
        html! {
            (webhooks.field(all_label, &self.endpoint, errors))
            (self.event_types_field(catalogue, &errors.at("event_types")))
            (self.states_field(&errors.at("states")))
            (time_field("since", "Since", "Deliveries created at or after this time, in UTC.", &self.since, errors))
            (time_field("until", "Until", "Deliveries created before this time, in UTC.", &self.until, errors))
            (self.rate_field(errors))
        }
    }

    fn event_types_field(&self, catalogue: &Catalogue, messages: &[String]) -> Markup {
        html! {
            fieldset.types {
                legend { "Event types" }
                p.hint { "Select none to replay all types." }
                (catalogue.choices(&self.event_types))
                (errors("event_types", messages))
            }
        }
    }

    fn states_field(&self, messages: &[String]) -> Markup {
        html! {
            fieldset {
                legend { "Delivery states" }
                @for state in REPLAYABLE {
                    @let name = json_name(&state);
                    (toggle(
                        html! { input type="checkbox" name="states" value=(name) checked[self.states.contains(&name)]; },
                        html! { span.strong { (name) } },
                        state_hint(state),
                    ))
                }
                (errors("states", messages))
            }
        }
    }

    fn rate_field(&self, errors: Errors<'_>) -> Markup {
        let field = Field::new("rate", "Rate", "Maximum deliveries per second.", errors);
        field.wrap(html! {
            input #rate type="number" name="rate" value=(self.rate) min="1" max=(MAX_RATE) step="1"
                aria-describedby=(field.described_by()) aria-invalid=[field.aria_invalid()];
        })
    }
}

fn state_hint(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Delivered => "The server responded with a 2xx status.",
        DeliveryState::Exhausted => "Every attempt failed.",
        DeliveryState::Discarded => "Held deliveries that were discarded.",
        DeliveryState::Pending | DeliveryState::Held => "Not finished yet.",
    }
}

fn texts(texts: &BTreeSet<String>) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// A field, unless its text is empty.
fn non_empty<'a>(name: &'static str, text: &'a str) -> Option<(&'static str, Raw<'a>)> {
    (!text.is_empty()).then_some((name, Raw::Text(text)))
}

/// A UTC time as a browser's `datetime-local` field shows it. The page's script submits times with
/// a zone, because it lets users enter local time.
fn without_zone(text: &str) -> &str {
    let time = text.strip_suffix(['Z', 'z']);
    time.filter(|time| time.ends_with(|last: char| last.is_ascii_digit())).unwrap_or(text)
}

/// The RFC 3339 time for a browser's time without a zone, taken as UTC. Other input is left as it
/// is, for the API to reject.
fn to_rfc3339(text: &str) -> String {
    match text.len() {
        // 2026-01-31T12:00, and with seconds or their fractions.
        16 => format!("{text}:00Z"),
        19.. => format!("{text}Z"),
        _ => text.to_owned(),
    }
}

fn time_field(name: &str, label: &str, hint: &str, value: &str, errors: Errors<'_>) -> Markup {
    let field = Field::new(name, label, hint, errors);
    field.wrap(html! {
        input id=(name) type="datetime-local" name=(name) value=(value) step="1" data-utc
            min="1970-01-02T00:00:00" max="9999-12-30T00:00:00"
            aria-describedby=(field.described_by()) aria-invalid=[field.aria_invalid()];
    })
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let endpoint = params.take("endpoint", str::parse::<EndpointId>);
    params.finish()?;
    page(&ctx, &app, &tenant, &Values::unsuccessful(endpoint), None).await
}

/// The result of submitting the form.
enum Submission<'a> {
    Counted(ReplayCount),
    Rejected(&'a Problem),
}

async fn page(
    ctx: &PageContext,
    app: &App,
    tenant: &Tenant,
    values: &Values,
    submission: Option<Submission<'_>>,
) -> Result<Page, Problem> {
    let urls = ctx.urls();
    let webhooks = WebhookSelect::of(app, tenant.0).await?;
    let chosen = values.event_types.iter().map(String::as_str);
    let catalogue = Catalogue::load(app, chosen).await?;
    let (counted, problem) = match submission {
        Some(Submission::Counted(count)) => (Some(count), None),
        Some(Submission::Rejected(problem)) => (None, Some(problem)),
        None => (None, None),
    };
    let body = html! {
        p.crumbs { a href=(urls.replays()) { "Replays" } }
        h1 { "New replay" }
        p { "Every matching delivery is sent again to the same webhook, with its own retry schedule." }
        form method="post" action=(urls.new_replay()) {
            (ctx.csrf())
            (values.show(&webhooks, &catalogue, problem))
            @if let Some(counted) = counted { p.flash role="status" { (count_text(counted)) } }
            p.actions {
                button type="submit" name="do" value="count" { "Count deliveries" }
                button.primary type="submit" name="do" value="start" { "Start replay" }
                a href=(urls.replays()) { "Cancel" }
            }
        }
    };
    Ok(ctx.page(NavItem::Replays, "New replay", body))
}

fn count_text(counted: ReplayCount) -> String {
    let matches = count(counted.total, "delivery matches", "deliveries match");
    match (counted.exact, counted.total) {
        (true, 0) => "No deliveries match.".to_owned(),
        (true, _) => format!("{matches}."),
        (false, _) => {
            let most = grouped(MAX_REPLAY_COUNT as u64);
            format!("At least {matches}. Counting stopped after {most} deliveries.")
        }
    }
}

async fn create(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let values = Values::read(&form);
    // The Enter key presses the first button, which only counts.
    let count_only = form.text("do") != "start";
    match run(&app, &tenant, &values, count_only).await {
        Ok(Outcome::Started(replay)) => {
            let page = ctx.urls().replay(replay.id);
            Ok(Redirect::to(&Flash::Started.redirect_target(&page)).into_response())
        }
        Ok(Outcome::Counted(count)) => {
            let submission = Some(Submission::Counted(count));
            Ok(page(&ctx, &app, &tenant, &values, submission).await?.into_response())
        }
        Err(problem) => {
            let problem = problem.if_invalid_fields()?;
            let submission = Some(Submission::Rejected(&problem));
            let page = page(&ctx, &app, &tenant, &values, submission).await?;
            Ok(page.with_status_of(&problem).into_response())
        }
    }
}

enum Outcome {
    Counted(ReplayCount),
    Started(Replay),
}

async fn run(
    app: &App,
    tenant: &Tenant,
    values: &Values,
    count_only: bool,
) -> Result<Outcome, Problem> {
    let values = values.rfc3339();
    let new = NewReplay::parse(values.fields(), app, tenant.0).await?;
    let new = replays::NewReplay::from(new);
    if count_only {
        let count = app.service().count_replay(tenant.0, &new.filter).await?;
        return Ok(Outcome::Counted(count));
    }
    Ok(Outcome::Started(app.service().start_replay(tenant.0, new, None).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_are_omitted() {
        let names = |form: &str| {
            let values = Values::read(&Form::parse(form.as_bytes()));
            let mut findings = values.fields().into_errors().into_vec();
            findings.drain(..).map(|error| error.pointer).collect::<Vec<_>>()
        };
        let all = "endpoint=ep_1&event_types=b&event_types=a&states=exhausted\
            &since=2026-01-31T12:00&until=2026-02-01T12:00:30Z&rate=5";
        let pointers = ["/endpoint", "/event_types", "/states", "/since", "/until", "/rate"];
        assert_eq!(names(all), pointers);
        assert_eq!(names("endpoint=&since=&until=&rate="), ["/states"]);
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
            assert_eq!(to_rfc3339(without_zone(text)), expected);
        }
    }

    #[test]
    fn an_incomplete_count_says_so() {
        let text = |total, exact| self::count_text(ReplayCount { total, exact });
        assert_eq!(text(0, true), "No deliveries match.");
        assert_eq!(text(1, true), "1 delivery matches.");
        assert!(text(1_234, false).starts_with("At least 1,234 deliveries match. "));
    }
}
