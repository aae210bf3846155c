//! Small pieces of pages.

use std::fmt::Display;
use std::time::Duration;

use maud::{Markup, html};
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::State;
use postrider_domain::time::Timestamp;

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
    match state {
        DeliveryState::Pending => badge(Kind::Accent, "pending"),
        DeliveryState::Delivered => badge(Kind::Good, "delivered"),
        DeliveryState::Exhausted => badge(Kind::Bad, "exhausted"),
        DeliveryState::Held => badge(Kind::Warn, "held"),
        DeliveryState::Discarded => badge(Kind::Faint, "discarded"),
    }
}

/// Whether an endpoint is sent to, and whether that goes well.
pub(crate) fn webhook_badge(state: &State, failure_count: u32) -> Markup {
    match state {
        State::Enabled if failure_count > 0 => badge(Kind::Warn, "failing"),
        State::Enabled => badge(Kind::Good, "enabled"),
        State::Disabled(_) => badge(Kind::Bad, "disabled"),
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

/// How long something took or is ago, in its two largest units.
pub(crate) fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) => format!("{} ms", duration.as_millis()),
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) if s % 60 == 0 => format!("{m} min"),
        (0, 0, m, s) => format!("{m} min {} s", s % 60),
        (0, h, 0, _) => format!("{h} h"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, 0, ..) => format!("{d} d"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// How long ago something was, with the time itself.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let (exact, age) = (at.to_string(), now.since(at));
    let text = if age < SECOND { "less than a second".to_owned() } else { length(age) };
    html! { time datetime=(exact) title=(exact) data-age { (text) } }
}

/// A number with its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(std::str::from_utf8(group).expect("digits"));
    }
    text
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

/// What is wrong with a field, and where a screen reader finds it.
pub(crate) fn errors(field: &str, errors: &[String]) -> Markup {
    html! {
        div.error id={ (field) "-error" } aria-live="polite" {
            @for error in errors { p { (sentence(error)) } }
        }
    }
}

/// An error as the API writes it begins small and has no subject: «must be …», «is not …».
pub(crate) fn sentence(error: &str) -> String {
    let verb = ["must ", "is ", "has ", "cannot ", "stands "].iter().any(|v| error.starts_with(v));
    let text = if verb { format!("It {error}") } else { error.to_owned() };
    if text.ends_with('.') { text } else { text + "." }
}

/// A field of one line with its label, a hint and what is wrong with it.
pub(crate) fn text_field(
    name: &str,
    label: &str,
    hint: &str,
    value: &str,
    errors: &[String],
) -> Markup {
    let wrong = (!errors.is_empty()).then_some("true");
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) value=(value) aria-invalid=[wrong]
                aria-describedby={ (name) "-hint " (name) "-error" } autocomplete="off" spellcheck="false";
            p.hint id={ (name) "-hint" } { (hint) }
            (self::errors(name, errors))
        }
    }
}

/// A field of several lines.
pub(crate) fn area_field(
    name: &str,
    label: &str,
    hint: &str,
    value: &str,
    errors: &[String],
) -> Markup {
    let wrong = (!errors.is_empty()).then_some("true");
    let rows = value.lines().count().clamp(3, 20);
    html! {
        div.field {
            label for=(name) { (label) }
            // The first line end after the tag is no part of the value (HTML §4.11.11).
            textarea id=(name) name=(name) rows=(rows) aria-invalid=[wrong]
                aria-describedby={ (name) "-hint " (name) "-error" } spellcheck="false" { "\n" (value) }
            p.hint id={ (name) "-hint" } { (hint) }
            (self::errors(name, errors))
        }
    }
}

/// One of several choices, as a list to choose from: value, text, whether it is chosen.
pub(crate) fn select(name: &str, label: &str, choices: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        select id=(name) name=(name) {
            @for (value, text) in choices {
                option value=(value) selected[*value == chosen] { (text) }
            }
        }
    }
}

/// The way to the rest of a list.
pub(crate) fn pager(next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            p.pager { a href=(next) rel="next" { "Older ones" } }
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
    fn lengths_have_two_units() {
        let said = |ms| length(Duration::from_millis(ms));
        assert_eq!(
            [said(0), said(999), said(1_000), said(59_999)],
            ["0 ms", "999 ms", "1 s", "59 s"]
        );
        assert_eq!([said(60_000), said(61_000)], ["1 min", "1 min 1 s"]);
        assert_eq!([said(3_600_000), said(5_400_000)], ["1 h", "1 h 30 min"]);
        assert_eq!([said(86_400_000), said(180_000_000)], ["1 d", "2 d 2 h"]);
    }

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(count(1, "event", "events"), "1 event");
    }

    #[test]
    fn errors_are_sentences() {
        assert_eq!(sentence("is required"), "It is required.");
        assert_eq!(sentence("Too much."), "Too much.");
    }

    #[test]
    fn text_from_outside_stays_text() {
        let hostile = "\"><script>alert(1)</script>";
        for markup in [
            badge(Kind::Bad, hostile),
            text_field("a", "b", hostile, hostile, &[hostile.to_owned()]),
            area_field("a", "b", "c", "</textarea><b>", &[]),
            copyable(hostile),
        ] {
            let text = markup.into_string();
            assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
        }
        assert_eq!(address("/a", &[("b", "c&d"), ("e", "")]), "/a?b=c%26d");
    }
}
