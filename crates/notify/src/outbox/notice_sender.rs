//! Sends one email about some notices of an account and decides, from the mail server's reply for
//! each contact, which notices are done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;
use postrider_cluster::metrics::Instruments;
use postrider_domain::account::Account;
use postrider_domain::assignment::Fence;
use postrider_domain::email::{Email, RecipientStatus};
use postrider_domain::endpoint::State;
use postrider_domain::ids::AccountId;
use postrider_domain::notice::{Notice, Report};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::{EndpointView, Records, kv};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::retry_state::RetryState;
use crate::EndpointPageUrl;
use crate::compose::{Content, Facts};
use crate::smtp::{Mailer, SESSION_TIMEOUT, SessionResult, Unavailable};

/// How long an email that the server defers is retried for a contact, at least.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// The minimum number of tries before that, because the node itself may have been down.
const GIVE_UP_MIN_TRIES: u32 = 10;

/// Sends the emails of notices.
pub(super) struct NoticeSender {
    pub records: Records,
    pub clock: Arc<dyn Clock>,
    pub mailer: Arc<Mailer>,
    pub instruments: Instruments,
    pub page_of: EndpointPageUrl,
}

/// A notice on its way to the contacts.
pub(super) struct Item {
    pub fence: Fence,
    pub notice: Notice,
    pub retry_state: RetryState,
    pub status: ItemStatus,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum ItemStatus {
    /// No contact is left to notify: the notice can be deleted.
    Done,
    /// Some contacts still have to be notified; the email is retried later.
    Deferred,
    /// A record that the email needs is corrupt.
    Corrupt(kv::Error),
}

/// Notices that go to the same contacts of an account in one email.
pub(super) struct Group {
    pub items: Vec<Item>,
    /// `None` if the account was deleted.
    account: Option<Account>,
    contacts: Vec<Address>,
    /// The contacts that are still to be notified.
    pending: Vec<Address>,
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
    /// Chooses, from an account's notices, the first and those that go with it: to the same
    /// contacts, after the same number of tries. A notice whose try failed for an internal reason
    /// goes alone, because the reason may be the notice.
    pub(super) async fn group(
        &self,
        account: AccountId,
        mut items: Vec<Item>,
    ) -> Result<Group, kv::Error> {
        let account = self.records.account(account).await?;
        let contacts = account.as_ref().map(contacts).unwrap_or_default();
        let key = |item: &Item| {
            let RetryState { deferrals, session_aborted, .. } = item.retry_state;
            (pending(&contacts, &item.retry_state), deferrals, session_aborted)
        };
        if let Some(first) = items.first() {
            let first_key = key(first);
            if first.retry_state.internal_failures > 0 {
                items.truncate(1);
            } else {
                items.retain(|it| it.retry_state.internal_failures == 0 && key(it) == first_key);
            }
        }
        let pending = items.first().map(|first| pending(&contacts, &first.retry_state));
        Ok(Group { items, account, pending: pending.unwrap_or_default(), contacts })
    }

