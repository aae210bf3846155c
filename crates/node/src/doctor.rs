//! `postrider doctor`: checks everything that a node depends on.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use postrider_delivery::check_name_servers;
use postrider_notify::smtp::Mailer;
use postrider_store::Probe;
use postrider_store::kv::Store;

use crate::config::{self, Config, Email};
use crate::run::seed;
use crate::store;

/// How long the store has to open and to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs every check, and prints the results as they come.
pub async fn run(config: &Config) -> ExitCode {
    let mut out = io::stdout();
    let mut failed = 0;
    let mut report = |name: &str, result: Result<String>| {
        let line = match result {
            Ok(text) => format!("{name:8}  ok      {text}"),
            Err(error) => {
                failed += 1;
                format!("{name:8}  FAILED  {error:#}")
            }
        };
        // Stdout may be closed.
        let _ = writeln!(out, "{line}");
    };
    report("config", Ok("valid".to_owned()));
    report("store", check_store(config).await);
    let mailer = mailer(&config.email);
    let host_name = mailer.as_ref().ok().and_then(Mailer::host_name);
    report("dns", check_dns(host_name).await);
    report("email", check_email(mailer).await);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn check_store(config: &Config) -> Result<String> {
    let described = store::describe(&config.store, &config.node.data_dir);
    // Opening it would create it.
    if config.store == config::Store::Embedded && !store::exists(&config.node.data_dir) {
        return Ok(format!("{described} does not exist yet; `postrider serve` creates it"));
    }
    let open = async {
        let engine = store::open(&config.store, &config.node.data_dir).await?;
        anyhow::Ok(Probe::new(Store::new(engine, seed()?), seed()?).contents().await?)
    };
    let Ok(contents) = tokio::time::timeout(STORE_TIMEOUT, open).await else {
        bail!("{described} did not answer within {STORE_TIMEOUT:?}");
    };
    let contents = contents?;
    match store::check::why_unusable(config, &contents) {
        Some(why) => bail!("{why}"),
        None => Ok(format!("{described} opens; {}", store::check::describe(&contents))),
    }
}

async fn check_dns(name: Option<&str>) -> Result<String> {
    check_name_servers(name).await?;
    Ok("the name servers answer".to_owned())
}

fn mailer(Email { server, sender, hello }: &Email) -> Result<Mailer> {
    Ok(Mailer::new(server.clone(), sender.clone(), hello.clone())?)
}

async fn check_email(mailer: Result<Mailer>) -> Result<String> {
    let mailer = mailer?;
    mailer.check().await?;
    Ok(format!("{}: accepts emails from the configured sender", mailer.description()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use postrider_notify::smtp::Server;
    use postrider_store::Records;
    use postrider_store::kv::lmdb::Lmdb;

    use super::*;

    #[tokio::test]
    async fn a_store_that_does_not_exist_is_not_created() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.node.data_dir = dir.path().to_owned();
        let text = check_store(&config).await.expect("ok");
        assert!(text.contains("does not exist yet"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[tokio::test]
    async fn a_store_that_the_node_would_refuse_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.node.data_dir = dir.path().to_owned();
        let engine = std::sync::Arc::new(Lmdb::open(dir.path()).expect("opens"));
        let store = Store::new(engine, 1);
        Records::open(store, config.cluster.shards).await.expect("created");
        let text = check_store(&config).await.expect("ok");
        assert!(text.contains("256 shards"), "{text}");
        config.cluster.shards += 1;
        let error = check_store(&config).await.expect_err("refused").to_string();
        assert!(error.contains("shards = 256"), "{error}");
    }

    #[tokio::test]
    async fn a_mail_server_that_cannot_be_reached_fails() {
        let unused = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let address = unused.expect("an address");
        let mut email = Config::default().email;
        email.server = Server::parse(&format!("smtp://{address}")).expect("a server");
        let error = check_email(mailer(&email)).await.expect_err("fails").to_string();
        assert!(error.starts_with(&format!("{address} cannot be reached")), "{error}");
    }
}
