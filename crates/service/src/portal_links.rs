//! Portal links: links that sign their holder in to the dashboard of one account.
//!
//! A link is a signed text, so nothing is stored for it. It carries the account's generation of
//! links; revoking the links of an account begins the next generation.

use std::time::Duration;

use postrider_domain::ids::AccountId;
use postrider_domain::portal_link::Grant;

use crate::error::{Resource, ServiceError};
use crate::{Service, random_bytes};

impl Service {
    /// What a new link grants. It works for the `lifetime`, unless it is revoked.
    ///
    /// # Errors
    /// `NotFound` (the account), or the store's error.
    pub async fn grant_link(
        &self,
        account: AccountId,
        lifetime: Duration,
    ) -> Result<Grant, ServiceError> {
        let expires_at = self.wall().plus(lifetime);
        let generation = self.records().link_generation(account).await?;
        let generation = generation.ok_or(ServiceError::NotFound(Resource::Account))?;
        Ok(Grant { account, generation, expires_at })
    }

    /// Whether the links of a generation are valid: neither they nor their account were removed.
    ///
    /// # Errors
    /// The store's error.
    pub async fn links_are_valid(
        &self,
        account: AccountId,
        generation: u64,
    ) -> Result<bool, ServiceError> {
        Ok(self.records().link_generation(account).await? == Some(generation))
    }

    /// Revokes all links of an account, and signs out whoever came by one.
    ///
    /// # Errors
    /// `NotFound` (the account), or the store's error.
    pub async fn revoke_links(&self, account: AccountId) -> Result<(), ServiceError> {
        match self.records().revoke_links(account).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }

    /// The key that signs links and sessions; the first caller makes it.
    ///
    /// # Errors
    /// The store's error.
    pub async fn session_key(&self) -> Result<[u8; 32], ServiceError> {
        Ok(self.records().session_key(random_bytes()?).await?)
    }
}
