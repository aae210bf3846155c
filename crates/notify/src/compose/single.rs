//! The email about one notice.

use postrider_domain::account::Account;
use postrider_domain::endpoint::{DisabledReason, LastError, State};
use postrider_domain::notice::{Exhaustion, Report};
use postrider_store::EndpointView;

use super::{Facts, HELD_UNTIL, about};
use crate::redact::one_line;

pub(super) fn subject(facts: &Facts) -> String {
    let name = one_line(facts.endpoint.endpoint.name.as_str());
    match facts.notice.report {
        Report::Warning(_) => format!("Webhook endpoint \"{name}\" keeps failing"),
        Report::Disabled(_) => format!("Webhook endpoint \"{name}\" was disabled"),
        Report::Reminder(_) => format!("Reminder: webhook endpoint \"{name}\" is still disabled"),
    }
}

pub(super) fn body(account: &Account, facts: &Facts) -> String {
    let of = one_line(account.name.as_str());
    let last_error = last_error(facts.notice.last_error.as_ref());
    let paragraphs = match &facts.notice.report {
        Report::Warning(_) => vec![
            format!("Every attempt to reach a webhook endpoint of {of} fails."),
            endpoint(facts),
            what_will_happen(facts),
            last_error,
            pending(&facts.endpoint),
            how_to_prevent(facts),
        ],
        Report::Disabled(_) => vec![
            format!("Postrider has disabled a webhook endpoint of {of}."),
            endpoint(facts),
            why(facts),
            last_error,
            held(&facts.endpoint),
            what_to_do(account, facts),
        ],
        Report::Reminder(_) => vec![
            format!("A webhook endpoint of {of} is still disabled. This is the only reminder."),
            endpoint(facts),
            why(facts),
            last_error,
            held(&facts.endpoint),
            what_to_do(account, facts),
        ],
    };
    paragraphs.join("\n\n") + "\n"
}

fn endpoint(facts: &Facts) -> String {
    let endpoint = &facts.endpoint.endpoint;
    let since = match &facts.notice.report {
        Report::Warning(warning) => format!("Failing since: {}", warning.failing_since),
        Report::Disabled(disabled) => format!("Disabled at: {}", disabled.at),
        Report::Reminder(reminder) => format!("Disabled at: {}", reminder.disabled.at),
    };
    format!(
        "  Endpoint:    {}\n  ID:          {}\n  URL:         {}\n  {since}",
        one_line(endpoint.name.as_str()),
        endpoint.id,
        one_line(endpoint.url.as_str()),
    )
}

fn what_will_happen(facts: &Facts) -> String {
    let count = facts.notice.failure_count;
    let failed = format!(
        "The last {count} attempts to reach this endpoint all failed. Failed deliveries are retried."
    );
    let Some(Exhaustion { delivery, at }) = facts.exhaustion() else {
        return format!(
            "{failed}\nThe endpoint will be disabled when a delivery has used up its attempts."
        );
    };
    format!(
        "{failed}\nThe endpoint will be disabled about {}, when delivery\n\
         {delivery} has used up its attempts, unless it succeeds before.",
        about(at),
    )
}

fn pending(endpoint: &EndpointView) -> String {
    match (endpoint.backlog.count(), endpoint.oldest_pending_at) {
        (0, _) => "No deliveries are currently pending.".to_owned(),
        (1, Some(since)) => format!("1 delivery is pending, since {since}."),
        (count, Some(since)) => {
            format!("{count} deliveries are pending, the oldest since {since}.")
        }
        (count, None) => format!("Pending deliveries: {count}."),
    }
}

fn how_to_prevent(facts: &Facts) -> String {
    let how = "Once the endpoint works again, Postrider delivers what is pending; nothing has to be enabled.";
    match &facts.page {
        Some(page) => {
            format!("{how}\nReview the requests and responses, and send a test event:\n\n  {page}")
        }
        None => how.to_owned(),
    }
}

fn why(facts: &Facts) -> String {
    let Some(disabled) = facts.notice.disabled() else { return String::new() };
    let reason = match disabled.reason {
        DisabledReason::Exhausted => exhausted(facts),
        DisabledReason::Gone => {
            "Reason: the endpoint responded with 410 Gone, which means it no longer accepts webhooks."
                .to_owned()
        }
        DisabledReason::Manual => "Reason: it was disabled manually.".to_owned(),
    };
    match facts.notice.failure_count {
        0 | 1 => reason,
        count => format!("{reason}\nThe last {count} attempts to reach this endpoint all failed."),
    }
}

fn exhausted(facts: &Facts) -> String {
    match (&facts.delivery, facts.notice.disabled().and_then(|disabled| disabled.delivery)) {
        (Some(delivery), _) => format!(
            "Reason: a delivery failed on its last attempt. {} attempts were made, and all failed.\n\n  \
             Delivery:    {}\n  Event:       {} ({})",
            delivery.attempt_count, delivery.id, delivery.event, delivery.event_type
        ),
        (None, Some(id)) => {
            format!("Reason: a delivery failed on its last attempt.\n\n  Delivery:    {id}")
        }
        (None, None) => "Reason: a delivery failed on its last attempt.".to_owned(),
    }
}

fn last_error(error: Option<&LastError>) -> String {
    let Some(error) = error else {
        return "The last error was not recorded.".to_owned();
    };
    let status = error
        .status
        .map_or_else(|| "none (no HTTP response)".to_owned(), |status| status.to_string());
    format!(
        "Last error:\n\n  Message:     {}\n  Kind:        {}\n  HTTP status: {status}\n  \
         When:        {}",
        one_line(&error.message),
        error.kind.as_str(),
        error.at
    )
}

fn held(endpoint: &EndpointView) -> String {
    if endpoint.state == State::Enabled {
        return "The endpoint has been enabled again since then, and webhooks are being sent to it."
            .to_owned();
    }
    let now = match (endpoint.backlog.held(), endpoint.oldest_pending_at) {
        (0, _) => "No deliveries are currently held.".to_owned(),
        (1, Some(since)) => format!("1 delivery is held, since {since}."),
        (1, None) => "1 delivery is held.".to_owned(),
        (count, Some(since)) => format!("{count} deliveries are held, the oldest since {since}."),
        (count, None) => format!("{count} deliveries are held."),
    };
    format!(
        "{now}\nNothing is lost while the endpoint is disabled: new deliveries to it are held too,\n\
         until it is enabled again. {HELD_UNTIL}"
    )
}

fn what_to_do(account: &Account, facts: &Facts) -> String {
    let (account, endpoint) = (account.id, facts.endpoint.endpoint.id);
    if facts.endpoint.state == State::Enabled {
        return "No action is needed.".to_owned();
    }
    let call = format!("POST /v1/accounts/{account}/endpoints/{endpoint}/enable");
    let how = match &facts.page {
        Some(page) => format!(
            "Review the requests and responses, send a test event and, once the endpoint works,\n\
             enable it again:\n\n  {page}\n\nor use the API:\n\n  {call}"
        ),
        None => format!("Once the endpoint works, enable it again:\n\n  {call}"),
    };
    format!(
        "{how}\n\nThis sends the held deliveries. To discard them instead, pass {{\"held\":\"discard\"}}."
    )
}
