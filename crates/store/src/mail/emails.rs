//! The log of the email about each notice. It outlives the notice.

use postrider_domain::assignment::Fence;
use postrider_domain::email::Email;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::keys::email;
use crate::kv::{Error, Range, Tx};
use crate::mail::notices::MAX_NOTICES_PER_TRANSACTION;
use crate::records::Records;

impl Records {
    /// Logs the current state of the email about each of these notices of one shard. At most
    /// [`MAX_NOTICES_PER_TRANSACTION`] at once.
    pub async fn log_emails(
        &self,
        fence: Fence,
        emails: &[(&Notice, &Email)],
    ) -> Result<(), OwnerError> {
        assert!(emails.len() <= MAX_NOTICES_PER_TRANSACTION, "too many for a transaction");
        self.as_owner(fence, |tx| async move {
            for (notice, email) in emails {
                self.log(&tx, notice, email).await?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn log(&self, tx: &Tx, notice: &Notice, email: &Email) -> Result<(), Error> {
        // A deleted account has no dispatch states left, and must not get new rows.
        if self.endpoint_key(notice.account, notice.endpoint).dispatch_state(tx).await?.is_some() {
            tx.save(email::key(notice.account, notice.endpoint, notice.at()), email);
        }
        Ok(())
    }

    /// Lists the emails about an endpoint, newest first.
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
