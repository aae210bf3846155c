//! The report on the pages.

use super::{PageResult, Target};
use crate::report::Report;

/// The goal for the p99 latency, in milliseconds.
const MAX_MS: f64 = 50.0;
/// The goal for the size of a webhook's page.
const MAX_BYTES: usize = 60_000;

impl Report {
    pub(super) fn pages(&self, history: u64, endpoints: usize, requests: usize) {
        println!(
            "pages of an account with {endpoints} webhooks, one with {history} deliveries, \
             {requests} requests each:"
        );
    }

    pub(super) fn page(&mut self, result: &PageResult) {
        let PageResult { name, target, p50_ms, p99_ms, bytes } = result;
        println!("  {name}: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, {bytes} bytes");
        if *target != Target::None {
            self.goal(
                format!("{name}: p99 < {MAX_MS} ms"),
                format!("{p99_ms:.1} ms"),
                *p99_ms < MAX_MS,
            );
        }
        if *target == Target::FastAndSmall {
            self.goal(
                format!("{name}: < {MAX_BYTES} bytes"),
                bytes.to_string(),
                *bytes < MAX_BYTES,
            );
        }
    }
}
