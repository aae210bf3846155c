//! An account with a thousand webhooks, the oldest of which has a long history.
//!
//! All of it comes to be as it does for anybody: events are published through the API, delivered to
//! the receiver, and fail now and then, or all, when the receiver is broken. At the end the webhook
//! is disabled, so that its page has all that it can have: charts with something at each point, a last
//! error, deliveries of every state but pending, and held ones.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use postrider_tests::client::records::Delivery;
use postrider_tests::client::{Account, NewEndpoint, Operator};
use postrider_tests::wait::{self, seconds};
use serde_json::{Value, json};

use super::clock::{Clock, DAY_S, HOUR_S};
use super::text;
use crate::Options;
use crate::bare::payload;
use crate::receiver::{Manner, Receiver};

/// Webhooks of the account.
pub const ENDPOINTS: usize = 1_000;
/// Events that go to all of them: one in each of the last 24 hours.
const EVENTS_FOR_ALL: u64 = 24;
/// Events that meet with each outage of the receiver.
const BROKEN: u64 = 200;
/// Events that come for the webhook once it is disabled.
const HELD: u64 = 500;
/// Replays of what was given up.
const REPLAYS: usize = 3;
/// Batches that are published at once.
const BATCHES_AT_ONCE: usize = 4;
/// Calls in flight that register webhooks.
const CALLS_AT_ONCE: usize = 16;
/// How long the history may take to come to be.
const MADE_WITHIN: Duration = seconds(900);
/// How long anything else may take.
const WITHIN: Duration = seconds(60);

/// The event type of the history.
const OWN: &str = "pages.history";
/// That which all webhooks want.
const FOR_ALL: &str = "pages.all";

/// The account.
pub struct Past {
    pub account: Account,
    /// The webhook with the history.
    pub endpoint: String,
    /// How many deliveries it has.
    pub deliveries: u64,
    /// The delivery that disabled it.
    pub exhausted: String,
    /// The event of that.
    pub event: String,
    /// One that all webhooks received.
    pub event_for_all: String,
}

impl Past {
    pub async fn make(
        options: &Options,
        receiver: &Receiver,
        operator: &Operator,
        clock: &mut Clock,
    ) -> Result<Self> {
        let account = operator.account("Pages", &["pages@example.com"]).await?;
        for name in [OWN, FOR_ALL] {
            operator.event_type(name, &json!({"number": 1})).await?;
        }
        let url = |name: &str| format!("http://{}/{name}", receiver.address);
        let endpoint = NewEndpoint::at(&url("history")).of_types(&[OWN, FOR_ALL]);
        let endpoint = account.create(&endpoint).await?.id;
        let others = stream::iter(1..ENDPOINTS).map(|number| {
            let endpoint = NewEndpoint::at(&url(&format!("hook-{number}"))).of_types(&[FOR_ALL]);
            let account = &account;
            async move { account.create(&endpoint).await }
        });
        others.buffer_unordered(CALLS_AT_ONCE).try_collect::<Vec<_>>().await?;
        let making = Making { options, receiver, account: &account, endpoint: &endpoint };
        let event_for_all = making.month(clock).await?;
        until_idle(operator).await?;
        let exhausted = making.outages().await?;
        Ok(Self {
            event: exhausted.event_id,
            exhausted: exhausted.id,
            deliveries: options.history,
            event_for_all,
            endpoint,
            account,
        })
    }

    /// Where the list of deliveries goes on after so many pages.
    pub async fn after(&self, pages: u64, limit: u64) -> Result<String> {
        let list = self.account.path(&format!("/endpoints/{}/deliveries", self.endpoint));
        let mut cursor = String::new();
        for _ in 0..pages {
            let page = format!("{list}?limit={limit}&cursor={cursor}");
            let answer = self.account.api.get(&page).await?.expect(200)?;
            cursor = text(&answer, "next_cursor")?;
        }
        Ok(cursor)
    }
}

