//! Use cases of deliveries.

use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_store::{BroughtForward, DeliveryView, Discarded, RecordedAttempt};

use crate::Service;
use crate::error::{Resource, ServiceError};

/// A delivery that was retried at a person's request.
#[derive(Clone, Debug)]
pub enum RetriedDelivery {
    /// It was pending and is due now.
    BroughtForward(DeliveryView),
    /// It had ended, so this new delivery was created.
    Created(DeliveryView),
}

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

    /// Retries a delivery: makes a pending one due now, or creates a new one of the same event if it
    /// has ended. A held one is [`ServiceError::EndpointDisabled`].
    pub async fn retry_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<RetriedDelivery, ServiceError> {
        match self.records().bring_delivery_forward(account, id, self.now()).await? {
            None => Err(ServiceError::NotFound(Resource::Delivery)),
            Some(BroughtForward::Held) => Err(ServiceError::EndpointDisabled),
            Some(BroughtForward::Due(view)) => {
                self.router().changed(account, view.delivery.endpoint);
                Ok(RetriedDelivery::BroughtForward(view))
            }
            Some(BroughtForward::Ended) => {
                Ok(RetriedDelivery::Created(self.resend_delivery(account, id).await?))
            }
        }
    }

    /// Discards a pending or held delivery. Any other is [`ServiceError::DeliveryEnded`].
    pub async fn discard_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
    ) -> Result<DeliveryView, ServiceError> {
        match self.records().discard_delivery(account, id, self.now()).await? {
            None => Err(ServiceError::NotFound(Resource::Delivery)),
            Some(Discarded::Ended(view)) => Err(ServiceError::DeliveryEnded(view.state)),
            Some(Discarded::Done(view)) => {
                // In strict order, the next delivery is due now.
                self.router().changed(account, view.delivery.endpoint);
                Ok(view)
            }
        }
    }

    /// Creates a new delivery of the same event to the same endpoint.
    async fn resend_delivery(
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
