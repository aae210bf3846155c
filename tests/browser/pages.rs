//! Pictures of the pages, for people to look at.

use anyhow::{Result, ensure};
use postrider_tests::browser::{Browser, Look};

use crate::site::{Page, Site, operators_pages, send_a_test};
use crate::stage::Stage;

#[tokio::test]
async fn of_the_account() -> Result<()> {
    let mut stage = Stage::of_the_account().await?;
    let site = Site::furnish(&mut stage).await?;
    take(&stage, site.pages(&stage)).await?;
    send_a_test(&stage, &site).await?;
    pictures(&stage.browser, "test-event-sent").await?;
    stage.close().await
}

#[tokio::test]
async fn of_the_operator() -> Result<()> {
    let stage = Stage::start().await?;
    stage.go("/sign-in").await?;
    pictures(&stage.browser, "sign-in").await?;
    stage.sign_in_as_operator().await?;
    take(&stage, operators_pages(&stage)).await?;
    stage.close().await
}

async fn take(stage: &Stage, pages: Vec<Page>) -> Result<()> {
    for (name, page) in pages {
        stage.find(name, &page).await?;
        pictures(&stage.browser, name).await?;
    }
    Ok(())
}

/// Pictures of the page as it is now. It must fit, also on a telephone.
async fn pictures(browser: &Browser, name: &str) -> Result<()> {
    for look in Look::ALL {
        browser.screenshot(name, look).await?;
        let overflow = browser.overflow().await?;
        ensure!(overflow.is_empty(), "{name} is wider than {}: {overflow:#?}", look.width);
    }
    Ok(())
}
