//! `postrider cluster status`: queries a node for its view of the cluster, and prints it.

mod client;
mod render;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::Status;
use client::StatusClient;

/// How often `--watch` refreshes.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal and moves the cursor to the top.
const CLEAR_SCREEN: &str = "\x1b[2J\x1b[H";

/// The response of `GET /v1/cluster`.
#[derive(Debug, Deserialize)]
struct Cluster {
    shards: usize,
    nodes: Vec<Member>,
    unowned: usize,
    oldest_pending_age_ms: Option<u64>,
    /// Absent in the response of an earlier version.
    #[serde(default)]
    outages: Vec<Outage>,
    #[serde(default)]
    owners: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
struct Outage {
    message: String,
    since: String,
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

/// Prints the cluster once, or repeatedly with `--watch`.
///
/// # Errors
/// If the node or its key is unknown, or, without `--watch`, the node does not respond.
pub async fn run(options: Status) -> anyhow::Result<ExitCode> {
    let client = StatusClient::new(&options)?;
    if !options.watch {
        let cluster = client.fetch().await?;
        print(&render::cluster(&cluster, options.owners));
        let all_owned = cluster.unowned == 0 && cluster.shards > 0;
        return Ok(if all_owned { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let watching = async {
        let clear = if io::stdout().is_terminal() { CLEAR_SCREEN } else { "" };
        loop {
            let text = match client.fetch().await {
                Ok(cluster) => render::cluster(&cluster, options.owners),
                Err(error) => format!("{error:#}\n"),
            };
            print(&format!("{clear}{text}\n"));
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    };
    tokio::select! {
        () = watching => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to stdout. Ignores errors: stdout may be closed.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
