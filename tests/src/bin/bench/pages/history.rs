//! An account with a thousand webhooks, the oldest of them with a long history.
//!
//! The history is created as in production: events are published through the API and delivered to
//! the receiver, with some failures and some outages. In the end the webhook is disabled, so that
//! its page shows everything: full charts, a last error, and deliveries in every state but pending.

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
use crate::baseline::payload;
use crate::receiver::{Receiver, ResponseMode};

/// Webhooks of the account.
pub const ENDPOINTS: usize = 1_000;
/// Events to all webhooks: one in each of the last 24 hours.
const EVENTS_FOR_ALL: u64 = 24;
/// Events during each outage of the receiver.
const DURING_OUTAGE: u64 = 200;
/// Events after the webhook is disabled.
const HELD: u64 = 500;
/// Replays of exhausted deliveries.
const REPLAYS: usize = 3;
/// Concurrent batches.
const CONCURRENT_BATCHES: usize = 4;
/// Concurrent calls that register webhooks.
const CONCURRENT_CALLS: usize = 16;
/// The deadline for creating the history.
const CREATED_WITHIN: Duration = seconds(900);
/// The deadline for anything else.
const WITHIN: Duration = seconds(60);

/// The event type of the history.
const OWN: &str = "pages.history";
/// The event type of all webhooks.
const FOR_ALL: &str = "pages.all";

pub struct History {
    pub account: Account,
    /// The webhook with the history.
    pub endpoint: String,
    /// The number of its deliveries.
    pub deliveries: u64,
    /// The delivery that disabled it.
    pub exhausted: String,
    /// The event of that delivery.
    pub event: String,
    /// An event to all webhooks.
    pub event_for_all: String,
}

impl History {
    pub async fn create(
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
        others.buffer_unordered(CONCURRENT_CALLS).try_collect::<Vec<_>>().await?;
        let builder = Builder { options, receiver, account: &account, endpoint: &endpoint };
        let event_for_all = builder.month(clock).await?;
        until_idle(operator).await?;
        let exhausted = builder.outages().await?;
        Ok(Self {
            event: exhausted.event_id,
            exhausted: exhausted.id,
            deliveries: options.history,
            event_for_all,
            endpoint,
            account,
        })
    }

    /// The cursor of the list of deliveries after this number of pages.
    pub async fn cursor_after(&self, pages: u64, limit: u64) -> Result<String> {
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

/// Publishes events of one type in batches.
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
    publishing.buffer_unordered(CONCURRENT_BATCHES).try_for_each(async |_: Value| Ok(())).await
}

/// Waits until no delivery is pending anywhere.
async fn until_idle(operator: &Operator) -> Result<()> {
    let idle = async || {
        let cluster = operator.cluster().await?;
        Ok(cluster.oldest_pending_age_ms.is_none().then_some(()))
    };
    wait::until("nothing is pending", CREATED_WITHIN, idle).await
}

/// Creates a history.
struct Builder<'a> {
    options: &'a Options,
    receiver: &'a Receiver,
    account: &'a Account,
    endpoint: &'a str,
}

impl Builder<'_> {
    /// Simulates three outages; returns the delivery that disabled the webhook in the last one.
    async fn outages(&self) -> Result<Delivery> {
        for held in ["discard", "resume"] {
            self.outage().await?;
            self.account.enable(self.endpoint, held).await?;
            self.idle().await?;
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

    /// Simulates a month in which most attempts succeed; returns the last event to all webhooks.
    async fn month(&self, clock: &mut Clock) -> Result<String> {
        let mut left = self.options.history - EVENTS_FOR_ALL - 3 * DURING_OUTAGE - HELD;
        let mut event_for_all = String::new();
        let ages_s = Clock::ages_s();
        self.receiver.respond(ResponseMode::Flaky);
        for (parts, age_s) in (1..=ages_s.len() as u64).rev().zip(ages_s) {
            clock.set_back(age_s).await?;
            self.publish(left / parts).await?;
            if age_s < DAY_S && age_s % HOUR_S == 0 {
                event_for_all = self.account.publish(FOR_ALL, "{}").await?.id;
            }
            self.idle().await?;
            left -= left / parts;
        }
        self.receiver.respond(ResponseMode::Immediate);
        clock.use_system_clock().await?;
        Ok(event_for_all)
    }

    async fn publish(&self, count: u64) -> Result<()> {
        let Options { body, batch, .. } = *self.options;
        publish(self.account, OWN, |number| payload(number, body), count, batch).await
    }

    /// Waits until the webhook has no pending deliveries.
    async fn idle(&self) -> Result<()> {
        let done =
            self.account.until_endpoint(self.endpoint, "is idle", CREATED_WITHIN, |endpoint| {
                endpoint.pending == 0 && endpoint.held == 0
            });
        let endpoint = done.await?;
        ensure!(endpoint.state == "enabled", "the webhook was disabled: {endpoint:?}");
        Ok(())
    }

    /// The receiver fails until the webhook is disabled; returns the delivery that disabled it.
    async fn outage(&self) -> Result<String> {
        self.receiver.respond(ResponseMode::Failing);
        self.publish(DURING_OUTAGE).await?;
        let disabled =
            self.account.until_endpoint(self.endpoint, "is disabled", WITHIN, |endpoint| {
                endpoint.state == "disabled"
            });
        let disabled = disabled.await?.disabled.context("no reason for the disable")?;
        self.receiver.respond(ResponseMode::Immediate);
        disabled.delivery_id.context("no delivery disabled the webhook")
    }

    async fn replay(&self) -> Result<()> {
        let filter = json!({"endpoint": self.endpoint, "states": ["exhausted"]});
        let id = self.account.replay(&filter).await?.id;
        let done = async || {
            let replay = self.account.replay_progress(&id).await?;
            Ok((replay.state == "completed").then_some(()))
        };
        wait::until("the replay is completed", WITHIN, done).await
    }
}
