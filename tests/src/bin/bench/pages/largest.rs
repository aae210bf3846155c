//! Accounts with the largest possible pages: a backlog as long as the history, and texts and lists
//! at the API's limits, with characters that HTML must escape.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use postrider_tests::client::{Account, NewEndpoint, Operator};
use postrider_tests::receiver::{Behaviour, Hook, Receiver as Hooks};
use postrider_tests::wait::seconds;
use serde_json::{Value, json};

use super::history::{History, publish};
use super::{PageSpec, Target, text};
use crate::Options;
use crate::receiver::Receiver;

/// Webhooks of the account with long texts: one page of the list.
const ENDPOINTS: usize = 50;
/// The API's limits on the event types of a webhook.
const EVENT_TYPES: usize = 100;
const EVENT_TYPE_BYTES: usize = 128;
/// The limits on a webhook's name and URL.
const NAME_CHARS: usize = 200;
const URL_BYTES: usize = 2_048;
/// The limits on its headers.
const HEADERS: usize = 32;
const HEADER_NAME_BYTES: usize = 128;
const HEADER_VALUE_BYTES: usize = 1_024;
/// A payload that just fits into a request.
const PAYLOAD_BYTES: usize = 255 * 1024;
/// The receiver's Location and body, as much as is kept.
const LOCATION_CHARS: usize = 600;
const RESPONSE_BYTES: usize = 4 * 1024;
/// Events to one of the webhooks: more than its page shows at once.
const EVENTS: usize = 30;
/// The API's limit on events per batch.
const BATCH: usize = 1_000;
/// The statuses returned by the webhook with every status.
const STATUSES: std::ops::Range<u16> = 200..300;
const WITHIN: std::time::Duration = seconds(60);

/// A webhook that holds as many deliveries as the other one has in its history.
pub async fn backlog(
    options: &Options,
    receiver: &Receiver,
    operator: &Operator,
    history: &History,
) -> Result<Vec<PageSpec>> {
    const TYPE: &str = "pages.held";
    operator.event_type(TYPE, &json!({})).await?;
    let url = format!("http://{}/held", receiver.address);
    let endpoint = history.account.create(&NewEndpoint::at(&url).of_types(&[TYPE])).await?.id;
    history.account.disable(&endpoint).await?;
    publish(&history.account, TYPE, |_| "{}".to_owned(), options.history, BATCH).await?;
    let page = format!("/webhooks/{endpoint}");
    Ok(vec![
        PageSpec::new("webhook with held deliveries", page.clone()).target(Target::FastAndSmall),
        PageSpec::new(
            "webhook with held deliveries, refresh of its state",
            format!("{page}/facts"),
        ),
        PageSpec::new("webhooks, with that one", "/webhooks").target(Target::Fast),
    ])
}