    /// Sends the group's email to the contacts not yet notified, and records the results in the
    /// items. Returns whether the mail server was asked to send it.
    pub(super) async fn send(&self, group: &mut Group) -> Result<bool, OutboxError> {
        let Group { items, account: Some(account), contacts, pending } = group else {
            for Item { notice, .. } in &group.items {
                info!(endpoint = %notice.endpoint, "skipped the notice of a deleted account");
            }
            return Ok(false);
        };
        let (facts, mut items) = self.facts(items).await?;
        let now = self.clock.now();
        let content = Content { account, facts: &facts };
        let names: BTreeSet<_> = contacts.iter().map(ToString::to_string).collect();
        for item in &mut items {
            let Item { notice, retry_state, .. } = &mut **item;
            let email = retry_state.email.get_or_insert_with(|| new_email(notice, now));
            email.subject = content.subject();
            // Former contacts are dropped, which also keeps the record bounded.
            email.to.retain(|recipient| names.contains(&recipient.address));
        }
        if items.is_empty() {
            return Ok(false);
        }
        if contacts.is_empty() {
            warn!(account = %account.id, endpoints = items.len(),
                "an account has failing or disabled endpoints, but no contacts to notify");
            return Ok(false);
        }
        if pending.is_empty() {
            return Ok(false);
        }
        let to = contacts.iter().map(|email| Mailbox::new(None, email.clone()));
        let from = &self.mailer.sender().0;
        match content.compose(from, to.collect(), self.clock.wall()) {
            Ok(message) => self.submit(account.id, &mut items, pending, &message, now).await,
            Err(error) => {
                // A retry would fail in the same way.
                error!(account = %account.id, %error, "composing an email failed");
                let reason = format!("the email could not be composed: {error}");
                for contact in &*pending {
                    let status = RecipientStatus::Refused(reason.clone());
                    set_status(&mut items, contact, &status, now);
                }
                Ok(false)
            }
        }
    }

