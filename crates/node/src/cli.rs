//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use postrider_domain::duration::{self, ParseDurationError};
use postrider_domain::signature::Secret;

use crate::config::Subspace;

/// A durable webhook sender.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
A durable webhook sender.

Accounts register endpoints and subscribe them to event types. For each event, Postrider sends the \
JSON payload to every subscribed endpoint in an HTTP POST signed according to Standard Webhooks. \
Failed deliveries are retried for up to a day. When an endpoint's retries are exhausted, Postrider \
disables it, holds its later deliveries, and notifies its owner by email.";

const AFTER_HELP: &str = "\
To try it out, with no setup:

  postrider serve         runs a node on http://127.0.0.1:8080 with its store in ./postrider-data
                          and prints the path of the operator key; the API reference is at /docs
  postrider listen        in another terminal: runs a receiver that prints each webhook

Exit codes: 0 after a graceful stop, 1 after a failure, 2 if the command could not start.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    #[command(long_about = SERVE, after_help = SERVE_EXAMPLE)]
    Serve(Serve),
    /// Receive webhooks and print them, for testing
    #[command(long_about = LISTEN, after_help = LISTEN_EXAMPLE)]
    Listen(Listen),
    /// Validate a configuration file and print its retry schedule
    CheckConfig(CheckConfig),
    /// Check the configuration and everything that a node depends on
    #[command(long_about = DOCTOR, after_help = DOCTOR_EXAMPLE)]
    Doctor(Doctor),
    /// Inspect the cluster
    #[command(subcommand)]
    Cluster(Cluster),
    /// Check the store, or copy it to FoundationDB
    #[command(subcommand)]
    Store(Store),
}

/// `postrider cluster`
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Print the nodes, the shard owners, and the age of the oldest pending delivery
    #[command(long_about = STATUS, after_help = STATUS_EXAMPLE)]
    Status(Status),
}

const STATUS: &str = "\
Queries a node for its view of the cluster and prints a table of the nodes and a map of the shards. \
The node's address and the operator key come from the configuration file, or from --url and \
POSTRIDER_OPERATOR_KEY.

Exit codes: 0 if a live node owns every shard, 1 if not, 2 if the node did not respond.";

const STATUS_EXAMPLE: &str = "\
Examples:
  postrider cluster status --config /etc/postrider/node.toml
  postrider cluster status --watch
  POSTRIDER_OPERATOR_KEY=… postrider cluster status --url http://10.0.0.5:8080 --owners";

/// `postrider cluster status`
#[derive(Debug, Args)]
pub struct Status {
    /// Configuration file of a node on this machine
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// URL of the node to query; overrides the address in the configuration file
    #[arg(long, value_name = "URL", value_parser = node_url)]
    pub url: Option<http::Uri>,
    /// Refresh every second until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Also list the owner and epoch of every shard
    #[arg(long)]
    pub owners: bool,
}

/// Accepts only `http` URLs without a path. The operator key is sent there in plain text, so the
/// node must be on a trusted network.
fn node_url(text: &str) -> Result<http::Uri, &'static str> {
    let url: http::Uri = text.parse().map_err(|_| "is not a URL")?;
    let plain = url.scheme_str() == Some("http") && url.host().is_some();
    let bare = url.path_and_query().is_none_or(|path| path.as_str() == "/");
    if plain && bare {
        Ok(url)
    } else {
        Err("must be an http URL without a path, such as http://127.0.0.1:8080")
    }
}

/// `postrider store`
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Check that the store works, and measure its latency
    #[command(long_about = STORE_CHECK, after_help = STORE_CHECK_EXAMPLE)]
    Check(StoreCheck),
    /// Copy a stopped node's embedded store to FoundationDB
    #[command(long_about = STORE_COPY, after_help = STORE_COPY_EXAMPLE)]
    Copy(StoreCopy),
}

const STORE_CHECK: &str = "\
Opens the configured store, writes and reads test keys, measures latency and throughput, and removes \
the test keys. No records are touched. Nodes may keep running on the store; the check adds some load \
for a second or two. The command does not create a store.

