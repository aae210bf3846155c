//! Text that would be a script: wherever it comes in, it goes out as text.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_tests::browser::Browser;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::receiver::Behaviour;
use postrider_tests::receiver::behaviour::Reply;
use serde_json::{Value, json};

use crate::stage::{Stage, served};
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

#[tokio::test]
async fn text_from_outside_is_shown_as_text() -> Result<()> {
    let stage = Stage::start().await?;
    let planted = Planted::plant_all(&stage).await?;
    stage.sign_in_as_operator().await?;
    for planted in &planted {
        let looked = planted.look(&stage).await;
        looked.with_context(|| format!("planted: {:?}", planted.attempt))?;
    }
    stage.close().await
}

/// What is looked for would be found.
#[tokio::test]
async fn what_is_planted_is_found() -> Result<()> {
    let browser = Browser::start().await?;
    for planted in [
        "<x-planted></x-planted>",
        "<script>window.planted = 1</script>",
        "<img src='data:,' onerror='1'>",
        "<a href=' JavaScript:alert(1)'>a link</a>",
        "<p style='color: red'>red</p>",
        "<script src='/missing.js'></script><script>nothing()</script>",
    ] {
        let (_server, url) = served(&format!("<p>text</p>{planted}"), &[]).await?;
        browser.open(&url).await?;
        ensure!(is_harmless(&browser).await.is_err(), "{planted} is not found");
    }
    let (_server, url) = served("<p>text, and &lt;x-planted&gt;</p>", &[]).await?;
    browser.open(&url).await?;
    browser.complaints().await?;
    is_harmless(&browser).await?;
    browser.close().await
}

/// Browsers hold another port of a host for the same site, and send it our cookie.
#[tokio::test]
async fn another_sites_page_sends_no_form_of_ours() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    let endpoint = scene.endpoint(&scene.hook("orders")).await?;
    let action = stage.page(&format!("/webhooks/{}/disable", endpoint.id));
    let action = format!("http://{}/dashboard{action}", scene.node.address());
    let page = format!("<form method=post action='{action}'><button>You won!</button></form>");
    let (_elsewhere, url) = served(&page, &[]).await?;
    browser.open(&url).await?;
    browser.click("You won!").await?;
    browser.until("This form does not belong to your session").await?;
    ensure!(scene.account.endpoint(&endpoint.id).await?.state == "enabled");
    stage.visit("/webhooks").await?;
    browser.until("orders").await?;
    stage.close().await
}

#[tokio::test]
async fn another_sites_page_does_not_show_ours_within_itself() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let browser = &stage.browser;
    let ours = format!("http://{}/dashboard", stage.scene.node.address());
    let (_elsewhere, url) = served(&format!("<iframe src='{ours}'></iframe>"), &[]).await?;
    browser.open(&url).await?;
    let complaints = browser.complaints().await?.join(" ");
    ensure!(complaints.contains("frame-ancestors"), "nothing was refused: {complaints}");
    stage.close().await
}

/// The attempt in every place that text comes in by.
struct Planted {
    attempt: &'static str,
    event_type: String,
    endpoint: Endpoint,
    event: String,
    delivery: String,
}

impl Planted {
    /// All of them at once, until all that is sent has failed.
    async fn plant_all(stage: &Stage) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (number, attempt) in ATTEMPTS.into_iter().enumerate() {
            let planted = Self::plant(stage, number, attempt).await;
            all.push(planted.with_context(|| format!("plant {attempt:?}"))?);
        }
        let is_disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        for Self { endpoint, .. } in &all {
            let account = &stage.scene.account;
            let within = DISABLED_WITHIN;
            account.until_endpoint(&endpoint.id, "is disabled", within, is_disabled).await?;
        }
        Ok(all)
    }

    async fn plant(stage: &Stage, number: usize, attempt: &'static str) -> Result<Self> {
        let (scene, payload) = (&stage.scene, json!({attempt: [attempt]}));
        let event_type = format!("hostile.event_{number}");
        let schema = json!({"description": attempt, "title": attempt});
        let entry = json!({"description": attempt, "example": payload, "schema": schema});
        scene.operator.put_event_type(&event_type, &entry).await?;
        let keys = scene.account.path("/api-keys");
        scene.operator.api.post(&keys, &json!({"name": attempt})).await?.succeeded()?;

        let (hook, header) = (scene.hook(&event_type), printable(attempt));
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
        let new = NewEndpoint::at(&url).named(attempt).of_types(&[&event_type]);
        let endpoint = scene.account.create(&new.header("X-Planted", &header)).await?;
        let event = scene.account.publish(&event_type, &payload.to_string()).await?.id;
        hook.wait_for_ended(1, SOON).await?;
        let delivery = scene.account.delivery_of(&event, &endpoint.id).await?.id;
        Ok(Self { attempt, event_type, endpoint, event, delivery })
    }

    /// Looks at every page where it may come out.
    async fn look(&self, stage: &Stage) -> Result<()> {
        let (scene, browser) = (&stage.scene, &stage.browser);
        let name = json!({"name": self.attempt});
        scene.operator.api.patch(&scene.account.path(""), &name).await?.succeeded()?;
        for page in self.pages(stage) {
            stage.go(&page).await?;
            is_harmless(browser).await.with_context(|| page.clone())?;
        }
        // As it was written, where people look for it.
        let (id, attempt) = (&self.endpoint.id, self.attempt);
        for page in ["/webhooks".to_owned(), format!("/webhooks/{id}")] {
            stage.visit(&page).await?;
            browser.until(attempt).await?;
        }
        stage.visit(&format!("/webhooks/{id}/settings")).await?;
        ensure!(browser.value("Name").await? == attempt, "the name is as it was written");
        self.send_a_test(stage).await
    }

    fn pages(&self, stage: &Stage) -> Vec<String> {
        let Self { event_type, event, delivery, .. } = self;
        let id = &self.endpoint.id;
        let mut pages: Vec<_> = [
            "/webhooks".to_owned(),
            format!("/webhooks/{id}"),
            format!("/webhooks/{id}/settings?secret=shown"),
            format!("/webhooks/{id}/test?event_type={event_type}"),
            "/webhooks/new".to_owned(),
            format!("/deliveries/{delivery}"),
            "/events".to_owned(),
            format!("/events/{event}"),
            "/replays".to_owned(),
            "/replays/new".to_owned(),
            "/event-types".to_owned(),
            format!("/event-types/{event_type}"),
            "/settings".to_owned(),
            "/nothing?<x-planted>".to_owned(),
        ]
        .map(|page| stage.page(&page))
        .into();
        pages.extend(["/accounts", "/cluster", "/<x-planted>"].map(str::to_owned));
        pages
    }

    /// Sends what is planted, and reads what came of it.
    async fn send_a_test(&self, stage: &Stage) -> Result<()> {
        let (browser, attempt) = (&stage.browser, self.attempt);
        let page = format!("/webhooks/{}/test?event_type={}", self.endpoint.id, self.event_type);
        stage.visit(&page).await?;
        browser.click("Send test event").await?;
        browser.until("Result").await?;
        is_harmless(browser).await?;
        browser.until(attempt).await?;
        // A mistake is shown with what was written.
        let mistake = format!("{{{attempt}");
        browser.paste("Payload", &mistake).await?;
        browser.click("Send test event").await?;
        browser.until_error("Payload", "JSON").await?;
        ensure!(browser.value("Payload").await? == mistake, "it is kept to be mended");
        is_harmless(browser).await
    }
}

/// Nothing was planted in the page, and nothing ran. A dialog would make any command fail.
async fn is_harmless(browser: &Browser) -> Result<()> {
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
