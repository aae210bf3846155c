//! Composes the email: plain text that a person who has never heard of Postrider can act on.
//!
//! All external text (names, URLs, endpoint responses) is put on one line and stripped of control
//! characters, so that it cannot forge a header or a paragraph.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use postrider_domain::account::Account;
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::{DisabledReason, LastError, State};
use postrider_domain::notice::Notice;
use postrider_domain::time::Timestamp;
use postrider_store::EndpointView;

/// The data shown in the email.
pub(crate) struct Facts {
    pub notice: Notice,
    pub account: Account,
    /// The endpoint's current state.
    pub endpoint: EndpointView,
    /// The delivery whose failure disabled the endpoint, if it still exists.
    pub delivery: Option<Delivery>,
    /// The URL of the endpoint's dashboard page, if the dashboard has a public URL.
    pub page: Option<String>,
}

/// Composes the email in wire format.
pub(crate) fn compose(
    facts: &Facts,
    from: &Mailbox,
    to: Vec<Mailbox>,
    now: Timestamp,
) -> Result<Vec<u8>, lettre::error::Error> {
    let mut message = Message::builder()
        .from(from.clone())
        .subject(subject(facts))
        .message_id(Some(message_id(&facts.notice, from.email.domain())))
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(now.millis()))
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN);
    for mailbox in to {
        message = message.to(mailbox);
    }
    Ok(message.body(body(facts))?.formatted())
}

/// The id is the same for every copy of the email, so that mail clients recognise duplicates.
fn message_id(notice: &Notice, domain: &str) -> String {
    format!("<{}.{}@{domain}>", notice.endpoint, notice.at().millis())
}

/// Suppresses out-of-office and other automatic replies (RFC 3834 §5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

pub(crate) fn subject(facts: &Facts) -> String {
    let name = one_line(facts.endpoint.endpoint.name.as_str());
    format!("Webhook endpoint \"{name}\" was disabled")
}

fn body(facts: &Facts) -> String {
    let endpoint = &facts.endpoint.endpoint;
    let paragraphs = [
        format!(
            "Postrider has disabled a webhook endpoint of {}.",
            one_line(facts.account.name.as_str())
        ),
        format!(
            "  Endpoint:    {}\n  ID:          {}\n  URL:         {}\n  Disabled at: {}",
            one_line(endpoint.name.as_str()),
            endpoint.id,
            one_line(endpoint.url.as_str()),
            facts.notice.at()
        ),
        why(facts),
        last_error(facts.notice.last_error.as_ref()),
        held(&facts.endpoint),
        what_to_do(facts),
    ];
    paragraphs.join("\n\n") + "\n"
}

fn why(facts: &Facts) -> String {
    let reason = match facts.notice.disabled.reason {
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
    match (&facts.delivery, facts.notice.disabled.delivery) {
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
         until it is enabled again."
    )
}

fn what_to_do(facts: &Facts) -> String {
    let (account, endpoint) = (facts.account.id, facts.endpoint.endpoint.id);
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

/// Replaces control characters, so that the text stays on its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
