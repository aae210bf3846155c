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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
A durable webhook sender.

Accounts register endpoints; when an event occurs, every endpoint that asked for its type receives \
the JSON payload by HTTP POST, signed after Standard Webhooks. A failed delivery is retried for up \
to a day; when all attempts are used up, the endpoint is disabled, what follows is held for it, \
and its owner gets an email.";

const AFTER_HELP: &str = "\
Try it, with nothing to set up:

  postrider serve         a node with its store in ./postrider-data, on http://127.0.0.1:8080;
                          it prints where the operator key is; /docs explains the API
  postrider listen        in another terminal: a receiver that prints each webhook

Exit codes: 0 after an orderly stop, 1 after a failure, 2 if it was refused at start.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    #[command(long_about = SERVE, after_help = SERVE_EXAMPLE)]
    Serve(Serve),
    /// Receive webhooks and print them, to try things out
    #[command(long_about = LISTEN, after_help = LISTEN_EXAMPLE)]
    Listen(Listen),
    /// Check a configuration file, and print when retries would be made
    CheckConfig(CheckConfig),
    /// Look at the cluster
    #[command(subcommand)]
    Cluster(Cluster),
    /// Try the store out, or move it to FoundationDB
    #[command(subcommand)]
    Store(Store),
}

/// `postrider cluster`
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Print its nodes, who owns what, and how old the oldest delivery is that waits
    #[command(long_about = STATUS, after_help = STATUS_EXAMPLE)]
    Status(Status),
}

const STATUS: &str = "\
Asks a node for the cluster as that node sees it, and prints a table of its nodes and a map of its \
shards. The node and the operator's key are those of the configuration file, or given by --url and \
POSTRIDER_OPERATOR_KEY.

Exit codes: 0 if every shard is owned by a living node, 1 if not, 2 if no node answered.";

const STATUS_EXAMPLE: &str = "\
Examples:
  postrider cluster status --config /etc/postrider/node.toml
  postrider cluster status --watch
  POSTRIDER_OPERATOR_KEY=… postrider cluster status --url http://10.0.0.5:8080 --owners";

/// `postrider cluster status`
#[derive(Debug, Args)]
pub struct Status {
    /// The configuration file of a node on this machine
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The node to ask, instead
    #[arg(long, value_name = "URL", value_parser = node_url)]
    pub url: Option<http::Uri>,
    /// Print it again every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// List the owner and the epoch of every shard, too
    #[arg(long)]
    pub owners: bool,
}

/// A plain address: keys are not sent further than to a node of one's own.
fn node_url(text: &str) -> Result<http::Uri, &'static str> {
    let url: http::Uri = text.parse().map_err(|_| "is no URL")?;
    let plain = url.scheme_str() == Some("http") && url.host().is_some();
    let bare = url.path_and_query().is_none_or(|path| path.as_str() == "/");
    if plain && bare { Ok(url) } else { Err("must be like http://127.0.0.1:8080") }
}

/// `postrider store`
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Write to it, read from it, measure it, and print what is wrong
    #[command(long_about = STORE_CHECK, after_help = STORE_CHECK_EXAMPLE)]
    Check(StoreCheck),
    /// Move a stopped node's embedded store into FoundationDB
    #[command(long_about = STORE_COPY, after_help = STORE_COPY_EXAMPLE)]
    Copy(StoreCopy),
}

const STORE_CHECK: &str = "\
Opens the store that the configuration names, writes, reads, measures, and removes again what it \
wrote, which is no record. Nodes may be at work in the store meanwhile; for a second or two they \
have to share it with some load. A store that is not there is not made.

Exit codes: 0 if all is well, which it says with ok; 1 if something is wrong with the store; 2 if \
it could not be opened.";

const STORE_CHECK_EXAMPLE: &str = "\
Examples:
  postrider store check --config /etc/postrider/node.toml
  POSTRIDER_STORE__KIND=foundationdb postrider store check";

