//! The log of emails about a webhook that was disabled.

use maud::{Markup, html};
use postrider_domain::email::{Email, Recipient, RecipientStatus};

use super::components::Column::Text;
use super::components::{Tone, badge, empty_state, table, time};

/// The maximum number of emails shown.
pub(crate) const MAX_SHOWN: usize = 20;

/// The email log, newest first.
pub(crate) fn emails(log: &[Email]) -> Markup {
    html! {
        @if log.is_empty() {
            (empty_state("No emails", "When a webhook is disabled because of failed deliveries, we email the account's contacts.", None))
        } @else {
            @let columns = ["Disabled", "Subject", "To", "Last attempt"].map(Text);
            (table("Emails", &columns, html! { @for email in log { (row(email)) } }))
        }
    }
}

fn row(email: &Email) -> Markup {
    html! {
        tr {
            td { (time(email.disabled_at)) }
            td { bdi { (email.subject) } }
            td {
                @if email.to.is_empty() { span.warn { "No recipients: the account had no contacts we could email." } }
                @for recipient in &email.to { (recipient_status(recipient)) }
            }
            td { (time(email.at)) }
        }
    }
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
            disabled_at: Timestamp::EPOCH,
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
        assert!(emails(&[]).into_string().contains("No emails"));
    }
}
