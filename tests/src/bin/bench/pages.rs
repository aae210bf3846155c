//! Measures the latency of the dashboard's pages for an account with much data.
//!
//! This process is the browser, which signs in through a portal link and requests one page after
//! another, and the receiver. The node is the real binary and otherwise idle. A mail server accepts
//! the emails about disabled webhooks. Latency counts from sending the request to the last byte of
//! the page. Sizes are those on the wire.
//!
//! | Module | Contents |
//! |---|---|
//! | [`history`] | an account with many webhooks, one of them with a long history |
//! | [`largest`] | accounts with the largest possible pages |
//! | [`clock`] | the node's clock, which spreads the history over a month |
//! | [`browser`] | the client that requests the pages |

mod browser;
mod clock;
mod history;
mod largest;
mod report;

use anyhow::{Context, Result};
use postrider_tests::client::{Account, Operator};
use postrider_tests::config::Config;
use postrider_tests::mail::MailServer;
use serde_json::Value;

use crate::Options;
use crate::receiver::Receiver;
use crate::report::Report;
use browser::Browser;
use clock::Clock;
use history::{ENDPOINTS, History};

/// Requests per page.
const REQUESTS: usize = 200;
/// Requests per page in a quick run.
const REQUESTS_QUICK: usize = 20;

/// A page to measure.
struct PageSpec {
    name: String,
    /// Below the account's path.
    path: String,
    target: Target,
}

/// The target for a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// p99 under 50 ms.
    Fast,
    /// p99 under 50 ms and size under 60 KB.
    FastAndSmall,
    None,
}

/// The measurements of a page.
struct PageResult {
    name: String,
    target: Target,
    p50_ms: f64,
    p99_ms: f64,
    bytes: usize,
}

impl PageSpec {
    fn new(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self { name: name.into(), path: path.into(), target: Target::None }
    }

    fn target(self, target: Target) -> Self {
        Self { target, ..self }
    }
}

pub async fn run(options: &Options, receiver: &Receiver, report: &mut Report) -> Result<()> {
    if let Some(skip_reason) = Clock::skip_reason() {
        println!("skipped the pages: {skip_reason}");
        return Ok(());
    }
    // A short schedule, so that some deliveries are exhausted.
    let config = Config::new().timeout("2s").retry("12s", 3);
    let mail = MailServer::start().await?;
    let mut clock = Clock::start(config.smtp(mail.address())).await?;
    let operator = clock.deployment.operator(0)?;
    let requests = if options.quick { REQUESTS_QUICK } else { REQUESTS };
    let history = History::create(options, receiver, &operator, &mut clock).await?;
    report.pages(options.history, ENDPOINTS, requests);
    measure(&operator, &history.account, pages(&history).await?, requests, report).await?;
    let held = largest::backlog(options, receiver, &operator, &history).await?;
    measure(&operator, &history.account, held, requests, report).await?;
    let (account, pages) = largest::texts(&operator).await?;
    measure(&operator, &account, pages, requests, report).await?;
    clock.deployment.stop().await
}

/// Measures pages of an account.
async fn measure(
    operator: &Operator,
    account: &Account,
    pages: Vec<PageSpec>,
    requests: usize,
    report: &mut Report,
) -> Result<()> {
    let browser = Browser::sign_in(operator, account).await?;
    for page in pages {
        report.page(&browser.measure(&page, requests).await?);
    }
    Ok(())
}

async fn pages(history: &History) -> Result<Vec<PageSpec>> {
    let webhook = format!("/webhooks/{}", history.endpoint);
    let (next, middle) = (
        history.cursor_after(1, 25).await?,
        history.cursor_after(history.deliveries / 500, 250).await?,
    );
    let webhooks = [
        ("24 h", "?span=24h".to_owned()),
        ("30 d", "?span=30d".to_owned()),
        ("only exhausted deliveries", "?state=exhausted".to_owned()),
        ("an event type without deliveries", "?event_type=pages.none".to_owned()),
        ("the second page of deliveries", format!("?cursor={next}")),
        ("deliveries from the middle of the history", format!("?cursor={middle}")),
    ];
    let lists = [
        ("first page", String::new()),
        ("a search that finds the oldest", "?search=history".to_owned()),
        ("a search that finds none", "?search=nowhere".to_owned()),
        ("only the disabled ones", "?state=disabled".to_owned()),
    ];
    let others = [
        ("webhook, settings", format!("{webhook}/settings")),
        ("webhook, test event", format!("{webhook}/test")),
        ("webhook, refresh of its state", format!("{webhook}/facts")),
        ("webhook, refresh of its deliveries", format!("{webhook}/deliveries")),
        ("new webhook", "/webhooks/new".to_owned()),
        ("delivery, exhausted", format!("/deliveries/{}", history.exhausted)),
        ("events", "/events".to_owned()),
        ("event with one receiver", format!("/events/{}", history.event)),
        ("event with many receivers", format!("/events/{}", history.event_for_all)),
        ("replays", "/replays".to_owned()),
        ("new replay", "/replays/new".to_owned()),
        ("event types", "/event-types".to_owned()),
        ("settings", "/settings".to_owned()),
    ];
    let webhooks = webhooks.map(|(name, query)| {
        PageSpec::new(format!("webhook, {name}"), format!("{webhook}{query}"))
            .target(Target::FastAndSmall)
    });
    let lists = lists.map(|(name, query)| {
        PageSpec::new(format!("webhooks, {name}"), format!("/webhooks{query}")).target(Target::Fast)
    });
    let others = others.map(|(name, path)| PageSpec::new(name, path));
    Ok(webhooks.into_iter().chain(lists).chain(others).collect())
}

/// A string in a response.
fn text(answer: &Value, name: &str) -> Result<String> {
    let text = answer[name].as_str().with_context(|| format!("no string {name:?} in {answer}"))?;
    Ok(text.to_owned())
}
