//! The emails that told people of a webhook's disablings.

use maud::{Markup, html};
use postrider_domain::email::{Email, Recipient, Verdict};

use super::parts::Column::Text;
use super::parts::{Kind, badge, empty, table, time};

/// Emails that a page shows at once.
pub(crate) const SHOWN: usize = 20;

/// The log of emails, the latest first.
pub(crate) fn emails(log: &[Email]) -> Markup {
    html! {
        @if log.is_empty() {
            (empty("No emails", "When a webhook is disabled because its deliveries failed, the account's contacts are told.", None))
        } @else {
            @let columns = ["Disabled", "Subject", "To", "Last tried"].map(Text);
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
                @if email.to.is_empty() { span.warn { "Nobody: the account had no contact that an email can be sent to." } }
                @for recipient in &email.to { (told(recipient)) }
            }
            td { (time(email.at)) }
        }
    }
}

fn told(Recipient { address, verdict }: &Recipient) -> Markup {
    let (kind, word, reason) = match verdict {
        Verdict::Accepted => (Kind::Good, "accepted", None),
        Verdict::Deferred(reason) => (Kind::Warn, "put off", Some(reason)),
        Verdict::Refused(reason) => (Kind::Bad, "refused", Some(reason)),
    };
    html! {
        div.recipient {
            bdi { (address) } " " (badge(kind, word))
            @if let Some(reason) = reason { p.hint { bdi { (reason) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::time::Timestamp;

    use super::*;

    #[test]
    fn what_the_mail_server_said_is_told_and_stays_text() {
        let recipient = |address: &str, verdict| Recipient { address: address.to_owned(), verdict };
        let email = |to| Email {
            disabled_at: Timestamp::EPOCH,
            at: Timestamp::EPOCH,
            subject: "<script>1</script>".to_owned(),
            to,
        };
        let to = vec![
            recipient("a@example.com", Verdict::Accepted),
            recipient("b@example.com", Verdict::Deferred("450 <b>later</b>".to_owned())),
            recipient("c@example.com", Verdict::Refused("550 nobody".to_owned())),
        ];
        let text = emails(&[email(to), email(Vec::new())]).into_string();
        for part in
            ["accepted", "put off", "450 &lt;b&gt;later", "refused", "550 nobody", "no contact"]
        {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains("<script") && !text.contains("<b>"), "{text}");
        assert!(emails(&[]).into_string().contains("No emails"));
    }
}
