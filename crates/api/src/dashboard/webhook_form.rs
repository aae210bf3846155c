//! The fields of a webhook, for a new one and for a change: what they show, and how they become the
//! JSON that the API reads.

use std::collections::BTreeSet;

use bytes::Bytes;
use maud::{Markup, html};
use postrider_domain::endpoint::{Endpoint, Ordering, Subscription};
use serde_json::Value;

use super::catalogue::Catalogue;
use super::field::{Field, errors, toggle};
use super::form::{Errors, Form, object_of_texts};
use super::links::Links;
use crate::web::problem::{FieldError, Problem};

const URL_HINT: &str =
    "Where webhooks are sent, by POST. Redirects are not followed: give the final address.";
const HEADERS_HINT: &str = "Added to each request: a line each, such as «Authorization: Bearer …».";

/// Where the headers are in the JSON.
const HEADERS: &str = "/headers";

/// What the fields hold, as it was written.
#[derive(Debug, Default)]
pub(crate) struct Values {
    name: String,
    url: String,
    all: bool,
    event_types: BTreeSet<String>,
    headers: String,
    strict: bool,
}

impl Values {
    /// The fields of a webhook that there is.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let headers = endpoint.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let (all, event_types) = match &endpoint.event_types {
            Subscription::All => (true, BTreeSet::new()),
            Subscription::Only(names) => (false, names.iter().map(ToString::to_string).collect()),
        };
        Self {
            name: endpoint.name.as_str().to_owned(),
            url: endpoint.url.as_str().to_owned(),
            all,
            event_types,
            headers: headers.collect(),
            strict: endpoint.ordering == Ordering::Strict,
        }
    }

    /// The fields as somebody filled them in.
    pub(crate) fn read(form: &Form) -> Self {
        Self {
            name: form.text("name").to_owned(),
            url: form.text("url").trim().to_owned(),
            all: form.has("all"),
            event_types: form.all("event_types").into_iter().map(str::to_owned).collect(),
            headers: form.text("headers").to_owned(),
            strict: form.text("ordering") == "strict",
        }
    }

    /// The event types that are chosen.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = &str> {
        self.event_types.iter().map(String::as_str)
    }

    /// What the API reads, and refuses when a line of the headers is none.
    pub(crate) fn body(&self) -> Bytes {
        let types: Vec<&str> = match self.all {
            true => vec!["*"],
            false => self.chosen().collect(),
        };
        let ordering = if self.strict { "strict" } else { "parallel" };
        let (name, url) = (Value::from(&*self.name), Value::from(&*self.url));
        let headers = match self.header_lines() {
            Ok(lines) => object_of_texts(lines.into_iter()),
            Err(_) => "\"\"".to_owned(),
        };
        Bytes::from(format!(
            r#"{{"name":{name},"url":{url},"event_types":{},"headers":{headers},"ordering":"{ordering}"}}"#,
            Value::from(types)
        ))
    }

    /// A refusal of [`Values::body`], in words about lines where the API knows of an object alone.
    pub(crate) fn explain(&self, problem: Problem) -> Problem {
        match self.header_lines() {
            Ok(_) => problem,
            Err(mut lines) => {
                let others = problem.errors().iter().filter(|error| error.pointer != HEADERS);
                lines.extend(others.cloned());
                Problem::invalid_fields(lines)
            }
        }
    }

    fn header_lines(&self) -> Result<Vec<(&str, &str)>, Vec<FieldError>> {
        let (mut pairs, mut wrong) = (Vec::new(), Vec::new());
        for (number, line) in (1..).zip(self.headers.lines()) {
            match line.split_once(':') {
                Some((name, value)) => pairs.push((name.trim(), value.trim())),
                None if line.trim().is_empty() => {}
                None => wrong.push(FieldError {
                    pointer: HEADERS.to_owned(),
                    detail: format!("Line {number} has no colon between a name and a value."),
                }),
            }
        }
        if wrong.is_empty() { Ok(pairs) } else { Err(wrong) }
    }

    /// The fields.
    pub(crate) fn show(
        &self,
        links: &Links,
        catalogue: &Catalogue,
        problem: Option<&Problem>,
    ) -> Markup {
        let errors = Errors::of(problem);
        html! {
            (Field::new("name", "Name", "What people call it.", errors).text(&self.name))
            (self.url_field(links, errors))
            (self.event_types_field(catalogue, &errors.at("event_types")))
            (Field::new("headers", "Headers", HEADERS_HINT, errors).area(&self.headers))
            fieldset {
                legend { "Order" }
                (radio("ordering", "parallel", !self.strict, "Parallel",
                    "Several at a time; a delivery that fails is overtaken."))
                (radio("ordering", "strict", self.strict, "Strict",
                    "One at a time, in the order of the events; one that fails holds back the others."))
            }
        }
    }

    /// It is checked while it is typed.
    fn url_field(&self, links: &Links, errors: Errors<'_>) -> Markup {
        let field = Field::new("url", "URL", URL_HINT, errors);
        field.around(html! {
            input #url type="url" name="url" value=(self.url) placeholder="https://example.com/webhooks"
                autocomplete="off" aria-describedby=(field.described_by()) aria-invalid=[field.is_wrong()]
                hx-get=(links.check_url()) hx-trigger="input changed delay:400ms"
                hx-target="#url-error" hx-swap="outerHTML" hx-sync="this:replace";
        })
    }

    fn event_types_field(&self, catalogue: &Catalogue, wrong: &[String]) -> Markup {
        html! {
            fieldset.types {
                legend { "Event types" }
                (toggle(
                    html! { input type="checkbox" name="all" checked[self.all] data-all; },
                    html! { span.strong { "All" } },
                    "Every type, also those to come.",
                ))
                (catalogue.choices(&self.event_types))
                @if catalogue.is_empty() {
                    p.hint { "The catalogue has no event types yet; the operator puts them there." }
                }
                (errors("event_types", wrong))
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
    use super::*;

    #[test]
    fn the_fields_become_what_the_api_reads() {
        let form = Form::parse(
            b"name=%22A%22&url=+https://a/+&event_types=b&event_types=a&headers=X-A:1%0D%0A%0D%0Ax-a:+2&ordering=strict",
        );
        let body = Values::read(&form).body();
        let expected = r#"{"name":"\"A\"","url":"https://a/","event_types":["a","b"],"headers":{"X-A":"1","x-a":"2"},"ordering":"strict"}"#;
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
        let all = Values::read(&Form::parse(b"all=on&event_types=a")).body();
        assert!(std::str::from_utf8(&all).unwrap().contains(r#""event_types":["*"]"#));
    }

    #[test]
    fn a_line_that_is_no_header_is_told() {
        let values = Values::read(&Form::parse(b"headers=a:b%0Ac"));
        let found = ["/headers", "/url"].map(|pointer| FieldError {
            pointer: pointer.to_owned(),
            detail: "must be an object".to_owned(),
        });
        let problem = values.explain(Problem::invalid_fields(found.to_vec()));
        let errors = Errors::of(Some(&problem));
        assert!(errors.at("headers")[0].contains("Line 2") && errors.at("headers").len() == 1);
        assert_eq!(errors.at("url"), ["must be an object"]);
    }
}
