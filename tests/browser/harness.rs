//! The browser itself, tried on a page that is not ours.

use anyhow::Result;
use postrider_tests::browser::{Browser, Key, Look, Theme};

use crate::stage::served;

/// A page with a little of everything, some of it wrong.
const PAGE: &str = include_str!("harness.html");

#[tokio::test]
async fn uses_a_page_by_what_is_to_be_read_on_it() -> Result<()> {
    let (_receiver, url) = served(PAGE, &[]).await?;
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
async fn does_not_guess_which_of_two_is_meant() -> Result<()> {
    let (_receiver, url) = served(PAGE, &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    let error = browser.click("Eat").await.expect_err("there are two");
    assert!(format!("{error:#}").contains("2 of the action \"Eat\""), "{error:#}");
    browser.close().await
}

#[tokio::test]
async fn the_keyboard_reaches_a_form_and_enter_sends_it() -> Result<()> {
    let (_receiver, url) = served(PAGE, &[]).await?;
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
async fn a_script_that_the_policy_forbids_is_a_complaint() -> Result<()> {
    let page = format!("{PAGE}<script>document.title = 'Executed'</script>");
    let policy = [("Content-Security-Policy", "default-src 'none'; script-src 'self'")];
    let (_receiver, url) = served(&page, &policy).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    assert_eq!(browser.title().await?, "A page");
    let error = browser.close().await.expect_err("a script was forbidden");
    assert!(error.to_string().contains("Content Security Policy"), "{error}");
    Ok(())
}

#[tokio::test]
async fn scripts_can_be_switched_off() -> Result<()> {
    let page = format!("{PAGE}<script>document.title = 'Executed'</script>");
    let (_receiver, url) = served(&page, &[]).await?;
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
async fn an_inaccessible_page_is_found_also_under_a_policy() -> Result<()> {
    let policy = [("Content-Security-Policy", "default-src 'none'; style-src 'self'")];
    let (_receiver, good) = served(PAGE, &policy).await?;
    let bad = PAGE.replace("<label for=\"kind\">Kind</label>", "Kind");
    let (_other, bad) = served(&bad, &policy).await?;
    let browser = Browser::start().await?;
    browser.open(&good).await?;
    browser.accessible().await?;
    browser.open(&bad).await?;
    let error = browser.accessible().await.expect_err("a list has no label");
    assert!(error.to_string().contains("select-name"), "{error}");
    browser.close().await
}

#[tokio::test]
async fn takes_pictures_in_both_themes_and_widths() -> Result<()> {
    let style = "<style>html { color-scheme: light dark } main { min-width: 600px }</style>";
    let (_receiver, url) = served(&format!("{PAGE}{style}"), &[]).await?;
    let browser = Browser::start().await?;
    browser.open(&url).await?;
    let folder = tempfile::tempdir()?;
    let mut pictures = Vec::new();
    for look in Look::ALL {
        let path = browser.screenshot_in(folder.path(), "page", look).await?;
        pictures.push(std::fs::read(path)?);
    }
    assert!(browser.overflow().await?.len() > 1, "600 do not fit in 390");
    browser.look(Look::wide(Theme::Light)).await?;
    assert!(browser.overflow().await?.is_empty());
    for (n, picture) in pictures.iter().enumerate() {
        assert!(picture.starts_with(b"\x89PNG"));
        assert!(!pictures[..n].contains(picture), "{n} is like another");
    }
    browser.close().await
}
