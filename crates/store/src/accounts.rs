//! Accounts and their keys.

pub(crate) mod link_generation;
pub(crate) mod session_key;

use postrider_domain::account::{Account, ApiKey};
use postrider_domain::ids::{AccountId, KeyId};

use crate::codec::{Record, RecordTx};
use crate::keys::api_key::Reference;
use crate::keys::gate::{self, Gate};
use crate::keys::{account, account_space, api_key, removal};
use crate::kv::{Error, Range, Tx};
use crate::records::{Page, PageRequest, Records, page};

impl Records {
    /// Adds an account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_account(&self, record: &Account) -> Result<(), Error> {
        self.store
            .transact(|tx, _| async move {
                // An earlier run may have been committed, and the account have changed since.
                if !account_exists(&tx, record.id).await? {
                    tx.save(account::key(record.id), record);
                    tx.set(account::in_list(record.id), Vec::new());
                }
                Ok(())
            })
            .await
    }

    /// One account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, Error> {
        self.store.read(|tx| async move { tx.load(&account::key(id)).await }).await
    }

    /// Accounts, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accounts(&self, request: PageRequest<AccountId>) -> Result<Page<Account>, Error> {
        let before = request.after.map(account::in_list);
        let range = Range::newest(account::list(), before).limit(request.limit + 1);
        let items = self
            .store
            .read(|tx| {
                let range = range.clone();
                async move {
                    let mut items = Vec::new();
                    let rows = tx.snap_range(range).await?;
                    let ids = rows.iter().flat_map(|(key, _)| account::of_list_key(key));
                    tx.prefetch(ids.map(account::key)).await?;
                    for (key, _) in rows {
                        let id = account::of_list_key(&key)?;
                        items.extend(tx.snap_load::<Account>(&account::key(id)).await?);
                    }
                    Ok::<_, Error>(items)
                }
            })
            .await?;
        Ok(page(items, request.limit, |account| account.id.to_string()))
    }

    /// Changes an account; `change` may run more than once. None when there is none.
    ///
    /// # Errors
    /// When the store fails.
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

    /// Removes an account and all its data. What is in flight for it ends without a record.
    /// False when there is none.
    ///
    /// The account is gone with the first commit. Its data goes after it in bounded steps, which
    /// [`Records::sweep`] takes as well, should this call not come to its end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_account(&self, id: AccountId) -> Result<bool, Error> {
        if !self.close_account(id).await? {
            return Ok(false);
        }
        while self.store.transact(|tx, _| async move { self.remove_some(&tx, id).await }).await? {}
        Ok(true)
    }

    /// Removes what makes an account one, and leaves word that its data is to be removed. False
    /// when there is neither an account nor such word.
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

    /// Removes some rows of an account that is gone, and tells whether there may be more. The
    /// gates of endpoints and the heads of events come before all that is written by who has read
    /// one of them, so that nothing is added behind the last step.
    pub(crate) async fn remove_some(&self, tx: &Tx, id: AccountId) -> Result<bool, Error> {
        const AT_ONCE: usize = 200;
        let rows = tx.range(Range::prefix(account_space(id)).limit(AT_ONCE)).await?;
        for (key, value) in &rows {
            if let Some(endpoint) = gate::of_key(id, key)? {
                // The one row of an endpoint that is not in the account's space.
                match Gate::decode(value) {
                    Ok(mut gate) => self.place(id, endpoint).point(tx, &mut gate, None),
                    Err(error) => self.pass_over(key, &error),
                }
            }
            tx.clear(key.to_vec());
        }
        let more = rows.len() == AT_ONCE;
        if !more {
            tx.clear(removal::key(self.shard_of(id), id));
        }
        Ok(more)
    }

    /// Adds a key to an account. False when there is no such account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_key(&self, record: &ApiKey) -> Result<bool, Error> {
        self.store
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

    /// An account's keys, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keys(
        &self,
        id: AccountId,
        request: PageRequest<KeyId>,
    ) -> Result<Page<ApiKey>, Error> {
        let before = request.after.map(|after| api_key::key(id, after));
        let range = Range::newest(api_key::of_account(id), before).limit(request.limit + 1);
        let rows = self.store.rows(range).await?;
        let items =
            rows.iter().map(|(_, value)| Record::decode(value)).collect::<Result<_, _>>()?;
        Ok(page(items, request.limit, |key: &ApiKey| key.id.to_string()))
    }

    /// One key of an account. None once the account is gone, though its data may still be there.
    ///
    /// # Errors
    /// When the store fails.
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

    /// Removes a key, which stops working at once. False when there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_key(&self, id: AccountId, key: KeyId) -> Result<bool, Error> {
        self.store
            .transact(|tx, maybe_committed| async move {
                let Some(record) = tx.load::<ApiKey>(&api_key::key(id, key)).await? else {
                    // An earlier run may have removed it.
                    return Ok(maybe_committed);
                };
                tx.clear(api_key::key(id, key));
                tx.clear(api_key::by_hash(&record.sha256));
                Ok(true)
            })
            .await
    }

    /// The account and the key that a request's key opens, by its SHA-256.
    ///
    /// # Errors
    /// When the store fails.
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