/// `postrider store check`
#[derive(Debug, Args)]
pub struct StoreCheck {
    /// The configuration file; without one, the embedded store in ./postrider-data
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const STORE_COPY: &str = "\
Copies everything from the embedded store of a data directory, on which no node may run, into \
FoundationDB, where nothing may be under the subspace yet; then reads it back and compares. The \
source is only read.

Ended at any moment and started again, it goes on where it was. Until it has come to its end, no \
node starts on the target. Afterwards, start nodes on the target alone: two installations with the \
same records would send every webhook twice. The operator's key is no part of the store.

Exit codes: 0 if the target holds what the source does; 1 if it came to no end, so that it is to \
be started again; 2 if it was refused, for what it said.";

const STORE_COPY_EXAMPLE: &str = "\
Example:
  postrider store copy --from /var/lib/postrider --to /etc/foundationdb/fdb.cluster";

/// `postrider store copy`
#[derive(Debug, Args)]
pub struct StoreCopy {
    /// The data directory of the node, or of the nodes, that worked on the store
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// FoundationDB's cluster file
    #[arg(long, value_name = "CLUSTER_FILE")]
    pub to: PathBuf,
    /// What all keys in FoundationDB begin with; the subspace of the nodes' configuration
    #[arg(long, value_name = "NAME", value_parser = Subspace::parse, default_value_t)]
    pub subspace: Subspace,
}

const SERVE: &str = "\
Runs a node until it is told to stop. On SIGTERM or Ctrl-C it takes no more requests, finishes what \
is in flight (a request has 5 seconds, an attempt the time that any attempt has and 3 for its \
record), hands its shards to the other nodes, and exits with 0.

On its first start it makes the operator key and writes it to operator.key in the data directory. \
POSTRIDER_OPERATOR_KEY gives one instead. Every option of the file can be overridden by the \
environment as POSTRIDER_SECTION__KEY. POSTRIDER_LOG says what is logged: info, debug, or by \
module, as in info,postrider_delivery=debug.";

const SERVE_EXAMPLE: &str = "\
Examples:
  postrider serve
  postrider serve --config /etc/postrider/node.toml
  POSTRIDER_HTTP__LISTEN=0.0.0.0:80 postrider serve";

/// `postrider serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file; without one, a single node with an embedded store
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `postrider check-config`
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

const LISTEN: &str = "\
Receives webhooks, prints each at a glance, checks its signature, and answers 200, or whatever else \
you want to see Postrider deal with. It ends on Ctrl-C.

A node sends to this machine only if its configuration allows it:
  [delivery] allow_private_targets = [\"127.0.0.0/8\"]";

const LISTEN_EXAMPLE: &str = "\
Examples:
  postrider listen --secret whsec_…                check signatures
  postrider listen --fail 503                      see retries
  postrider listen --slow 10s                      see timeouts
  postrider listen --redirect https://example.com  see that redirects are not followed";

/// `postrider listen`
#[derive(Debug, Args)]
pub struct Listen {
    /// The port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 9000)]
    pub port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub host: IpAddr,
    /// A signing secret of the endpoint; repeat it for several
    #[arg(long = "secret", value_name = "WHSEC", value_parser = secret, env = "POSTRIDER_LISTEN_SECRET")]
    #[arg(hide_env_values = true, value_delimiter = ',')]
    pub secrets: Vec<Secret>,
    /// Answer with this status instead of 200
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub fail: Option<u16>,
    /// Answer only after this time, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    pub slow: Option<Duration>,
    /// Answer 302 with this Location
    #[arg(long, value_name = "URL", conflicts_with = "fail", value_parser = location)]
    pub redirect: Option<String>,
    /// Print the headers, too
    #[arg(long)]
    pub headers: bool,
}

/// A message of our own that does not repeat the text, which is a secret.
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
        .ok_or("must be a URL without spaces at its ends and control characters")
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
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_needs_no_file_and_check_config_does() {
        assert!(Cli::try_parse_from(["postrider", "serve"]).is_ok());
        assert!(Cli::try_parse_from(["postrider", "serve", "--config", "a.toml"]).is_ok());
        let refused = Cli::try_parse_from(["postrider", "check-config"]).expect_err("refused");
        assert_eq!(refused.exit_code(), 2);
    }

    #[test]
    fn cluster_status_takes_a_node_and_refuses_nonsense() {
        let parse = |url| Cli::try_parse_from(["postrider", "cluster", "status", "--url", url]);
        assert!(parse("http://127.0.0.1:8080").is_ok() && parse("http://[::1]:8080/").is_ok());
        for url in ["127.0.0.1:8080", "https://a", "http://a/path", "http://a/?x", "ftp://a", ""] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn store_copy_needs_both_places() {
        let parse = |more: &[&str]| {
            let all = ["postrider", "store", "copy", "--from", "data"].iter().chain(more);
            Cli::try_parse_from(all)
        };
        let Ok(Cli { command: Command::Store(Store::Copy(copy)) }) = parse(&["--to", "f"]) else {
            panic!("refused");
        };
        assert_eq!(copy.subspace.to_string(), "postrider");
        assert!(parse(&[]).is_err());
        assert!(parse(&["--to", "f", "--subspace", "a"]).is_ok());
        assert!(parse(&["--to", "f", "--subspace", "a/b"]).is_err());
    }

    #[test]
    fn listen_takes_what_it_should_do() {
        let plain = listen(&[]).expect("good");
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
        .expect("good");
        assert_eq!(full.secrets.len(), 2);
        assert_eq!(full.slow, Some(Duration::from_millis(1_500)));
        assert_eq!(full.fail, Some(503));
        assert!(full.headers);
    }

    #[test]
    fn listen_refuses_nonsense() {
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
