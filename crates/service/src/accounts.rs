//! Use cases of accounts.

use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::ids::AccountId;
use postrider_domain::time::Timestamp;

use crate::error::{Resource, ServiceError};
use crate::{Once, Service};

/// An account to create.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// The account's name.
    pub name: Name,
    /// The addresses notified when one of its endpoints is disabled.
    pub contact_emails: Vec<EmailAddress>,
}

/// An update of an account. `None` leaves a field unchanged.
#[derive(Clone, Debug, Default)]
pub struct AccountUpdate {
    /// The account's name.
    pub name: Option<Name>,
    /// The addresses notified when one of its endpoints is disabled.
    pub contact_emails: Option<Vec<EmailAddress>>,
}

impl AccountUpdate {
    fn apply(&self, account: &mut Account, now: Timestamp) {
        if let Some(name) = &self.name {
            account.name.clone_from(name);
        }
        if let Some(emails) = &self.contact_emails {
            account.contact_emails.clone_from(emails);
        }
        account.updated_at = now;
    }
}

impl Service {
    /// Returns an account.
    pub async fn account(&self, id: AccountId) -> Result<Account, ServiceError> {
        let account = self.records().account(id).await?;
        account.ok_or(ServiceError::NotFound(Resource::Account))
    }

    /// Creates an account.
    pub async fn create_account(
        &self,
        new: NewAccount,
        once: Option<Once<Account>>,
    ) -> Result<Account, ServiceError> {
        let NewAccount { name, contact_emails } = new;
        let now = self.now();
        let id = self.ids().id(now);
        let account = Account { id, name, contact_emails, created_at: now, updated_at: now };
        let created = account.clone();
        let records = self.records_once(once, move |(): &()| Some(created.clone()));
        records.create_account(&account).await?;
        Ok(account)
    }

    /// Updates an account. If `expected_version` is given, it must be the account's `updated_at`;
    /// otherwise [`ServiceError::ConcurrentUpdate`] is returned.
    pub async fn update_account(
        &self,
        id: AccountId,
        update: AccountUpdate,
        expected_version: Option<Timestamp>,
    ) -> Result<Account, ServiceError> {
        let now = self.now();
        let apply_if_current = |account: &mut Account| {
            if expected_version.is_none_or(|version| account.updated_at == version) {
                update.apply(account, now);
            }
        };
        let account = self.records().update_account(id, apply_if_current).await?;
        let account = account.ok_or(ServiceError::NotFound(Resource::Account))?;
        // Compare results instead of versions: if a commit's result was unknown, the transaction
        // ran again and may have found its own update.
        let mut updated = account.clone();
        update.apply(&mut updated, now);
        if account == updated { Ok(account) } else { Err(ServiceError::ConcurrentUpdate) }
    }

    /// Deletes an account with its API keys, endpoints, events and deliveries.
    pub async fn delete_account(&self, id: AccountId) -> Result<(), ServiceError> {
        match self.records().delete_account(id).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }
}
