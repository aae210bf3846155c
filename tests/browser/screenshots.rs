//! Screenshots of every page, for review, and a check that each page fits its width.

use anyhow::{Result, ensure};
use postrider_tests::browser::{Browser, Viewport};

use crate::sample_account::{Page, SampleAccount, operator_pages, send_test_event};
use crate::session::BrowserSession;

#[tokio::test]
async fn the_account_pages_fit_every_width() -> Result<()> {
    let mut session = BrowserSession::signed_in().await?;
    let sample = SampleAccount::create(&mut session).await?;
    screenshot_all(&session, sample.pages(&session)).await?;
    send_test_event(&session, &sample).await?;
    screenshot(&session.browser, "test-event-sent").await?;
    session.close().await
}

#[tokio::test]
async fn the_operator_pages_fit_every_width() -> Result<()> {
    let session = BrowserSession::start().await?;
    session.open("/sign-in").await?;
    screenshot(&session.browser, "sign-in").await?;
    session.sign_in_as_operator().await?;
    screenshot_all(&session, operator_pages(&session)).await?;
    session.close().await
}

async fn screenshot_all(session: &BrowserSession, pages: Vec<Page>) -> Result<()> {
    for (name, page) in pages {
        session.open_page(name, &page).await?;
        screenshot(&session.browser, name).await?;
    }
    Ok(())
}

/// Takes screenshots of the current page, which must fit every width, including a phone's.
async fn screenshot(browser: &Browser, name: &str) -> Result<()> {
    for viewport in Viewport::ALL {
        browser.screenshot(name, viewport).await?;
        let overflow = browser.overflow().await?;
        ensure!(overflow.is_empty(), "{name} is wider than {}: {overflow:#?}", viewport.width);
    }
    Ok(())
}
