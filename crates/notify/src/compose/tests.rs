use postrider_domain::account::{EmailAddress, Name};
use postrider_domain::delivery::{FinalState, Progress, Schedule};
use postrider_domain::endpoint::{Disabled, Health};
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{DeliveryId, EventId, Id};
use postrider_domain::outcome::ErrorKind;

use postrider_domain::backlog::Backlog;

use super::*;
use crate::outbox::test_data;

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn facts() -> Facts {
    let account = test_data::account(&["ops@example.com", "dev@example.com"]);
    let endpoint = test_data::endpoint(&account, "Orders");
    let delivery = Delivery {
        id: DeliveryId::from_bytes([3; 16]),
        account: account.id,
        event: EventId::from_bytes([4; 16]),
        event_type: EventTypeName::parse("application.created").expect("a name"),
        endpoint: endpoint.id,
        created_at: AT,
        attempt_count: 11,
        first_attempt_at: Some(AT),
        schedule: Schedule::default(),
        progress: Progress::Finished { end: FinalState::Exhausted, at: AT },
    };
    let notice = Notice {
        account: account.id,
        endpoint: endpoint.id,
        disabled: Disabled {
            reason: DisabledReason::Exhausted,
            at: AT,
            delivery: Some(delivery.id),
        },
        failure_count: 23,
        last_error: Some(LastError {
            at: AT,
            kind: ErrorKind::Status,
            status: Some(503),
            message: "responded with 503; expected a 2xx status".to_owned(),
            delivery: delivery.id,
        }),
    };
    let endpoint = EndpointView {
        endpoint,
        state: State::Disabled(notice.disabled.clone()),
        health: Health::default(),
        backlog: Backlog::Held(42),
        oldest_pending_at: Some(AT),
    };
    Facts { notice, account, endpoint, delivery: Some(delivery), page: None }
}

fn text(facts: &Facts) -> String {
    let from = "Postrider <webhooks@example.com>".parse().expect("a mailbox");
    let to = facts
        .account
        .contact_emails
        .iter()
        .map(|contact| contact.as_str().parse().expect("a mailbox"));
    let bytes = compose(facts, &from, to.collect(), AT).expect("a message");
    String::from_utf8(bytes).expect("ASCII")
}

/// Header lines and body of the message.
fn parts(text: &str) -> (Vec<&str>, &str) {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    (head.split("\r\n").collect(), body)
}

#[test]
fn the_header_has_sender_recipients_subject_and_date() {
    let facts = facts();
    let text = text(&facts);
    let (head, _) = parts(&text);
    let id = facts.notice.endpoint;
    for line in [
        "From: Postrider <webhooks@example.com>",
        "To: ops@example.com, dev@example.com",
        "Subject: Webhook endpoint \"Orders\" was disabled",
        "Date: Tue, 14 Nov 2023 22:13:20 +0000",
        &format!("Message-ID: <{id}.1700000000000@example.com>"),
        "Auto-Submitted: auto-generated",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(head.contains(&line), "no {line:?} in {head:#?}");
    }
}

#[test]
fn the_body_links_to_the_endpoints_page() {
    let page = "https://webhooks.example.com/dashboard/x".to_owned();
    let text = text(&Facts { page: Some(page.clone()), ..facts() });
    assert!(text.contains(&page) && text.contains("/enable"), "{text}");
}

#[test]
fn the_body_has_the_endpoint_the_reason_the_held_count_and_the_next_step() {
    let facts = facts();
    let body = body(&facts);
    let (account, endpoint) = (facts.account.id, facts.endpoint.endpoint.id);
    for part in [
        "Orders",
        "https://example.com/hooks",
        "11 attempts were made",
        "application.created",
        &DeliveryId::from_bytes([3; 16]).to_string(),
        &EventId::from_bytes([4; 16]).to_string(),
        "The last 23 attempts to reach this endpoint all failed.",
        "responded with 503; expected a 2xx status",
        "HTTP status: 503",
        "Kind:        status",
        "42 deliveries are held, the oldest since 2023-11-14T22:13:20.000Z",
        "Nothing is lost",
        &format!("POST /v1/accounts/{account}/endpoints/{endpoint}/enable"),
    ] {
        assert!(body.contains(part), "no {part:?} in:\n{body}");
    }
    let (widest, width) =
        body.lines().map(|line| (line, line.len())).max_by_key(|(_, width)| *width).expect("lines");
    assert!(width < 110, "{widest}");
}

#[test]
fn a_deleted_delivery_is_left_out() {
    let mut facts = facts();
    facts.delivery = None;
    facts.notice.last_error = None;
    let body = body(&facts);
    assert!(body.contains(&DeliveryId::from_bytes([3; 16]).to_string()));
    assert!(body.contains("The last error was not recorded."));
}

#[test]
fn an_endpoint_that_is_enabled_again_needs_no_action() {
    let mut facts = facts();
    facts.endpoint.state = State::Enabled;
    let body = body(&facts);
    assert!(body.contains("Disabled at: 2023-11-14T22:13:20.000Z"));
    assert!(body.contains("has been enabled again"));
    assert!(!body.contains("POST /v1"));
}

#[test]
fn the_reason_gone_and_an_error_without_a_response() {
    let mut facts = facts();
    facts.notice.disabled.reason = DisabledReason::Gone;
    let error = facts.notice.last_error.as_mut().expect("an error");
    (error.status, error.kind) = (None, ErrorKind::Dns);
    let body = body(&facts);
    assert!(body.contains("410 Gone"));
    assert!(body.contains("none (no HTTP response)"));
}

#[test]
fn counts_use_singular_and_plural() {
    let mut facts = facts();
    facts.endpoint.backlog = Backlog::Held(1);
    assert!(body(&facts).contains("1 delivery is held, since"));
    facts.endpoint.backlog = Backlog::Held(0);
    facts.endpoint.oldest_pending_at = None;
    assert!(body(&facts).contains("No deliveries are currently held"));
}

#[test]
fn external_text_stays_on_its_line() {
    let mut facts = facts();
    let error = facts.notice.last_error.as_mut().expect("an error");
    error.message = "responded with 302, a redirect to x\r\n.\r\nBcc: y@example.com".to_owned();
    let text = text(&facts);
    assert!(text.contains("a redirect to x  .  Bcc: y@example.com"));
    let (head, _) = parts(&text);
    assert!(!head.iter().any(|line| line.starts_with("Bcc")));
}

#[test]
fn non_ascii_names_are_encoded() {
    let mut facts = facts();
    facts.endpoint.endpoint.name = Name::parse("Bestellungen für Køb 注文").expect("a name");
    facts.account.contact_emails = vec![EmailAddress::parse("a@example.com").expect("an address")];
    let text = text(&facts);
    assert!(text.is_ascii());
    assert!(text.contains("Subject: =?utf-8?b?") || text.contains("=?utf-8?"));
}
