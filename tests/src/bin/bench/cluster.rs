//! Measures several nodes over one embedded store on this machine.
//!
//! Who takes part: this process is again the client, which spreads its calls over the nodes, and
//! the receiver; the nodes are real processes, which are also killed. Each part starts nodes of
//! its own, so that none inherits another's backlog.
//!
//! | File | Measures |
//! |---|---|
//! | [`takeover`] | how long endpoints wait when a node is killed, under the load of [`steady`], as [`aftermath`] finds |
//! | [`throughput`] | deliveries a second: one node alone, one with `[cluster]`, all |
//! | [`work`] | what endpoints cost that have work |
//! | [`publishing`] | events by actor message, beside HTTP |

mod aftermath;
mod publishing;
mod report;
mod shards;
mod steady;
mod takeover;
mod throughput;
mod work;

use std::sync::Arc;

use anyhow::Result;

use crate::receiver::Receiver;
use crate::report::Report;
use crate::{Options, Part};

/// Measures what is wanted of a cluster of so many nodes.
pub async fn run(
    options: &Options,
    nodes: usize,
    receiver: Arc<Receiver>,
    report: &mut Report,
) -> Result<()> {
    if options.wants(Part::Throughput) {
        throughput::run(options, nodes, receiver.clone(), report).await?;
    }
    if options.wants(Part::Publishing) {
        report.publishing(&publishing::run(options, nodes, receiver.clone()).await?);
    }
    if options.wants(Part::Takeover) && options.kills > 0 {
        report.takeovers(&takeover::run(options, nodes, receiver.clone()).await?);
    }
    if options.wants(Part::Work) && options.registered > 0 {
        work::run(options, nodes, receiver, report).await?;
    }
    Ok(())
}
