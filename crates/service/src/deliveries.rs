//! Deliveries: read, and delivered again.

use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_store::{DeliveryView, RecordedAttempt};

use crate::Service;
use crate::error::{Resource, ServiceError};

impl Service {
    /// A delivery with its attempts, the first one first.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<(DeliveryView, Vec<RecordedAttempt>), ServiceError> {
        let found = self.records().delivery(account, id).await?;
        found.ok_or(ServiceError::NotFound(Resource::Delivery))
    }

    /// The payload that the attempts of a delivery sent; none without an attempt.
    ///
    /// # Errors
    /// The store's error.
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

    /// Makes a new delivery of the same event to the same endpoint.
    ///
    /// # Errors
    /// `NotFound`, [`ServiceError::EndpointDeleted`], or the store's error.
    pub async fn retry(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<DeliveryView, ServiceError> {
        let made = self.records().retry_delivery(account, id, self.ids(), self.now()).await?;
        let Some((view, wake)) = made else {
            // Deliveries outlive their endpoint.
            self.delivery(account, id).await?;
            return Err(ServiceError::EndpointDeleted);
        };
        self.router().wake(wake.into_iter().collect());
        Ok(view)
    }
}
