//! The form fields of a new or edited webhook, and their conversion to the fields of the request.

use std::collections::BTreeSet;

use maud::{Markup, html};
use postrider_domain::disable::DisableWhen;
use postrider_domain::endpoint::{Endpoint, Ordering, Subscription};
use postrider_domain::rate_limit::RateLimit;

use super::catalogue::Catalogue;
use super::field::{self, Field, errors, toggle};
use super::form::{Errors, Form};
use super::urls::Urls;
use crate::web::fields::{Fields, Raw};
use crate::web::problem::Problem;

const URL_HINT: &str =
    "Events are sent here as POST requests. Redirects are not followed, so enter the final URL.";
const RATE_HINT: &str = "Leave empty to send as fast as your server responds.";
const BURST_HINT: &str = "How many requests may be sent at once after a pause.";
const HEADERS_HINT: &str = "Added to every request. One per line, e.g. Authorization: Bearer …";

/// The fields' values as they were entered.
#[derive(Debug, Default)]
pub(crate) struct Values {
    name: String,
    url: String,
    all: bool,
    event_types: BTreeSet<String>,
    headers: String,
    strict: bool,
    per_second: String,
    burst: String,
    disable_when: String,
}

impl Values {
    /// The values of an existing webhook.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let headers = endpoint.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let (all, event_types) = match &endpoint.event_types {
            Subscription::All => (true, BTreeSet::new()),
            Subscription::Only(names) => (false, names.iter().map(ToString::to_string).collect()),
        };
        let limit =
            |text: fn(RateLimit) -> String| endpoint.rate_limit.map(text).unwrap_or_default();
        Self {
            name: endpoint.name.as_str().to_owned(),
            url: endpoint.url.as_str().to_owned(),
            all,
            event_types,
            headers: headers.collect(),
            strict: endpoint.ordering == Ordering::Strict,
            per_second: limit(|limit| limit.per_second().to_string()),
            burst: limit(|limit| limit.burst().to_string()),
            disable_when: endpoint.disable_when.map_or("", DisableWhen::as_str).to_owned(),
        }
    }

    /// The values of a submitted form.
    pub(crate) fn read(form: &Form) -> Self {
        Self {
            name: form.text("name").to_owned(),
            url: form.text("url").trim().to_owned(),
            all: form.has("all"),
            event_types: form.values("event_types").into_iter().map(str::to_owned).collect(),
            headers: form.text("headers").to_owned(),
            strict: form.text("ordering") == "strict",
            per_second: form.text("per_second").trim().to_owned(),
            burst: form.text("burst").trim().to_owned(),
            disable_when: form.text("disable_when").to_owned(),
        }
    }

    /// The selected event types.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = &str> {
        self.event_types.iter().map(String::as_str)
    }

    /// The fields of the request.
    pub(crate) fn fields(&self) -> Fields<'_> {
        let types = match self.all {
            true => vec!["*"],
            false => self.chosen().collect(),
        };
        Fields::from_form([
            ("name", Raw::Text(&self.name)),
            ("url", Raw::Text(&self.url)),
            ("event_types", Raw::Texts(types)),
            ("headers", self.header_lines()),
            ("ordering", Raw::Text(if self.strict { "strict" } else { "parallel" })),
            ("rate_limit", self.rate_limit()),
            ("disable_when", self.disable_when()),
        ])
    }

    fn rate_limit(&self) -> Raw<'_> {
        let values = [("per_second", self.per_second.as_str()), ("burst", self.burst.as_str())];
        let entered: Vec<_> = values.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        if entered.is_empty() { Raw::Null } else { Raw::Pairs(entered) }
    }

    fn disable_when(&self) -> Raw<'_> {
        if self.disable_when.is_empty() { Raw::Null } else { Raw::Text(&self.disable_when) }
    }

    fn header_lines(&self) -> Raw<'_> {
        let (mut pairs, mut invalid) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(self.headers.lines()) {
            match line.split_once(':') {
                Some((name, value)) => pairs.push((name.trim(), value.trim())),
                None if line.trim().is_empty() => {}
                None => invalid.push(format!("Line {number} has no colon between name and value.")),
            }
        }
        if invalid.is_empty() { Raw::Pairs(pairs) } else { Raw::Invalid(invalid) }
    }

    pub(crate) fn show(
        &self,
        urls: &Urls,
        catalogue: &Catalogue,
        problem: Option<&Problem>,
    ) -> Markup {
        let errors = Errors::of(problem);
        html! {
            (Field::new("name", "Name", "A name for your team.", errors).text(&self.name))
            (self.url_field(urls, errors))
            (self.event_types_field(catalogue, &errors.at("event_types")))
            (Field::new("headers", "Headers", HEADERS_HINT, errors).area(&self.headers))
            fieldset {
                legend { "Ordering" }
                (radio("ordering", "parallel", !self.strict, "Parallel",
                    "Fastest. Events can arrive out of order."))
                (radio("ordering", "strict", self.strict, "Strict",
                    "One at a time, in order. A failing event blocks the ones behind it."))
            }
            fieldset {
                legend { "Rate limit" }
                (Field::new("per_second", "Requests per second", RATE_HINT, Errors::None).text(&self.per_second))
                (Field::new("burst", "Burst", BURST_HINT, Errors::None).text(&self.burst))
                (field::errors("rate_limit", &errors.at("rate_limit")))
            }
            (self.disable_when_field())
        }
    }

    fn disable_when_field(&self) -> Markup {
        let choices = [
            ("", "As the operator has set"),
            (DisableWhen::Exhausted.as_str(), "A delivery fails on every attempt"),
            (
                DisableWhen::ExhaustedAndNothingDelivered.as_str(),
                "A delivery fails on every attempt, and no other delivery succeeds meanwhile",
            ),
        ];
        html! {
            div.field { (field::select("disable_when", "Disable when", &choices, &self.disable_when)) }
        }
    }

    /// The URL is validated while it is typed.
    fn url_field(&self, urls: &Urls, errors: Errors<'_>) -> Markup {
        let field = Field::new("url", "URL", URL_HINT, errors);
        field.wrap(html! {
            input #url type="url" name="url" value=(self.url) placeholder="https://example.com/webhooks"
                autocomplete="off" aria-describedby=(field.described_by()) aria-invalid=[field.aria_invalid()]
                hx-get=(urls.check_url()) hx-trigger="input changed delay:400ms"
                hx-target="#url-error" hx-swap="outerHTML" hx-sync="this:replace";
        })
    }

    fn event_types_field(&self, catalogue: &Catalogue, messages: &[String]) -> Markup {
        html! {
            fieldset.types {
                legend { "Event types" }
                (toggle(
                    html! { input type="checkbox" name="all" checked[self.all] data-all; },
                    html! { span.strong { "All" } },
                    "All current and future event types.",
                ))
                (catalogue.choices(&self.event_types))
                @if catalogue.is_empty() {
                    p.hint { "There are no event types yet. The operator adds them." }
                }
                (errors("event_types", messages))
            }
        }
    }
}

