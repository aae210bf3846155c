//! Portal links: URLs that sign a user in to the dashboard of one account.
//!
//! A link is a signed token; it is not stored. It contains the account's current link generation.
//! Revoking an account's links increments the generation.

use std::time::Duration;

use postrider_domain::ids::AccountId;
use postrider_domain::portal_link::Grant;

use crate::error::{Resource, ServiceError};
use crate::{Service, random_bytes};

impl Service {
    /// Grants access for a new link. The link is valid for `lifetime` unless it is revoked.
    pub async fn grant_portal_link(
        &self,
        account: AccountId,
        lifetime: Duration,
    ) -> Result<Grant, ServiceError> {
        let expires_at = self.wall_time().plus(lifetime);
        let generation = self.records().link_generation(account).await?;
        let generation = generation.ok_or(ServiceError::NotFound(Resource::Account))?;
        Ok(Grant { account, generation, expires_at })
    }

    /// Whether the account exists and links of this generation have not been revoked.
    pub async fn portal_links_are_valid(
        &self,
        account: AccountId,
        generation: u64,
    ) -> Result<bool, ServiceError> {
        Ok(self.records().link_generation(account).await? == Some(generation))
    }

    /// Revokes all links of an account and ends the sessions that they started.
    pub async fn revoke_portal_links(&self, account: AccountId) -> Result<(), ServiceError> {
        match self.records().revoke_links(account).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }

    /// Returns the key that signs links and sessions. The first call generates it.
    pub async fn session_key(&self) -> Result<[u8; 32], ServiceError> {
        Ok(self.records().session_key(random_bytes()?).await?)
    }
}
