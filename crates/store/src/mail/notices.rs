//! Notices: written together with the change that they report, removed once the email is done.

use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::email::Email;
use postrider_domain::notice::Notice;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::keys::notice;
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

/// A page of a shard's notices, oldest first.
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
    /// Returns at most `limit` notices of a shard, from the oldest or after a cursor. An unreadable
    /// notice does not hide the others.
    pub async fn notices(
        &self,
        shard: Shard,
        after: Option<&NoticeCursor>,
        limit: usize,
    ) -> Result<NoticePage, Error> {
        let mut range = Range::prefix(notice::of_shard(shard)).limit(limit);
        if let Some(NoticeCursor(last)) = after {
            range.begin = [last, &[0][..]].concat();
        }
        let rows = self.store.rows(range).await?;
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

    /// Removes a finished notice, and logs its email.
    pub async fn finish_notice(
        &self,
        fence: Fence,
        notice: &Notice,
        email: Option<&Email>,
    ) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move {
            tx.clear(notice::key(fence.shard, notice.at(), notice.endpoint));
            match email {
                Some(email) => self.log(&tx, notice, email).await,
                None => Ok(()),
            }
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

pub(crate) fn save(tx: &Tx, fence: Fence, record: &Notice) {
    tx.save(notice::key(fence.shard, record.at(), record.endpoint), record);
}
