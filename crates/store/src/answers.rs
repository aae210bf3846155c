//! The answers of requests with an idempotency key, other than publishing (see `accept`).
//!
//! A change is committed together with its answer, so that a repeated request gets the first answer
//! and changes nothing, even if the node was killed right after the commit. A request that acts
//! outside the store writes that it has begun, acts, and keeps its answer. If it was interrupted in
//! between, nobody can tell whether it acted: a repeated request acts again after
//! [`MAX_REQUEST_TIME`], under the same id.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_domain::assignment::shard_of;
use postrider_domain::ids::{AccountId, EventId, Id};
use postrider_domain::limits::MAX_KEPT_ANSWER_BYTES;
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::codec::RecordTx;
use crate::events::accept::Idempotency;
use crate::keys::idempotency::{Answered, IdempotencyRecord, Progress};
use crate::keys::{expiry, idempotency};
use crate::kv::{Error, Store, Tx};
use crate::records::{Records, refuse_if_nearly_full};

/// How long a request outside the store may take. After that it counts as interrupted.
pub const MAX_REQUEST_TIME: Duration = Duration::from_secs(120);

/// A request with an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The account that the key belongs to. `None` for requests outside any account.
    pub account: Option<AccountId>,
    /// The hashes of the key and of the request.
    pub idempotency: Idempotency,
    /// When the request was made.
    pub at: Timestamp,
}

/// An answer. The store does not look into its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// What is known about an earlier request with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EarlierRequest {
    /// It got this answer.
    Answered(Answer),
    /// It took effect, but its answer was too large to be kept.
    AnswerTooLarge,
    /// It is in progress, or was interrupted a short time ago.
    InProgress,
}

/// Why the answer to a request is not known.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The idempotency key was used with a different request.
    #[error("the idempotency key was already used with a different request")]
    IdempotencyKeyReused,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Whether a request that acts outside the store is to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is, under this id: the given one, or that of the interrupted request.
    Now(EventId),
    /// It is not: there was an earlier request with the same key.
    Earlier(EarlierRequest),
}

/// How the result of a change is answered.
type MakeAnswer = dyn Fn(&dyn Any) -> Option<Answer> + Send + Sync;

/// Runs the changes that a request may ask for.
#[derive(Clone)]
pub(crate) struct Changes {
    store: Store,
    shards: u16,
    /// The request that the next change belongs to, and its answer.
    request: Option<(KeyedRequest, Arc<MakeAnswer>)>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl KeyedRequest {
    fn space(&self) -> AccountId {
        self.account.unwrap_or(AccountId::MIN)
    }

    fn key(&self) -> Vec<u8> {
        idempotency::key(self.space(), &self.idempotency.key_sha256)
    }

    /// The record of an earlier request whose key is still valid.
    async fn earlier(&self, tx: &Tx) -> Result<Option<IdempotencyRecord>, Error> {
        let found = tx.load::<IdempotencyRecord>(&self.key()).await?;
        Ok(found.filter(|found| self.at < found.expires_at()))
    }

    /// Whether the key may be recorded: nothing may be added behind the removal of an account.
    async fn may_record(&self, tx: &Tx) -> Result<bool, Error> {
        match self.account {
            Some(account) => account_exists(tx, account).await,
            None => Ok(true),
        }
    }

    /// How far an earlier request has come.
    async fn progress(&self, tx: &Tx) -> Result<Option<Answered>, AnswerError> {
        let Some(found) = self.earlier(tx).await? else { return Ok(None) };
        if found.body_sha256 != self.idempotency.body_sha256 {
            return Err(AnswerError::IdempotencyKeyReused);
        }
        // A request to publish has another hash.
        Ok(found.answered)
    }

    fn record(&self, shards: u16, tx: &Tx, progress: Progress) {
        let Idempotency { key_sha256, body_sha256 } = self.idempotency;
        let answered = Some(Answered { requested_at: self.at.millis(), progress });
        let record = IdempotencyRecord { body_sha256, events: Vec::new(), answered };
        tx.save(self.key(), &record);
        // Any shard will do.
        let spread = EventId::from_bytes(*key_sha256.first_chunk().expect("32 bytes"));
        let shard = shard_of(spread, shards);
        tx.set(expiry::key(shard, record.expires_at(), self.space(), &key_sha256), Vec::new());
    }
}

impl Answer {
    fn into_progress(self) -> Progress {
        let Self { status, body } = self;
        if body.len() > MAX_KEPT_ANSWER_BYTES {
            Progress::TooLarge
        } else {
            Progress::Done { status, body }
        }
    }
}

fn earlier_request(progress: Progress) -> EarlierRequest {
    match progress {
        Progress::Begun { .. } => EarlierRequest::InProgress,
        Progress::Done { status, body } => EarlierRequest::Answered(Answer { status, body }),
        Progress::TooLarge => EarlierRequest::AnswerTooLarge,
    }
}

impl Answered {
    /// Whether a repeated request may take over because this one was interrupted.
    fn is_interrupted(&self, now: Timestamp) -> bool {
        let until = Timestamp::from_millis(self.requested_at).plus(MAX_REQUEST_TIME);
        matches!(self.progress, Progress::Begun { .. }) && now >= until
    }
}

impl Changes {
    pub(crate) fn new(store: Store, shards: u16) -> Self {
        Self { store, shards, request: None }
    }

