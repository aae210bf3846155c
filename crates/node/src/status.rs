//! `postrider cluster status`: asks a node for its view of the cluster, and draws it.

mod ask;
mod draw;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::Status;
use ask::Node;

/// How often `--watch` asks.
const EVERY: Duration = Duration::from_secs(1);
/// Clears a terminal and starts at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What a node answers.
#[derive(Debug, Deserialize)]
struct Cluster {
    shards: usize,
    nodes: Vec<Member>,
    unowned: usize,
    oldest_pending_age_ms: Option<u64>,
    #[serde(default)]
    owners: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct Member {
    id: String,
    name: String,
    state: String,
    shards: usize,
    version: String,
}

#[derive(Debug, Deserialize)]
struct Owner {
    shard: usize,
    node: String,
    epoch: u64,
}

/// Prints the cluster once, or again and again.
///
/// # Errors
/// When it is not known whom to ask, or no node answered when it was asked once.
pub async fn run(options: Status) -> anyhow::Result<ExitCode> {
    let node = Node::of(&options)?;
    if !options.watch {
        let cluster = node.ask().await?;
        print(&draw::cluster(&cluster, options.owners));
        let all_owned = cluster.unowned == 0 && cluster.shards > 0;
        return Ok(if all_owned { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let watching = async {
        let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
        loop {
            let text = match node.ask().await {
                Ok(cluster) => draw::cluster(&cluster, options.owners),
                Err(error) => format!("{error:#}\n"),
            };
            print(&format!("{clear}{text}\n"));
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = watching => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// To whoever still reads.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
