//! Notices: written together with the change that they report, removed once the email is done.

use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::email::Email;
use postrider_domain::endpoint::State;
use postrider_domain::notice::Notice;
use postrider_domain::time::Timestamp;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::notice;
use crate::kv::{Error, Tx};
use crate::records::Records;

/// The maximum number of notices in one transaction. With the largest emails it stays below the
/// limit on a transaction's size.
pub const MAX_NOTICES_PER_TRANSACTION: usize = 50;

/// A page of a shard's notices: disabled endpoints, then warnings and reminders, each oldest first.
#[derive(Clone, Debug)]
pub struct NoticePage {
    /// The readable notices.
    pub notices: Vec<Notice>,
    /// The error of the first unreadable notice, for example one written by a later version.
    pub damage: Option<Error>,
    /// The cursor of the next page. `None` at the end.
    pub next: Option<NoticeCursor>,
}

/// A position in a shard's notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeCursor(Vec<u8>);

impl Records {
    /// Returns at most `limit` notices of a shard that are due at `now`, from the first or after a
    /// cursor. An unreadable notice does not hide the others.
    pub async fn notices(
        &self,
        shard: Shard,
        now: Timestamp,
        after: Option<&NoticeCursor>,
        limit: usize,
    ) -> Result<NoticePage, Error> {
        let mut rows = Vec::new();
        for mut range in notice::due(shard, now) {
            if let Some(NoticeCursor(last)) = after
                && *last >= range.begin
            {
                range.begin = [last, &[0][..]].concat();
            }
            if range.begin < range.end && rows.len() < limit {
                rows.extend(self.store.rows(range.limit(limit - rows.len())).await?);
            }
        }
        let (mut notices, mut damage) = (Vec::with_capacity(rows.len()), None);
        for (_, value) in &rows {
            match Record::decode(value) {
                Ok(read) => notices.push(read),
                Err(error) => damage = damage.or(Some(error)),
            }
        }
        let last = if rows.len() == limit { rows.last() } else { None };
        let next = last.map(|(key, _)| NoticeCursor(key.to_vec()));
        Ok(NoticePage { notices, damage, next })
    }

    /// Removes finished notices of one shard, each with its email, which is logged. A disabled
    /// endpoint gets a reminder, unless it has been enabled since. At most
    /// [`MAX_NOTICES_PER_TRANSACTION`] at once.
    pub async fn finish_notices(
        &self,
        fence: Fence,
        finished: &[(&Notice, Option<&Email>)],
        now: Timestamp,
    ) -> Result<(), OwnerError> {
        assert!(finished.len() <= MAX_NOTICES_PER_TRANSACTION, "too many for a transaction");
        self.as_owner(fence, |tx| async move {
            for (notice, email) in finished {
                tx.clear(notice::key(fence.shard, notice));
                if let Some(email) = email {
                    self.log(&tx, notice, email).await?;
                }
                if let Some(reminder) = notice.reminder(now)
                    && is_still_disabled(&tx, notice).await?
                {
                    save(&tx, fence, &reminder);
                }
            }
            Ok(())
        })
        .await
    }

    /// Adds a notice on its own, for tests. Otherwise notices are written together with the change
    /// that they report.
    pub async fn record_notice(&self, fence: Fence, record: &Notice) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move {
            save(&tx, fence, record);
            Ok(())
        })
        .await
    }
}

/// Whether the disabling that the notice reports still holds. Not checked at commit: a reminder that
/// is not needed is dropped when it is due.
async fn is_still_disabled(tx: &Tx, notice: &Notice) -> Result<bool, Error> {
    let key = dispatch_state::key(notice.account, notice.endpoint);
    let dispatch = tx.snap_load::<DispatchState>(&key).await?;
    Ok(dispatch.is_some_and(|dispatch| match dispatch.state {
        State::Disabled(disabled) => Some(&disabled) == notice.disabled(),
        State::Enabled | State::Deleted => false,
    }))
}

pub(crate) fn save(tx: &Tx, fence: Fence, record: &Notice) {
    tx.save(notice::key(fence.shard, record), record);
}