Exit codes: 0 if the store works (prints \"ok\"), 1 if the check found a problem, 2 if the store \
could not be opened.";

const STORE_CHECK_EXAMPLE: &str = "\
Examples:
  postrider store check --config /etc/postrider/node.toml
  POSTRIDER_STORE__KIND=foundationdb postrider store check";

/// `postrider store check`
#[derive(Debug, Args)]
pub struct StoreCheck {
    /// Configuration file; without it, checks the embedded store in ./postrider-data
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const STORE_COPY: &str = "\
Copies everything in a data directory's embedded store to FoundationDB, then reads it back and \
compares. Stop every node on the data directory first; the subspace in FoundationDB must be empty. \
The source is not modified.

If the command is interrupted, run it again: it resumes where it stopped. Nodes refuse to start on \
the target until the copy is complete. Afterwards, start nodes only on the target: two installations \
with the same records would send every webhook twice. The operator key is not part of the store.

Exit codes: 0 if the copy is complete and identical, 1 if it did not finish (run it again), 2 if \
the copy could not start; the reason is printed.";

const STORE_COPY_EXAMPLE: &str = "\
Example:
  postrider store copy --from /var/lib/postrider --to /etc/foundationdb/fdb.cluster";

/// `postrider store copy`
#[derive(Debug, Args)]
pub struct StoreCopy {
    /// Data directory that holds the embedded store
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// FoundationDB's cluster file
    #[arg(long, value_name = "CLUSTER_FILE")]
    pub to: PathBuf,
    /// Prefix of all keys in FoundationDB; must match the subspace in the nodes' configuration
    #[arg(long, value_name = "NAME", value_parser = Subspace::parse, default_value_t)]
    pub subspace: Subspace,
}

const SERVE: &str = "\
Runs a node until it receives SIGTERM or Ctrl-C. It then stops accepting requests, finishes the work \
in flight (5 seconds for requests; for attempts, the attempt timeout plus 3 seconds to record the \
result), hands its shards over to the other nodes, and exits with 0.

On its first start it generates the operator key and writes it to operator.key in the data \
directory. To choose the key yourself, set POSTRIDER_OPERATOR_KEY. The environment variable \
POSTRIDER_SECTION__KEY overrides any option of the file. POSTRIDER_LOG sets the log filter: info, \
debug, or per module, as in info,postrider_delivery=debug.";

const SERVE_EXAMPLE: &str = "\
Examples:
  postrider serve
  postrider serve --config /etc/postrider/node.toml
  POSTRIDER_HTTP__LISTEN=0.0.0.0:80 postrider serve";

/// `postrider serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration file; without it, runs a single node with an embedded store
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `postrider check-config`
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

const DOCTOR: &str = "\
Checks what a node depends on, and prints a line for each check: the configuration is valid, the \
store opens, the name servers answer, and the mail server accepts an email (connects, starts TLS, \
logs in and names the sender, but sends nothing). Nodes may keep running. It changes nothing.

Exit codes: 0 if everything works, 1 if a check failed, 2 if the configuration is invalid.";

const DOCTOR_EXAMPLE: &str = "\
Examples:
  postrider doctor --config /etc/postrider/node.toml
  POSTRIDER_EMAIL__SMTP_URL=smtps://me:secret@mail.example.com postrider doctor";

/// `postrider doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Configuration file; without it, checks the defaults of `postrider serve`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const LISTEN: &str = "\
Receives webhooks, prints them, verifies their signatures, and responds with 200, or with a failure \
of your choice. Stops on Ctrl-C.

A node sends webhooks to this machine only if its configuration allows it:
  [delivery] allow_private_targets = [\"127.0.0.0/8\"]";

const LISTEN_EXAMPLE: &str = "\
Examples:
  postrider listen --secret whsec_…                verify signatures
  postrider listen --fail 503                      see retries
  postrider listen --slow 10s                      see timeouts
  postrider listen --redirect https://example.com  see that redirects are not followed";

/// `postrider listen`
#[derive(Debug, Args)]
pub struct Listen {
    /// Port to listen on; 0 picks a free port
    #[arg(long, default_value_t = 9000)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub host: IpAddr,
    /// Signing secret of the endpoint; may be given more than once
    #[arg(long = "secret", value_name = "WHSEC", value_parser = secret, env = "POSTRIDER_LISTEN_SECRET")]
    #[arg(hide_env_values = true, value_delimiter = ',')]
    pub secrets: Vec<Secret>,
    /// Respond with this status instead of 200
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub fail: Option<u16>,
    /// Wait this long before responding, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    pub slow: Option<Duration>,
    /// Respond with 302 and this Location header
    #[arg(long, value_name = "URL", conflicts_with = "fail", value_parser = location)]
    pub redirect: Option<String>,
    /// Also print the request headers
    #[arg(long)]
    pub headers: bool,
}

/// The error message must not repeat the value, because it is a secret.
fn secret(text: &str) -> Result<Secret, String> {
    Secret::parse(text).map_err(|error| error.to_string())
}

fn delay(text: &str) -> Result<Duration, ParseDurationError> {
    duration::parse(text)
}

fn location(text: &str) -> Result<String, &'static str> {
    let legal = !text.is_empty() && http::HeaderValue::from_str(text).is_ok();
    legal
        .then(|| text.to_owned())
        .ok_or("must be a URL without leading or trailing spaces or control characters")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn listen(arguments: &[&str]) -> Result<Listen, clap::Error> {
        let all = ["postrider", "listen"].iter().chain(arguments);
        match Cli::try_parse_from(all)?.command {
            Command::Listen(listen) => Ok(listen),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_needs_no_file_and_check_config_does() {
        assert!(Cli::try_parse_from(["postrider", "serve"]).is_ok());
        assert!(Cli::try_parse_from(["postrider", "serve", "--config", "a.toml"]).is_ok());
        let error = Cli::try_parse_from(["postrider", "check-config"]).expect_err("rejected");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn cluster_status_accepts_only_plain_http_urls() {
        let parse = |url| Cli::try_parse_from(["postrider", "cluster", "status", "--url", url]);
        assert!(parse("http://127.0.0.1:8080").is_ok() && parse("http://[::1]:8080/").is_ok());
        for url in ["127.0.0.1:8080", "https://a", "http://a/path", "http://a/?x", "ftp://a", ""] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn store_copy_needs_source_and_target() {
        let parse = |more: &[&str]| {
            let all = ["postrider", "store", "copy", "--from", "data"].iter().chain(more);
            Cli::try_parse_from(all)
        };
        let Ok(Cli { command: Command::Store(Store::Copy(copy)) }) = parse(&["--to", "f"]) else {
            panic!("rejected");
        };
        assert_eq!(copy.subspace.to_string(), "postrider");
        assert!(parse(&[]).is_err());
        assert!(parse(&["--to", "f", "--subspace", "a"]).is_ok());
        assert!(parse(&["--to", "f", "--subspace", "a/b"]).is_err());
    }

    #[test]
    fn listen_parses_its_options() {
        let plain = listen(&[]).expect("valid options");
        assert_eq!((plain.port, plain.host.to_string().as_str()), (9000, "127.0.0.1"));
        let secret = Secret::from_bytes([1; 32]).reveal();
        let full = listen(&[
            "--secret",
            &secret,
            "--secret",
            &secret,
            "--slow",
            "1s500ms",
            "--fail",
            "503",
            "--headers",
        ])
        .expect("valid options");
        assert_eq!(full.secrets.len(), 2);
        assert_eq!(full.slow, Some(Duration::from_millis(1_500)));
        assert_eq!(full.fail, Some(503));
        assert!(full.headers);
    }

    #[test]
    fn listen_rejects_invalid_options() {
        for arguments in [
            &["--secret", "whsec_short"][..],
            &["--fail", "99"],
            &["--fail", "600"],
            &["--slow", "10"],
            &["--port", "65536"],
            &["--host", "localhost"],
            &["--redirect", "a\nb"],
            &["--redirect", "https://example.com", "--fail", "500"],
        ] {
            assert!(listen(arguments).is_err(), "{arguments:?}");
        }
    }
}
