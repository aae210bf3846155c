//! Use cases of API keys. A key is returned once, at creation; the store has only its SHA-256.

use data_encoding::BASE64URL_NOPAD;
use postrider_domain::account::{ApiKey, Name};
use postrider_domain::ids::{AccountId, KeyId};
use sha2::{Digest, Sha256};

use crate::error::{Resource, ServiceError};
use crate::{Once, Service, random_bytes};

/// The prefix of every key. Secret scanners use it to recognize leaked keys.
const KEY_PREFIX: &str = "prk_";

/// A created API key.
#[derive(Clone, Debug)]
pub struct CreatedApiKey {
    /// The stored record.
    pub record: ApiKey,
    /// The key itself. It is not stored and cannot be returned again.
    pub plaintext: String,
}

/// The hash under which a key is stored.
#[must_use]
pub fn key_sha256(plaintext: &str) -> [u8; 32] {
    Sha256::digest(plaintext).into()
}

impl Service {
    /// Creates an API key.
    pub async fn create_api_key(
        &self,
        account: AccountId,
        name: Name,
        once: Option<Once<CreatedApiKey>>,
    ) -> Result<CreatedApiKey, ServiceError> {
        let plaintext = format!("{KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&random_bytes()?));
        let (now, sha256) = (self.now(), key_sha256(&plaintext));
        let record = ApiKey { id: self.ids().id(now), account, name, sha256, created_at: now };
        let created = CreatedApiKey { record, plaintext };
        let answered = created.clone();
        let records = self.records_once(once, move |made: &bool| made.then(|| answered.clone()));
        match records.create_key(&created.record).await? {
            true => Ok(created),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }

    /// Deletes an API key. It stops working immediately.
    pub async fn delete_api_key(&self, account: AccountId, id: KeyId) -> Result<(), ServiceError> {
        match self.records().delete_key(account, id).await? {
            true => Ok(()),
            false => Err(ServiceError::NotFound(Resource::ApiKey)),
        }
    }
}
