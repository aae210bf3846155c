//! Injected markup and cross-site requests: markup is shown as text everywhere, and other sites can
//! neither submit nor frame the dashboard.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_tests::browser::Browser;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::receiver::Behaviour;
use postrider_tests::receiver::behaviour::Reply;
use serde_json::{Value, json};

use crate::session::{BrowserSession, serve_page};
use crate::{DISABLED_WITHIN, SOON};

/// The element that a page contains if it takes injected text for HTML.
const MARKER: &str = "x-planted";
/// Each would run a script or insert an element in some context.
const PAYLOADS: [&str; 8] = [
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
async fn injected_markup_is_shown_as_text() -> Result<()> {
    let session = BrowserSession::start().await?;
    let injections = Injection::inject_all(&session).await?;
    session.sign_in_as_operator().await?;
    for injection in &injections {
        let checked = injection.check_pages(&session).await;
        checked.with_context(|| format!("injected {:?}", injection.markup))?;
    }
    session.close().await
}

/// A check of the check: markup that is not escaped is found.
#[tokio::test]
async fn the_injection_check_finds_injected_markup() -> Result<()> {
    let browser = Browser::start().await?;
    for markup in [
        "<x-planted></x-planted>",
        "<script>window.planted = 1</script>",
        "<img src='data:,' onerror='1'>",
        "<a href=' JavaScript:alert(1)'>a link</a>",
        "<p style='color: red'>red</p>",
        "<script src='/missing.js'></script><script>nothing()</script>",
    ] {
        let (_server, url) = serve_page(&format!("<p>text</p>{markup}"), &[]).await?;
        browser.open(&url).await?;
        ensure!(
            assert_harmless(&browser).await.is_err(),
            "injected markup was not found: {markup}"
        );
    }
    let (_server, url) = serve_page("<p>text, and &lt;x-planted&gt;</p>", &[]).await?;
    browser.open(&url).await?;
    browser.console_errors().await?;
    assert_harmless(&browser).await?;
    browser.close().await
}

/// For a browser, another port of the same host is the same site, so it sends the session cookie.
#[tokio::test]
async fn a_cross_site_form_is_rejected() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    let endpoint = fixture.endpoint(&fixture.hook("orders")).await?;
    let action = session.account_path(&format!("/webhooks/{}/disable", endpoint.id));
    let action = format!("http://{}/dashboard{action}", fixture.node.address());
    let page = format!("<form method=post action='{action}'><button>You won!</button></form>");
    let (_elsewhere, url) = serve_page(&page, &[]).await?;
    browser.open(&url).await?;
    browser.click("You won!").await?;
    browser.until("This form does not belong to your session").await?;
    ensure!(fixture.account.endpoint(&endpoint.id).await?.state == "enabled");
    session.visit("/webhooks").await?;
    browser.until("orders").await?;
    session.close().await
}

#[tokio::test]
async fn another_site_cannot_frame_the_dashboard() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let browser = &session.browser;
    let ours = format!("http://{}/dashboard", session.fixture.node.address());
    let (_elsewhere, url) = serve_page(&format!("<iframe src='{ours}'></iframe>"), &[]).await?;
    browser.open(&url).await?;
    let console_errors = browser.console_errors().await?.join(" ");
    ensure!(
        console_errors.contains("frame-ancestors"),
        "the browser did not refuse to frame the dashboard: {console_errors}"
    );
    session.close().await
}

/// Markup injected everywhere that text enters the system.
struct Injection {
    markup: &'static str,
    event_type: String,
    endpoint: Endpoint,
    event: String,
    delivery: String,
}

