//! The handle to the durable records, with helpers shared by the other modules.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use postrider_domain::assignment::{Shard, shard_of};
use postrider_domain::delivery::Delivery;
use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, EndpointId, Id};
use postrider_domain::trace::TraceContext;

use crate::answers::Changes;
use crate::codec::RecordTx;
use crate::events::subscriber_counts::SubscriberCounts;
use crate::keys::copy_marker;
use crate::keys::meta::{self, Meta};
use crate::kv::{Error, Range, Store, Tx};

/// The store format that this version reads and writes. Earlier formats stay readable. Opening a
/// store upgrades it to this format, after which earlier versions refuse to open it.
///
/// - 2 added node leases and the fence of each attempt.
/// - 3 added resends, statistics, the index of an event's deliveries and the log of emails. Earlier
///   versions would not see resends to many endpoints.
/// - 4 added fan-outs that merge both lists of subscribers. Earlier versions would not see them.
pub const FORMAT: u32 = 4;

/// The durable records, on any engine. Clones are cheap and share all state.
///
/// Unless documented otherwise, methods only return errors of the store: after
/// [`Error::Unavailable`] or [`Error::Full`] nothing was written; after [`Error::MaybeCommitted`]
/// the write may or may not have taken effect.
#[derive(Clone, Debug)]
pub struct Records {
    pub(crate) store: Store,
    pub(crate) subscriber_counts: Arc<SubscriberCounts>,
    shards: u16,
    /// Keys of unreadable rows that have been logged.
    logged_unreadable: Arc<Mutex<HashSet<Vec<u8>>>>,
    /// Runs the changes that a request may ask for.
    pub(crate) changes: Changes,
}

/// The maximum number of unreadable rows that are logged; further ones are skipped silently.
const MAX_LOGGED_UNREADABLE: usize = 1_000;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version of Postrider wrote the store.
    #[error(
        "the store was written by a newer version (format {found}, but this version supports up to {FORMAT}); \
         upgrade this node"
    )]
    Newer { found: u32 },
    /// The number of shards is fixed when a store is created.
    #[error(
        "the store has {found} shards, but {wanted} are configured; the number is fixed when a store is created"
    )]
    Shards { found: u16, wanted: u16 },
    /// A copy of another store into this one is incomplete.
    #[error(
        "the store is an incomplete copy of another one; run the same `postrider store copy` again to \
         resume the copy"
    )]
    Unfinished,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Which page of a list to read.
#[derive(Clone, Debug)]
pub struct PageRequest<C> {
    pub limit: usize,
    /// The last item of the previous page.
    pub after: Option<C>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct ListPage<T> {
    pub items: Vec<T>,
    /// The cursor of the next page. `None` at the end of the list.
    pub next: Option<String>,
}

/// A hint to the owner of a shard that there is work. The work itself is durable: without the hint,
/// the owner finds it later.
#[derive(Clone, Debug)]
pub enum Wake {
    /// An endpoint has a delivery due.
    Endpoint {
        shard: Shard,
        account: AccountId,
        endpoint: EndpointId,
        /// The delivery, which saves reading it.
        ready: Option<Box<Ready>>,
    },
    /// Cached data of an endpoint is out of date.
    Changed { shard: Shard, account: AccountId, endpoint: EndpointId },
    /// The shard has a fan-out or a replay to work on.
    Jobs { shard: Shard },
}

/// A due delivery with its payload.
#[derive(Clone, Debug)]
pub struct Ready {
    pub delivery: Delivery,
    pub payload: Payload,
    /// The trace that created it. It is only kept in memory.
    pub trace: Option<TraceContext>,
}

impl Wake {
    /// The shard whose owner the hint is for.
    #[must_use]
    pub fn shard(&self) -> Shard {
        match *self {
            Self::Endpoint { shard, .. } | Self::Changed { shard, .. } | Self::Jobs { shard } => {
                shard
            }
        }
    }

    /// The hint without the delivery.
    #[must_use]
    pub fn without_delivery(self) -> Self {
        match self {
            Self::Endpoint { shard, account, endpoint, .. } => {
                Self::Endpoint { shard, account, endpoint, ready: None }
            }
            other => other,
        }
    }

