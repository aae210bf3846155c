//! The notices to be sent next, by account. The accounts take turns, so that one with very many
//! notices does not delay the others.

use std::collections::BTreeMap;
use std::ops::Bound;

use postrider_domain::assignment::Fence;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;
use postrider_domain::time::Timestamp;

/// Maximum notices of one account, which is also the maximum that one email lists. The others are
/// found again by a later scan.
pub(super) const MAX_LISTED: usize = 1_000;
/// Maximum notices of all accounts.
const MAX_QUEUED: usize = 10_000;

/// An account's notices, oldest first.
type Notices = BTreeMap<(Timestamp, EndpointId), (Fence, Notice)>;

#[derive(Default)]
pub(super) struct Queue {
    accounts: BTreeMap<AccountId, Notices>,
    len: usize,
    /// The account whose turn was last.
    last: Option<AccountId>,
}

impl Queue {
    /// Adds a notice, or replaces its fence. While the queue is full, an account with fewer notices
    /// displaces one with more.
    pub(super) fn add(&mut self, fence: Fence, notice: Notice) {
        let id = (notice.at(), notice.endpoint);
        let account = notice.account;
        let queued = self.accounts.get(&account);
        let (count, is_new) = queued.map_or((0, true), |it| (it.len(), !it.contains_key(&id)));
        if is_new {
            let fits = count < MAX_LISTED && (self.len < MAX_QUEUED || self.make_room(count + 1));
            if !fits {
                return;
            }
            self.len += 1;
        }
        self.accounts.entry(account).or_default().insert(id, (fence, notice));
    }

    /// Drops the newer half of the largest account's notices, if it has more than `count`.
    fn make_room(&mut self, count: usize) -> bool {
        let largest = self.accounts.values_mut().max_by_key(|notices| notices.len());
        let Some(notices) = largest.filter(|notices| notices.len() > count) else { return false };
        let before = notices.len();
        let middle = *notices.keys().nth(before / 2).expect("an index within its length");
        drop(notices.split_off(&middle));
        self.len -= before - notices.len();
        true
    }

    /// The account whose turn it is, with its notices, oldest first. Its turn ends with this call.
    pub(super) fn next(&mut self) -> Option<(AccountId, Vec<(Fence, Notice)>)> {
        let after_last = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.accounts.range((after_last, Bound::Unbounded)).next();
        let (account, notices) = later.or_else(|| self.accounts.first_key_value())?;
        self.last = Some(*account);
        Some((*account, notices.values().cloned().collect()))
    }

    pub(super) fn remove(&mut self, notice: &Notice) {
        let id = (notice.at(), notice.endpoint);
        self.retain_of(notice.account, |queued, _| queued != id);
    }

    /// Keeps only these of an account's notices.
    pub(super) fn keep_only(&mut self, account: AccountId, kept: &[Notice]) {
        let ids: Vec<_> = kept.iter().map(|notice| (notice.at(), notice.endpoint)).collect();
        self.retain_of(account, |queued, _| ids.contains(&queued));
    }

    /// Keeps the notices under these fences.
    pub(super) fn retain(&mut self, keep: impl Fn(Fence) -> bool) {
        let accounts: Vec<_> = self.accounts.keys().copied().collect();
        for account in accounts {
            self.retain_of(account, |_, fence| keep(fence));
        }
    }

    fn retain_of(
        &mut self,
        account: AccountId,
        keep: impl Fn((Timestamp, EndpointId), Fence) -> bool,
    ) {
        let Some(notices) = self.accounts.get_mut(&account) else { return };
        let before = notices.len();
        notices.retain(|id, (fence, _)| keep(*id, *fence));
        self.len -= before - notices.len();
        if notices.is_empty() {
            self.accounts.remove(&account);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::{BootId, Id};
    use postrider_domain::notice::Report;

    use super::*;
    use crate::outbox::test_data;

    const FENCE: Fence = Fence { shard: 0, epoch: 1, node: BootId::MIN };

    fn account(n: u32) -> AccountId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        AccountId::from_bytes(bytes)
    }

    fn notice(account: AccountId, at: usize) -> Notice {
        let owner = test_data::account(&[]);
        let mut notice = test_data::notice(&test_data::endpoint(&owner, "A"));
        let Report::Disabled(disabled) = &mut notice.report else { panic!("not disabled") };
        disabled.at = Timestamp::from_millis(u64::try_from(at).expect("fits"));
        Notice { account, endpoint: EndpointId::MIN, ..notice }
    }

    fn add(queue: &mut Queue, account: AccountId, count: usize) {
        let template = notice(account, 0);
        for at in 0..count {
            let mut next = template.clone();
            let Report::Disabled(disabled) = &mut next.report else { panic!("not disabled") };
            disabled.at = Timestamp::from_millis(u64::try_from(at).expect("fits"));
            queue.add(FENCE, next);
        }
    }

    fn count(queue: &Queue, account: AccountId) -> usize {
        queue.accounts.get(&account).map_or(0, BTreeMap::len)
    }

    #[test]
    fn accounts_take_turns() {
        let mut queue = Queue::default();
        for n in [3, 1, 2] {
            add(&mut queue, account(n), 2);
        }
        let mut turns = Vec::new();
        for _ in 0..4 {
            let (account, notices) = queue.next().expect("work");
            assert!(notices[0].1.at() < notices[1].1.at());
            turns.push(account);
        }
        assert_eq!(turns, [1, 2, 3, 1].map(account));
        queue.remove(&notice(account(2), 0));
        queue.keep_only(account(3), &[notice(account(3), 1)]);
        assert_eq!([1, 2, 3].map(|n| count(&queue, account(n))), [2, 1, 1]);
        assert_eq!(queue.len, 4);
        queue.retain(|_| false);
        assert!(queue.is_empty() && queue.len == 0);
    }

    #[test]
    fn a_notice_is_queued_once_with_its_latest_fence() {
        let mut queue = Queue::default();
        queue.add(FENCE, notice(account(1), 7));
        queue.add(Fence { epoch: 2, ..FENCE }, notice(account(1), 7));
        let (_, notices) = queue.next().expect("work");
        assert_eq!((notices.len(), notices[0].0.epoch, queue.len), (1, 2, 1));
    }

    #[test]
    fn a_full_queue_has_room_for_accounts_with_fewer_notices() {
        let mut queue = Queue::default();
        let large = u32::try_from(MAX_QUEUED / MAX_LISTED).expect("fits");
        for n in 0..large {
            add(&mut queue, account(n), MAX_LISTED + 1);
        }
        assert_eq!(queue.len, MAX_QUEUED);
        add(&mut queue, account(large), 3);
        assert_eq!(count(&queue, account(large)), 3);
        assert!(queue.len <= MAX_QUEUED);
        let counted: usize = queue.accounts.values().map(BTreeMap::len).sum();
        assert_eq!(counted, queue.len);
        assert!((0..large).all(|n| count(&queue, account(n)) >= MAX_LISTED / 2));
    }

    #[test]
    fn a_queue_full_of_small_accounts_is_bounded() {
        let mut queue = Queue::default();
        let one = notice(account(0), 0);
        for n in 0..=u32::try_from(MAX_QUEUED).expect("fits") {
            queue.add(FENCE, Notice { account: account(n), ..one.clone() });
        }
        assert_eq!(queue.len, MAX_QUEUED);
    }
}
