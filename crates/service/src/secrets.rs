//! Rotation of signing secrets.

use std::time::Duration;

use postrider_domain::endpoint::{Endpoint, Secrets};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::signature::Secret;

use crate::error::ServiceError;
use crate::{Service, random_bytes};

impl Service {
    /// Gives an endpoint a new secret. The replaced one signs next to it for the `overlap`.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        overlap: Duration,
    ) -> Result<Secrets, ServiceError> {
        let next = Secret::from_bytes(random_bytes()?);
        let now = self.now();
        let rotate = |endpoint: &mut Endpoint| {
            // The transaction may run again after a commit whose result was unknown, and must not
            // rotate twice.
            if endpoint.secrets.current != next {
                endpoint.secrets.rotate(next.clone(), now, overlap);
                endpoint.updated_at = now;
            }
        };
        let view = self.records().update_endpoint(account, id, rotate).await?;
        Ok(self.changed(view)?.endpoint.secrets)
    }
}