    /// Runs a transaction, together with the answer to the request that it belongs to.
    pub(crate) async fn transact<T, E, F, Fut>(&self, body: F) -> Result<T, E>
    where
        T: Any + Send,
        E: From<Error>,
        F: Fn(Tx, bool) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let Some((request, answer)) = &self.request else {
            return self.store.transact(body).await;
        };
        let body = &body;
        self.store
            .transact(|tx, maybe_committed| async move {
                if request.earlier(&tx).await?.is_some() {
                    return Err(Error::Conflict.into());
                }
                let result = body(tx.clone(), maybe_committed).await?;
                if let Some(answer) = answer(&result)
                    && request.may_record(&tx).await?
                {
                    refuse_if_nearly_full(&self.store)?;
                    request.record(self.shards, &tx, answer.into_progress());
                }
                Ok(result)
            })
            .await
    }
}

impl Records {
    /// Looks for an earlier request with the same key. `None` if the request is to be executed.
    ///
    /// # Errors
    /// When the key was used with a different request, or the store fails.
    pub async fn earlier_request(
        &self,
        request: &KeyedRequest,
    ) -> Result<Option<EarlierRequest>, AnswerError> {
        self.store
            .read(|tx| async move {
                let found = request.progress(&tx).await?;
                let found = found.filter(|found| !found.is_interrupted(request.at));
                Ok(found.map(|found| earlier_request(found.progress)))
            })
            .await
    }

    /// A handle whose next change belongs to `request`. The change is committed together with the
    /// answer that `answer` makes from its result; `None` if it changed nothing, so that the key
    /// stays free. If the key has been used already, the change fails with [`Error::Conflict`]:
    /// [`Records::earlier_request`] then has the answer.
    ///
    /// `T` is what the changing method returns in `Ok`.
    #[must_use]
    pub fn answering<T: Any>(
        &self,
        request: KeyedRequest,
        answer: impl Fn(&T) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let answer = move |result: &dyn Any| {
            answer(result.downcast_ref().expect("the result of the changing method"))
        };
        let mut records = self.clone();
        records.changes.request = Some((request, Arc::new(answer)));
        records
    }

    /// Begins a request that acts outside the store. `by` is new: it becomes the id of the request,
    /// unless there was an interrupted one.
    ///
    /// # Errors
    /// When the key was used with a different request, or the store fails.
    pub async fn begin_request(
        &self,
        request: &KeyedRequest,
        by: EventId,
    ) -> Result<Begun, AnswerError> {
        self.store
            .transact(|tx, _| async move {
                let id = match request.progress(&tx).await? {
                    None => by,
                    Some(found) => match found.progress {
                        // An earlier run of this transaction was committed.
                        Progress::Begun { id, by: earlier } if earlier == by => id,
                        Progress::Begun { id, .. } if found.is_interrupted(request.at) => id,
                        progress => return Ok(Begun::Earlier(earlier_request(progress))),
                    },
                };
                if request.may_record(&tx).await? {
                    self.refuse_if_nearly_full()?;
                    request.record(self.shards(), &tx, Progress::Begun { id, by });
                }
                Ok(Begun::Now(id))
            })
            .await
    }

    /// Keeps the answer of a request that changed nothing in the store. Returns the earlier request
    /// if there was one that got its answer first.
    ///
    /// # Errors
    /// When the key was used with a different request, or the store fails.
    pub async fn keep_answer(
        &self,
        request: &KeyedRequest,
        answer: Answer,
    ) -> Result<Option<EarlierRequest>, AnswerError> {
        let progress = &answer.into_progress();
        self.store
            .transact(|tx, _| async move {
                match request.progress(&tx).await? {
                    None => self.refuse_if_nearly_full()?,
                    Some(Answered { progress: Progress::Begun { .. }, .. }) => {}
                    Some(found) if found.progress == *progress => return Ok(None),
                    Some(found) => return Ok(Some(earlier_request(found.progress))),
                }
                if request.may_record(&tx).await? {
                    request.record(self.shards(), &tx, progress.clone());
                }
                Ok(None)
            })
            .await
    }
}
