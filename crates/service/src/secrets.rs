//! Rotation of endpoint signing secrets.

use std::time::Duration;

use postrider_domain::endpoint::{Endpoint, Secrets};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::signature::Secret;

use crate::error::ServiceError;
use crate::{Service, random_bytes};

impl Service {
    /// Replaces an endpoint's signing secret. Requests are signed with both secrets for `overlap`.
    pub async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        overlap: Duration,
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
        let view = self.records().update_endpoint(account, id, rotate).await?;
        Ok(self.notify_changed(view)?.endpoint.secrets)
    }
}