    /// The trace of its delivery, if it includes one.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        match self {
            Self::Endpoint { ready: Some(ready), .. } => ready.trace,
            _ => None,
        }
    }

    /// The size of the included payload.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Endpoint { ready: Some(ready), .. } => ready.payload.bytes().len(),
            _ => 0,
        }
    }
}

impl Records {
    /// Opens the records in `store`, or creates them with `shards` shards.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(store: Store, shards: u16) -> Result<Self, OpenError> {
        let found = store
            .transact(move |tx, _| async move {
                if tx.get(copy_marker::key()).await?.is_some() {
                    return Err(OpenError::Unfinished);
                }
                if let Some(found) = tx.load::<Meta>(&meta::key()).await? {
                    if found.format < FORMAT && found.shards == shards {
                        // Older records stay readable, but older versions must not read newer ones.
                        tx.save(meta::key(), &Meta { format: FORMAT, shards });
                    }
                    return Ok(found);
                }
                let created = Meta { format: FORMAT, shards };
                tx.save(meta::key(), &created);
                Ok(created)
            })
            .await?;
        match found {
            Meta { format, .. } if format > FORMAT => Err(OpenError::Newer { found: format }),
            Meta { shards: found, .. } if found != shards => {
                Err(OpenError::Shards { found, wanted: shards })
            }
            _ => Ok(Self {
                changes: Changes::new(store.clone(), shards),
                store,
                subscriber_counts: Arc::default(),
                shards,
                logged_unreadable: Arc::default(),
            }),
        }
    }

    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard of an endpoint, an event or a replay.
    pub fn shard_of(&self, id: impl Id) -> Shard {
        shard_of(id, self.shards)
    }

    /// Rejects new work when the disk is nearly full, to reserve space for finishing accepted work.
    pub(crate) fn refuse_if_nearly_full(&self) -> Result<(), Error> {
        refuse_if_nearly_full(&self.store)
    }

    /// Logs an unreadable row that is skipped so that it does not block others. Each row is logged
    /// once.
    pub(crate) fn skip_unreadable(&self, key: &[u8], error: &Error) {
        let mut logged_unreadable = self.logged_unreadable.lock();
        if logged_unreadable.len() < MAX_LOGGED_UNREADABLE
            && logged_unreadable.insert(key.to_owned())
        {
            let key = key.escape_ascii();
            tracing::error!(%key, %error, "skipping an unreadable row");
        }
    }

    /// Returns the first readable rows of `range`, up to its limit.
    pub(crate) async fn readable_rows<T>(
        &self,
        mut range: Range,
        read: impl Fn(&[u8], &[u8]) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let (limit, mut found) = (range.limit, Vec::new());
        loop {
            range.limit = limit - found.len();
            let rows = self.store.rows(range.clone()).await?;
            for (key, value) in &rows {
                match read(key, value) {
                    Ok(row) => found.push(row),
                    Err(error) => self.skip_unreadable(key, &error),
                }
            }
            if rows.len() < range.limit || found.len() == limit {
                return Ok(found);
            }
            let (last, _) = rows.last().expect("as many as were asked for");
            range.begin = [last, &[0][..]].concat();
        }
    }

    /// Returns the first readable row with `prefix`, in a transaction.
    pub(crate) async fn first_readable<T>(
        &self,
        tx: &Tx,
        prefix: Vec<u8>,
        read: impl Fn(&[u8], &[u8]) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut range = Range::prefix(prefix).limit(1);
        loop {
            let rows = tx.range(range.clone()).await?;
            let Some((key, value)) = rows.first() else { return Ok(None) };
            match read(key, value) {
                Ok(found) => return Ok(Some(found)),
                Err(error) => self.skip_unreadable(key, &error),
            }
            range.begin = [key, &[0][..]].concat();
        }
    }

    /// Checks that the store responds.
    pub async fn ping(&self) -> Result<(), Error> {
        self.store.read(|tx| async move { tx.get(meta::key()).await.map(drop) }).await
    }
}

/// See [`Records::refuse_if_nearly_full`].
pub(crate) fn refuse_if_nearly_full(store: &Store) -> Result<(), Error> {
    if store.is_nearly_full() { Err(Error::Full) } else { Ok(()) }
}

/// Makes a page from the rows read, which are one more than the page's limit.
pub(crate) fn page<T>(
    mut items: Vec<T>,
    limit: usize,
    cursor: impl Fn(&T) -> String,
) -> ListPage<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    ListPage { items, next }
}