impl Injection {
    /// Injects every payload and waits until all deliveries have failed.
    async fn inject_all(session: &BrowserSession) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (number, markup) in PAYLOADS.into_iter().enumerate() {
            let injection = Self::inject(session, number, markup).await;
            all.push(injection.with_context(|| format!("inject {markup:?}"))?);
        }
        let is_disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
        for Self { endpoint, .. } in &all {
            let account = &session.fixture.account;
            let within = DISABLED_WITHIN;
            account.until_endpoint(&endpoint.id, "is disabled", within, is_disabled).await?;
        }
        Ok(all)
    }

    async fn inject(session: &BrowserSession, number: usize, markup: &'static str) -> Result<Self> {
        let (fixture, payload) = (&session.fixture, json!({markup: [markup]}));
        let event_type = format!("hostile.event_{number}");
        let schema = json!({"description": markup, "title": markup});
        let entry = json!({"description": markup, "example": payload, "schema": schema});
        fixture.operator.put_event_type(&event_type, &entry).await?;
        let keys = fixture.account.path("/api-keys");
        fixture.operator.api.post(&keys, &json!({"name": markup})).await?.succeeded()?;

        let (hook, header) = (fixture.hook(&event_type), printable_ascii(markup));
        hook.set_behaviour(Behaviour::Answer(Reply {
            status: 302,
            headers: vec![
                ("Content-Type".to_owned(), "text/html".to_owned()),
                ("Location".to_owned(), header.clone()),
                ("X-Injection".to_owned(), header.clone()),
            ],
            body: Bytes::copy_from_slice(markup.as_bytes()),
        }));
        let url = format!("{}?{}", hook.url(), url_safe(markup));
        let new = NewEndpoint::at(&url).named(markup).of_types(&[&event_type]);
        let endpoint = fixture.account.create(&new.header("X-Injection", &header)).await?;
        let event = fixture.account.publish(&event_type, &payload.to_string()).await?.id;
        hook.wait_for_ended(1, SOON).await?;
        let delivery = fixture.account.delivery_of(&event, &endpoint.id).await?.id;
        Ok(Self { markup, event_type, endpoint, event, delivery })
    }

    /// Checks every page that may show the markup.
    async fn check_pages(&self, session: &BrowserSession) -> Result<()> {
        let (fixture, browser) = (&session.fixture, &session.browser);
        let name = json!({"name": self.markup});
        fixture.operator.api.patch(&fixture.account.path(""), &name).await?.succeeded()?;
        for page in self.pages(session) {
            session.open(&page).await?;
            assert_harmless(browser).await.with_context(|| page.clone())?;
        }
        // The text is shown literally where it belongs.
        let (id, markup) = (&self.endpoint.id, self.markup);
        for page in ["/webhooks".to_owned(), format!("/webhooks/{id}")] {
            session.visit(&page).await?;
            browser.until(markup).await?;
        }
        session.visit(&format!("/webhooks/{id}/settings")).await?;
        ensure!(
            browser.value("Name").await? == markup,
            "the form does not contain the name as it was entered"
        );
        self.check_test_event(session).await
    }

    fn pages(&self, session: &BrowserSession) -> Vec<String> {
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
        .map(|page| session.account_path(&page))
        .into();
        pages.extend(["/accounts", "/cluster", "/<x-planted>"].map(str::to_owned));
        pages
    }

    /// Sends a test event with the markup and checks its result page.
    async fn check_test_event(&self, session: &BrowserSession) -> Result<()> {
        let (browser, markup) = (&session.browser, self.markup);
        let page = format!("/webhooks/{}/test?event_type={}", self.endpoint.id, self.event_type);
        session.visit(&page).await?;
        browser.click("Send test event").await?;
        browser.until("Result").await?;
        assert_harmless(browser).await?;
        browser.until(markup).await?;
        // Invalid input is shown again with its error.
        let mistake = format!("{{{markup}");
        browser.paste("Payload", &mistake).await?;
        browser.click("Send test event").await?;
        browser.until_error("Payload", "JSON").await?;
        ensure!(
            browser.value("Payload").await? == mistake,
            "the invalid payload was not kept in the form"
        );
        assert_harmless(browser).await
    }
}

/// Asserts that no markup was inserted into the page and no script ran. An open dialog would make
/// every browser command fail.
async fn assert_harmless(browser: &Browser) -> Result<()> {
    let text = browser.text().await?;
    ensure!(browser.count(MARKER).await? == 0, "injected markup became an element: {text}");
    ensure!(
        browser.run("return window.planted", vec![]).await? == Value::Null,
        "an injected script ran"
    );
    let handlers = "return [...document.querySelectorAll('*')].flatMap((element) => \
         [...element.attributes].map((a) => `${a.name}=${a.value}`)) \
         .filter((text) => /^on|^style=|^(href|action|formaction|hx-get)=\\s*javascript:/i.test(text))";
    let handlers = browser.run(handlers, vec![]).await?;
    ensure!(handlers == json!([]), "the page has inline handlers or styles: {handlers}");
    let console_errors = browser.console_errors().await?;
    ensure!(console_errors.is_empty(), "{console_errors:?}");
    Ok(())
}

/// The part of the markup that a header may contain.
fn printable_ascii(markup: &str) -> String {
    markup.chars().filter(|c| matches!(c, ' '..='~')).collect()
}

/// The part of the markup that a URL may contain unescaped.
fn url_safe(markup: &str) -> String {
    markup.chars().filter(|c| matches!(c, '!'..='~') && *c != '#').collect()
}
