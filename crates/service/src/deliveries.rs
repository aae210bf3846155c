//! Use cases of deliveries.

use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_store::{DeliveryView, RecordedAttempt};

use crate::Service;
use crate::error::{Resource, ServiceError};

impl Service {
    /// Returns a delivery and its attempts, in order.
    pub async fn delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<(DeliveryView, Vec<RecordedAttempt>), ServiceError> {
        let found = self.records().delivery(account, id).await?;
        found.ok_or(ServiceError::NotFound(Resource::Delivery))
    }

    /// Returns the payload sent by a delivery's attempts; `None` if there are no attempts or the
    /// event no longer exists.
    pub async fn sent_payload(
        &self,
        account: AccountId,
        view: &DeliveryView,
        attempts: &[RecordedAttempt],
    ) -> Result<Option<Payload>, ServiceError> {
        if attempts.is_empty() {
            return Ok(None);
        }
        let event = self.records().event(account, view.delivery.event).await?;
        Ok(event.map(|(event, _)| event.payload))
    }

    /// Creates a new delivery of the same event to the same endpoint.
    pub async fn resend_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<DeliveryView, ServiceError> {
        let created = self.records().resend_delivery(account, id, self.ids(), self.now()).await?;
        let Some((view, wake)) = created else {
            // Deliveries outlive their endpoint: return `NotFound` only if the delivery is missing.
            self.delivery(account, id).await?;
            return Err(ServiceError::EndpointDeleted);
        };
        self.router().wake(wake.into_iter().collect());
        Ok(view)
    }
}
