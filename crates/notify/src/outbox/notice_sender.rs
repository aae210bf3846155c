//! Sends the email of one notice and decides, from the mail server's reply for each contact,
//! whether the notice is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;
use postrider_cluster::metrics::Instruments;
use postrider_domain::email::{Email, RecipientStatus};
use postrider_domain::ids::EndpointId;
use postrider_domain::notice::Notice;
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::{Records, kv};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::retry_state::RetryState;
use crate::EndpointPageUrl;
use crate::compose::{Facts, compose, subject};
use crate::smtp::{Mailer, SESSION_TIMEOUT, SessionResult, Unavailable};

/// How long an email that the server defers is retried for a contact, at least.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The minimum number of tries before that, because the node itself may have been down.
const GIVE_UP_MIN_TRIES: u32 = 10;

/// Sends the emails of notices.
pub(super) struct NoticeSender {
    pub records: Records,
    pub clock: Arc<dyn Clock>,
    pub mailer: Mailer,
    pub instruments: Instruments,
    pub page_of: EndpointPageUrl,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum SendStatus {
    /// No contact is left to notify: the notice can be deleted.
    Done,
    /// Some contacts still have to be notified; the email is retried later.
    Deferred,
}

/// A failure that affects all notices.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutboxError {
    #[error("the mail server is unavailable: {0}")]
    Mail(#[from] Unavailable),
    #[error("reading or deleting notices failed: {0}")]
    Store(#[from] kv::Error),
    /// The panic hook has logged the message.
    #[error("a step panicked")]
    Panic,
}

impl NoticeSender {
    /// Sends the email to the contacts not yet notified, and records the results in `retry_state`.
    pub(super) async fn run(
        &self,
        notice: &Notice,
        retry_state: &mut RetryState,
    ) -> Result<SendStatus, OutboxError> {
        let Some(facts) = self.facts(notice).await? else {
            info!(endpoint = %notice.endpoint, "skipped the notice of a deleted endpoint");
            return Ok(SendStatus::Done);
        };
        let contacts = contacts(&facts);
        let now = self.clock.now();
        let email = retry_state.email.get_or_insert_with(|| new_email(&facts, now));
        let names: BTreeSet<_> = contacts.iter().map(ToString::to_string).collect();
        // Former contacts are dropped, which also keeps the record bounded.
        email.to.retain(|recipient| names.contains(&recipient.address));
        if contacts.is_empty() {
            warn!(account = %notice.account, endpoint = %notice.endpoint,
                "an endpoint was disabled, but its account has no contacts to notify");
            return Ok(SendStatus::Done);
        }
        let pending = contacts.iter().filter(|contact| !email.is_final(contact.as_ref()));
        let mut pending: Vec<Address> = pending.cloned().collect();
        if pending.is_empty() {
            return Ok(SendStatus::Done);
        }
        let to = contacts.into_iter().map(|email| Mailbox::new(None, email));
        let message = match compose(
            &facts,
            &self.mailer.sender().0,
            to.collect(),
            self.clock.wall(),
        ) {
            Ok(message) => message,
            Err(error) => {
                // A retry would fail in the same way.
                error!(endpoint = %notice.endpoint, %error, "composing the email of a disabled endpoint failed");
                let reason = format!("the email could not be composed: {error}");
                for contact in &pending {
                    email.set_status(contact.as_ref(), RecipientStatus::Refused(reason.clone()));
                }
                return Ok(SendStatus::Done);
            }
        };
        let last_try = retry_state.deferrals + 1 >= GIVE_UP_MIN_TRIES
            && now.since(notice.at()) >= GIVE_UP_AFTER;
        let started = Instant::now();
        let mut status = SendStatus::Done;
        for recipients in sessions(&mut pending, retry_state.session_aborted, retry_state.deferrals)
        {
            if started.elapsed() >= SESSION_TIMEOUT {
                // The other recipients get their turn in the next try, which starts with a
                // different one.
                status = SendStatus::Deferred;
                break;
            }
            let SessionResult { statuses, session_aborted } =
                match self.mailer.send(recipients, &message).await {
                    Ok(result) => result,
                    // A server that has just deferred this email may refuse the next connection for
                    // the same reason. That must not delay other notices.
                    Err(error) if status == SendStatus::Deferred => {
                        debug!(%error, "the mail server refused another connection for this email");
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
            email.at = now;
            retry_state.session_aborted |= session_aborted;
            let recorded =
                self.record_statuses(email, recipients, statuses, last_try, notice.endpoint);
            if recorded == SendStatus::Deferred {
                status = SendStatus::Deferred;
            }
        }
        retry_state.deferrals += u32::from(status == SendStatus::Deferred);
        Ok(status)
    }

    /// Reads the email's data. Returns `None` if the account or the endpoint has been deleted.
    async fn facts(&self, notice: &Notice) -> Result<Option<Facts>, kv::Error> {
        let Some(account) = self.records.account(notice.account).await? else {
            return Ok(None);
        };
        let endpoint = self.records.endpoint(notice.account, notice.endpoint);
        let Some(endpoint) = endpoint.await? else {
            return Ok(None);
        };
        let delivery = match notice.disabled.delivery {
            Some(id) => self.records.delivery(notice.account, id).await?,
            None => None,
        };
        Ok(Some(Facts {
            notice: notice.clone(),
            account,
            endpoint,
            delivery: delivery.map(|(view, _)| view.delivery),
            page: (self.page_of)(notice.account, notice.endpoint),
        }))
    }

    /// Records the server's reply for each recipient.
    fn record_statuses(
        &self,
        email: &mut Email,
        pending: &[Address],
        statuses: Vec<RecipientStatus>,
        last_try: bool,
        endpoint: EndpointId,
    ) -> SendStatus {
        let mut send_status = SendStatus::Done;
        for (contact, status) in pending.iter().zip(statuses) {
            let status = match status {
                RecipientStatus::Accepted => {
                    self.instruments.emails_sent(1);
                    info!(%endpoint, %contact, "sent the email about a disabled endpoint");
                    RecipientStatus::Accepted
                }
                RecipientStatus::Refused(reason) => {
                    error!(%endpoint, %contact, %reason, "the mail server rejected the email permanently");
                    RecipientStatus::Refused(reason)
                }
                RecipientStatus::Deferred(reason) if last_try => {
                    error!(%endpoint, %contact, %reason, "gave up on an email that the mail server deferred too often");
                    RecipientStatus::Refused(format!("gave up after too many deferrals: {reason}"))
                }
                RecipientStatus::Deferred(reason) => {
                    warn!(%endpoint, %contact, %reason, "the mail server deferred the email");
                    send_status = SendStatus::Deferred;
                    RecipientStatus::Deferred(reason)
                }
            };
            email.set_status(contact.as_ref(), status);
        }
        send_status
    }
}

/// Groups the recipients by SMTP session: all in one, or, once a session has been aborted, one
/// each, so that a recipient for whom the server aborts cannot keep the email from the others. Each
/// try starts with another recipient.
fn sessions(
    pending: &mut [Address],
    separately: bool,
    tries: u32,
) -> impl Iterator<Item = &[Address]> {
    let size = if separately { 1 } else { pending.len() };
    if separately {
        pending.rotate_left(tries as usize % pending.len());
    }
    pending.chunks(size)
}

/// The record of an email that has not been sent yet.
fn new_email(facts: &Facts, now: Timestamp) -> Email {
    Email { disabled_at: facts.notice.at(), at: now, subject: subject(facts), to: Vec::new() }
}

/// The account's contacts without duplicates. An address that the mail library rejects is logged
/// and left out.
fn contacts(facts: &Facts) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    let mut contacts = Vec::new();
    for contact in &facts.account.contact_emails {
        match contact.as_str().parse::<Address>() {
            Ok(address) if seen.insert(address.to_string()) => contacts.push(address),
            Ok(_) => {}
            Err(error) => {
                error!(contact = contact.as_str(), %error, "invalid contact address; not sending to it")
            }
        }
    }
    contacts
}
