//! What a process uses, as the kernel says.

use std::fs;

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::evidence::Vitals;

impl Vitals {
    /// Those of the process `pid`, which is the node of this name.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(node: &str, pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).with_context(|| format!("no {name}"))
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self {
            at: Timestamp::now(),
            node: node.to_owned(),
            anonymous_kib: field("RssAnon:")?,
            descriptors: u64::try_from(descriptors)?,
            threads: field("Threads:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_this_process() -> Result<()> {
        let vitals = Vitals::of("me", std::process::id())?;
        assert!(vitals.anonymous_kib > 100 && vitals.descriptors >= 3 && vitals.threads >= 1);
        Ok(())
    }

    #[test]
    fn of_nobody() {
        assert!(Vitals::of("nobody", u32::MAX).is_err());
    }
}
