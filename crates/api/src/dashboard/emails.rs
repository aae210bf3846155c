//! The log of emails about a webhook that keeps failing or was disabled.

use maud::{Markup, html};
use postrider_domain::email::{Email, Recipient, RecipientStatus};
use postrider_domain::notice::Kind;

use super::components::Column::Text;
use super::components::{Tone, badge, empty_state, table, time};

/// The maximum number of emails shown.
pub(crate) const MAX_SHOWN: usize = 20;

/// The email log, newest first.
pub(crate) fn emails(log: &[Email]) -> Markup {
    html! {
        @if log.is_empty() {
            (empty_state("No emails", "When a webhook has failed for an hour, and when it is disabled because of failed deliveries, we email the account's contacts.", None))
        } @else {
            @let columns = ["About", "Subject", "To", "Last attempt"].map(Text);
            (table("Emails", &columns, html! { @for email in log { (row(email)) } }))
        }
    }
}

fn row(email: &Email) -> Markup {
    html! {
        tr {
            td { (about(email)) }
            td { bdi { (email.subject) } }
            td {
                @if email.to.is_empty() { span.warn { "No recipients: the account had no contacts we could email." } }
                @for recipient in &email.to { (recipient_status(recipient)) }
            }
            td { (time(email.at)) }
        }
    }
}

fn about(email: &Email) -> Markup {
    let text = match email.kind {
        Kind::Warning => "Early warning",
        Kind::Disabled => "Disabled",
        Kind::Reminder => "Reminder: disabled",
    };
    html! { (text) @if let Some(at) = email.disabled_at { " " (time(at)) } }
}

fn recipient_status(Recipient { address, status }: &Recipient) -> Markup {
    let (tone, word, reason) = match status {
        RecipientStatus::Accepted => (Tone::Good, "accepted", None),
        RecipientStatus::Deferred(reason) => (Tone::Warn, "deferred", Some(reason)),
        RecipientStatus::Refused(reason) => (Tone::Bad, "refused", Some(reason)),
    };
    html! {
        div.recipient {
            bdi { (address) } " " (badge(tone, word))
            @if let Some(reason) = reason { p.hint { bdi { (reason) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::time::Timestamp;

    use super::*;

    #[test]
    fn replies_of_the_mail_server_are_shown_as_text() {
        let recipient = |address: &str, status| Recipient { address: address.to_owned(), status };
        let email = |to| Email {
            kind: Kind::Disabled,
            disabled_at: Some(Timestamp::EPOCH),
            at: Timestamp::EPOCH,
            subject: "<script>1</script>".to_owned(),
            to,
        };
        let to = vec![
            recipient("a@example.com", RecipientStatus::Accepted),
            recipient("b@example.com", RecipientStatus::Deferred("450 <b>later</b>".to_owned())),
            recipient("c@example.com", RecipientStatus::Refused("550 nobody".to_owned())),
        ];
        let text = emails(&[email(to), email(Vec::new())]).into_string();
        for part in
            ["accepted", "deferred", "450 &lt;b&gt;later", "refused", "550 nobody", "no contact"]
        {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
        let warning = Email { kind: Kind::Warning, disabled_at: None, ..email(Vec::new()) };
        assert!(emails(&[warning]).into_string().contains("<td>Early warning</td>"));
        assert!(emails(&[]).into_string().contains("No emails"));
    }
}
