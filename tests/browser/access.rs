//! Whether everybody can use the pages: by what axe finds, with the keyboard alone, without scripts.

use anyhow::{Context, Result};
use postrider_tests::browser::{Focus, Key, Look};

use crate::site::{Page, Site, empty_pages, operators_pages, send_a_test};
use crate::stage::Stage;

/// How many steps of the Tab key a page may take to its form.
const MOST_TABS: usize = 40;

#[tokio::test]
async fn the_accounts_pages_satisfy_wcag_2_1_aa() -> Result<()> {
    let mut stage = Stage::start().await?;
    let mut broken = Broken::default();
    stage.go("/sign-in").await?;
    broken.look(&stage, "sign-in").await?;
    stage.sign_in().await?;
    broken.visit(&stage, empty_pages(&stage)).await?;
    let site = Site::furnish(&mut stage).await?;
    broken.visit(&stage, site.pages(&stage)).await?;
    send_a_test(&stage, &site).await?;
    broken.look(&stage, "test-event-sent").await?;
    // With its mistakes.
    stage.visit("/webhooks/new").await?;
    stage.browser.click("Create webhook").await?;
    stage.browser.until_error("Name", "must").await?;
    broken.look(&stage, "webhook-new-wrong").await?;
    broken.none()?;
    stage.close().await
}

#[tokio::test]
async fn the_operators_pages_satisfy_wcag_2_1_aa() -> Result<()> {
    let stage = Stage::start().await?;
    stage.sign_in_as_operator().await?;
    let mut broken = Broken::default();
    broken.visit(&stage, operators_pages(&stage)).await?;
    broken.none()?;
    stage.close().await
}

/// What is wrong, of all pages at once.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    async fn visit(&mut self, stage: &Stage, pages: Vec<Page>) -> Result<()> {
        for (name, page) in pages {
            match stage.find(name, &page).await {
                Ok(()) => self.look(stage, name).await?,
                Err(error) => self.0.push(format!("{error:#}")),
            }
        }
        Ok(())
    }

    /// The page as it is now, in every look.
    async fn look(&mut self, stage: &Stage, name: &str) -> Result<()> {
        for look in Look::ALL {
            stage.browser.look(look).await?;
            if let Err(error) = stage.browser.accessible().await {
                self.0.push(format!("{name}, {look:?}: {error:#}"));
            }
        }
        stage.browser.look(Look::default()).await
    }

    fn none(&self) -> Result<()> {
        anyhow::ensure!(self.0.is_empty(), "{} pages:\n{}", self.0.len(), self.0.join("\n"));
        Ok(())
    }
}

#[tokio::test]
async fn the_keyboard_is_enough() -> Result<()> {
    let stage = Stage::start().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    stage.go("/sign-in").await?;
    browser.until("API key").await?;
    assert_eq!(browser.focus().await?.name, "API key", "it is there to be filled in");
    browser.type_in(scene.account.api.key().context("a key")?).await?;
    browser.press(Key::Enter).await?;
    browser.until("No webhooks yet").await?;

    // First of all, a way past the navigation.
    browser.press(Key::Tab).await?;
    assert_eq!(browser.focus().await?.name, "Skip to the content");
    browser.press(Key::Enter).await?;
    tab_to(&stage, "New webhook").await?;
    browser.press(Key::Enter).await?;
    browser.until("Create webhook").await?;
    tab_to(&stage, "Name").await?;
    browser.type_in("By keys").await?;
    tab_to(&stage, "URL").await?;
    browser.type_in(&scene.hook("keys").url()).await?;
    tab_to(&stage, "order.created").await?;
    browser.type_in(" ").await?;
    tab_to(&stage, "Create webhook").await?;
    browser.press(Key::Enter).await?;
    browser.until("Created.").await?;
    stage.close().await
}

/// Goes on with the Tab key until something has the focus, which must be seen at each step.
async fn tab_to(stage: &Stage, name: &str) -> Result<Focus> {
    let mut passed = Vec::new();
    for _ in 0..MOST_TABS {
        stage.browser.press(Key::Tab).await?;
        let focus = stage.browser.focus().await?;
        anyhow::ensure!(focus.shown, "nobody sees that {focus:?} has the focus");
        if focus.name.starts_with(name) {
            return Ok(focus);
        }
        passed.push(focus.name);
    }
    anyhow::bail!("Tab does not lead to {name:?}, but along {passed:?}")
}

#[tokio::test]
async fn without_scripts_everything_is_there() -> Result<()> {
    let mut stage = Stage::start().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    browser.without_scripts().await?;
    stage.sign_in().await?;
    browser.click("New webhook").await?;
    browser.fill("Name", "Plain").await?;
    browser.fill("URL", &scene.hook("plain").url()).await?;
    browser.tick("All").await?;
    browser.click("Create webhook").await?;
    browser.until("Created.").await?;
    browser.click("Send test event").await?;
    browser.choose("Event type", "order.refunded").await?;
    browser.click("Show example").await?;
    assert!(browser.value("Payload").await?.contains("2.50"));
    browser.click("Send test event").await?;
    browser.until("Result").await?;
    browser.click("Webhooks").await?;
    browser.click("Plain").await?;
    browser.click("Disable").await?;
    browser.until("Disabled by hand").await?;
    browser.click("Enable").await?;
    browser.until("nothing is failing").await?;

    // Each page is read the same without them.
    let site = Site::furnish(&mut stage).await?;
    let browser = &stage.browser;
    for (name, page) in site.pages(&stage) {
        stage.find(name, &page).await?;
        anyhow::ensure!(!browser.text().await?.contains("undefined"), "{name}");
        anyhow::ensure!(browser.count("main h1").await? == 1, "{name} has no heading");
    }
    stage.visit("/webhooks").await?;
    browser.until("Warehouse").await?;
    stage.close().await
}
