//! What the email says: a plain text that a person who has never heard of Postrider can act on.
//!
//! Every text that came from outside (names, URLs, what an endpoint answered) is put on one line
//! and stripped of control characters, so that it can neither forge a header nor a paragraph.

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

/// Everything that the email is made of.
pub(crate) struct Facts {
    /// What happened.
    pub notice: Notice,
    /// Whose people are told.
    pub account: Account,
    /// The endpoint as it is now.
    pub endpoint: EndpointView,
    /// The delivery whose failure did it, if it is still on record.
    pub delivery: Option<Delivery>,
    /// Where the endpoint's page is, if people can reach one.
    pub page: Option<String>,
}

/// The email as it goes over the wire.
///
/// # Errors
/// When a part of it does not make a legal message.
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

/// One disabling has one id, so that the same email sent twice is recognised as such.
fn message_id(notice: &Notice, domain: &str) -> String {
    format!("<{}.{}@{domain}>", notice.endpoint, notice.at().millis())
}

/// Tells out-of-office replies and the like to keep quiet (RFC 3834 §5).
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

/// The line that an inbox shows.
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
            "  Endpoint:    {}\n  Id:          {}\n  URL:         {}\n  Disabled at: {}",
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
            "Why: the endpoint answered 410 Gone, which says that it no longer wants webhooks."
                .to_owned()
        }
        DisabledReason::Manual => "Why: somebody asked for it.".to_owned(),
    };
    match facts.notice.failure_count {
        0 | 1 => reason,
        count => format!("{reason}\nThe last {count} attempts to reach this endpoint all failed."),
    }
}

fn exhausted(facts: &Facts) -> String {
    match (&facts.delivery, facts.notice.disabled.delivery) {
        (Some(delivery), _) => format!(
            "Why: every attempt of a delivery is used up. {} attempts were made, and all failed.\n\n  \
             Delivery:    {}\n  Event:       {} ({})",
            delivery.attempt_count, delivery.id, delivery.event, delivery.event_type
        ),
        (None, Some(id)) => format!(
            "Why: every attempt of a delivery is used up, and all failed.\n\n  Delivery:    {id}"
        ),
        (None, None) => "Why: every attempt of a delivery is used up, and all failed.".to_owned(),
    }
}

fn last_error(error: Option<&LastError>) -> String {
    let Some(error) = error else {
        return "The last error is not on record.".to_owned();
    };
    let status = error
        .status
        .map_or_else(|| "none, no HTTP answer came".to_owned(), |status| status.to_string());
    format!(
        "The last error:\n\n  What:        {}\n  Kind:        {}\n  HTTP status: {status}\n  \
         When:        {}",
        one_line(&error.message),
        error.kind.as_str(),
        error.at
    )
}

fn held(endpoint: &EndpointView) -> String {
    if endpoint.state == State::Enabled {
        return "Since then the endpoint has been enabled again, and webhooks are sent to it."
            .to_owned();
    }
    let now = match (endpoint.unfinished, endpoint.oldest_pending_at) {
        (0, _) => "No deliveries are held at the moment.".to_owned(),
        (1, Some(since)) => format!("1 delivery is held, since {since}."),
        (1, None) => "1 delivery is held.".to_owned(),
        (count, Some(since)) => format!("{count} deliveries are held, the oldest since {since}."),
        (count, None) => format!("{count} deliveries are held."),
    };
    format!(
        "{now}\nNothing is lost while the endpoint is disabled: new events for it are held too,\n\
         and kept until it is enabled again."
    )
}

fn what_to_do(facts: &Facts) -> String {
    let (account, endpoint) = (facts.account.id, facts.endpoint.endpoint.id);
    if facts.endpoint.state == State::Enabled {
        return "There is nothing left to do.".to_owned();
    }
    let call = format!("POST /v1/accounts/{account}/endpoints/{endpoint}/enable");
    let how = match &facts.page {
        Some(page) => format!(
            "See what was sent and answered, send a test event, and once the endpoint works,\n\
             enable it again:\n\n  {page}\n\nor by the API:\n\n  {call}"
        ),
        None => format!("Once the endpoint works, enable it again:\n\n  {call}"),
    };
    format!(
        "{how}\n\nThat sends what is held. With the body {{\"held\":\"discard\"}} it is discarded instead."
    )
}

/// `text` without control characters, so that it stays where it is put.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
