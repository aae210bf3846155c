use postrider_domain::account::{EmailAddress, Name};
use postrider_domain::backlog::Backlog;
use postrider_domain::delivery::{FinalState, Progress, Schedule};
use postrider_domain::endpoint::{Disabled, DisabledReason, Health, LastError, State};
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{DeliveryId, EventId, Id};
use postrider_domain::notice::{Exhaustion, Reminder, Report, Warning};
use postrider_domain::outcome::ErrorKind;
use postrider_domain::target::{AddressPolicy, TargetUrl};

use super::*;
use crate::outbox::test_data;

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn account() -> Account {
    test_data::account(&["ops@example.com", "dev@example.com"])
}

/// An endpoint of the account that was disabled.
fn facts_of(account: &Account, called: &str) -> Facts {
    let endpoint = test_data::endpoint(account, called);
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
    let disabled =
        Disabled { reason: DisabledReason::Exhausted, at: AT, delivery: Some(delivery.id) };
    let notice = Notice {
        account: account.id,
        endpoint: endpoint.id,
        report: Report::Disabled(disabled.clone()),
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
        state: State::Disabled(disabled),
        health: Health::default(),
        backlog: Backlog::Held(42),
        oldest_pending_at: Some(AT),
    };
    Facts { notice, endpoint, delivery: Some(delivery), page: None }
}

fn facts() -> Facts {
    facts_of(&account(), "Orders")
}

/// An endpoint of the account that keeps failing.
fn failing(account: &Account, called: &str) -> Facts {
    let mut facts = facts_of(account, called);
    let exhaustion = Exhaustion {
        delivery: DeliveryId::from_bytes([3; 16]),
        at: AT.plus(Duration::from_secs(20 * 3600)),
    };
    facts.notice.report =
        Report::Warning(Warning { at: AT, failing_since: AT.minus(HOUR), exhaustion });
    let delivery = facts.delivery.as_mut().expect("a delivery");
    delivery.progress = Progress::Pending { due: AT.plus(HOUR) };
    facts.endpoint.state = State::Enabled;
    facts.endpoint.backlog = Backlog::Pending(7);
    facts
}

const HOUR: Duration = Duration::from_secs(3600);

/// An endpoint of the account that is still disabled.
fn still_disabled(account: &Account, called: &str) -> Facts {
    let mut facts = facts_of(account, called);
    let disabled = facts.notice.disabled().expect("disabled").clone();
    let due = AT.plus(HOUR * 72);
    facts.notice.report = Report::Reminder(Reminder { disabled, due });
    facts
}

fn body(facts: &Facts) -> String {
    single::body(&account(), facts)
}

fn text_to(account: &Account, facts: &[Facts]) -> String {
    let from = "Postrider <webhooks@example.com>".parse().expect("a mailbox");
    let to =
        account.contact_emails.iter().map(|contact| contact.as_str().parse().expect("a mailbox"));
    let bytes = Content { account, facts }.compose(&from, to.collect(), AT).expect("a message");
    String::from_utf8(bytes).expect("ASCII")
}

