//! Resource usage of a process, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of a process so far, user and system.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain spaces.
    let fields: Vec<&str> =
        stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
    let ticks = |index: usize| {
        fields.get(index).and_then(|text| text.parse::<u64>().ok()).context("no time")
    };
    // Fields 14 and 15 of proc(5); two precede the closing parenthesis. A tick is 10 ms.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Memory in MiB: resident and anonymous.
pub fn memory_mib(pid: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        anyhow::Ok(kib / 1024.0)
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}

/// CPU time of several processes.
pub fn cpu_time_of_all(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}
