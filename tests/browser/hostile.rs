//! Text that would be a script: wherever it comes in, it goes out as text.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::receiver::Behaviour;
use postrider_tests::receiver::behaviour::Reply;
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::{DISABLED_WITHIN, SOON};

/// What would be found in a page that took text for HTML.
const MARK: &str = "x-planted";
/// Each would run, or plant an element, in one place or another.
const ATTEMPTS: [&str; 8] = [
    "<script>window.planted=1;alert(1)</script><x-planted></x-planted>",
    "\"><img src=x onerror=alert(1)><x-planted a=\"",
    "'><svg onload=alert(1)><x-planted></svg>",
    "</textarea></title></style></script></pre></option><x-planted>",
    "javascript:alert(1)//\u{2028}alert(1)//",
    "{{constructor.constructor('alert(1)')()}}${alert(1)}<%= 1 %>",
    "]]><!--><x-planted>--><x-planted>",
    "\u{202e}txet\u{2066}<x-planted>\u{feff}&lt;x-planted&gt;&#60;x-planted&#62;",
];
const EVENT_TYPE: &str = "hostile.event";

#[tokio::test]
async fn text_from_outside_is_shown_as_text() -> Result<()> {
    for attempt in ATTEMPTS {
        runs_nothing(attempt).await.with_context(|| format!("planting {attempt:?}"))?;
    }
    Ok(())
}

async fn runs_nothing(attempt: &str) -> Result<()> {
    let stage = Stage::start().await?;
    let planted = Planted::plant(&stage, attempt).await?;
    stage.sign_in_as_operator().await?;
    for page in planted.pages(&stage) {
        stage.go(&page).await?;
        is_harmless(&stage).await.with_context(|| page.clone())?;
    }
    // As it was written, where people look for it.
    stage.visit("/webhooks").await?;
    stage.browser.until(attempt).await?;
    stage.visit(&format!("/webhooks/{}", planted.endpoint.id)).await?;
    stage.browser.until(attempt).await?;
    stage.visit(&format!("/webhooks/{}/settings", planted.endpoint.id)).await?;
    ensure!(stage.browser.value("Name").await? == attempt);
    planted.send_a_test(&stage, attempt).await?;
    stage.close().await
}

/// The attempt in every place that text comes in by.
struct Planted {
    endpoint: Endpoint,
    delivery: String,
    event: String,
}

impl Planted {
    async fn plant(stage: &Stage, attempt: &str) -> Result<Self> {
        let (scene, payload) = (&stage.scene, json!({attempt: [attempt]}));
        let schema = json!({"description": attempt, "title": attempt});
        let entry = json!({"description": attempt, "example": payload, "schema": schema});
        scene.operator.put_event_type(EVENT_TYPE, &entry).await?;
        let name = json!({"name": attempt});
        let account = scene.account.path("");
        scene.operator.api.patch(&account, &name).await?.succeeded()?;
        let key = format!("{account}/api-keys");
        scene.operator.api.post(&key, &name).await?.succeeded()?;

        let hook = scene.hook("hostile");
        let header = printable(attempt);
        hook.behave(Behaviour::Answer(Reply {
            status: 302,
            headers: vec![
                ("Content-Type".to_owned(), "text/html".to_owned()),
                ("Location".to_owned(), header.clone()),
                ("X-Planted".to_owned(), header.clone()),
            ],
            body: Bytes::copy_from_slice(attempt.as_bytes()),
        }));
        let url = format!("{}?{}", hook.url(), in_url(attempt));
        let new = NewEndpoint::at(&url).named(attempt).header("X-Planted", &header);
        let endpoint = scene.account.create(&new).await?;
        let event = scene.account.publish(EVENT_TYPE, &payload.to_string()).await?;
        hook.wait_for_ended(1, SOON).await?;
        let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        let id = &endpoint.id;
        scene.account.until_endpoint(id, "is disabled", DISABLED_WITHIN, disabled).await?;
        let delivery = scene.account.delivery_of(&event.id, id).await?.id;
        Ok(Self { endpoint, delivery, event: event.id })
    }

    fn pages(&self, stage: &Stage) -> Vec<String> {
        let id = &self.endpoint.id;
        let mut pages: Vec<_> = [
            "/webhooks".to_owned(),
            format!("/webhooks/{id}"),
            format!("/webhooks/{id}/settings?secret=shown"),
            format!("/webhooks/{id}/test?event_type={EVENT_TYPE}"),
            format!("/deliveries/{}", self.delivery),
            "/webhooks/new".to_owned(),
            "/events".to_owned(),
            format!("/events/{}", self.event),
            "/replays".to_owned(),
            "/replays/new".to_owned(),
            "/event-types".to_owned(),
            format!("/event-types/{EVENT_TYPE}"),
            "/settings".to_owned(),
            "/nothing?<x-planted>".to_owned(),
        ]
        .map(|page| stage.page(&page))
        .into();
        pages.extend(["/accounts", "/cluster", "/<x-planted>"].map(str::to_owned));
        pages
    }

    /// Sends what is planted, and reads what came of it.
    async fn send_a_test(&self, stage: &Stage, attempt: &str) -> Result<()> {
        let browser = &stage.browser;
        stage.visit(&format!("/webhooks/{}/test?event_type={EVENT_TYPE}", self.endpoint.id)).await?;
        browser.click("Send test event").await?;
        browser.until("What came of it").await?;
        is_harmless(stage).await?;
        browser.until(attempt).await?;
        // A mistake is shown with what was written.
        browser.paste("Payload", attempt).await?;
        browser.click("Send test event").await?;
        browser.until_error("Payload", "JSON").await?;
        ensure!(browser.value("Payload").await? == attempt, "it is kept to be mended");
        is_harmless(stage).await
    }
}

/// Nothing was planted in the page, and nothing ran. A dialog would make any command fail.
async fn is_harmless(stage: &Stage) -> Result<()> {
    let browser = &stage.browser;
    let text = browser.text().await?;
    ensure!(browser.count(MARK).await? == 0, "an element was planted: {text}");
    ensure!(browser.run("return window.planted", vec![]).await? == Value::Null, "a script ran");
    let handlers = "return [...document.querySelectorAll('*')].flatMap((element) => \
         [...element.attributes].map((a) => `${a.name}=${a.value}`)) \
         .filter((text) => /^on|^style=|^(href|action|formaction|hx-get)=\\s*javascript:/i.test(text))";
    let handlers = browser.run(handlers, vec![]).await?;
    ensure!(handlers == json!([]), "{handlers}");
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

/// What of it a header may hold.
fn printable(attempt: &str) -> String {
    attempt.chars().filter(|c| matches!(c, ' '..='~')).collect()
}

/// What of it a URL may hold as it is.
fn in_url(attempt: &str) -> String {
    attempt.chars().filter(|c| matches!(c, '!'..='~') && *c != '#').collect()
}