/// Publishes events of one type, in batches.
pub async fn publish(
    account: &Account,
    event_type: &str,
    payload: impl Fn(u64) -> String,
    count: u64,
    batch: usize,
) -> Result<()> {
    let firsts = stream::iter((0..count).step_by(batch));
    let publishing = firsts.map(|first| {
        let numbers = first..count.min(first + batch as u64);
        let payloads: Vec<_> = numbers.map(&payload).collect();
        async move {
            let events: Vec<_> =
                payloads.iter().map(|payload| (event_type, payload.as_str())).collect();
            account.try_publish_batch(&events).await?.expect(202)
        }
    });
    publishing.buffer_unordered(BATCHES_AT_ONCE).try_for_each(async |_: Value| Ok(())).await
}

/// Waits until nothing is left to be sent to anybody.
async fn until_idle(operator: &Operator) -> Result<()> {
    let idle = async || {
        let cluster = operator.cluster().await?;
        Ok(cluster.oldest_pending_age_ms.is_none().then_some(()))
    };
    wait::until("nothing is pending", MADE_WITHIN, idle).await
}

/// A history that is being made.
struct Making<'a> {
    options: &'a Options,
    receiver: &'a Receiver,
    account: &'a Account,
    endpoint: &'a str,
}

impl Making<'_> {
    /// What is not the month before; gives the delivery that disabled the webhook in the end.
    async fn outages(&self) -> Result<Delivery> {
        for held in ["discard", "resume"] {
            self.outage().await?;
            self.account.enable(self.endpoint, held).await?;
            self.quiet().await?;
        }
        let exhausted = self.outage().await?;
        self.publish(HELD).await?;
        for _ in 0..REPLAYS {
            self.replay().await?;
        }
        let exhausted = self.account.delivery(&exhausted).await?;
        ensure!(exhausted.state == "exhausted", "{exhausted:?}");
        Ok(exhausted)
    }

    /// A month in which most attempts succeed; gives the last event for all.
    async fn month(&self, clock: &mut Clock) -> Result<String> {
        let mut left = self.options.history - EVENTS_FOR_ALL - 3 * BROKEN - HELD;
        let mut event_for_all = String::new();
        let ages_s = Clock::ages_s();
        self.receiver.answer(Manner::Moody);
        for (parts, age_s) in (1..=ages_s.len() as u64).rev().zip(ages_s) {
            clock.set_back(age_s).await?;
            self.publish(left / parts).await?;
            if age_s < DAY_S && age_s % HOUR_S == 0 {
                event_for_all = self.account.publish(FOR_ALL, "{}").await?.id;
            }
            self.quiet().await?;
            left -= left / parts;
        }
        self.receiver.answer(Manner::AtOnce);
        clock.set_right().await?;
        Ok(event_for_all)
    }

    async fn publish(&self, count: u64) -> Result<()> {
        let Options { body, batch, .. } = *self.options;
        publish(self.account, OWN, |number| payload(number, body), count, batch).await
    }

    /// Waits until nothing is left to be sent.
    async fn quiet(&self) -> Result<()> {
        let done =
            self.account.until_endpoint(self.endpoint, "is quiet", MADE_WITHIN, |endpoint| {
                endpoint.pending == 0 && endpoint.held == 0
            });
        let endpoint = done.await?;
        ensure!(endpoint.state == "enabled", "the receiver was too slow: {endpoint:?}");
        Ok(())
    }

    /// The receiver breaks, until that has disabled the webhook; gives the delivery that did.
    async fn outage(&self) -> Result<String> {
        self.receiver.answer(Manner::Broken);
        self.publish(BROKEN).await?;
        let disabled =
            self.account.until_endpoint(self.endpoint, "is disabled", WITHIN, |endpoint| {
                endpoint.state == "disabled"
            });
        let disabled = disabled.await?.disabled.context("why it is disabled")?;
        self.receiver.answer(Manner::AtOnce);
        disabled.delivery_id.context("the delivery that disabled it")
    }

    async fn replay(&self) -> Result<()> {
        let filter = json!({"endpoint": self.endpoint, "states": ["exhausted"]});
        let id = self.account.replay(&filter).await?.id;
        let done = async || {
            let replay = self.account.replay_progress(&id).await?;
            Ok((replay.state == "completed").then_some(()))
        };
        wait::until("the replay is done", WITHIN, done).await
    }
}
