//! What the operator sees: the accounts, and the cluster as it changes.

use anyhow::{Context, Result, ensure};
use postrider_tests::browser::{Browser, Look, Theme};
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::wait::seconds;
use std::time::Duration;

use crate::SOON;
use crate::stage::Stage;

/// How long it takes until a killed node's shards have an owner again.
const TAKEN_OVER_WITHIN: Duration = seconds(20);
/// The classes of the map's squares: which colours there are, and how often.
const COLOURS: &str = "return [...document.querySelectorAll('svg.map rect')] \
     .map((square) => square.getAttribute('class'))";

#[tokio::test]
async fn makes_an_account_and_looks_into_it() -> Result<()> {
    let stage = Stage::start().await?;
    let browser = &stage.browser;
    stage.sign_in_as_operator().await?;
    browser.click("New account").await?;
    browser.fill("Name", "Initech").await?;
    browser.fill("Email addresses", "no address").await?;
    browser.click("Create account").await?;
    browser.until_error("Email addresses", "address").await?;
    browser.fill("Email addresses", "ops@initech.example").await?;
    browser.click("Create account").await?;
    browser.until("No webhooks yet").await?;
    browser.until("Initech").await?;
    browser.click("Accounts").await?;
    browser.click("Acme").await?;
    browser.until("No webhooks yet").await?;
    browser.click("Sign out").await?;
    stage.close().await
}

#[tokio::test]
async fn sees_a_node_fail_and_its_shards_taken_over() -> Result<()> {
    let config = Config::impatient().set("cluster", "shards", 32);
    let mut cluster = Cluster::prepare(&config, 3)?;
    cluster.start(3).await?;
    let operator = cluster.operator()?;
    until_cluster(&operator, "has 3 nodes that own shards", SOON, |view| {
        view.unowned == 0 && view.nodes.iter().filter(|node| node.shards > 0).count() == 3
    })
    .await?;
    let browser = Browser::start().await?;
    let [here, other] = [0, 1].map(|node| cluster.bases()[node].clone());
    browser.open(&format!("{here}/dashboard/cluster")).await?;
    browser.fill("API key", &cluster.operator_key()?).await?;
    browser.click("Sign in").await?;
    browser.until("node-3 alive").await?;
    ensure!(colours(&browser).await?.len() == 3, "each node has a colour");
    browser.screenshot("cluster-of-three", Look::wide(Theme::Light)).await?;
    browser.screenshot("cluster-of-three", Look::wide(Theme::Dark)).await?;

    cluster.kill(2).await?;
    // Without a hand on the page.
    let dead = async || Ok((!browser.shows("node-3 alive").await?).then_some(()));
    postrider_tests::wait::until("node-3 is not alive", TAKEN_OVER_WITHIN, dead).await?;
    let taken = async || Ok((colours(&browser).await?.len() == 2).then_some(()));
    postrider_tests::wait::until("two nodes own all", TAKEN_OVER_WITHIN, taken).await?;

    // Who is signed in at one node is so at another: cookies do not know ports.
    browser.open(&format!("{other}/dashboard/cluster")).await?;
    browser.until("node-1 alive").await?;
    browser.close().await?;
    cluster.stop().await
}

/// The colours of the map.
async fn colours(browser: &Browser) -> Result<std::collections::BTreeSet<String>> {
    let classes = browser.run(COLOURS, vec![]).await?;
    let classes = classes.as_array().context("a map")?;
    Ok(classes.iter().map(ToString::to_string).collect())
}
