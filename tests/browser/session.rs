//! A fixture and a browser on its dashboard.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_tests::browser::Browser;
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::receiver::behaviour::Reply;
use postrider_tests::receiver::{Behaviour, Receiver};
use serde_json::json;

/// A fixture and a browser on its dashboard.
pub struct BrowserSession {
    pub fixture: Fixture,
    pub browser: Browser,
}

impl BrowserSession {
    /// Starts both, without signing in.
    pub async fn start() -> Result<Self> {
        let fixture = Fixture::start(Config::short_retries()).await?;
        Ok(Self { fixture, browser: Browser::start().await? })
    }

    /// Starts both, and signs in with the account's key.
    pub async fn signed_in() -> Result<Self> {
        let session = Self::start().await?;
        session.sign_in().await?;
        Ok(session)
    }

    /// Signs in with the account's key.
    pub async fn sign_in(&self) -> Result<()> {
        let key = self.fixture.account.api.key().context("the account has a key")?;
        self.sign_in_with(key).await?;
        self.browser.until("Webhooks").await
    }

    pub async fn sign_in_as_operator(&self) -> Result<()> {
        self.sign_in_with(&self.fixture.node.operator_key()?).await?;
        self.browser.until("Accounts").await
    }

    async fn sign_in_with(&self, key: &str) -> Result<()> {
        self.open("/sign-in").await?;
        self.browser.fill("API key", key).await?;
        self.browser.click("Sign in").await
    }

    /// Opens a portal link to the account.
    pub async fn open_portal_link(&self) -> Result<()> {
        let url = self.fixture.operator.portal_link(&self.fixture.account.id, &json!({})).await?;
        self.browser.open(&url).await?;
        self.browser.until("Webhooks").await
    }

    /// Opens a page of the dashboard.
    pub async fn open(&self, page: &str) -> Result<()> {
        self.browser.open(&format!("http://{}/dashboard{page}", self.fixture.node.address())).await
    }

    /// Opens a page and asserts that it exists, unless its name is `missing`.
    pub async fn open_page(&self, name: &str, page: &str) -> Result<()> {
        self.open(page).await?;
        let is_missing = self.browser.shows("No such page").await?;
        ensure!(
            is_missing == (name == "missing"),
            "page {name}: expected {page} to exist unless it is the missing page"
        );
        Ok(())
    }

    /// Opens a page of the account.
    pub async fn visit(&self, page: &str) -> Result<()> {
        self.open(&self.account_path(page)).await
    }

    /// The path of a page of the account, relative to the dashboard.
    pub fn account_path(&self, page: &str) -> String {
        format!("/accounts/{}{page}", self.fixture.account.id)
    }

    /// Closes the browser; fails if it reported any error.
    pub async fn close(self) -> Result<()> {
        self.browser.close().await
    }
}

/// Serves a page from another origin; its URL is valid while the returned receiver lives.
pub async fn serve_page(page: &str, headers: &[(&str, &str)]) -> Result<(Receiver, String)> {
    let receiver = Receiver::start().await?;
    let hook = receiver.hook("page");
    let headers = [("Content-Type", "text/html; charset=utf-8")].iter().chain(headers);
    let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let body = Bytes::copy_from_slice(page.as_bytes());
    hook.set_behaviour(Behaviour::Answer(Reply { status: 200, headers, body }));
    Ok((receiver, hook.url()))
}