fn text(facts: Facts) -> String {
    text_to(&account(), &[facts])
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// Header lines and body of the message.
fn parts(text: &str) -> (Vec<&str>, &str) {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    (head.split("\r\n").collect(), body)
}

#[test]
fn the_header_has_sender_recipients_subject_and_date() {
    let facts = facts();
    let id = facts.notice.endpoint;
    let text = text(facts);
    let (head, _) = parts(&text);
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
    let text = text(Facts { page: Some(page.clone()), ..facts() });
    assert!(text.contains(&page) && text.contains("/enable"), "{text}");
}

#[test]
fn the_body_has_the_endpoint_the_reason_the_held_count_and_the_next_step() {
    let facts = facts();
    let account = account();
    let body = single::body(&account, &facts);
    let (account, endpoint) = (account.id, facts.endpoint.endpoint.id);
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
    let Report::Disabled(disabled) = &mut facts.notice.report else { panic!("disabled") };
    disabled.reason = DisabledReason::Gone;
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
    let text = text(facts);
    assert!(text.contains("a redirect to x  .  Bcc: y@example.com"));
    let (head, _) = parts(&text);
    assert!(!head.iter().any(|line| line.starts_with("Bcc")));
}

#[test]
fn non_ascii_names_are_encoded() {
    let mut facts = facts();
    facts.endpoint.endpoint.name = Name::parse("Bestellungen für Køb 注文").expect("a name");
    let mut account = account();
    account.contact_emails = vec![EmailAddress::parse("a@example.com").expect("an address")];
    let text = text_to(&account, &[facts]);
    assert!(text.is_ascii());
    assert!(text.contains("Subject: =?utf-8?b?") || text.contains("=?utf-8?"));
}

#[test]
fn a_warning_says_when_the_endpoint_will_be_disabled() {
    let account = account();
    let facts = failing(&account, "Orders");
    assert_eq!(single::subject(&facts), "Webhook endpoint \"Orders\" keeps failing");
    let body = single::body(&account, &facts);
    let delivery = DeliveryId::from_bytes([3; 16]).to_string();
    assert_has(
        &body,
        &[
            "Every attempt to reach a webhook endpoint of Acme fails.",
            "Failing since: 2023-11-14T21:13:20.000Z",
            "The last 23 attempts to reach this endpoint all failed.",
            "will be disabled about 2023-11-15 18:13 UTC",
            &delivery,
            "responded with 503; expected a 2xx status",
            "7 deliveries are pending, the oldest since 2023-11-14T22:13:20.000Z",
            "nothing has to be enabled",
        ],
    );
    assert!(!body.contains("/enable"), "{body}");
}

#[test]
fn a_warning_names_no_delivery_that_has_ended() {
    let account = account();
    let mut discarded = failing(&account, "Orders");
    let delivery = discarded.delivery.as_mut().expect("a delivery");
    delivery.progress = Progress::Finished { end: FinalState::Discarded, at: AT };
    let body = single::body(&account, &discarded);
    assert_has(&body, &["will be disabled when a delivery has used up its attempts."]);
    assert!(!body.contains("about 2023") && !body.contains("dlv_"), "{body}");
    let facts = [discarded, failing(&account, "Invoices")];
    let body = Content { account: &account, facts: &facts }.body();
    assert_eq!(body.matches("Disabled about: ").count(), 1, "{body}");
}

#[test]
fn a_reminder_says_what_is_held_and_until_when() {
    let account = account();
    let facts = still_disabled(&account, "Orders");
    assert_eq!(single::subject(&facts), "Reminder: webhook endpoint \"Orders\" is still disabled");
    assert_has(
        &single::body(&account, &facts),
        &[
            "A webhook endpoint of Acme is still disabled. This is the only reminder.",
            "Disabled at: 2023-11-14T22:13:20.000Z",
            "42 deliveries are held, the oldest since 2023-11-14T22:13:20.000Z",
            HELD_UNTIL,
            "/enable",
        ],
    );
}

#[test]
fn several_notices_are_listed_in_one_email() {
    let account = account();
    let facts = [
        facts_of(&account, "Orders"),
        failing(&account, "Invoices"),
        still_disabled(&account, "Refunds"),
        Facts {
            page: Some("https://hooks.example.com/x".to_owned()),
            ..facts_of(&account, "Users")
        },
    ];
    let content = Content { account: &account, facts: &facts };
    assert_eq!(content.subject(), "4 webhook endpoints of Acme need attention");
    let body = content.body();
    assert_has(
        &body,
        &[
            "Postrider has disabled 2 webhook endpoints of Acme, because deliveries failed:",
            "1. Orders",
            "2. Users",
            "1 webhook endpoint of Acme is still disabled. This is the only reminder:",
            "1. Refunds",
            "1 webhook endpoint of Acme is failing, and will be disabled if that goes on:",
            "1. Invoices",
            "Disabled about: 2023-11-15 18:13 UTC, unless dlv_",
            "Held:         42",
            "Page:         https://hooks.example.com/x",
            "Last error:   responded with 503; expected a 2xx status",
            &format!("POST /v1/accounts/{}/endpoints/ID/enable", account.id),
            HELD_UNTIL,
        ],
    );
    for facts in &facts {
        assert_eq!(body.matches(&facts.notice.endpoint.to_string()).count(), 1);
    }
    let first = facts[0].notice.endpoint;
    let text = text_to(&account, &facts);
    assert_has(&text, &[&format!("Message-ID: <{first}.1700000000000.4@example.com>")]);
}

#[test]
fn the_subject_of_a_list_says_what_happened() {
    let account = account();
    let subject = |sample: fn(&Account, &str) -> Facts| {
        let facts = [sample(&account, "A"), sample(&account, "B")];
        Content { account: &account, facts: &facts }.subject()
    };
    assert_eq!(subject(facts_of), "2 webhook endpoints of Acme were disabled");
    assert_eq!(subject(failing), "2 webhook endpoints of Acme keep failing");
    assert_eq!(subject(still_disabled), "Reminder: 2 webhook endpoints of Acme are still disabled");
}

#[test]
fn an_endpoint_in_a_list_may_have_been_enabled_again() {
    let account = account();
    let mut facts = [facts_of(&account, "A"), facts_of(&account, "B")];
    facts[1].endpoint.state = State::Enabled;
    let body = Content { account: &account, facts: &facts }.body();
    assert_eq!(body.matches("It has been enabled again since then.").count(), 1);
    assert_eq!(body.matches("Held:  ").count(), 1);
}

#[test]
fn secrets_in_urls_stay_out_of_every_email() {
    let account = account();
    let hide = |mut facts: Facts| {
        let url = "https://example.com/hooks?key=s3cret";
        let url = TargetUrl::parse(url, &AddressPolicy::default());
        facts.endpoint.endpoint.url = url.expect("a URL");
        let error = facts.notice.last_error.as_mut().expect("an error");
        error.message = "a redirect to https://u:s3cret@b/?t=s3cret; not followed".to_owned();
        facts
    };
    let samples: [fn(&Account, &str) -> Facts; 3] = [facts_of, failing, still_disabled];
    for sample in samples {
        let body = single::body(&account, &hide(sample(&account, "A")));
        assert!(body.contains("https://example.com/hooks\n"), "{body}");
        assert!(body.contains("a redirect to https://b/; not followed"), "{body}");
        assert!(!body.contains("s3cret"), "{body}");
        let facts = [hide(sample(&account, "A")), hide(sample(&account, "B"))];
        let body = Content { account: &account, facts: &facts }.body();
        assert!(!body.contains("s3cret"), "{body}");
    }
}
