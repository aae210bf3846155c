//! Events: read, and sent again.

use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, EventId};
use postrider_store::ResendTarget;

use crate::Service;
use crate::error::{Resource, ServiceError};

impl Service {
    /// An event, and the number of its deliveries.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn event(
        &self,
        account: AccountId,
        id: EventId,
    ) -> Result<(Event, u64), ServiceError> {
        let found = self.records().event(account, id).await?;
        found.ok_or(ServiceError::NotFound(Resource::Event))
    }

    /// Makes new deliveries of a past event, and returns their number.
    ///
    /// # Errors
    /// `NotFound` (the event or the endpoint), [`ServiceError::EndpointDeleted`], or the store's error.
    pub async fn resend(
        &self,
        account: AccountId,
        id: EventId,
        audience: ResendTarget,
    ) -> Result<u64, ServiceError> {
        let resent = self.records().resend(account, id, audience, self.ids(), self.now()).await?;
        self.router().wake(resent.wakes);
        Ok(resent.deliveries)
    }
}
