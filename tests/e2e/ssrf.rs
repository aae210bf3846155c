//! I11: no request reaches a forbidden address, however it is written.

use std::process::Command;

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::scene::{ORDER, Scene};
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
async fn forbidden_addresses_are_refused_in_every_spelling() -> Result<()> {
    let scene = Scene::start(Config::impatient().public_targets_only()).await?;
    let port = scene.receiver.address().port();
    let public = scene.account.create(&NewEndpoint::at("http://example.com/")).await?;
    let change = scene.account.path(&format!("/endpoints/{}", public.id));
    for host in FORBIDDEN {
        let url = format!("http://{host}:{port}/hook");
        let new = NewEndpoint::at(&url).body();
        let answer = scene.account.api.post(&scene.account.path("/endpoints"), &new).await?;
        let problem = answer.problem(&[400, 422]).with_context(|| host)?;
        assert_eq!(problem.pointers(), ["/url"], "{host}");
        let answer = scene.account.api.patch(&change, &json!({"url": url})).await?;
        answer.problem(&[400, 422]).with_context(|| host)?;
    }
    assert!(scene.receiver.received().is_empty());
    Ok(())
}

/// What was allowed once is judged again when it is sent.
#[tokio::test]
async fn an_address_that_became_forbidden_is_blocked() -> Result<()> {
    let mut scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("inside");
    let endpoint = scene.endpoint(&hook).await?;
    scene.node.stop().await?;
    scene.node.reconfigure(Config::public_targets_only);
    scene.node.restart().await?;
    blocked(&scene, &endpoint).await?;
    assert!(hook.received().is_empty());
    Ok(())
}

/// DNS answers what it likes, and may change its mind between the call and the sending.
#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_blocked() -> Result<()> {
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
        eprintln!("SKIPPED: this user may not give a process its own /etc/hosts");
        return Ok(());
    };
    let launcher: Vec<_> = launcher.iter().map(String::as_str).collect();
    let mail = MailServer::start().await?;
    let config = Config::impatient().public_targets_only().smtp(mail.address());
    let mut node = Node::prepare(config)?.launched_by(&launcher);
    node.restart().await?;
    let scene = Scene::around(node, mail).await?;
    let port = scene.receiver.address().port();
    for (name, _) in names {
        let url = format!("http://{name}:{port}/inside");
        let endpoint = scene.account.create(&NewEndpoint::at(&url)).await?;
        blocked(&scene, &endpoint).await.with_context(|| name)?;
    }
    assert!(scene.receiver.received().is_empty());
    Ok(())
}

/// Publishes, tests, and wants both to be blocked.
async fn blocked(scene: &Scene, endpoint: &Endpoint) -> Result<()> {
    let tested = scene.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
    assert_eq!(tested.error.map(|error| error.kind).as_deref(), Some("blocked"));
    scene.publish(&json!({})).await?;
    let failed = |endpoint: &Endpoint| endpoint.last_error.is_some();
    let endpoint = scene.account.until_endpoint(&endpoint.id, "has failed", SOON, failed).await?;
    assert_eq!(endpoint.last_error.context("an error")?.kind, "blocked");
    Ok(())
}

/// The words that start a process which sees `hosts` in place of /etc/hosts, if this user may.
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