/// An account with every text at its length limit.
pub async fn texts(operator: &Operator) -> Result<(Account, Vec<PageSpec>)> {
    let hooks = Hooks::start().await?;
    let account = operator.account(&"\"".repeat(NAME_CHARS), &["pages@example.com"]).await?;
    for number in 0..=EVENT_TYPES {
        operator.event_type(&event_type(number), &json!({})).await?;
    }
    let broken = hooks.hook("broken");
    broken.set_behaviour(redirect(&hooks.hook("elsewhere")));
    // No event goes to both the first and the others.
    let first = create(&account, &broken, 0).await?;
    let others = stream::iter(1..ENDPOINTS).map(|_| create(&account, &broken, 1));
    others.buffer_unordered(4).try_collect::<Vec<_>>().await?;
    let payload = format!("{{\"text\":{}}}", Value::from("<".repeat(PAYLOAD_BYTES)));
    let event = account.publish(&event_type(0), &payload).await?.id;
    for _ in 1..EVENTS {
        account.publish(&event_type(0), "{}").await?;
    }
    let disabled = account
        .until_endpoint(&first, "is disabled", WITHIN, |endpoint| endpoint.state == "disabled")
        .await?;
    let disabled = disabled.disabled.context("no reason for the disable")?;
    let delivery = account.delivery_of(&event, &first).await?.id;
    let every_status = with_every_status(operator, &account, &hooks).await?;
    let views = [
        ("webhook", format!("/webhooks/{first}"), Target::FastAndSmall),
        ("webhook, 30 d", format!("/webhooks/{first}?span=30d"), Target::FastAndSmall),
        ("webhook, every status", format!("/webhooks/{every_status}"), Target::FastAndSmall),
        ("webhooks", "/webhooks".to_owned(), Target::Fast),
        ("webhook, settings", format!("/webhooks/{first}/settings"), Target::None),
        ("webhook, test event", format!("/webhooks/{first}/test"), Target::None),
        ("new webhook", "/webhooks/new".to_owned(), Target::None),
        (
            "exhausted delivery",
            format!(
                "/deliveries/{}",
                disabled.delivery_id.context("no delivery disabled the webhook")?
            ),
            Target::None,
        ),
        ("delivery of the payload", format!("/deliveries/{delivery}"), Target::None),
        ("event", format!("/events/{event}"), Target::None),
        ("events", "/events".to_owned(), Target::None),
    ];
    let views = views.map(|(name, path, target)| {
        PageSpec::new(format!("long texts: {name}"), path).target(target)
    });
    Ok((account, views.into()))
}

async fn create(account: &Account, hook: &Hook, first_type: usize) -> Result<String> {
    let types: Vec<_> = (first_type..first_type + EVENT_TYPES).map(event_type).collect();
    let headers = (0..HEADERS).map(|number| {
        let name = padded(format!("x-{number}-"), 'h', HEADER_NAME_BYTES);
        (name, Value::from("\"".repeat(HEADER_VALUE_BYTES)))
    });
    let body = json!({
        "name": "\"".repeat(NAME_CHARS),
        "url": padded(format!("{}?", hook.url()), '&', URL_BYTES),
        "event_types": types,
        "headers": Value::Object(headers.collect()),
    });
    let created = account.api.post(&account.path("/endpoints"), &body).await?.expect(201)?;
    text(&created, "id")
}

/// A webhook that has returned each status once.
async fn with_every_status(
    operator: &Operator,
    account: &Account,
    hooks: &Hooks,
) -> Result<String> {
    const TYPE: &str = "pages.every-status";
    operator.event_type(TYPE, &json!({})).await?;
    let hook = hooks.hook("every-status");
    let endpoint = account.create(&NewEndpoint::at(&hook.url()).of_types(&[TYPE])).await?.id;
    for (count, status) in (1..).zip(STATUSES) {
        hook.set_behaviour(Behaviour::status(status));
        account.publish(TYPE, "{}").await?;
        hook.wait_for_ended(count, WITHIN).await?;
    }
    account.until_endpoint(&endpoint, "is idle", WITHIN, |endpoint| endpoint.pending == 0).await?;
    Ok(endpoint)
}

fn event_type(number: usize) -> String {
    padded(format!("pages.n{number:03}-"), 'x', EVENT_TYPE_BYTES)
}

/// A redirect with a long URL and a long body.
fn redirect(elsewhere: &Hook) -> Behaviour {
    let location = padded(format!("{}?", elsewhere.url()), '"', LOCATION_CHARS);
    let Behaviour::Answer(mut reply) = Behaviour::with_body(302, &"<".repeat(RESPONSE_BYTES))
    else {
        unreachable!("`with_body` returns an answer")
    };
    reply.headers.push(("Location".to_owned(), location));
    Behaviour::Answer(reply)
}

/// Pads the text with a character to this length.
fn padded(start: String, with: char, length: usize) -> String {
    let missing = length.saturating_sub(start.len());
    start + &with.to_string().repeat(missing)
}
