//! When trouble of our own counts as the endpoint's failure after all.
//!
//! Our own outage is not theirs: an attempt that this node could not make is not recorded. But what
//! looks like an outage and concerns one delivery alone would come back for ever, without a record,
//! an end or an email, and hold up what is behind it. So it counts once it has come back often enough
//! while this node did make and record other requests all along.

use std::collections::HashMap;

use postrider_domain::ids::DeliveryId;

/// Trouble in a row after which the next one is recorded as a failed attempt. With the pause after
/// each, that takes a minute.
pub(crate) const ROW: u32 = 6;
/// Most deliveries of an endpoint of which trouble is remembered.
const MOST: usize = 128;

/// What this node has done since it started. It works if both go on: new connections show that it is
/// not short of anything, which those that are kept open do not, and records show that the store and
/// all that is in between are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Attempts that succeeded and are on record.
    pub(crate) successes: u64,
}

impl Done {
    fn has_gone_on_since(self, earlier: Self) -> bool {
        self.connections > earlier.connections && self.successes > earlier.successes
    }
}

/// The deliveries of an endpoint whose last attempts could not be made. In memory alone: whoever has
/// them next begins to count anew.
#[derive(Debug, Default)]
pub(crate) struct Troubles(HashMap<DeliveryId, Row>);

/// Trouble in a row, each of which but the first came while this node worked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    length: u32,
    /// What the node had done when the last one came.
    then: Done,
}

impl Row {
    /// Whether the next trouble counts as a failure, when the node has done this much.
    pub(crate) fn is_enough(self, now: Done) -> bool {
        self.length >= ROW && now.has_gone_on_since(self.then)
    }
}

impl Troubles {
    /// Notes that a delivery's attempt could not be made.
    pub(crate) fn note(&mut self, delivery: DeliveryId, now: Done) {
        if let Some(row) = self.0.get_mut(&delivery) {
            if now.has_gone_on_since(row.then) {
                *row = Row { length: row.length.saturating_add(1), then: now };
            }
        } else if self.0.len() < MOST {
            self.0.insert(delivery, Row { length: 1, then: now });
        }
    }

    /// Notes that it is on record, or needs no attempt any more.
    pub(crate) fn forget(&mut self, delivery: DeliveryId) {
        self.0.remove(&delivery);
    }

    /// Notes that none of them is to be sent any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn of(&self, delivery: DeliveryId) -> Option<Row> {
        self.0.get(&delivery).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DeliveryId = DeliveryId::MIN;

    fn done(connections: u64, successes: u64) -> Done {
        Done { connections, successes }
    }

    fn is_enough(troubles: &Troubles, now: Done) -> bool {
        troubles.of(ID).is_some_and(|row| row.is_enough(now))
    }

    #[test]
    fn trouble_counts_when_others_succeed_all_along() {
        let mut troubles = Troubles::default();
        for number in 1..=u64::from(ROW) {
            assert!(!is_enough(&troubles, done(number, number)), "after {}", number - 1);
            troubles.note(ID, done(number, number));
        }
        let last = u64::from(ROW);
        assert!(!is_enough(&troubles, done(last, last)), "nobody has succeeded since");
        assert!(is_enough(&troubles, done(last + 1, last + 1)));
        troubles.forget(ID);
        assert!(!is_enough(&troubles, done(last + 2, last + 2)), "it begins anew");
    }

    #[test]
    fn our_own_outage_is_not_theirs() {
        let mut troubles = Troubles::default();
        troubles.note(ID, done(1, 1));
        // Nothing goes on at all; no new connection can be made; nothing can be recorded.
        for dead in [|_| done(1, 1), |time| done(1, time), |time| done(time, 1)] {
            for time in 2..1_000 {
                troubles.note(ID, dead(time));
                assert!(!is_enough(&troubles, dead(time + 1)));
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut troubles = Troubles::default();
        let mint = postrider_domain::ids::Mint::new();
        for time in 0..2 * MOST as u64 {
            let at = postrider_domain::time::Timestamp::from_millis(time);
            troubles.note(mint.id(at), done(1, 1));
        }
        assert_eq!(troubles.0.len(), MOST);
    }
}
