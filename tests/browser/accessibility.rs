//! Accessibility: checks by axe, use with the keyboard alone, and use without scripts.

use anyhow::{Context, Result};
use postrider_tests::browser::{Focus, Key, Viewport};

use crate::sample_account::{Page, SampleAccount, empty_pages, operator_pages, send_test_event};
use crate::session::BrowserSession;

/// The maximum number of presses of the Tab key that may be needed to reach a control.
const MAX_TABS: usize = 40;

#[tokio::test]
async fn account_pages_meet_wcag_2_1_aa() -> Result<()> {
    let mut session = BrowserSession::start().await?;
    let mut violations = Violations::default();
    session.open("/sign-in").await?;
    violations.check(&session, "sign-in").await?;
    session.sign_in().await?;
    violations.visit(&session, empty_pages(&session)).await?;
    let sample = SampleAccount::create(&mut session).await?;
    violations.visit(&session, sample.pages(&session)).await?;
    send_test_event(&session, &sample).await?;
    violations.check(&session, "test-event-sent").await?;
    // A form with errors.
    session.visit("/webhooks/new").await?;
    session.browser.click("Create webhook").await?;
    session.browser.until_error("Name", "must").await?;
    violations.check(&session, "webhook-new-wrong").await?;
    violations.assert_none()?;
    session.close().await
}

#[tokio::test]
async fn operator_pages_meet_wcag_2_1_aa() -> Result<()> {
    let session = BrowserSession::start().await?;
    session.sign_in_as_operator().await?;
    let mut violations = Violations::default();
    violations.visit(&session, operator_pages(&session)).await?;
    violations.assert_none()?;
    session.close().await
}

/// Accessibility violations, collected over all pages.
#[derive(Default)]
struct Violations(Vec<String>);

impl Violations {
    async fn visit(&mut self, session: &BrowserSession, pages: Vec<Page>) -> Result<()> {
        for (name, page) in pages {
            match session.open_page(name, &page).await {
                Ok(()) => self.check(session, name).await?,
                Err(error) => self.0.push(format!("{error:#}")),
            }
        }
        Ok(())
    }

    /// Checks the current page in every theme and width.
    async fn check(&mut self, session: &BrowserSession, name: &str) -> Result<()> {
        for viewport in Viewport::ALL {
            session.browser.emulate(viewport).await?;
            if let Err(error) = session.browser.accessible().await {
                self.0.push(format!("{name}, {viewport:?}: {error:#}"));
            }
        }
        session.browser.emulate(Viewport::default()).await
    }

    fn assert_none(&self) -> Result<()> {
        anyhow::ensure!(
            self.0.is_empty(),
            "{} accessibility violations:\n{}",
            self.0.len(),
            self.0.join("\n")
        );
        Ok(())
    }
}

#[tokio::test]
async fn the_dashboard_works_with_the_keyboard_alone() -> Result<()> {
    let session = BrowserSession::start().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    session.open("/sign-in").await?;
    browser.until("API key").await?;
    assert_eq!(
        browser.focus().await?.name,
        "API key",
        "the key field is not focused when the sign-in page opens"
    );
    browser.type_in(fixture.account.api.key().context("the account has a key")?).await?;
    browser.press(Key::Enter).await?;
    browser.until("No webhooks yet").await?;

    // The first control skips the navigation.
    browser.press(Key::Tab).await?;
    assert_eq!(browser.focus().await?.name, "Skip to content");
    browser.press(Key::Enter).await?;
    tab_to(&session, "New webhook").await?;
    browser.press(Key::Enter).await?;
    browser.until("Create webhook").await?;
    tab_to(&session, "Name").await?;
    browser.type_in("By keys").await?;
    tab_to(&session, "URL").await?;
    browser.type_in(&fixture.hook("keys").url()).await?;
    tab_to(&session, "order.created").await?;
    browser.type_in(" ").await?;
    tab_to(&session, "Create webhook").await?;
    browser.press(Key::Enter).await?;
    browser.until("Created.").await?;
    session.close().await
}

/// Presses Tab until the control called `name` has focus; the focus must be visible at each step.
async fn tab_to(session: &BrowserSession, name: &str) -> Result<Focus> {
    let mut passed = Vec::new();
    for _ in 0..MAX_TABS {
        session.browser.press(Key::Tab).await?;
        let focus = session.browser.focus().await?;
        anyhow::ensure!(focus.shown, "the focus on {focus:?} is not visible");
        if focus.name.starts_with(name) {
            return Ok(focus);
        }
        passed.push(focus.name);
    }
    anyhow::bail!("Tab does not reach {name:?}; it passed {passed:?}")
}

#[tokio::test]
async fn the_dashboard_works_without_scripts() -> Result<()> {
    let mut session = BrowserSession::start().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    browser.without_scripts().await?;
    session.sign_in().await?;
    browser.click("New webhook").await?;
    browser.fill("Name", "Plain").await?;
    browser.fill("URL", &fixture.hook("plain").url()).await?;
    browser.tick("All").await?;
    browser.click("Create webhook").await?;
    browser.until("Created.").await?;
    browser.click("Send test event").await?;
    browser.choose("Event type", "order.refunded").await?;
    browser.click("Load example").await?;
    assert!(browser.value("Payload").await?.contains("2.50"));
    browser.click("Send test event").await?;
    browser.until("Result").await?;
    browser.click("Webhooks").await?;
    browser.click("Plain").await?;
    browser.click("Disable").await?;
    browser.until("Disabled manually").await?;
    browser.click("Enable").await?;
    browser.until("Sending normally").await?;

    // Every page is complete without scripts.
    let sample = SampleAccount::create(&mut session).await?;
    let browser = &session.browser;
    for (name, page) in sample.pages(&session) {
        session.open_page(name, &page).await?;
        anyhow::ensure!(!browser.text().await?.contains("undefined"), "{name}");
        anyhow::ensure!(browser.count("main h1").await? == 1, "{name} has no heading");
    }
    session.visit("/webhooks").await?;
    browser.until("Warehouse").await?;
    session.close().await
}
