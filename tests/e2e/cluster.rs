//! A cluster of several nodes, from a client's point of view.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use http::Method;
use postrider_tests::client::{NewEndpoint, Operator, records};
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::otlp::Collector;
use postrider_tests::receiver::Receiver;
use serde_json::{Value, json};

use crate::SOON;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPANS: [&str; 4] = ["POST /v1/accounts/{account}/events", "wake", "POST", "commit"];

/// One node accepts the event and another delivers it: one trace spans both.
#[tokio::test]
async fn one_trace_spans_two_nodes() -> Result<()> {
    let collector = Collector::start()?;
    let config = Config::short_retries()
        .set("telemetry", "otlp_endpoint", collector.endpoint())
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let mut cluster = Cluster::prepare(&config, 2)?;
    cluster.start(2).await?;
    let operator = cluster.operator()?;
    operator.event_type("order.created", &json!({})).await?;
    let account = operator.account("Acme", &["ops@example.com"]).await?;
    let receiver = Receiver::start().await?;
    let remote = shards_of(&operator, "node-2").await?;
    // Endpoints are spread over the shards by id, so one of them soon belongs to the other node.
    for n in 0..64 {
        let hook = receiver.hook(&format!("hook{n}"));
        let endpoint = account.create(&NewEndpoint::at(&hook.url())).await?;
        let body = json!({"event_type": "order.created", "payload": {"n": n}}).to_string();
        let trace = format!("{}{n:04x}", &TRACE[..28]);
        let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
        let path = account.path("/events");
        let headers = [("traceparent", traceparent.as_str())];
        let sent = account.api.send(Method::POST, &path, &headers, Some(body)).await?;
        let accepted: Value = sent.parse(202)?;
        let event = accepted["id"].as_str().context("there is no id")?;
        hook.wait_for(1, SOON).await?;
        let delivery = account.delivery_of(event, &endpoint.id).await?;
        let shard = delivery.attempts.first().and_then(|attempt| attempt.shard);
        account.api.delete(&account.path(&format!("/endpoints/{}", endpoint.id))).await?;
        if !shard.is_some_and(|shard| remote.contains(&shard)) {
            continue;
        }
        let trace = collector.trace(&trace, &SPANS, SOON).await?;
        assert_eq!(trace.path_to("commit")?, [SPANS[0], "POST", "commit"]);
        assert_eq!(trace.span(SPANS[0])?.node(), "node-1");
        assert_eq!(trace.span("POST")?.node(), "node-2");
        assert_eq!(trace.span("commit")?.node(), "node-2");
        return cluster.stop().await;
    }
    anyhow::bail!("none of 64 endpoints belonged to node-2")
}

/// The shards of the node called `name`, once it owns more than 100.
async fn shards_of(operator: &Operator, name: &str) -> Result<Vec<u64>> {
    let of = |cluster: &records::Cluster| {
        let node = cluster.nodes.iter().find(|node| node.name == name)?.id.clone();
        let owned = cluster.owners.iter().filter(|owner| owner.node == node);
        Some(owned.map(|owner| owner.shard).collect::<Vec<_>>())
    };
    let enough = |cluster: &records::Cluster| of(cluster).is_some_and(|shards| shards.len() > 100);
    let cluster = until_cluster(operator, "the nodes share the shards", SOON, enough).await?;
    of(&cluster).context("the node is missing from the view")
}

/// A change made through one node is visible at the others and reaches the shard's owner.
#[tokio::test]
async fn every_node_serves_every_endpoint() -> Result<()> {
    let mut cluster = Cluster::prepare(&Config::short_retries(), 3)?;
    cluster.start(3).await?;
    let operator = cluster.operator()?;
    operator.event_type("order.created", &json!({})).await?;
    let account = operator.account("Acme", &["ops@example.com"]).await?;
    let receiver = Receiver::start().await?;
    let hook = receiver.hook("all");
    let endpoint = account.create(&NewEndpoint::at(&hook.url())).await?;
    let at = account.at_each(&cluster.bases(), SOON);
    for (index, account) in at.iter().enumerate() {
        account.publish("order.created", &json!({"node": index}).to_string()).await?;
        hook.wait_for(index + 1, SOON).await?;
    }
    // A delivery whose attempt is not recorded yet would be held, too.
    account.until_endpoint(&endpoint.id, "has no backlog", SOON, |it| it.pending == 0).await?;
    at[1].disable(&endpoint.id).await?;
    at[2].publish("order.created", "{}").await?;
    let held = account.endpoint(&endpoint.id).await?;
    ensure!((held.state.as_str(), held.held) == ("disabled", 1), "{held:?}");
    at[0].enable(&endpoint.id, "resume").await?;
    hook.wait_for(4, SOON).await?;
    cluster.stop().await
}

/// Nodes with different cookies cannot connect to each other, so the second one is rejected, until
/// the cookie of the cluster is changed.
#[tokio::test]
async fn a_node_with_another_cookie_is_rejected_until_the_cookie_changes() -> Result<()> {
    let config = Config::short_retries();
    let mut cluster = Cluster::prepare(&config, 2)?;
    cluster.start_one(0).await?;
    let old = cluster.cookie_file().to_string_lossy().into_owned();
    let new = cluster.files().join("new.cookie");
    fs::write(&new, "another-cookie-of-the-tests-0123456789abcdef")?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    let new = new.to_string_lossy().into_owned();

    cluster.node(1).reconfigure(|config| config.set("cluster", "cookie_file", &*new));
    cluster.spawn(1)?;
    let ended = cluster.node(1).ended().await?;
    let log = cluster.node(1).log();
    ensure!(ended.code() == Some(2), "{ended:?}: {log}");
    ensure!(log.contains("previous_cookie_file"), "the error does not name the remedy: {log}");

    cluster.node(1).reconfigure(|config| config.set("cluster", "previous_cookie_file", &*old));
    cluster.start_one(1).await?;
    // The first node may still restart with the old cookie.
    cluster.restart(0).await?;
    cluster.node(0).reconfigure(|config| config.set("cluster", "cookie_file", &*new));
    cluster.restart(0).await?;
    until_cluster(&cluster.operator()?, "both nodes are alive", SOON, |cluster| {
        cluster.nodes.iter().filter(|node| node.state == "alive").count() == 2
    })
    .await?;
    cluster.stop().await
}
