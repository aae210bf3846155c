//! Resource usage of a process, from /proc.

use std::fs;

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::evidence::Usage;

impl Usage {
    /// The usage of process `pid`, the node of this name. Fails if the process has exited.
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
    fn reads_the_usage_of_this_process() -> Result<()> {
        let usage = Usage::of("me", std::process::id())?;
        assert!(usage.anonymous_kib > 100 && usage.descriptors >= 3 && usage.threads >= 1);
        Ok(())
    }

    #[test]
    fn fails_without_a_process() {
        assert!(Usage::of("none", u32::MAX).is_err());
    }
}
