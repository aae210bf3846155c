//! An account with sample data: healthy, failing and disabled webhooks, and deliveries in every
//! state. Also the list of its pages.

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::fixture::Fixture;
use postrider_tests::receiver::Behaviour;
use serde_json::{Value, json};

use crate::session::BrowserSession;
use crate::{DISABLED_WITHIN, SOON};

/// Events for the healthy webhook.
const ORDERS: u64 = 12;
const APPLICATION: &str = "application.created";
const INVOICE: &str = "invoice.paid";

pub struct SampleAccount {
    healthy: Endpoint,
    failing: Endpoint,
    disabled: Endpoint,
    delivered: Delivery,
    redirected: Delivery,
    exhausted: Delivery,
    held: Delivery,
    event: String,
    replay: String,
}

/// A page's name and its path, relative to the dashboard.
pub type Page = (&'static str, String);

impl SampleAccount {
    pub async fn create(session: &mut BrowserSession) -> Result<Self> {
        let fixture = &mut session.fixture;
        catalogue(fixture).await?;
        let hooks = ["crm", "warehouse", "billing"].map(|name| fixture.hook(name));
        let [crm, warehouse, billing] = &hooks;
        crm.set_behaviour(Behaviour::with_body(200, r#"{"received":true}"#));
        warehouse.set_behaviour(Behaviour::with_body(503, "down for maintenance, back at noon"));
        billing.set_behaviour(Behaviour::redirect(301, "/billing/v2"));
        let account = &fixture.account;
        let new = |url: String, name| NewEndpoint::at(&url).named(name);
        let healthy = new(crm.url(), "CRM").of_types(&[APPLICATION, INVOICE]);
        let healthy = account.create(&healthy.header("X-Team", "Blue")).await?;
        let disabled = account.create(&new(warehouse.url(), "Warehouse").strict()).await?;
        let mut events = Vec::new();
        for number in 0..ORDERS {
            let event_type = if number % 3 == 0 { INVOICE } else { APPLICATION };
            events.push(account.publish(event_type, &application(number).to_string()).await?.id);
        }
        crm.wait_for_ended(events.len(), SOON).await?;
        let is_disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        account.until_endpoint(&disabled.id, "is disabled", DISABLED_WITHIN, is_disabled).await?;
        // From here on, retries last longer than any test, so that failing deliveries stay pending.
        fixture.node.stop().await?;
        fixture.node.reconfigure(|config| config.retry("24h", 10));
        fixture.node.restart().await?;
        let account = &fixture.account;
        let failing = account.create(&new(billing.url(), "Billing, the new one")).await?;
        let late = account.publish(INVOICE, &application(99).to_string()).await?;
        billing.wait_for_ended(1, SOON).await?;
        let filter = json!({"endpoint": healthy.id, "event_types": [APPLICATION], "rate": 100});
        let replay = account.replay(&filter).await?;

        let exhausted = account.deliveries(&disabled.id).await?;
        let exhausted = exhausted.iter().find(|delivery| delivery.state == "exhausted");
        Ok(Self {
            delivered: account.delivery_of(&late.id, &healthy.id).await?,
            redirected: account.delivery_of(&late.id, &failing.id).await?,
            held: account.delivery_of(&late.id, &disabled.id).await?,
            exhausted: exhausted.context("there is no exhausted delivery")?.clone(),
            event: late.id,
            replay: replay.id,
            healthy,
            failing,
            disabled,
        })
    }

    /// The pages of the account.
    pub fn pages(&self, session: &BrowserSession) -> Vec<Page> {
        let webhook = |endpoint: &Endpoint, rest| format!("/webhooks/{}{rest}", endpoint.id);
        let delivery = |delivery: &Delivery| format!("/deliveries/{}", delivery.id);
        let pages = vec![
            ("webhooks", "/webhooks".to_owned()),
            ("webhook", webhook(&self.disabled, "")),
            ("webhook-well", webhook(&self.healthy, "?span=1h")),
            ("webhook-failing", webhook(&self.failing, "?span=7d")),
            ("webhook-new", "/webhooks/new".to_owned()),
            ("webhook-settings", webhook(&self.healthy, "/settings?secret=shown")),
            ("test-event", webhook(&self.healthy, "/test")),
            ("delivery", delivery(&self.exhausted)),
            ("delivery-delivered", delivery(&self.delivered)),
            ("delivery-redirected", delivery(&self.redirected)),
            ("delivery-held", delivery(&self.held)),
            ("events", "/events".to_owned()),
            ("event", format!("/events/{}", self.event)),
            ("replays", "/replays".to_owned()),
            ("replay-new", "/replays/new".to_owned()),
            ("replay", format!("/replays/{}", self.replay)),
            ("event-types", "/event-types".to_owned()),
            ("event-type", format!("/event-types/{APPLICATION}")),
            ("settings", "/settings".to_owned()),
            ("missing", "/nothing".to_owned()),
        ];
        pages.into_iter().map(|(name, page)| (name, session.account_path(&page))).collect()
    }
}

pub fn operator_pages(session: &BrowserSession) -> Vec<Page> {
    vec![
        ("accounts", "/accounts".to_owned()),
        ("account-new", "/accounts/new".to_owned()),
        ("cluster", "/cluster".to_owned()),
        ("settings-as-operator", session.account_path("/settings")),
    ]
}

/// The pages of an account without data.
pub fn empty_pages(session: &BrowserSession) -> Vec<Page> {
    ["/webhooks", "/events", "/replays"].map(|page| ("empty", session.account_path(page))).into()
}

/// Sends a test event; its result page cannot be opened by its path.
pub async fn send_test_event(session: &BrowserSession, sample: &SampleAccount) -> Result<()> {
    session.visit(&format!("/webhooks/{}/test", sample.healthy.id)).await?;
    session.browser.click("Send test event").await?;
    session.browser.until("Result").await
}

async fn catalogue(fixture: &Fixture) -> Result<()> {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["application"],
        "properties": {"application": {"type": "integer"}},
    });
    let types = [
        (APPLICATION, "Somebody has applied for a job.", Some(schema)),
        (INVOICE, "An invoice was paid in full.", None),
        ("order.created", "An order was placed.", None),
        ("order.refunded", "A part of an order, or all of it, was paid back.", None),
    ];
    for (name, description, schema) in types {
        let mut body = json!({"description": description, "example": application(1)});
        if let Some(schema) = schema {
            body["schema"] = schema;
        }
        fixture.operator.put_event_type(name, &body).await?;
    }
    Ok(())
}

fn application(number: u64) -> Value {
    json!({
        "application": number,
        "candidate": {"name": "Ada Lovelace", "city": "London"},
        "score": "9.5",
        "open": true,
    })
}
