//! API keys of accounts. A key's text is shown once; the store keeps its SHA-256.

use data_encoding::BASE64URL_NOPAD;
use postrider_domain::account::{ApiKey, Name};
use postrider_domain::ids::{AccountId, KeyId};
use sha2::{Digest, Sha256};

use crate::error::{Resource, ServiceError};
use crate::{Service, random_bytes};

/// The prefix of a key, by which scanners recognize one that leaked.
const KEY_PREFIX: &str = "prk_";

/// A new key.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What the store keeps.
    pub key: ApiKey,
    /// Its text, which cannot be shown again.
    pub text: String,
}

/// What the store keeps of a key's text.
#[must_use]
pub fn key_sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Service {
    /// Creates an API key.
    ///
    /// # Errors
    /// `NotFound` (the account), or the store's error.
    pub async fn create_key(&self, account: AccountId, name: Name) -> Result<NewKey, ServiceError> {
        let text = format!("{KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&random_bytes()?));
        let (now, sha256) = (self.now(), key_sha256(&text));
        let key = ApiKey { id: self.ids().id(now), account, name, sha256, created_at: now };
        match self.records().create_key(&key).await? {
            true => Ok(NewKey { key, text }),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }

    /// Deletes an API key, which stops working at once.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn delete_key(&self, account: AccountId, id: KeyId) -> Result<(), ServiceError> {
        match self.records().delete_key(account, id).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::ApiKey)),
        }
    }
}
