//! Use cases of deliveries.

use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_store::{BroughtForward, DeliveryView, Discarded, RecordedAttempt, Wake};

use crate::error::{Resource, ServiceError};
use crate::{Once, Service};

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
        once: Option<Once<RetriedDelivery>>,
    ) -> Result<RetriedDelivery, ServiceError> {
        let forward = |result: &Option<BroughtForward>| match result {
            Some(BroughtForward::Due(view)) => Some(RetriedDelivery::BroughtForward(view.clone())),
            None | Some(BroughtForward::Held | BroughtForward::Ended) => None,
        };
        let records = self.records_once(once.clone(), forward);
        match records.bring_delivery_forward(account, id, self.now()).await? {
            None => Err(ServiceError::NotFound(Resource::Delivery)),
            Some(BroughtForward::Held) => Err(ServiceError::EndpointDisabled),
            Some(BroughtForward::Due(view)) => {
                self.router().changed(account, view.delivery.endpoint);
                Ok(RetriedDelivery::BroughtForward(view))
            }
            Some(BroughtForward::Ended) => {
                Ok(RetriedDelivery::Created(self.resend_delivery(account, id, once).await?))
            }
        }
    }

    /// Discards a pending or held delivery. Any other is [`ServiceError::DeliveryEnded`].
    pub async fn discard_delivery(
        &self,
        account: AccountId,
        id: DeliveryId,
        once: Option<Once<DeliveryView>>,
    ) -> Result<DeliveryView, ServiceError> {
        let records = self.records_once(once, |result: &Option<Discarded>| match result {
            Some(Discarded::Done(view)) => Some(view.clone()),
            None | Some(Discarded::Ended(_)) => None,
        });
        match records.discard_delivery(account, id, self.now()).await? {
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
        once: Option<Once<RetriedDelivery>>,
    ) -> Result<DeliveryView, ServiceError> {
        let records = self.records_once(once, |created: &Option<(DeliveryView, Option<Wake>)>| {
            created.as_ref().map(|(view, _)| RetriedDelivery::Created(view.clone()))
        });
        let created = records.resend_delivery(account, id, self.ids(), self.now()).await?;
        let Some((view, wake)) = created else {
            // Deliveries outlive their endpoint: return `NotFound` only if the delivery is missing.
            self.delivery(account, id).await?;
            return Err(ServiceError::EndpointDeleted);
        };
        self.router().wake(wake.into_iter().collect());
        Ok(view)
    }
}
