//! Measures several nodes over one store on this machine.
//!
//! This process is the client, which spreads its calls over the nodes, and the receiver. The nodes
//! are real processes, and some are killed. Each part starts its own nodes, so that none inherits
//! another's backlog.
//!
//! | Module | Measures |
//! |---|---|
//! | [`takeover`] | how long deliveries wait when a node is killed, under the load of [`steady_load`], computed in [`kill_impact`] |
//! | [`throughput`] | deliveries a second: one node alone, one with `[cluster]`, all |
//! | [`work`] | the memory of endpoints with work |
//! | [`publishing`] | events by actor message, compared with HTTP |

mod kill_impact;
mod publishing;
mod report;
mod shards;
mod steady_load;
mod takeover;
mod throughput;
mod work;

use std::sync::Arc;

use anyhow::Result;

use crate::receiver::Receiver;
use crate::report::Report;
use crate::{Options, Part};

/// Runs the selected parts with this number of nodes.
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
