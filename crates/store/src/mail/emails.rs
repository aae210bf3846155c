//! The log of the email about each notice. It outlives the notice.

use postrider_domain::assignment::Fence;
use postrider_domain::email::Email;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;

use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::keys::email;
use crate::kv::{Error, Range, Tx};
use crate::records::Records;

impl Records {
    /// Logs the current state of the email about a notice.
    pub async fn log_email(
        &self,
        fence: Fence,
        notice: &Notice,
        email: &Email,
    ) -> Result<(), OwnerError> {
        self.as_owner(fence, |tx| async move { self.log(&tx, notice, email).await }).await
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
