//! What became of the email about each notice. It stays on record when the notice is gone.

use postrider_domain::email::Email;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;
use postrider_domain::ownership::Fence;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::keys::email;
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

impl Records {
    /// Keeps on record what has become so far of the email about a notice.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn log_email(
        &self,
        fence: Fence,
        told: &Notice,
        email: &Email,
    ) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move { self.log(&tx, told, email).await }).await
    }

    pub(crate) async fn log(&self, tx: &Tx, told: &Notice, email: &Email) -> Result<(), Error> {
        // An account that is gone has no gates any more, and gets nothing new.
        if self.place(told.account, told.endpoint).gate(tx).await?.is_some() {
            tx.save(email::key(told.account, told.endpoint, told.at()), email);
        }
        Ok(())
    }

    /// The newest emails about an endpoint, those of the latest disabling first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn emails(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        limit: usize,
    ) -> Result<Vec<Email>, Error> {
        let range = Range::newest(email::of_endpoint(account, endpoint), None).limit(limit);
        let rows = self.store.rows(range).await?;
        rows.iter().map(|(_, value)| Record::decode(value)).collect()
    }
}
