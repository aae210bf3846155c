//! The cookie of the cluster that uses this store. Nodes with different cookies cannot connect to
//! each other, so a node with another cookie is rejected.

use std::time::Duration;

use postrider_domain::time::Timestamp;

use crate::codec::RecordTx;
use crate::keys::cookie::{self, CookieFingerprints};
use crate::kv::Error;
use crate::records::Records;

/// How long the previous cookie is accepted after a change: long enough to restart every node.
pub const COOKIE_CHANGE_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Whether a node's cookie is that of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieCheck {
    Accepted,
    /// It has replaced the previous cookie, which is accepted for [`COOKIE_CHANGE_WINDOW`].
    Changed,
    /// The cluster has another cookie.
    Rejected,
}

impl Records {
    /// Compares the `fingerprint` of a node's cookie with that of the cluster. The first node of a
    /// cluster sets it. A node that also knows the `previous` cookie may replace it.
    pub async fn check_cookie(
        &self,
        fingerprint: [u8; 32],
        previous: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Result<CookieCheck, Error> {
        self.store
            .transact(|tx, _| async move {
                let known: Option<CookieFingerprints> = tx.load(&cookie::key()).await?;
                let Some(CookieFingerprints { current, previous: before }) = known else {
                    let first = CookieFingerprints { current: fingerprint, previous: None };
                    tx.save(cookie::key(), &first);
                    return Ok(CookieCheck::Accepted);
                };
                let is_previous =
                    before.is_some_and(|(before, until)| before == fingerprint && now < until);
                if fingerprint == current || is_previous {
                    return Ok(CookieCheck::Accepted);
                }
                if previous != Some(current) {
                    return Ok(CookieCheck::Rejected);
                }
                let changed = CookieFingerprints {
                    current: fingerprint,
                    previous: Some((current, now.plus(COOKIE_CHANGE_WINDOW))),
                };
                tx.save(cookie::key(), &changed);
                Ok(CookieCheck::Changed)
            })
            .await
    }
}
