//! Use cases of stored events.

use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, EventId};
use postrider_store::{ResendTarget, Resent};

use crate::error::{Resource, ServiceError};
use crate::{Once, Service};

impl Service {
    /// Returns an event and the number of its deliveries.
    pub async fn event(
        &self,
        account: AccountId,
        id: EventId,
    ) -> Result<(Event, u64), ServiceError> {
        let found = self.records().event(account, id).await?;
        found.ok_or(ServiceError::NotFound(Resource::Event))
    }

    /// Creates new deliveries of a past event and returns their number.
    pub async fn resend_event(
        &self,
        account: AccountId,
        id: EventId,
        target: ResendTarget,
        once: Option<Once<u64>>,
    ) -> Result<u64, ServiceError> {
        let records = self.records_once(once, |resent: &Resent| Some(resent.deliveries));
        let resent = records.resend(account, id, target, self.ids(), self.now()).await?;
        self.router().wake(resent.wakes);
        Ok(resent.deliveries)
    }
}
