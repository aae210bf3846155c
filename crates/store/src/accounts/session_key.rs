//! What the dashboard's sessions and links are signed with: one key for all nodes, for ever.

use bytes::Bytes;

use crate::keys::session_key;
use crate::kv::Error;
use crate::records::Records;

impl Records {
    /// The installation's key. The first who asks settles it, with `candidate`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn session_key(&self, candidate: [u8; 32]) -> Result<[u8; 32], Error> {
        self.store
            .transact(|tx, _| async move {
                if let Some(key) = tx.get(session_key::key()).await? {
                    let damaged = || Error::Corrupt("the session key is not of 32 bytes".into());
                    return <[u8; 32]>::try_from(key.as_ref()).map_err(|_| damaged());
                }
                tx.set(session_key::key(), Bytes::copy_from_slice(&candidate));
                Ok(candidate)
            })
            .await
    }
}
