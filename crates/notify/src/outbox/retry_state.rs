//! Which contacts each notice has reached, and when to retry the others. Kept only in memory: after
//! a restart all contacts are notified again, which at-least-once delivery allows.

use std::collections::BTreeMap;

use postrider_domain::email::Email;
use postrider_domain::ids::EndpointId;
use postrider_domain::notice::Notice;
use postrider_domain::time::Timestamp;
use tokio::time::Instant;

/// Maximum notices whose state is kept. Dropping one may cause a repeated email.
const MAX_TRACKED: usize = 10_000;

/// Identifies a notice.
type Id = (EndpointId, Timestamp);

/// The retry state of every notice that was not completed in one try.
#[derive(Default)]
pub(crate) struct RetryStates(BTreeMap<Id, RetryState>);

/// The retry state of one notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetryState {
    /// The email's record so far. `None` before the first try.
    pub email: Option<Email>,
    /// Tries after which some contact still had to be notified.
    pub deferrals: u32,
    /// An SMTP session was aborted, so each recipient gets a separate one from then on.
    pub session_aborted: bool,
    /// Tries that panicked or needed a corrupt record.
    pub internal_failures: u32,
    /// When the next try is due.
    pub due: Option<Instant>,
}

impl RetryStates {
    pub(crate) fn get(&self, notice: &Notice) -> RetryState {
        self.0.get(&id(notice)).cloned().unwrap_or_default()
    }

    pub(crate) fn is_due(&self, notice: &Notice, now: Instant) -> bool {
        let due = self.0.get(&id(notice)).and_then(|retry_state| retry_state.due);
        due.is_none_or(|due| due <= now)
    }

    pub(crate) fn set(&mut self, notice: &Notice, retry_state: RetryState) {
        self.0.insert(id(notice), retry_state);
        if self.0.len() > MAX_TRACKED {
            self.0.pop_first();
        }
    }

    pub(crate) fn remove(&mut self, notice: &Notice) {
        self.0.remove(&id(notice));
    }
}

fn id(notice: &Notice) -> Id {
    (notice.endpoint, notice.at())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_domain::notice::Report;

    use super::*;
    use crate::outbox::test_data;

    #[tokio::test]
    async fn keeps_the_state_until_it_is_removed() {
        let now = Instant::now();
        let notice = test_data::notice(&test_data::endpoint(&test_data::account(&[]), "A"));
        let mut retry_states = RetryStates::default();
        assert!(retry_states.is_due(&notice, now));
        let retry_state = RetryState {
            email: Some(Email {
                kind: notice.kind(),
                disabled_at: Some(notice.at()),
                at: notice.at(),
                subject: "A".to_owned(),
                to: Vec::new(),
            }),
            deferrals: 1,
            session_aborted: true,
            internal_failures: 0,
            due: Some(now + Duration::from_secs(1)),
        };
        retry_states.set(&notice, retry_state.clone());
        assert!(!retry_states.is_due(&notice, now));
        assert!(retry_states.is_due(&notice, now + Duration::from_secs(1)));
        assert_eq!(retry_states.get(&notice), retry_state);
        retry_states.remove(&notice);
        assert_eq!(retry_states.get(&notice), RetryState::default());
    }

    #[test]
    fn is_bounded() {
        let mut notice = test_data::notice(&test_data::endpoint(&test_data::account(&[]), "A"));
        let mut retry_states = RetryStates::default();
        for at in 0..MAX_TRACKED as u64 + 5 {
            let Report::Disabled(disabled) = &mut notice.report else { panic!("not disabled") };
            disabled.at = Timestamp::from_millis(at);
            retry_states.set(&notice, RetryState::default());
        }
        assert_eq!(retry_states.0.len(), MAX_TRACKED);
    }
}