fn radio(name: &str, value: &str, checked: bool, text: &str, hint: &str) -> Markup {
    let control = html! { input type="radio" name=(name) value=(value) checked[checked]; };
    toggle(control, html! { span.strong { (text) } }, hint)
}

#[cfg(test)]
mod tests {
    use postrider_domain::headers::CustomHeaders;

    use super::*;

    #[test]
    fn header_lines_are_pairs() {
        let values = Values::read(&Form::parse(b"headers=X-A:1%0D%0A%0D%0Ax-a:+2"));
        match values.header_lines() {
            Raw::Pairs(pairs) => assert_eq!(pairs, [("X-A", "1"), ("x-a", "2")]),
            _ => panic!("no pairs"),
        }
    }

    #[test]
    fn a_malformed_header_line_is_reported_with_its_number() {
        let values = Values::read(&Form::parse(b"headers=a:b%0Ac"));
        let mut fields = values.fields();
        let read = fields.non_null("headers", |field| field.string_map(CustomHeaders::parse));
        assert!(read.is_none());
        let errors = fields.into_errors().into_vec();
        assert_eq!(errors[0].pointer, "/headers");
        assert!(errors[0].detail.contains("Line 2"), "{errors:?}");
    }

    #[test]
    fn all_event_types_are_a_star() {
        let values = Values::read(&Form::parse(b"all=on&event_types=a"));
        let read =
            values.fields().non_null("event_types", |field| field.list(0..=9, |it| it.string()));
        assert_eq!(read.unwrap()[0].1, "*");
    }
}
