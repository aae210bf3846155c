//! What is done about one notice: read what the email says, send it, and judge from what the
//! mail server said to each contact whether the notice is done with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;
use postrider_cluster::metrics::Instruments;
use postrider_domain::email::{Email, Verdict};
use postrider_domain::ids::EndpointId;
use postrider_domain::notice::Notice;
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::{Records, kv};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::progress::Progress;
use crate::PageOf;
use crate::message::{Facts, compose, subject};
use crate::smtp::{Away, CONVERSATION, Conversation, Mailer};

/// A contact whose server keeps asking to come again later is given up after this long…
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// …but not before this many conversations, since the node itself may have been away.
const GIVE_UP_DEFERRALS: u32 = 10;

/// Runs errands.
pub(super) struct Courier {
    pub records: Records,
    pub clock: Arc<dyn Clock>,
    pub mailer: Mailer,
    pub instruments: Instruments,
    pub page_of: PageOf,
}

/// What an errand came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Nobody is owed an email any more: the notice can go.
    Done,
    /// Some contact is still owed an email, and the mail server is asked again later.
    Deferred,
}

/// Why nothing can be done at the moment, for this notice or any other.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the mail server is away: {0}")]
    Mail(#[from] Away),
    #[error("the notices cannot be read or removed: {0}")]
    Store(#[from] kv::Error),
    /// The panic hook has logged it.
    #[error("a step panicked")]
    Panic,
}

impl Courier {
    /// Tells those contacts that are owed an email, and notes in `progress` who no longer is.
    pub(super) async fn run(
        &self,
        notice: &Notice,
        progress: &mut Progress,
    ) -> Result<Errand, Trouble> {
        let Some(facts) = self.facts(notice).await? else {
            info!(endpoint = %notice.endpoint, "endpoint is gone; nobody is told that it was disabled");
            return Ok(Errand::Done);
        };
        let contacts = contacts(&facts);
        let now = self.clock.now();
        let email = progress.email.get_or_insert_with(|| blank(&facts, now));
        let names: BTreeSet<_> = contacts.iter().map(ToString::to_string).collect();
        // Whoever is no contact any more is owed nothing, and so the record stays bounded.
        email.to.retain(|recipient| names.contains(&recipient.address));
        if contacts.is_empty() {
            warn!(account = %notice.account, endpoint = %notice.endpoint,
                "endpoint was disabled, and its account has no contact to tell");
            return Ok(Errand::Done);
        }
        let owed = contacts.iter().filter(|contact| !email.is_settled(contact.as_ref()));
        let mut owed: Vec<Address> = owed.cloned().collect();
        if owed.is_empty() {
            return Ok(Errand::Done);
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
                // It would be no better next time.
                error!(endpoint = %notice.endpoint, %error, "cannot write the email of a disabled endpoint");
                let reason = format!("the email cannot be written: {error}");
                for contact in &owed {
                    email.note(contact.as_ref(), Verdict::Refused(reason.clone()));
                }
                return Ok(Errand::Done);
            }
        };
        let last_chance =
            progress.deferrals + 1 >= GIVE_UP_DEFERRALS && now.since(notice.at()) >= GIVE_UP_AFTER;
        let began = Instant::now();
        let mut errand = Errand::Done;
        for recipients in conversations(&mut owed, progress.broke_off, progress.deferrals) {
            if began.elapsed() >= CONVERSATION {
                // The others have their turn at the next try, which begins with another recipient.
                errand = Errand::Deferred;
                break;
            }
            let Conversation { verdicts, broke_off } =
                match self.mailer.send(recipients, &message).await {
                    Ok(conversation) => conversation,
                    // A server that has just put this email off may refuse the next connection for the
                    // same reason. That must not hold up other notices.
                    Err(away) if errand == Errand::Deferred => {
                        debug!(%away, "the mail server refuses another connection for this email");
                        break;
                    }
                    Err(away) => return Err(away.into()),
                };
            email.at = now;
            progress.broke_off |= broke_off;
            let judged = self.judge(email, recipients, verdicts, last_chance, notice.endpoint);
            if judged == Errand::Deferred {
                errand = Errand::Deferred;
            }
        }
        progress.deferrals += u32::from(errand == Errand::Deferred);
        Ok(errand)
    }

    /// What the email says; none when the account or the endpoint is gone.
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

    /// Notes what the server said of each recipient.
    fn judge(
        &self,
        email: &mut Email,
        owed: &[Address],
        verdicts: Vec<Verdict>,
        last_chance: bool,
        endpoint: EndpointId,
    ) -> Errand {
        let mut errand = Errand::Done;
        for (contact, verdict) in owed.iter().zip(verdicts) {
            let verdict = match verdict {
                Verdict::Accepted => {
                    self.instruments.emails_sent(1);
                    info!(%endpoint, %contact, "told that the endpoint is disabled");
                    Verdict::Accepted
                }
                Verdict::Refused(reason) => {
                    error!(%endpoint, %contact, %reason, "the mail server refuses the email for good");
                    Verdict::Refused(reason)
                }
                Verdict::Deferred(reason) if last_chance => {
                    error!(%endpoint, %contact, %reason, "the mail server put the email off too often");
                    Verdict::Refused(format!("given up after it was put off too often: {reason}"))
                }
                Verdict::Deferred(reason) => {
                    warn!(%endpoint, %contact, %reason, "the mail server puts the email off");
                    errand = Errand::Deferred;
                    Verdict::Deferred(reason)
                }
            };
            email.note(contact.as_ref(), verdict);
        }
        errand
    }
}

/// Who is told in one conversation: everybody, or, once a conversation has broken off, each
/// recipient in one of its own, since one whom the server breaks off at must not keep the email from
/// the others. Each try begins with another one.
fn conversations(
    owed: &mut [Address],
    apart: bool,
    tries: u32,
) -> impl Iterator<Item = &[Address]> {
    let size = if apart { 1 } else { owed.len() };
    if apart {
        owed.rotate_left(tries as usize % owed.len());
    }
    owed.chunks(size)
}

/// The record of an email of which the mail server has said nothing yet.
fn blank(facts: &Facts, now: Timestamp) -> Email {
    Email { disabled_at: facts.notice.at(), at: now, subject: subject(facts), to: Vec::new() }
}

/// The account's contacts, each once. One that the mail library does not take is left out with
/// an error in the log.
fn contacts(facts: &Facts) -> Vec<Address> {
    let mut seen = BTreeSet::new();
    let mut contacts = Vec::new();
    for contact in &facts.account.contact_emails {
        match contact.as_str().parse::<Address>() {
            Ok(address) if seen.insert(address.to_string()) => contacts.push(address),
            Ok(_) => {}
            Err(error) => {
                error!(contact = contact.as_str(), %error, "no mail can be sent to this contact")
            }
        }
    }
    contacts
}
