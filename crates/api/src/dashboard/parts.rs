//! Small pieces of pages.

use std::fmt::Display;
use std::time::Duration;

use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::State;
use postrider_domain::time::Timestamp;

use super::format::length;
use crate::rest::fields::name_of;
use crate::rest::wire::endpoint::{DISABLED, ENABLED};

const SECOND: Duration = Duration::from_secs(1);

/// How something is, as a colour says it; the text beside it says it as well.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Good,
    Bad,
    Warn,
    Accent,
    Faint,
}

impl Kind {
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

/// A state in a word.
pub(crate) fn badge(kind: Kind, text: &str) -> Markup {
    html! { span class={ "badge " (kind.class()) } { (text) } }
}

pub(crate) fn delivery_badge(state: DeliveryState) -> Markup {
    let kind = match state {
        DeliveryState::Pending => Kind::Accent,
        DeliveryState::Delivered => Kind::Good,
        DeliveryState::Exhausted => Kind::Bad,
        DeliveryState::Held => Kind::Warn,
        DeliveryState::Discarded => Kind::Faint,
    };
    badge(kind, &name_of(&state))
}

/// Whether an endpoint is sent to, and whether that goes well.
pub(crate) fn webhook_badge(state: &State, failure_count: u32) -> Markup {
    match state {
        State::Enabled if failure_count > 0 => badge(Kind::Warn, "failing"),
        State::Enabled => badge(Kind::Good, ENABLED),
        State::Disabled(_) => badge(Kind::Bad, DISABLED),
        State::Deleted => badge(Kind::Faint, "deleted"),
    }
}

/// A time. The script shows it in the reader's zone; without it, it is in UTC.
pub(crate) fn time(at: Timestamp) -> Markup {
    let exact = at.to_string();
    // 2026-01-31T12:00:00.000Z
    let text = match exact.split_once('T') {
        Some((date, time)) => format!("{date} {} UTC", &time[..time.len().min(8)]),
        None => exact.clone(),
    };
    html! { time datetime=(exact) title=(exact) { (text) } }
}

/// How long ago something was, with the time itself.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let (exact, age) = (at.to_string(), now.since(at));
    let text = if age < SECOND { "less than a second".to_owned() } else { length(age) };
    html! { time datetime=(exact) title=(exact) data-age { (text) } }
}

/// An id or another text that people copy.
pub(crate) fn copyable(text: impl Display) -> Markup {
    let text = text.to_string();
    html! {
        span.copyable {
            code { (text) }
            button.copy.quiet type="button" data-copy=(text) hidden { "Copy" span.hidden { " " (text) } }
        }
    }
}

/// What there is to say where there is nothing yet.
pub(crate) fn empty(title: &str, text: &str, action: Option<(&str, &str)>) -> Markup {
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
    /// One whose heading only screen readers tell.
    Unnamed(&'static str),
}

/// A table that may be wider than the page; the keyboard reaches it, to scroll it.
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

/// What a list says of its rest when it begins with the newest.
pub(crate) const OLDER: &str = "Older";

/// The way to the rest of a list, which a word tells.
pub(crate) fn pager(next: Option<&str>, word: &str) -> Markup {
    html! {
        @if let Some(next) = next {
            p.pager { a href=(next) rel="next" { (word) } }
        }
    }
}

/// The address of a page with these parameters; those without a value are left out.
pub(crate) fn address(page: &str, parameters: &[(&str, &str)]) -> String {
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
        for markup in [badge(Kind::Bad, hostile), copyable(hostile)] {
            let text = markup.into_string();
            assert!(!text.contains("<script"), "{text}");
        }
        assert_eq!(address("/a", &[("b", "c&d"), ("e", "")]), "/a?b=c%26d");
    }
}
