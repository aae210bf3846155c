//! The handle on the durable records, and what its parts share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use postrider_domain::delivery::Delivery;
use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, EndpointId, Id};
use postrider_domain::ownership::{Shard, shard_of};
use postrider_domain::trace::TraceContext;

use crate::codec::RecordTx;
use crate::events::subscribers::SubscriberCounts;
use crate::keys::copying;
use crate::keys::meta::{self, Meta};
use crate::kv::{Error, Range, Store, Tx, lock};

/// The layout of the records that this version reads and writes. Earlier ones stay readable; to open
/// a store marks it as of this one, and no earlier version opens it again.
///
/// - 2 came with the leases of nodes and the fence of each attempt.
/// - 3 came with past events that are sent again, statistics, the index of an event's deliveries and
///   the log of emails. What is sent again to many is work that an earlier version would not see.
/// - 4 came with fan-outs that walk both lists of subscribers as one. They are work that an earlier
///   version would not see.
pub const FORMAT: u32 = 4;

/// The durable records, over any engine. Clones are cheap and share everything.
///
/// Unless it says otherwise, a method fails only as the store does: with
/// [`Error::Unavailable`] or [`Error::Full`] nothing was written; with [`Error::MaybeCommitted`]
/// nobody knows.
#[derive(Clone, Debug)]
pub struct Records {
    pub(crate) store: Store,
    pub(crate) subscriber_counts: Arc<SubscriberCounts>,
    shards: u16,
    /// Keys of unreadable rows that have been logged.
    passed_over: Arc<Mutex<HashSet<Vec<u8>>>>,
}

/// The most unreadable rows that are logged; further ones are skipped silently.
const MOST_PASSED_OVER: usize = 1_000;

/// Why the records cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer version of Postrider wrote them.
    #[error(
        "the store was written by a newer version (format {found}; this version reads {FORMAT})"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// The count of shards is fixed when a store is created.
    #[error("the store has {found} shards, fixed when it was created, and {wanted} are configured")]
    Shards {
        /// What the store has.
        found: u16,
        /// What was asked for.
        wanted: u16,
    },
    /// Another store was being copied into it, and not all of it is there.
    #[error(
        "the store holds a part of another one, whose copy has not ended; run the same `postrider \
         store copy` again, which goes on with it"
    )]
    Unfinished,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Which part of a list to read.
#[derive(Clone, Debug)]
pub struct PageRequest<C> {
    /// Most items.
    pub limit: usize,
    /// The last item of the page before this one.
    pub after: Option<C>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts, as text; none at the end of the list.
    pub next: Option<String>,
}

/// Work for the owner of a shard. A hint: the rows that it tells of are durable, and the owner
/// finds them by itself, only later.
#[derive(Clone, Debug)]
pub enum Wake {
    /// An endpoint has a delivery due.
    Endpoint {
        /// The endpoint's shard.
        shard: Shard,
        /// Whose it is.
        account: AccountId,
        /// The endpoint.
        endpoint: EndpointId,
        /// The delivery itself, which saves reading it.
        ready: Option<Box<Ready>>,
    },
    /// What an actor may remember of an endpoint is out of date.
    Changed {
        /// The endpoint's shard.
        shard: Shard,
        /// Whose it is.
        account: AccountId,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The shard has a fan-out or a replay to work on.
    Jobs {
        /// The shard.
        shard: Shard,
    },
}

/// A delivery that is due now, with what it sends.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The delivery.
    pub delivery: Delivery,
    /// Its event's payload.
    pub payload: Payload,
    /// The trace that it came to be in. It is in memory alone: after a restart it is gone.
    pub trace: Option<TraceContext>,
}

impl Wake {
    /// Whose owner it is for.
    #[must_use]
    pub fn shard(&self) -> Shard {
        match *self {
            Self::Endpoint { shard, .. } | Self::Changed { shard, .. } | Self::Jobs { shard } => {
                shard
            }
        }
    }

    /// The same without what saves reading.
    #[must_use]
    pub fn without_delivery(self) -> Self {
        match self {
            Self::Endpoint { shard, account, endpoint, .. } => {
                Self::Endpoint { shard, account, endpoint, ready: None }
            }
            other => other,
        }
    }

    /// The trace that its delivery belongs to, if it brings one along.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        match self {
            Self::Endpoint { ready: Some(ready), .. } => ready.trace,
            _ => None,
        }
    }

    /// The size of the payload that it brings along.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Endpoint { ready: Some(ready), .. } => ready.payload.bytes().len(),
            _ => 0,
        }
    }
}

impl Records {
    /// Opens the records in `store`, or creates them with so many shards.
    ///
    /// # Errors
    /// When another version or another configuration wrote them, or the store fails.
    pub async fn open(store: Store, shards: u16) -> Result<Self, OpenError> {
        let found = store
            .transact(move |tx, _| async move {
                if tx.get(copying::key()).await?.is_some() {
                    return Err(OpenError::Unfinished);
                }
                if let Some(found) = tx.load::<Meta>(&meta::key()).await? {
                    if found.format < FORMAT && found.shards == shards {
                        // Older records stay readable; an older version must not read newer ones.
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
                store,
                subscriber_counts: Arc::default(),
                shards,
                passed_over: Arc::default(),
            }),
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard that an endpoint, an event or a replay is worked on in.
    pub fn shard_of(&self, id: impl Id) -> Shard {
        shard_of(id, self.shards)
    }

    /// Refuses new work when the disk is nearly full: what is left is for ending what was accepted.
    pub(crate) fn refuse_if_nearly_full(&self) -> Result<(), Error> {
        if self.store.is_nearly_full() { Err(Error::Full) } else { Ok(()) }
    }

    /// Skips a row that cannot be read, so that it does not block others of its kind. Each row is logged
    /// once.
    pub(crate) fn pass_over(&self, key: &[u8], error: &Error) {
        let mut passed_over = lock(&self.passed_over);
        if passed_over.len() < MOST_PASSED_OVER && passed_over.insert(key.to_owned()) {
            let key = key.escape_ascii();
            tracing::error!(%key, %error, "skipping a row that cannot be read");
        }
    }

    /// The first rows of `range` that can be read, as many as its limit.
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
                    Err(error) => self.pass_over(key, &error),
                }
            }
            if rows.len() < range.limit || found.len() == limit {
                return Ok(found);
            }
            let (last, _) = rows.last().expect("as many as were asked for");
            range.begin = [last, &[0][..]].concat();
        }
    }

    /// The first row of those with `prefix` that can be read, in a transaction.
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
                Err(error) => self.pass_over(key, &error),
            }
            range.begin = [key, &[0][..]].concat();
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.store.read(|tx| async move { tx.get(meta::key()).await.map(drop) }).await
    }
}

/// Cuts what was read for a page, which is one row more than the page has, to the page.
pub(crate) fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}
