//! When each account may get its next email. What the account loses until then is collected, so that
//! one email lists it.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_domain::ids::AccountId;
use tokio::time::Instant;

/// Maximum accounts that are remembered. A forgotten one gets its next email sooner.
const MAX_REMEMBERED: usize = 10_000;

/// How long notices are collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Periods {
    /// After the first notice: what fails for one reason is disabled at nearly the same time.
    pub first: Duration,
    /// After an email.
    pub next: Duration,
}

pub(super) struct Collecting {
    periods: Periods,
    accounts: BTreeMap<AccountId, Period>,
}

struct Period {
    ends_at: Instant,
    /// Whether a notice was found since the account's last email.
    found: bool,
}

impl Collecting {
    pub(super) fn new(periods: Periods) -> Self {
        Self { periods, accounts: BTreeMap::new() }
    }

    /// When the account may get an email, about a notice that was found at `now`.
    pub(super) fn ready_at(&mut self, account: AccountId, now: Instant) -> Instant {
        if let Some(period) = self.accounts.get_mut(&account) {
            let is_over = now >= period.ends_at;
            // A period in which nothing was found, or whose notices were given up, counts for
            // nothing.
            if !is_over || (period.found && now < period.ends_at + self.periods.next) {
                period.found = true;
                return period.ends_at;
            }
        }
        let ends_at = now + self.periods.first;
        self.remember(account, Period { ends_at, found: true }, now);
        ends_at
    }

    /// The account was emailed at `now`.
    pub(super) fn emailed(&mut self, account: AccountId, now: Instant) {
        self.remember(account, Period { ends_at: now + self.periods.next, found: false }, now);
    }

    fn remember(&mut self, account: AccountId, period: Period, now: Instant) {
        if self.accounts.len() >= MAX_REMEMBERED {
            self.accounts.retain(|_, period| now < period.ends_at);
        }
        if self.accounts.len() >= MAX_REMEMBERED {
            self.accounts.pop_first();
        }
        self.accounts.insert(account, period);
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const NEXT: Duration = Duration::from_secs(60);
    const MOMENT: Duration = Duration::from_millis(1);

    fn account(n: u32) -> AccountId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        AccountId::from_bytes(bytes)
    }

    fn collecting() -> Collecting {
        Collecting::new(Periods { first: FIRST, next: NEXT })
    }

    #[test]
    fn the_first_email_waits_for_a_moment_and_the_next_for_a_minute() {
        let start = Instant::now();
        let mut accounts = collecting();
        let sent = start + FIRST;
        assert_eq!(accounts.ready_at(account(1), start), sent);
        assert_eq!(accounts.ready_at(account(1), start + MOMENT), sent, "once for all notices");
        assert_eq!(accounts.ready_at(account(1), sent + MOMENT), sent);
        accounts.emailed(account(1), sent);
        assert_eq!(accounts.ready_at(account(1), sent + MOMENT), sent + NEXT);
        assert_eq!(accounts.ready_at(account(1), sent + NEXT + MOMENT), sent + NEXT);
        assert_eq!(accounts.ready_at(account(2), sent), sent + FIRST, "each account on its own");
    }

    #[test]
    fn after_a_quiet_minute_the_email_is_the_first_again() {
        let start = Instant::now();
        let mut accounts = collecting();
        accounts.emailed(account(1), start);
        let found = start + NEXT;
        assert_eq!(accounts.ready_at(account(1), found), found + FIRST);
        // Its notices were given up to another node.
        let later = found + FIRST + NEXT;
        assert_eq!(accounts.ready_at(account(1), later), later + FIRST);
    }

    #[test]
    fn is_bounded() {
        let start = Instant::now();
        let mut accounts = collecting();
        for n in 0..=u32::try_from(MAX_REMEMBERED).expect("fits") {
            accounts.emailed(account(n), start);
        }
        assert_eq!(accounts.accounts.len(), MAX_REMEMBERED);
        accounts.emailed(account(u32::MAX), start + NEXT);
        assert_eq!(accounts.accounts.len(), 1, "the others are forgotten");
    }
}
