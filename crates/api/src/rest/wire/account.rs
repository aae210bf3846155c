//! Accounts and their API keys.

use postrider_domain::account::{Account, ApiKey, EmailAddress};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub(crate) struct AccountBody {
    /// The account's ID.
    #[schema(value_type = String, example = "acct_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: AccountId,
    /// The account's name.
    #[schema(example = "Example Ltd")]
    name: String,
    /// The email addresses that are notified when one of the account's endpoints is disabled.
    #[schema(example = json!(["ops@example.com"]))]
    contact_emails: Vec<String>,
    /// When the account was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the account was last updated.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<Account> for AccountBody {
    fn from(account: Account) -> Self {
        let emails = account.contact_emails.iter().map(EmailAddress::as_str);
        Self {
            id: account.id,
            name: account.name.as_str().to_owned(),
            contact_emails: emails.map(str::to_owned).collect(),
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

/// An API key. The key itself is not stored and is not included.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct KeyBody {
    /// The API key's ID, which is not secret.
    #[schema(value_type = String, example = "key_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: KeyId,
    /// The API key's name.
    name: String,
    /// When the API key was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<ApiKey> for KeyBody {
    fn from(key: ApiKey) -> Self {
        Self { id: key.id, name: key.name.as_str().to_owned(), created_at: key.created_at }
    }
}

/// A created API key, including the key itself.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyWithText)]
pub(crate) struct CreatedKeyBody {
    #[serde(flatten)]
    pub api_key: KeyBody,
    /// The key itself. Only its hash is stored; it cannot be retrieved later.
    #[schema(example = "prk_mB1u4nE0cS2xq9w7y5t3r1p0o8i6u4y2t0r9e7w5q3A")]
    pub key: String,
}
