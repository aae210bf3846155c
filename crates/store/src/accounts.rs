//! Accounts and their API keys.

pub(crate) mod link_generation;
pub(crate) mod session_key;

use postrider_domain::account::{Account, ApiKey};
use postrider_domain::ids::{AccountId, KeyId};

use crate::codec::{Record, RecordTx};
use crate::keys::api_key::Reference;
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::{account, account_space, api_key, removal};
use crate::kv::{Error, Range, Tx};
use crate::records::{ListPage, PageRequest, Records, page};

impl Records {
    pub async fn create_account(&self, record: &Account) -> Result<(), Error> {
        self.changes
            .transact(|tx, _| async move {
                // An earlier run may have been committed, and the account changed since.
                if !account_exists(&tx, record.id).await? {
                    tx.save(account::key(record.id), record);
                    tx.set(account::in_list(record.id), Vec::new());
                }
                Ok(())
            })
            .await
    }

    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, Error> {
        self.store.read(|tx| async move { tx.load(&account::key(id)).await }).await
    }

    /// Lists accounts, newest first.
    pub async fn accounts(
        &self,
        request: PageRequest<AccountId>,
    ) -> Result<ListPage<Account>, Error> {
        let before = request.after.map(account::in_list);
        let range = Range::newest(account::list(), before).limit(request.limit + 1);
        let items = self
            .store
            .read(|tx| {
                let range = range.clone();
                async move {
                    let mut items = Vec::new();
                    let rows = tx.snap_range(range).await?;
                    let ids = rows.iter().flat_map(|(key, _)| account::parse_list_key(key));
                    tx.prefetch(ids.map(account::key)).await?;
                    for (key, _) in rows {
                        let id = account::parse_list_key(&key)?;
                        items.extend(tx.snap_load::<Account>(&account::key(id)).await?);
                    }
                    Ok::<_, Error>(items)
                }
            })
            .await?;
        Ok(page(items, request.limit, |account| account.id.to_string()))
    }

    /// Changes an account; `change` may run more than once. Returns `None` if the account does not
    /// exist.
    pub async fn update_account(
        &self,
        id: AccountId,
        change: impl Fn(&mut Account) + Send + Sync,
    ) -> Result<Option<Account>, Error> {
        let change = &change;
        self.store
            .transact(|tx, _| async move {
                let Some(mut record) = tx.load::<Account>(&account::key(id)).await? else {
                    return Ok(None);
                };
                change(&mut record);
                tx.save(account::key(id), &record);
                Ok(Some(record))
            })
            .await
    }

    /// Removes an account and all its data. Attempts in flight are not recorded. Returns false if
    /// the account does not exist.
    ///
    /// The first commit removes the account. Its data is removed afterwards in bounded steps; if
    /// this call is interrupted, [`Records::sweep`] continues them.
    pub async fn delete_account(&self, id: AccountId) -> Result<bool, Error> {
        if !self.close_account(id).await? {
            return Ok(false);
        }
        while self.store.transact(|tx, _| async move { self.remove_batch(&tx, id).await }).await? {}
        Ok(true)
    }

    /// Removes the account record and its API keys, and schedules the removal of its data. Returns
    /// false if the account does not exist.
    pub(crate) async fn close_account(&self, id: AccountId) -> Result<bool, Error> {
        let removal = &removal::key(self.shard_of(id), id);
        self.store
            .transact(|tx, maybe_committed| async move {
                if tx.get(account::key(id)).await?.is_none() {
                    return Ok(maybe_committed && tx.get(removal).await?.is_some());
                }
                for (_, value) in tx.range(Range::prefix(api_key::of_account(id))).await? {
                    tx.clear(api_key::by_hash(&ApiKey::decode(&value)?.sha256));
                }
                tx.clear(account::key(id));
                tx.clear(account::in_list(id));
                tx.set(removal.clone(), Vec::new());
                Ok(true)
            })
            .await
    }

    /// Removes a batch of a deleted account's rows, and returns whether there may be more.
    /// Endpoints' dispatch states and events' metadata sort before all rows written by transactions
    /// that read them, so nothing can be added behind the last step.
    pub(crate) async fn remove_batch(&self, tx: &Tx, id: AccountId) -> Result<bool, Error> {
        const BATCH_SIZE: usize = 200;
        let rows = tx.range(Range::prefix(account_space(id)).limit(BATCH_SIZE)).await?;
        for (key, value) in &rows {
            if let Some(endpoint) = dispatch_state::parse_key(id, key)? {
                // The pointer is the only row of an endpoint outside the account's space.
                match DispatchState::decode(value) {
                    Ok(mut dispatch) => {
                        self.endpoint_key(id, endpoint).set_pointer(tx, &mut dispatch, None)
                    }
                    Err(error) => self.skip_unreadable(key, &error),
                }
            }
            tx.clear(key.to_vec());
        }
        let more = rows.len() == BATCH_SIZE;
        if !more {
            tx.clear(removal::key(self.shard_of(id), id));
        }
        Ok(more)
    }

    /// Adds an API key. Returns false if the account does not exist.
    pub async fn create_key(&self, record: &ApiKey) -> Result<bool, Error> {
        self.changes
            .transact(|tx, _| async move {
                if !account_exists(&tx, record.account).await? {
                    return Ok(false);
                }
                tx.save(api_key::key(record.account, record.id), record);
                let reference = Reference { account: record.account, key: record.id };
                tx.save(api_key::by_hash(&record.sha256), &reference);
                Ok(true)
            })
            .await
    }

    /// Lists an account's API keys, newest first.
    pub async fn keys(
        &self,
        id: AccountId,
        request: PageRequest<KeyId>,
    ) -> Result<ListPage<ApiKey>, Error> {
        let before = request.after.map(|after| api_key::key(id, after));
        let range = Range::newest(api_key::of_account(id), before).limit(request.limit + 1);
        let rows = self.store.rows(range).await?;
        let items =
            rows.iter().map(|(_, value)| Record::decode(value)).collect::<Result<_, _>>()?;
        Ok(page(items, request.limit, |key: &ApiKey| key.id.to_string()))
    }

    /// Returns an API key. `None` once the account is deleted, even if its data still exists.
    pub async fn key(&self, id: AccountId, key: KeyId) -> Result<Option<ApiKey>, Error> {
        self.store
            .read(|tx| async move {
                match tx.snap_get(account::key(id)).await? {
                    Some(_) => tx.snap_load(&api_key::key(id, key)).await,
                    None => Ok(None),
                }
            })
            .await
    }

    /// Revokes an API key immediately. Returns false if it does not exist.
    pub async fn delete_key(&self, id: AccountId, key: KeyId) -> Result<bool, Error> {
        self.store
            .transact(|tx, maybe_committed| async move {
                let Some(record) = tx.load::<ApiKey>(&api_key::key(id, key)).await? else {
                    // An earlier run of this transaction may have removed it.
                    return Ok(maybe_committed);
                };
                tx.clear(api_key::key(id, key));
                tx.clear(api_key::by_hash(&record.sha256));
                Ok(true)
            })
            .await
    }

    /// Looks up an API key by its SHA-256.
    pub async fn key_by_hash(&self, sha256: [u8; 32]) -> Result<Option<(AccountId, KeyId)>, Error> {
        let found: Option<Reference> = self
            .store
            .read(|tx| async move { tx.snap_load(&api_key::by_hash(&sha256)).await })
            .await?;
        Ok(found.map(|reference| (reference.account, reference.key)))
    }
}

pub(crate) async fn account_exists(tx: &Tx, id: AccountId) -> Result<bool, Error> {
    Ok(tx.get(account::key(id)).await?.is_some())
}
