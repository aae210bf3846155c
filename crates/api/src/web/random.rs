//! Random bytes for keys and secrets, from the operating system alone.

use rand::TryRng;
use rand::rngs::SysRng;

use crate::web::problem::Problem;

/// 256 random bits.
pub(crate) fn bytes() -> Result<[u8; 32], Problem> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the operating system gave no random bytes");
        Problem::internal()
    })?;
    Ok(bytes)
}
