//! The email that lists several notices.

use postrider_domain::endpoint::State;
use postrider_domain::notice::{Exhaustion, Kind, Report};

use super::{Content, Facts, HELD_UNTIL, about};
use crate::redact::one_line;

/// The kinds in the order in which they are listed.
const KINDS: [Kind; 3] = [Kind::Disabled, Kind::Reminder, Kind::Warning];

pub(super) fn subject(content: &Content<'_>) -> String {
    let (count, of) = (content.facts.len(), content.account_name());
    let all = |kind| content.of_kind(kind).count() == count;
    if all(Kind::Disabled) {
        format!("{count} webhook endpoints of {of} were disabled")
    } else if all(Kind::Reminder) {
        format!("Reminder: {count} webhook endpoints of {of} are still disabled")
    } else if all(Kind::Warning) {
        format!("{count} webhook endpoints of {of} keep failing")
    } else {
        format!("{count} webhook endpoints of {of} need attention")
    }
}

pub(super) fn body(content: &Content<'_>) -> String {
    let mut paragraphs = Vec::new();
    for kind in KINDS {
        let listed: Vec<_> = content.of_kind(kind).collect();
        if listed.is_empty() {
            continue;
        }
        paragraphs.push(heading(kind, listed.len(), &content.account_name()));
        paragraphs.extend((1..).zip(listed).map(|(number, facts)| entry(number, facts)));
    }
    paragraphs.push(what_to_do(content));
    paragraphs.join("\n\n") + "\n"
}

fn heading(kind: Kind, count: usize, of: &str) -> String {
    let endpoints = match count {
        1 => "1 webhook endpoint".to_owned(),
        count => format!("{count} webhook endpoints"),
    };
    let be = if count == 1 { "is" } else { "are" };
    match kind {
        Kind::Disabled => {
            format!("Postrider has disabled {endpoints} of {of}, because deliveries failed:")
        }
        Kind::Reminder => {
            format!("{endpoints} of {of} {be} still disabled. This is the only reminder:")
        }
        Kind::Warning => {
            format!("{endpoints} of {of} {be} failing, and will be disabled if that goes on:")
        }
    }
}

fn entry(number: usize, facts: &Facts) -> String {
    let endpoint = &facts.endpoint.endpoint;
    let mut lines = vec![
        format!("  {number}. {}", one_line(endpoint.name.as_str())),
        format!("     ID:           {}", endpoint.id),
        format!("     URL:          {}", one_line(endpoint.url.as_str())),
    ];
    match &facts.notice.report {
        Report::Warning(warning) => {
            lines.push(format!("     Failing since: {}", warning.failing_since));
            if let Some(Exhaustion { delivery, at }) = facts.exhaustion() {
                let at = about(at);
                lines.push(format!("     Disabled about: {at}, unless {delivery} succeeds"));
            }
        }
        Report::Disabled(disabled) => lines.push(format!("     Disabled at:  {}", disabled.at)),
        Report::Reminder(reminder) => {
            lines.push(format!("     Disabled at:  {}", reminder.disabled.at));
        }
    }
    if let Some(error) = &facts.notice.last_error {
        lines.push(format!("     Last error:   {}", one_line(&error.message)));
    }
    match (&facts.endpoint.state, facts.notice.kind()) {
        (State::Enabled, Kind::Disabled | Kind::Reminder) => {
            lines.push("     It has been enabled again since then.".to_owned());
        }
        (State::Enabled, Kind::Warning) => {}
        (State::Disabled(_) | State::Deleted, _) => {
            lines.push(format!("     Held:         {}", facts.endpoint.backlog.held()));
        }
    }
    lines.extend(facts.page.as_ref().map(|page| format!("     Page:         {page}")));
    lines.join("\n")
}

fn what_to_do(content: &Content<'_>) -> String {
    let account = content.account.id;
    format!(
        "Nothing is lost while an endpoint is disabled: new deliveries to it are held, until it is\n\
         enabled again. {HELD_UNTIL}\n\n\
         Once an endpoint works, enable it again on its page or with the API:\n\n  \
         POST /v1/accounts/{account}/endpoints/ID/enable\n\n\
         This sends the held deliveries. To discard them instead, pass {{\"held\":\"discard\"}}."
    )
}
