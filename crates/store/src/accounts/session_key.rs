//! The key that signs the dashboard's sessions and links. It is shared by all nodes and never
//! changes.

use bytes::Bytes;

use crate::keys::session_key;
use crate::kv::Error;
use crate::records::Records;

impl Records {
    /// Returns the installation's key. The first call stores `candidate` as the key.
    pub async fn session_key(&self, candidate: [u8; 32]) -> Result<[u8; 32], Error> {
        self.store
            .transact(|tx, _| async move {
                if let Some(key) = tx.get(session_key::key()).await? {
                    let damaged =
                        || Error::Corrupt("the session key does not have 32 bytes".into());
                    return <[u8; 32]>::try_from(key.as_ref()).map_err(|_| damaged());
                }
                tx.set(session_key::key(), Bytes::copy_from_slice(&candidate));
                Ok(candidate)
            })
            .await
    }
}
