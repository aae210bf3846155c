//! Measures how fast the dashboard's pages are for an account that has much to show.
//!
//! Who takes part: this process is the browser, which comes by a portal link and asks for one page
//! after another, and the receiver; the node is the real binary, and has nothing else to do
//! meanwhile; a mail server takes what it sends when a webhook is disabled. A time counts from sending the request until the last byte of the page is there, with
//! all that lies between the two processes. Sizes are those of the page as it is sent.
//!
//! | File | Is |
//! |---|---|
//! | [`past`] | the account: its webhooks, and the long history of one of them |
//! | [`largest`] | accounts whose pages are as large as what they show can be |
//! | [`clock`] | the node's clock, by which that history goes back for a month |
//! | [`browser`] | whoever looks |

mod browser;
mod clock;
mod largest;
mod past;
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
use past::{ENDPOINTS, Past};

/// How often each page is asked for.
const TIMES: usize = 200;
/// The same, where a run is to be quick.
const TIMES_QUICK: usize = 20;

/// A page that is asked for.
struct View {
    what: String,
    /// Below the account's own.
    path: String,
    aim: Aim,
}

/// What is expected of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// 99 of 100 in under 50 ms.
    Fast,
    /// And it is smaller than 60 KB.
    FastAndSmall,
    Nothing,
}

/// How a page came.
struct Seen {
    what: String,
    aim: Aim,
    p50_ms: f64,
    p99_ms: f64,
    bytes: usize,
}

impl View {
    fn new(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self { what: what.into(), path: path.into(), aim: Aim::Nothing }
    }

    fn aim(self, aim: Aim) -> Self {
        Self { aim, ..self }
    }
}

pub async fn run(options: &Options, receiver: &Receiver, report: &mut Report) -> Result<()> {
    if let Some(obstacle) = Clock::obstacle() {
        println!("left out: the pages, since {obstacle}");
        return Ok(());
    }
    // A delivery is given up within seconds, so that there are some that were.
    let config = Config::new().timeout("2s").retry("12s", 3);
    let mail = MailServer::start().await?;
    let mut clock = Clock::start(config.smtp(mail.address())).await?;
    let operator = clock.service.operator(0)?;
    let times = if options.quick { TIMES_QUICK } else { TIMES };
    let past = Past::make(options, receiver, &operator, &mut clock).await?;
    report.pages(options.history, ENDPOINTS, times);
    look(&operator, &past.account, views(&past).await?, times, report).await?;
    let held = largest::backlog(options, receiver, &operator, &past).await?;
    look(&operator, &past.account, held, times, report).await?;
    let (account, views) = largest::texts(&operator).await?;
    look(&operator, &account, views, times, report).await?;
    clock.service.stop().await
}

/// Asks for pages of an account.
async fn look(
    operator: &Operator,
    account: &Account,
    views: Vec<View>,
    times: usize,
    report: &mut Report,
) -> Result<()> {
    let browser = Browser::arrive(operator, account).await?;
    for view in views {
        report.page(&browser.look(&view, times).await?);
    }
    Ok(())
}

async fn views(past: &Past) -> Result<Vec<View>> {
    let webhook = format!("/webhooks/{}", past.endpoint);
    let (next, middle) = (past.after(1, 25).await?, past.after(past.deliveries / 500, 250).await?);
    let webhooks = [
        ("24 h", "?span=24h".to_owned()),
        ("30 d", "?span=30d".to_owned()),
        ("only exhausted deliveries", "?state=exhausted".to_owned()),
        ("only deliveries of a type that it has none of", "?event_type=pages.none".to_owned()),
        ("the next deliveries", format!("?cursor={next}")),
        ("deliveries from the middle of its history", format!("?cursor={middle}")),
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
        ("webhook, its state renewed", format!("{webhook}/facts")),
        ("webhook, its deliveries renewed", format!("{webhook}/deliveries")),
        ("new webhook", "/webhooks/new".to_owned()),
        ("delivery, exhausted", format!("/deliveries/{}", past.exhausted)),
        ("events", "/events".to_owned()),
        ("event with one receiver", format!("/events/{}", past.event)),
        ("event with many receivers", format!("/events/{}", past.event_for_all)),
        ("replays", "/replays".to_owned()),
        ("new replay", "/replays/new".to_owned()),
        ("event types", "/event-types".to_owned()),
        ("settings", "/settings".to_owned()),
    ];
    let webhooks = webhooks.map(|(what, query)| {
        View::new(format!("webhook, {what}"), format!("{webhook}{query}")).aim(Aim::FastAndSmall)
    });
    let lists = lists.map(|(what, query)| {
        View::new(format!("webhooks, {what}"), format!("/webhooks{query}")).aim(Aim::Fast)
    });
    let others = others.map(|(what, path)| View::new(what, path));
    Ok(webhooks.into_iter().chain(lists).chain(others).collect())
}

/// A text of an answer.
fn text(answer: &Value, name: &str) -> Result<String> {
    let text = answer[name].as_str().with_context(|| format!("no {name:?} in {answer}"))?;
    Ok(text.to_owned())
}
