//! A scene, and somebody who looks at its dashboard.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_tests::browser::Browser;
use postrider_tests::config::Config;
use postrider_tests::receiver::behaviour::Reply;
use postrider_tests::receiver::{Behaviour, Receiver};
use postrider_tests::scene::Scene;
use serde_json::json;

/// A scene and a browser.
pub struct Stage {
    pub scene: Scene,
    pub browser: Browser,
}

impl Stage {
    /// Starts both, with nobody signed in.
    pub async fn start() -> Result<Self> {
        let scene = Scene::start(Config::impatient()).await?;
        Ok(Self { scene, browser: Browser::start().await? })
    }

    /// Starts both, with the account's key signed in.
    pub async fn of_the_account() -> Result<Self> {
        let stage = Self::start().await?;
        stage.sign_in().await?;
        Ok(stage)
    }

    /// Signs in with the account's key.
    pub async fn sign_in(&self) -> Result<()> {
        let key = self.scene.account.api.key().context("a key")?;
        self.sign_in_with(key).await?;
        self.browser.until("Webhooks").await
    }

    /// Signs in as the operator.
    pub async fn sign_in_as_operator(&self) -> Result<()> {
        self.sign_in_with(&self.scene.node.operator_key()?).await?;
        self.browser.until("Accounts").await
    }

    async fn sign_in_with(&self, key: &str) -> Result<()> {
        self.go("/sign-in").await?;
        self.browser.fill("API key", key).await?;
        self.browser.click("Sign in").await
    }

    /// Comes by a portal link.
    pub async fn come_by_link(&self) -> Result<()> {
        let url = self.scene.operator.portal_link(&self.scene.account.id, &json!({})).await?;
        self.browser.open(&url).await?;
        self.browser.until("Webhooks").await
    }

    /// Opens a page of the dashboard.
    pub async fn go(&self, page: &str) -> Result<()> {
        self.browser.open(&format!("http://{}/dashboard{page}", self.scene.node.address())).await
    }

    /// Opens a page that must be there.
    pub async fn find(&self, name: &str, page: &str) -> Result<()> {
        self.go(page).await?;
        let is_missing = self.browser.shows("There is no such page").await?;
        ensure!(is_missing == (name == "missing"), "{name} is not at {page}");
        Ok(())
    }

    /// Opens a page of the account.
    pub async fn visit(&self, page: &str) -> Result<()> {
        self.go(&self.page(page)).await
    }

    /// A page of the account, below the dashboard.
    pub fn page(&self, page: &str) -> String {
        format!("/accounts/{}{page}", self.scene.account.id)
    }

    /// Ends it: the browser must have had nothing to complain of.
    pub async fn close(self) -> Result<()> {
        self.browser.close().await
    }
}

/// A page that is not ours, and where it is, as long as its server is kept.
pub async fn served(page: &str, headers: &[(&str, &str)]) -> Result<(Receiver, String)> {
    let receiver = Receiver::start().await?;
    let hook = receiver.hook("page");
    let headers = [("Content-Type", "text/html; charset=utf-8")].iter().chain(headers);
    let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let body = Bytes::copy_from_slice(page.as_bytes());
    hook.behave(Behaviour::Answer(Reply { status: 200, headers, body }));
    Ok((receiver, hook.url()))
}
