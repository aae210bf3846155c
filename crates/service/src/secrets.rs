//! Rotation of endpoint signing secrets.

use std::time::Duration;

use postrider_domain::endpoint::{Endpoint, Secrets};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::signature::Secret;
use postrider_store::EndpointView;

use crate::error::ServiceError;
use crate::{Once, Service, random_bytes};

impl Service {
    /// Replaces an endpoint's signing secret. Requests are signed with both secrets for `overlap`.
    pub async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        overlap: Duration,
        once: Option<Once<Secrets>>,
    ) -> Result<Secrets, ServiceError> {
        let next = Secret::from_bytes(random_bytes()?);
        let now = self.now();
        let rotate = |endpoint: &mut Endpoint| {
            // After a commit with an unknown result the transaction runs again; it must not rotate
            // twice.
            if endpoint.secrets.current != next {
                endpoint.secrets.rotate(next.clone(), now, overlap);
                endpoint.updated_at = now;
            }
        };
        let records = self.records_once(once, |view: &Option<EndpointView>| {
            view.as_ref().map(|view| view.endpoint.secrets.clone())
        });
        let view = records.update_endpoint(account, id, rotate).await?;
        Ok(self.notify_changed(view)?.endpoint.secrets)
    }
}
