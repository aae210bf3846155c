//! Whom a notice has reached so far, and when to try the others. Kept in memory alone: after a
//! restart everybody is told again, which the promise (at least once) allows.

use std::collections::BTreeMap;

use postrider_domain::email::Email;
use postrider_domain::ids::EndpointId;
use postrider_domain::notice::Notice;
use postrider_domain::time::Timestamp;
use tokio::time::Instant;

/// Most notices whose progress is remembered. Forgetting one costs a repeated email.
const MOST: usize = 10_000;

/// What names a notice.
type Id = (EndpointId, Timestamp);

/// The progress of every notice that did not go in one piece.
#[derive(Default)]
pub(crate) struct Book(BTreeMap<Id, Progress>);

/// The progress of one notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What became of the email so far; none before the mail server was asked.
    pub email: Option<Email>,
    /// Tries after which some contact was still owed an email.
    pub deferrals: u32,
    /// A conversation broke off, so each recipient has one of its own from then on.
    pub broke_off: bool,
    /// Errands that panicked or met a damaged record.
    pub mishaps: u32,
    /// When the next one is due.
    pub due: Option<Instant>,
}

impl Book {
    pub(crate) fn progress(&self, notice: &Notice) -> Progress {
        self.0.get(&id(notice)).cloned().unwrap_or_default()
    }

    pub(crate) fn is_due(&self, notice: &Notice, now: Instant) -> bool {
        let due = self.0.get(&id(notice)).and_then(|progress| progress.due);
        due.is_none_or(|due| due <= now)
    }

    pub(crate) fn note(&mut self, notice: &Notice, progress: Progress) {
        self.0.insert(id(notice), progress);
        if self.0.len() > MOST {
            self.0.pop_first();
        }
    }

    pub(crate) fn forget(&mut self, notice: &Notice) {
        self.0.remove(&id(notice));
    }
}

fn id(notice: &Notice) -> Id {
    (notice.endpoint, notice.at())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outbox::samples;

    #[tokio::test]
    async fn remembers_until_told_to_forget() {
        let now = Instant::now();
        let notice = samples::notice(&samples::endpoint(&samples::account(&[]), "A"));
        let mut book = Book::default();
        assert!(book.is_due(&notice, now));
        let progress = Progress {
            email: Some(Email {
                disabled_at: notice.at(),
                at: notice.at(),
                subject: "A".to_owned(),
                to: Vec::new(),
            }),
            deferrals: 1,
            broke_off: true,
            mishaps: 0,
            due: Some(now + Duration::from_secs(1)),
        };
        book.note(&notice, progress.clone());
        assert!(!book.is_due(&notice, now));
        assert!(book.is_due(&notice, now + Duration::from_secs(1)));
        assert_eq!(book.progress(&notice), progress);
        book.forget(&notice);
        assert_eq!(book.progress(&notice), Progress::default());
    }

    #[test]
    fn is_bounded() {
        let mut notice = samples::notice(&samples::endpoint(&samples::account(&[]), "A"));
        let mut book = Book::default();
        for at in 0..MOST as u64 + 5 {
            notice.disabled.at = Timestamp::from_millis(at);
            book.note(&notice, Progress::default());
        }
        assert_eq!(book.0.len(), MOST);
    }
}
