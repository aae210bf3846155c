//! Somebody who looks at an account's pages.

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use http::header::{COOKIE, SET_COOKIE};
use postrider_tests::client::{Account, Operator};
use reqwest::redirect::Policy;
use serde_json::json;
use tokio::time::Instant;

use super::{Seen, View, text};

/// A browser with a session.
pub struct Browser {
    client: reqwest::Client,
    /// What the addresses of the account's pages begin with.
    root: String,
    cookie: String,
}

impl Browser {
    /// Opens a portal link to the account.
    pub async fn arrive(operator: &Operator, account: &Account) -> Result<Self> {
        let link =
            operator.api.post(&account.path("/portal-links"), &json!({})).await?.expect(201)?;
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()?;
        let answer = client.get(text(&link, "url")?).send().await?;
        let cookie = answer.headers().get(SET_COOKIE).context("a session")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let root = format!("{}/dashboard/accounts/{}", operator.api.base(), account.id);
        Ok(Self { client, root, cookie })
    }

    /// Asks for a page so many times, one after another.
    pub async fn look(&self, view: &View, times: usize) -> Result<Seen> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        let mut bytes = 0;
        for _ in 0..times {
            let start = Instant::now();
            bytes = self.get(&view.path).await?;
            histogram.record(u64::try_from(start.elapsed().as_micros())?.max(1))?;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Seen {
            what: view.what.clone(),
            aim: view.aim,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            bytes,
        })
    }

    /// Asks for a page, and gives its size.
    async fn get(&self, path: &str) -> Result<usize> {
        let request = self.client.get(format!("{}{path}", self.root));
        let answer = request.header(COOKIE, &self.cookie).send().await?;
        let status = answer.status();
        let page = answer.bytes().await?;
        ensure!(status == 200, "{path}: {status}: {}", String::from_utf8_lossy(&page));
        ensure!(!page.is_empty(), "{path}: nothing came");
        Ok(page.len())
    }
}
