//! Tests of the browser driver, on a page that is not the dashboard.

use anyhow::Result;
use postrider_tests::browser::{Browser, Key, Theme, Viewport};

use crate::session::serve_page;

/// A page with every kind of control, including ambiguous ones.
const PAGE: &str = include_str!("driver.html");

#[tokio::test]
async fn controls_are_found_by_their_visible_text() -> Result<()> {
    let (_receiver, url) = serve_page(PAGE, &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    browser.until("a page").await?;
    assert!(!browser.shows("Hidden words").await?);
    browser.click("More").await?;
    browser.until("Hidden words").await?;

    browser.fill("Name", "new").await?;
    browser.choose("Kind", "two").await?;
    browser.tick("Switched on").await?;
    browser.tick("Also").await?;
    browser.untick("Also").await?;
    assert_eq!(browser.value("Name").await?, "new");
    browser.click("Save").await?;
    assert_eq!(browser.query().await?, "name=new&kind=two&on=on");

    browser.click_near("Pear", "Eat").await?;
    assert_eq!(browser.query().await?, "eat=pear");
    browser.click("Settings").await?;
    assert_eq!(browser.query().await?, "in=main");
    browser.close().await
}

#[tokio::test]
async fn an_ambiguous_control_is_an_error() -> Result<()> {
    let (_receiver, url) = serve_page(PAGE, &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    let error = browser.click("Eat").await.expect_err("two actions have this name");
    assert!(format!("{error:#}").contains("2 of the action \"Eat\""), "{error:#}");
    browser.close().await
}

#[tokio::test]
async fn tab_reaches_a_form_and_enter_submits_it() -> Result<()> {
    let (_receiver, url) = serve_page(PAGE, &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    browser.press(Key::Tab).await?;
    let link = browser.focus().await?;
    assert_eq!((link.tag.as_str(), link.name.as_str(), link.shown), ("a", "Settings", true));
    browser.press(Key::Tab).await?;
    browser.type_in("typed").await?;
    browser.press(Key::Enter).await?;
    assert!(browser.query().await?.contains("typed"), "{}", browser.query().await?);
    browser.close().await
}

#[tokio::test]
async fn a_script_blocked_by_the_csp_is_reported() -> Result<()> {
    let page = format!("{PAGE}<script>document.title = 'Executed'</script>");
    let policy = [("Content-Security-Policy", "default-src 'none'; script-src 'self'")];
    let (_receiver, url) = serve_page(&page, &policy).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    assert_eq!(browser.title().await?, "A page");
    let error = browser.close().await.expect_err("the policy blocks the script");
    assert!(error.to_string().contains("Content Security Policy"), "{error}");
    Ok(())
}

#[tokio::test]
async fn scripts_can_be_disabled() -> Result<()> {
    let page = format!("{PAGE}<script>document.title = 'Executed'</script>");
    let (_receiver, url) = serve_page(&page, &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    assert_eq!(browser.title().await?, "Executed");
    browser.without_scripts().await?;
    browser.open(&url).await?;
    assert_eq!(browser.title().await?, "A page");
    browser.until("a page").await?;
    browser.click_near("Apple", "Eat").await?;
    assert_eq!(browser.query().await?, "eat=apple");
    browser.close().await
}

#[tokio::test]
async fn accessibility_problems_are_found_under_a_csp() -> Result<()> {
    let policy = [("Content-Security-Policy", "default-src 'none'; style-src 'self'")];
    let (_receiver, good) = serve_page(PAGE, &policy).await?;
    let bad = PAGE.replace("<label for=\"kind\">Kind</label>", "Kind");
    let (_other, bad) = serve_page(&bad, &policy).await?;
    let browser = Browser::start().await?;
    browser.open(&good).await?;
    browser.accessible().await?;
    browser.open(&bad).await?;
    let error = browser.accessible().await.expect_err("the select has no label");
    assert!(error.to_string().contains("select-name"), "{error}");
    browser.close().await
}

#[tokio::test]
async fn screenshots_are_taken_in_both_themes_and_widths() -> Result<()> {
    let style = "<style>html { color-scheme: light dark } main { min-width: 600px }</style>";
    let (_receiver, url) = serve_page(&format!("{PAGE}{style}"), &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    let folder = tempfile::tempdir()?;
    let mut screenshots = Vec::new();
    for viewport in Viewport::ALL {
        let path = browser.screenshot_in(folder.path(), "page", viewport).await?;
        screenshots.push(std::fs::read(path)?);
    }
    assert!(
        browser.overflow().await?.len() > 1,
        "content of 600 px must overflow a page of 390 px"
    );
    browser.emulate(Viewport::desktop(Theme::Light)).await?;
    assert!(browser.overflow().await?.is_empty());
    for (n, screenshot) in screenshots.iter().enumerate() {
        assert!(screenshot.starts_with(b"\x89PNG"));
        assert!(!screenshots[..n].contains(screenshot), "screenshot {n} equals an earlier one");
    }
    browser.close().await
}
