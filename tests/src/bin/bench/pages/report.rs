//! What is said of the pages.

use super::{Aim, Seen};
use crate::report::Report;

/// How long a page may take in 99 of 100 cases, in milliseconds.
const MOST_MS: f64 = 50.0;
/// How large one webhook's page may be.
const MOST_BYTES: usize = 60_000;

impl Report {
    pub(super) fn pages(&self, history: u64, endpoints: usize, times: usize) {
        println!(
            "pages of an account with {endpoints} webhooks, one with {history} deliveries, each \
             {times} times:"
        );
    }

    pub(super) fn page(&mut self, seen: &Seen) {
        let Seen { what, aim, p50_ms, p99_ms, bytes } = seen;
        println!("  {what}: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, {bytes} bytes");
        if *aim != Aim::Nothing {
            self.goal(
                format!("{what}: p99 < {MOST_MS} ms"),
                format!("{p99_ms:.1} ms"),
                *p99_ms < MOST_MS,
            );
        }
        if *aim == Aim::FastAndSmall {
            self.goal(
                format!("{what}: < {MOST_BYTES} bytes"),
                bytes.to_string(),
                *bytes < MOST_BYTES,
            );
        }
    }
}
