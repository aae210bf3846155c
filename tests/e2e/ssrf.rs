//! I11: no request reaches a forbidden address, however the address is written.

use std::process::Command;

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use serde_json::json;

use crate::SOON;

const FORBIDDEN: [&str; 34] = [
    "127.0.0.1",
    "127.1",
    "127.8.9.1",
    "2130706433",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "127.0.0.1.",
    "１２７.0.0.1",
    "0.0.0.0",
    "0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "localhost",
    "localhost.",
    "LocalHost",
    "admin.localhost",
];

#[tokio::test]
async fn forbidden_addresses_are_rejected_in_every_spelling() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries().public_targets_only()).await?;
    let port = fixture.receiver.address().port();
    let public = fixture.account.create(&NewEndpoint::at("http://example.com/")).await?;
    let change = fixture.account.path(&format!("/endpoints/{}", public.id));
    for host in FORBIDDEN {
        let url = format!("http://{host}:{port}/hook");
        let new = NewEndpoint::at(&url).body();
        let response = fixture.account.api.post(&fixture.account.path("/endpoints"), &new).await?;
        let problem = response.problem(&[400, 422]).with_context(|| host)?;
        assert_eq!(problem.pointers(), ["/url"], "{host}");
        let response = fixture.account.api.patch(&change, &json!({"url": url})).await?;
        response.problem(&[400, 422]).with_context(|| host)?;
    }
    assert!(fixture.receiver.received().is_empty());
    Ok(())
}

/// A URL that was allowed when it was saved is checked again when a request is sent.
#[tokio::test]
async fn an_address_that_became_forbidden_is_blocked() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("inside");
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.node.stop().await?;
    fixture.node.reconfigure(Config::public_targets_only);
    fixture.node.restart().await?;
    assert_blocked(&fixture, &endpoint).await?;
    assert!(hook.received().is_empty());
    Ok(())
}

/// DNS may return any address, and a different one when the request is sent than when the URL was
/// saved.
#[tokio::test]
async fn a_name_that_resolves_to_a_forbidden_address_is_blocked() -> Result<()> {
    let names = [
        ("loopback.example.com", "127.0.0.1"),
        ("private.example.com", "10.0.0.1"),
        ("metadata.example.com", "169.254.169.254"),
        ("six.example.com", "::1"),
        ("mapped.example.com", "::ffff:127.0.0.1"),
    ];
    let directory = tempfile::tempdir()?;
    let hosts = directory.path().join("hosts");
    let lines: Vec<_> = names.map(|(name, address)| format!("{address} {name}\n")).to_vec();
    std::fs::write(&hosts, lines.concat())?;
    let Some(launcher) = with_hosts(&hosts.to_string_lossy()) else {
        eprintln!("skipped: this user cannot give a process its own /etc/hosts");
        return Ok(());
    };
    let launcher: Vec<_> = launcher.iter().map(String::as_str).collect();
    let mail = MailServer::start().await?;
    let config = Config::short_retries().public_targets_only().smtp(mail.address());
    let mut node = Node::prepare(config)?.launched_by(&launcher);
    node.restart().await?;
    let fixture = Fixture::with_node(node, mail).await?;
    let port = fixture.receiver.address().port();
    for (name, _) in names {
        let url = format!("http://{name}:{port}/inside");
        let endpoint = fixture.account.create(&NewEndpoint::at(&url)).await?;
        assert_blocked(&fixture, &endpoint).await.with_context(|| name)?;
    }
    assert!(fixture.receiver.received().is_empty());
    Ok(())
}

/// Asserts that both a test event and a published event are blocked.
async fn assert_blocked(fixture: &Fixture, endpoint: &Endpoint) -> Result<()> {
    let tested = fixture.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
    assert_eq!(tested.error.map(|error| error.kind).as_deref(), Some("blocked"));
    fixture.publish(&json!({})).await?;
    let failed = |endpoint: &Endpoint| endpoint.last_error.is_some();
    let endpoint = fixture.account.until_endpoint(&endpoint.id, "has failed", SOON, failed).await?;
    assert_eq!(endpoint.last_error.context("there is no error")?.kind, "blocked");
    Ok(())
}

/// A command prefix that starts a process with `hosts` mounted over /etc/hosts, if this user may.
fn with_hosts(hosts: &str) -> Option<Vec<String>> {
    let mount = format!("mount --bind '{hosts}' /etc/hosts && exec \"$@\"");
    let namespaces: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    namespaces.iter().find_map(|namespace| {
        let mut words = vec!["unshare".to_owned()];
        words.extend(namespace.iter().map(|&word| word.to_owned()));
        words.extend(["sh", "-c", &mount, "sh"].map(str::to_owned));
        let probe = Command::new(&words[0]).args(&words[1..]).arg("true").output();
        probe.is_ok_and(|output| output.status.success()).then_some(words)
    })
}
