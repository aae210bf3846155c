//! The operator's pages: accounts, and the live view of the cluster.

use anyhow::{Context, Result, ensure};
use postrider_tests::browser::{Browser, Theme, Viewport};
use postrider_tests::cluster::{Cluster, until_cluster};
use postrider_tests::config::Config;
use postrider_tests::wait::seconds;
use std::time::Duration;

use crate::SOON;
use crate::session::BrowserSession;

/// How soon a killed node's shards have a new owner.
const TAKEN_OVER_WITHIN: Duration = seconds(20);
/// The classes of the map's squares, which stand for their colours.
const COLOURS: &str = "return [...document.querySelectorAll('svg.map rect')] \
     .map((square) => square.getAttribute('class'))";

#[tokio::test]
async fn the_operator_creates_and_opens_accounts() -> Result<()> {
    let session = BrowserSession::start().await?;
    let browser = &session.browser;
    session.sign_in_as_operator().await?;
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
    session.close().await
}

#[tokio::test]
async fn the_cluster_page_shows_a_node_fail_and_its_shards_move() -> Result<()> {
    let config = Config::short_retries().set("cluster", "shards", 32);
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
    ensure!(colours(&browser).await?.len() == 3, "the map does not have one colour per node");
    browser.screenshot("cluster-of-three", Viewport::desktop(Theme::Light)).await?;
    browser.screenshot("cluster-of-three", Viewport::desktop(Theme::Dark)).await?;

    cluster.kill(2).await?;
    // The page updates without a reload.
    let dead = async || Ok((!browser.shows("node-3 alive").await?).then_some(()));
    postrider_tests::wait::until(
        "the page no longer shows node-3 as alive",
        TAKEN_OVER_WITHIN,
        dead,
    )
    .await?;
    let taken = async || Ok((colours(&browser).await?.len() == 2).then_some(()));
    postrider_tests::wait::until("the map shows two owners", TAKEN_OVER_WITHIN, taken).await?;

    // A session is valid at every node: cookies do not depend on the port.
    browser.open(&format!("{other}/dashboard/cluster")).await?;
    browser.until("node-1 alive").await?;
    browser.close().await?;
    cluster.stop().await
}

async fn colours(browser: &Browser) -> Result<std::collections::BTreeSet<String>> {
    let classes = browser.run(COLOURS, vec![]).await?;
    let classes = classes.as_array().context("there is no map")?;
    Ok(classes.iter().map(ToString::to_string).collect())
}
