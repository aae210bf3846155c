//! What people must be told: written with the change that it tells of, removed once told.

use postrider_domain::email::Email;
use postrider_domain::notice::Notice;
use postrider_domain::ownership::{Fence, Shard};

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::keys::notice;
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

/// A part of a shard's notices, the oldest first.
#[derive(Clone, Debug)]
pub struct NoticePage {
    /// Those that can be read.
    pub notices: Vec<Notice>,
    /// What is wrong with the first one that cannot be read, for instance since a later version
    /// wrote it.
    pub damage: Option<Error>,
    /// Where the next part begins; none at the end.
    pub next: Option<NoticeCursor>,
}

/// A place in a shard's notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeCursor(Vec<u8>);

impl Records {
    /// At most `limit` notices of a shard, the oldest ones or those after a part that was read
    /// before. One that cannot be read does not hide the others.
    ///
    /// # Errors
    /// When the store fails.
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

    /// Removes a notice, about which nothing is left to do, and keeps on record what became of its
    /// email.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn finish_notice(
        &self,
        fence: Fence,
        told: &Notice,
        email: Option<&Email>,
    ) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move {
            tx.clear(notice::key(fence.shard, told.at(), told.endpoint));
            match email {
                Some(email) => self.log(&tx, told, email).await,
                None => Ok(()),
            }
        })
        .await
    }

    /// Adds a notice by itself. The product writes notices with the change that they tell of;
    /// this is for tests of what reads them.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
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
