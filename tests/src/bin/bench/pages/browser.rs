//! A client with a dashboard session.

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use http::header::{COOKIE, SET_COOKIE};
use postrider_tests::client::{Account, Operator};
use reqwest::redirect::Policy;
use serde_json::json;
use tokio::time::Instant;

use super::{PageResult, PageSpec, text};

pub struct Browser {
    client: reqwest::Client,
    /// The base URL of the account's pages.
    base: String,
    cookie: String,
}

impl Browser {
    /// Signs in through a portal link.
    pub async fn sign_in(operator: &Operator, account: &Account) -> Result<Self> {
        let link =
            operator.api.post(&account.path("/portal-links"), &json!({})).await?.expect(201)?;
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build()?;
        let answer = client.get(text(&link, "url")?).send().await?;
        let cookie = answer.headers().get(SET_COOKIE).context("no session cookie")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let base = format!("{}/dashboard/accounts/{}", operator.api.base(), account.id);
        Ok(Self { client, base, cookie })
    }

    /// Requests a page repeatedly, one request after another.
    pub async fn measure(&self, page: &PageSpec, requests: usize) -> Result<PageResult> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        let mut bytes = 0;
        for _ in 0..requests {
            let start = Instant::now();
            bytes = self.get(&page.path).await?;
            histogram.record(u64::try_from(start.elapsed().as_micros())?.max(1))?;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(PageResult {
            name: page.name.clone(),
            target: page.target,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            bytes,
        })
    }

    /// Requests a page and returns its size.
    async fn get(&self, path: &str) -> Result<usize> {
        let request = self.client.get(format!("{}{path}", self.base));
        let answer = request.header(COOKIE, &self.cookie).send().await?;
        let status = answer.status();
        let page = answer.bytes().await?;
        ensure!(status == 200, "{path}: {status}: {}", String::from_utf8_lossy(&page));
        ensure!(!page.is_empty(), "{path}: the page is empty");
        Ok(page.len())
    }
}
