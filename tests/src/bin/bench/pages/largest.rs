//! Accounts whose pages are as large as what they show can be: a backlog as long as a history, and
//! texts and lists that are as long as the API takes them, of characters that HTML writes long.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use postrider_tests::client::{Account, NewEndpoint, Operator};
use postrider_tests::receiver::{Behaviour, Hook, Receiver as Hooks};
use postrider_tests::wait::seconds;
use serde_json::{Value, json};

use super::past::{Past, publish};
use super::{Aim, View, text};
use crate::Options;
use crate::receiver::Receiver;

/// Webhooks of the account with long texts: a page of the list.
const ENDPOINTS: usize = 50;
/// What the API takes at most: event types that a webhook names, and how long they are.
const EVENT_TYPES: usize = 100;
const EVENT_TYPE_BYTES: usize = 128;
/// A webhook's name and URL.
const NAME_CHARS: usize = 200;
const URL_BYTES: usize = 2_048;
/// Its headers, in all and in bytes of a name and of a value.
const HEADERS: usize = 32;
const HEADER_NAME_BYTES: usize = 128;
const HEADER_VALUE_BYTES: usize = 1_024;
/// A payload that just fits into a request.
const PAYLOAD_BYTES: usize = 255 * 1024;
/// What the receiver answers with: its Location and its body, of which no more is kept.
const LOCATION_CHARS: usize = 600;
const ANSWER_BYTES: usize = 4 * 1024;
/// Events that one of the webhooks gets: more than its page shows at once.
const EVENTS: usize = 30;
/// Events of a batch: as many as one may have.
const BATCH: usize = 1_000;
/// The statuses of a webhook that answers with another one each time.
const STATUSES: std::ops::Range<u16> = 200..300;
const WITHIN: std::time::Duration = seconds(60);

/// A webhook that holds as many deliveries as the other has in its history.
pub async fn backlog(
    options: &Options,
    receiver: &Receiver,
    operator: &Operator,
    past: &Past,
) -> Result<Vec<View>> {
    const TYPE: &str = "pages.held";
    operator.event_type(TYPE, &json!({})).await?;
    let url = format!("http://{}/held", receiver.address);
    let endpoint = past.account.create(&NewEndpoint::at(&url).of_types(&[TYPE])).await?.id;
    past.account.disable(&endpoint).await?;
    publish(&past.account, TYPE, |_| "{}".to_owned(), options.history, BATCH).await?;
    let page = format!("/webhooks/{endpoint}");
    Ok(vec![
        View::new("webhook that holds as many", page.clone()).aim(Aim::FastAndSmall),
        View::new("webhook that holds as many, its state renewed", format!("{page}/facts")),
        View::new("webhooks, with that one", "/webhooks").aim(Aim::Fast),
    ])
}

/// An account of which every text is as long as it may be.
pub async fn texts(operator: &Operator) -> Result<(Account, Vec<View>)> {
    let hooks = Hooks::start().await?;
    let account = operator.account(&"\"".repeat(NAME_CHARS), &["pages@example.com"]).await?;
    for number in 0..=EVENT_TYPES {
        operator.event_type(&event_type(number), &json!({})).await?;
    }
    let broken = hooks.hook("broken");
    broken.behave(redirect(&hooks.hook("elsewhere")));
    // What goes to the first goes to none of the others.
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
    let disabled = disabled.disabled.context("why it is disabled")?;
    let delivery = account.delivery_of(&event, &first).await?.id;
    let fickle = fickle(operator, &account, &hooks).await?;
    let views = [
        ("webhook", format!("/webhooks/{first}"), Aim::FastAndSmall),
        ("webhook, 30 d", format!("/webhooks/{first}?span=30d"), Aim::FastAndSmall),
        ("webhook, any status", format!("/webhooks/{fickle}"), Aim::FastAndSmall),
        ("webhooks", "/webhooks".to_owned(), Aim::Fast),
        ("webhook, settings", format!("/webhooks/{first}/settings"), Aim::Nothing),
        ("webhook, test event", format!("/webhooks/{first}/test"), Aim::Nothing),
        ("new webhook", "/webhooks/new".to_owned(), Aim::Nothing),
        (
            "delivery that was given up",
            format!("/deliveries/{}", disabled.delivery_id.context("which")?),
            Aim::Nothing,
        ),
        ("delivery of the payload", format!("/deliveries/{delivery}"), Aim::Nothing),
        ("event", format!("/events/{event}"), Aim::Nothing),
        ("events", "/events".to_owned(), Aim::Nothing),
    ];
    let views =
        views.map(|(what, path, aim)| View::new(format!("long texts: {what}"), path).aim(aim));
    Ok((account, views.into()))
}

async fn create(account: &Account, hook: &Hook, first_type: usize) -> Result<String> {
    let types: Vec<_> = (first_type..first_type + EVENT_TYPES).map(event_type).collect();
    let headers = (0..HEADERS).map(|number| {
        let name = filled(format!("x-{number}-"), 'h', HEADER_NAME_BYTES);
        (name, Value::from("\"".repeat(HEADER_VALUE_BYTES)))
    });
    let body = json!({
        "name": "\"".repeat(NAME_CHARS),
        "url": filled(format!("{}?", hook.url()), '&', URL_BYTES),
        "event_types": types,
        "headers": Value::Object(headers.collect()),
    });
    let made = account.api.post(&account.path("/endpoints"), &body).await?.expect(201)?;
    text(&made, "id")
}

/// A webhook that has answered with each status once.
async fn fickle(operator: &Operator, account: &Account, hooks: &Hooks) -> Result<String> {
    const TYPE: &str = "pages.fickle";
    operator.event_type(TYPE, &json!({})).await?;
    let hook = hooks.hook("fickle");
    let endpoint = account.create(&NewEndpoint::at(&hook.url()).of_types(&[TYPE])).await?.id;
    for (count, status) in (1..).zip(STATUSES) {
        hook.behave(Behaviour::status(status));
        account.publish(TYPE, "{}").await?;
        hook.wait_for_ended(count, WITHIN).await?;
    }
    account.until_endpoint(&endpoint, "is quiet", WITHIN, |endpoint| endpoint.pending == 0).await?;
    Ok(endpoint)
}

fn event_type(number: usize) -> String {
    filled(format!("pages.n{number:03}-"), 'x', EVENT_TYPE_BYTES)
}

/// A redirect with a long address and a long body.
fn redirect(elsewhere: &Hook) -> Behaviour {
    let location = filled(format!("{}?", elsewhere.url()), '"', LOCATION_CHARS);
    let Behaviour::Answer(mut reply) = Behaviour::with_body(302, &"<".repeat(ANSWER_BYTES)) else {
        unreachable!("an answer with a body is an answer")
    };
    reply.headers.push(("Location".to_owned(), location));
    Behaviour::Answer(reply)
}

/// The text, with a character behind it until it is so long.
fn filled(start: String, with: char, length: usize) -> String {
    let missing = length.saturating_sub(start.len());
    start + &with.to_string().repeat(missing)
}
