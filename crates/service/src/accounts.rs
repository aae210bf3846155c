//! Accounts.

use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::ids::AccountId;
use postrider_domain::time::Timestamp;

use crate::Service;
use crate::error::{Resource, ServiceError};

/// An account to create.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// What people call it.
    pub name: Name,
    /// Who is told when one of its endpoints is disabled.
    pub contact_emails: Vec<EmailAddress>,
}

/// A change of an account. An absent field stays as it is.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// What people call it.
    pub name: Option<Name>,
    /// Who is told when one of its endpoints is disabled.
    pub contact_emails: Option<Vec<EmailAddress>>,
}

impl AccountChange {
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
    /// An account.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn account(&self, id: AccountId) -> Result<Account, ServiceError> {
        let account = self.records().account(id).await?;
        account.ok_or(ServiceError::NotFound(Resource::Account))
    }

    /// Creates an account.
    ///
    /// # Errors
    /// The store's error.
    pub async fn create_account(&self, new: NewAccount) -> Result<Account, ServiceError> {
        let NewAccount { name, contact_emails } = new;
        let now = self.now();
        let id = self.ids().id(now);
        let account = Account { id, name, contact_emails, created_at: now, updated_at: now };
        self.records().create_account(&account).await?;
        Ok(account)
    }

    /// Changes an account, unless it was changed since the state that was last `seen`.
    ///
    /// # Errors
    /// [`ServiceError::ChangedMeanwhile`], `NotFound`, or the store's error.
    pub async fn change_account(
        &self,
        id: AccountId,
        change: AccountChange,
        seen: Option<Timestamp>,
    ) -> Result<Account, ServiceError> {
        let now = self.now();
        let unless_changed = |account: &mut Account| {
            if seen.is_none_or(|seen| account.updated_at == seen) {
                change.apply(account, now);
            }
        };
        let account = self.records().update_account(id, unless_changed).await?;
        let account = account.ok_or(ServiceError::NotFound(Resource::Account))?;
        // A transaction whose commit was in doubt may have made the change before.
        let mut changed = account.clone();
        change.apply(&mut changed, now);
        if account == changed { Ok(account) } else { Err(ServiceError::ChangedMeanwhile) }
    }

    /// Deletes an account with its keys, endpoints, events and deliveries.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn delete_account(&self, id: AccountId) -> Result<(), ServiceError> {
        match self.records().delete_account(id).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }
}
