//! An account that has been at it for a while: webhooks that fare well and badly, deliveries in every
//! state. The pages that are looked at, one by one.

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::Scene;
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::{DISABLED_WITHIN, SOON};

/// Events that a webhook which is well gets.
const ORDERS: u64 = 12;
const APPLICATION: &str = "application.created";
const INVOICE: &str = "invoice.paid";

/// What the account has.
pub struct Site {
    well: Endpoint,
    failing: Endpoint,
    disabled: Endpoint,
    delivered: Delivery,
    redirected: Delivery,
    exhausted: Delivery,
    held: Delivery,
    event: String,
    replay: String,
}

/// The name of a page, and where it is, below the dashboard.
pub type Page = (&'static str, String);

impl Site {
    /// Lets it all happen.
    pub async fn furnish(stage: &mut Stage) -> Result<Self> {
        let scene = &mut stage.scene;
        catalogue(scene).await?;
        let hooks = ["crm", "warehouse", "billing"].map(|name| scene.hook(name));
        let [crm, warehouse, billing] = &hooks;
        crm.behave(Behaviour::with_body(200, r#"{"received":true}"#));
        warehouse.behave(Behaviour::with_body(503, "down for maintenance, back at noon"));
        billing.behave(Behaviour::redirect(301, "/billing/v2"));
        let account = &scene.account;
        let new = |url: String, name| NewEndpoint::at(&url).named(name);
        let well = new(crm.url(), "CRM").of_types(&[APPLICATION, INVOICE]);
        let well = account.create(&well.header("X-Team", "Blue")).await?;
        let disabled = account.create(&new(warehouse.url(), "Warehouse").strict()).await?;
        let mut events = Vec::new();
        for number in 0..ORDERS {
            let event_type = if number % 3 == 0 { INVOICE } else { APPLICATION };
            events.push(account.publish(event_type, &application(number).to_string()).await?.id);
        }
        crm.wait_for_ended(events.len(), SOON).await?;
        let is_disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        account.until_endpoint(&disabled.id, "is disabled", DISABLED_WITHIN, is_disabled).await?;
        // From here on, what fails is not given up while it is looked at.
        scene.node.stop().await?;
        scene.node.reconfigure(|config| config.retry("24h", 10));
        scene.node.restart().await?;
        let account = &scene.account;
        let failing = account.create(&new(billing.url(), "Billing, the new one")).await?;
        let late = account.publish(INVOICE, &application(99).to_string()).await?;
        billing.wait_for_ended(1, SOON).await?;
        let filter = json!({"endpoint": well.id, "event_types": [APPLICATION], "rate": 100});
        let replay = account.replay(&filter).await?;

        let exhausted = account.deliveries(&disabled.id).await?;
        let exhausted = exhausted.iter().find(|delivery| delivery.state == "exhausted");
        Ok(Self {
            delivered: account.delivery_of(&late.id, &well.id).await?,
            redirected: account.delivery_of(&late.id, &failing.id).await?,
            held: account.delivery_of(&late.id, &disabled.id).await?,
            exhausted: exhausted.context("an exhausted delivery")?.clone(),
            event: late.id,
            replay: replay.id,
            well,
            failing,
            disabled,
        })
    }

    /// The pages of the account.
    pub fn pages(&self, stage: &Stage) -> Vec<Page> {
        let webhook = |endpoint: &Endpoint, rest| format!("/webhooks/{}{rest}", endpoint.id);
        let delivery = |delivery: &Delivery| format!("/deliveries/{}", delivery.id);
        let pages = vec![
            ("webhooks", "/webhooks".to_owned()),
            ("webhook", webhook(&self.disabled, "")),
            ("webhook-well", webhook(&self.well, "?span=1h")),
            ("webhook-failing", webhook(&self.failing, "?span=7d")),
            ("webhook-new", "/webhooks/new".to_owned()),
            ("webhook-settings", webhook(&self.well, "/settings?secret=shown")),
            ("test-event", webhook(&self.well, "/test")),
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
        pages.into_iter().map(|(name, page)| (name, stage.page(&page))).collect()
    }
}

/// The pages that the operator has.
pub fn operators_pages(stage: &Stage) -> Vec<Page> {
    vec![
        ("accounts", "/accounts".to_owned()),
        ("account-new", "/accounts/new".to_owned()),
        ("cluster", "/cluster".to_owned()),
        ("settings-as-operator", stage.page("/settings")),
    ]
}

/// The pages of an account that has nothing yet.
pub fn empty_pages(stage: &Stage) -> Vec<Page> {
    ["/webhooks", "/events", "/replays"].map(|page| ("empty", stage.page(page))).into()
}

/// Sends a test event, whose page cannot be opened again by its address.
pub async fn send_a_test(stage: &Stage, site: &Site) -> Result<()> {
    stage.visit(&format!("/webhooks/{}/test", site.well.id)).await?;
    stage.browser.click("Send test event").await?;
    stage.browser.until("Result").await
}

async fn catalogue(scene: &Scene) -> Result<()> {
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
        scene.operator.put_event_type(name, &body).await?;
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