    /// Submits an email to the mail server for the pending contacts.
    async fn submit(
        &self,
        account: AccountId,
        items: &mut [&mut Item],
        pending: &mut [Address],
        message: &[u8],
        now: Timestamp,
    ) -> Result<bool, OutboxError> {
        let first = items.first().expect("an email has a notice");
        let RetryState { deferrals, session_aborted, .. } = first.retry_state;
        let last_try = deferrals + 1 >= GIVE_UP_MIN_TRIES
            && items.iter().all(|item| now.since(item.notice.at()) >= GIVE_UP_AFTER);
        let started = Instant::now();
        let mut deferred = false;
        for recipients in sessions(pending, session_aborted, deferrals) {
            if started.elapsed() >= SESSION_TIMEOUT {
                // The other recipients get their turn in the next try, which starts with a
                // different one.
                deferred = true;
                break;
            }
            let sent = self.mailer.send(recipients, message).await;
            self.instruments.mail_server_up(sent.is_ok());
            let SessionResult { statuses, session_aborted } = match sent {
                Ok(result) => result,
                // A server that has just deferred this email may refuse the next connection for
                // the same reason. That must not delay other notices.
                Err(error) if deferred => {
                    debug!(%error, "the mail server refused another connection for this email");
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            for item in &mut *items {
                item.retry_state.session_aborted |= session_aborted;
            }
            for (contact, status) in recipients.iter().zip(statuses) {
                let status = self.final_status(account, items.len(), contact, status, last_try);
                deferred |= matches!(status, RecipientStatus::Deferred(_));
                set_status(items, contact, &status, now);
            }
        }
        if deferred {
            for item in items {
                item.retry_state.deferrals += 1;
                item.status = ItemStatus::Deferred;
            }
        }
        Ok(true)
    }

    /// Reads the email's data, and returns it with its items. Items that need no email, or whose
    /// data is corrupt, are left out.
    async fn facts<'a>(
        &self,
        items: &'a mut [Item],
    ) -> Result<(Vec<Facts>, Vec<&'a mut Item>), kv::Error> {
        let is_alone = items.len() == 1;
        let (mut facts, mut listed) = (Vec::new(), Vec::new());
        for item in items {
            match self.facts_of(item, is_alone).await {
                Ok(Some(found)) => {
                    facts.push(found);
                    listed.push(item);
                }
                Ok(None) => {
                    info!(endpoint = %item.notice.endpoint, kind = ?item.notice.kind(),
                        "skipped a notice that is no longer needed");
                }
                Err(error @ (kv::Error::Corrupt(_) | kv::Error::TooLarge { .. })) => {
                    item.status = ItemStatus::Corrupt(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((facts, listed))
    }

    /// `None` if the endpoint was deleted, or if its state has overtaken the notice.
    async fn facts_of(&self, item: &Item, is_alone: bool) -> Result<Option<Facts>, kv::Error> {
        let Item { notice, retry_state, .. } = item;
        let endpoint = self.records.endpoint(notice.account, notice.endpoint);
        let Some(endpoint) = endpoint.await? else {
            return Ok(None);
        };
        // Contacts who were deferred get the email that the others got.
        if retry_state.email.is_none() && !is_needed(notice, &endpoint) {
            return Ok(None);
        }
        let delivery = match &notice.report {
            Report::Warning(warning) => Some(warning.exhaustion.delivery),
            // Only the email about one endpoint has room for the delivery.
            Report::Disabled(disabled) if is_alone => disabled.delivery,
            Report::Reminder(reminder) if is_alone => reminder.disabled.delivery,
            Report::Disabled(_) | Report::Reminder(_) => None,
        };
        let delivery = match delivery {
            Some(id) => self.records.delivery(notice.account, id).await?,
            None => None,
        };
        Ok(Some(Facts {
            notice: notice.clone(),
            endpoint,
            delivery: delivery.map(|(view, _)| view.delivery),
            page: (self.page_of)(notice.account, notice.endpoint),
        }))
    }

    /// Logs the server's reply for a contact, and returns the status to record.
    fn final_status(
        &self,
        account: AccountId,
        endpoints: usize,
        contact: &Address,
        status: RecipientStatus,
        last_try: bool,
    ) -> RecipientStatus {
        match status {
            RecipientStatus::Accepted => {
                self.instruments.emails_sent(1);
                info!(%account, endpoints, %contact, "sent an email");
                RecipientStatus::Accepted
            }
            RecipientStatus::Refused(reason) => {
                error!(%account, endpoints, %contact, %reason, "the mail server rejected the email permanently");
                RecipientStatus::Refused(reason)
            }
            RecipientStatus::Deferred(reason) if last_try => {
                error!(%account, endpoints, %contact, %reason, "gave up on an email that the mail server deferred too often");
                RecipientStatus::Refused(format!("gave up after too many deferrals: {reason}"))
            }
            RecipientStatus::Deferred(reason) => {
                warn!(%account, endpoints, %contact, %reason, "the mail server deferred the email");
                RecipientStatus::Deferred(reason)
            }
        }
    }
}

/// Whether the endpoint's state still calls for the email. An email about a disabled endpoint is
/// sent even if the endpoint has been enabled since; the others would only be noise.
fn is_needed(notice: &Notice, endpoint: &EndpointView) -> bool {
    match &notice.report {
        Report::Disabled(_) => true,
        Report::Warning(warning) => {
            let series = endpoint.health.series;
            endpoint.state == State::Enabled
                && series.is_some_and(|series| series.since == warning.failing_since)
        }
        Report::Reminder(reminder) => endpoint.state == State::Disabled(reminder.disabled.clone()),
    }
}

fn set_status(
    items: &mut [&mut Item],
    contact: &Address,
    status: &RecipientStatus,
    now: Timestamp,
) {
    for email in items.iter_mut().filter_map(|item| item.retry_state.email.as_mut()) {
        email.at = now;
        email.set_status(contact.as_ref(), status.clone());
    }
}

/// The contacts that a notice has not reached.
fn pending(contacts: &[Address], retry_state: &RetryState) -> Vec<Address> {
    let is_final = |contact: &&Address| {
        retry_state.email.as_ref().is_some_and(|email| email.is_final(contact.as_ref()))
    };
    contacts.iter().filter(|contact| !is_final(contact)).cloned().collect()
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
fn new_email(notice: &Notice, now: Timestamp) -> Email {
    Email {
        kind: notice.kind(),
        disabled_at: notice.disabled().map(|disabled| disabled.at),
        at: now,
        subject: String::new(),
        to: Vec::new(),
    }
}

/// The account's contacts without duplicates. An address that the mail library rejects is logged
/// and left out.
fn contacts(account: &Account) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    let mut contacts = Vec::new();
    for contact in &account.contact_emails {
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
