//! Components that pages share: badges, times, tables, empty states.

use std::fmt::Display;
use std::time::Duration;

use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::State;
use postrider_domain::time::Timestamp;

use super::format::short_duration;
use crate::rest::wire::endpoint::{DISABLED, ENABLED};
use crate::web::choice::json_name;

const SECOND: Duration = Duration::from_secs(1);

/// The colour of a badge. The text alone conveys the same information.
#[derive(Clone, Copy)]
pub(crate) enum Tone {
    Good,
    Bad,
    Warn,
    Accent,
    Faint,
}

impl Tone {
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Accent => "accent",
            Self::Faint => "faint",
        }
    }
}

/// A state as a coloured word.
pub(crate) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (text) } }
}

pub(crate) fn delivery_badge(state: DeliveryState) -> Markup {
    let tone = match state {
        DeliveryState::Pending => Tone::Accent,
        DeliveryState::Delivered => Tone::Good,
        DeliveryState::Exhausted => Tone::Bad,
        DeliveryState::Held => Tone::Warn,
        DeliveryState::Discarded => Tone::Faint,
    };
    badge(tone, &json_name(&state))
}

/// The state and health of an endpoint.
pub(crate) fn webhook_badge(state: &State, failure_count: u32) -> Markup {
    match state {
        State::Enabled if failure_count > 0 => badge(Tone::Warn, "failing"),
        State::Enabled => badge(Tone::Good, ENABLED),
        State::Disabled(_) => badge(Tone::Bad, DISABLED),
        State::Deleted => badge(Tone::Faint, "deleted"),
    }
}

/// A time in UTC, which the script converts to the reader's time zone.
pub(crate) fn time(at: Timestamp) -> Markup {
    let exact = at.to_string();
    // 2026-01-31T12:00:00.000Z
    let text = match exact.split_once('T') {
        Some((date, time)) => format!("{date} {} UTC", &time[..time.len().min(8)]),
        None => exact.clone(),
    };
    html! { time datetime=(exact) title=(exact) { (text) } }
}

/// The age of something, with its time as tooltip.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> Markup {
    let (exact, age) = (at.to_string(), now.since(at));
    let text = if age < SECOND { "less than a second".to_owned() } else { short_duration(age) };
    html! { time datetime=(exact) title=(exact) data-age { (text) } }
}

/// An id or other text with a copy button.
pub(crate) fn copyable(text: impl Display) -> Markup {
    let text = text.to_string();
    html! {
        span.copyable {
            code { (text) }
            button.copy.quiet type="button" data-copy=(text) hidden { "Copy" span.hidden { " " (text) } }
        }
    }
}

/// The placeholder of an empty list, with an optional link to the first step.
pub(crate) fn empty_state(title: &str, text: &str, action: Option<(&str, &str)>) -> Markup {
    html! {
        div.empty {
            p.strong { (title) }
            p { (text) }
            @if let Some((link, text)) = action { p { a.button href=(link) { (text) } } }
        }
    }
}

/// A column of a table.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
    /// A column with a heading for screen readers only.
    Unnamed(&'static str),
}

/// A table that scrolls horizontally, also with the keyboard.
pub(crate) fn table(label: &str, columns: &[Column], rows: Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead { tr { @for column in columns { (heading(*column)) } } }
                tbody { (rows) }
            }
        }
    }
}

fn heading(column: Column) -> Markup {
    html! {
        @match column {
            Column::Text(name) => th scope="col" { (name) },
            Column::Number(name) => th.number scope="col" { (name) },
            Column::Unnamed(name) => th scope="col" { span.hidden { (name) } },
        }
    }
}

/// The text of the link to the next page of a list that is sorted newest first.
pub(crate) const OLDER: &str = "Older";

/// The link to the next page of a list.
pub(crate) fn pager(next: Option<&str>, label: &str) -> Markup {
    html! {
        @if let Some(next) = next {
            p.pager { a href=(next) rel="next" { (label) } }
        }
    }
}

/// A page's URL with query parameters, without the empty ones.
pub(crate) fn with_query(page: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    match query.finish() {
        query if query.is_empty() => page.to_owned(),
        query => format!("{page}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_text() {
        let hostile = "\"><script>alert(1)</script>";
        for markup in [badge(Tone::Bad, hostile), copyable(hostile)] {
            let text = markup.into_string();
            assert!(!text.contains("<script"), "{text}");
        }
        assert_eq!(with_query("/a", &[("b", "c&d"), ("e", "")]), "/a?b=c%26d");
    }
}
