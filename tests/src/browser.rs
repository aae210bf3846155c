//! A real browser, driven as by a user: by the visible text of a page, never by ids and classes.
//!
//! ```text
//!   test ──▶ Browser ──WebDriver──▶ chromedriver ──▶ Chromium ──HTTP──▶ Node
//!               │                   (one process per browser)
//!               ├─ find      labels, buttons and links by name
//!               ├─ devtools  the browser's log, time zone, scripts
//!               ├─ viewport  colour scheme, width, screenshots
//!               └─ axe       accessibility
//! ```
//!
//! [`Browser::close`] ends a test, and fails it if the browser logged errors, such as a script
//! blocked by the page's content security policy.

mod axe;
mod devtools;
mod driver;
mod find;
mod viewport;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fantoccini::elements::Element;
use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::wait::{self, seconds};
use driver::Driver;
pub use fantoccini::key::Key;
use find::{Kind, Locator};
pub use viewport::{Theme, Viewport};

/// The deadline for a page to show expected content, on a busy machine.
pub const SHOWN_WITHIN: Duration = seconds(10);
/// The maximum number of tries to use an element that the page keeps replacing.
const MAX_TRIES: usize = 5;
/// The visible text of a page.
const TEXT: &str = "return document.body ? document.body.innerText : ''";
/// The error message that describes a field.
const ERROR: &str = "return (arguments[0].getAttribute('aria-describedby') ?? '').split(' ') \
     .filter((id) => id.endsWith('-error')) \
     .map((id) => document.getElementById(id)?.innerText).join(' ')";
const FOCUS: &str = include_str!("browser/focus.js");

/// A browser with its own profile and one window.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    // Dropped in this order: the processes exit before their files are removed.
    _driver: Driver,
    _home: TempDir,
}

/// The element with the keyboard focus.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Focus {
    /// The tag, such as `a` or `input`.
    pub tag: String,
    /// The accessible name.
    pub name: String,
    /// Whether the focus is visible.
    pub shown: bool,
}

impl Browser {
    pub async fn start() -> Result<Self> {
        let home = tempfile::tempdir().context("create the browser's home directory")?;
        let driver = Driver::start(home.path()).await?;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(home.path()))
            .connect(driver.url())
            .await
            .context("start the browser")?;
        let browser = Self { client, _driver: driver, _home: home };
        browser.emulate(Viewport::default()).await?;
        Ok(browser)
    }

    /// Closes the browser; fails if it logged any errors.
    pub async fn close(self) -> Result<()> {
        let console_errors = self.console_errors().await?;
        self.client.clone().close().await.context("close the browser")?;
        ensure!(console_errors.is_empty(), "the browser logged errors: {console_errors:#?}");
        Ok(())
    }

    pub async fn open(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.with_context(|| format!("open {url}"))
    }

    pub async fn reload(&self) -> Result<()> {
        self.client.refresh().await.context("reload the page")
    }

    /// The path of the current URL, without the query.
    pub async fn path(&self) -> Result<String> {
        Ok(self.client.current_url().await?.path().to_owned())
    }

    /// The query of the current URL.
    pub async fn query(&self) -> Result<String> {
        Ok(self.client.current_url().await?.query().unwrap_or_default().to_owned())
    }

    pub async fn title(&self) -> Result<String> {
        self.client.title().await.context("read the page's title")
    }

    /// All visible text, with single spaces.
    pub async fn text(&self) -> Result<String> {
        let text = self.run(TEXT, vec![]).await?;
        Ok(normalize(text.as_str().unwrap_or_default()))
    }

    /// Whether a text is visible, ignoring case.
    pub async fn shows(&self, text: &str) -> Result<bool> {
        Ok(contains(&self.text().await?, text))
    }

    /// Waits until a text is visible.
    pub async fn until(&self, text: &str) -> Result<()> {
        self.until_within(text, SHOWN_WITHIN).await
    }

    /// Like [`Self::until`], with another deadline.
    pub async fn until_within(&self, text: &str, within: Duration) -> Result<()> {
        let shown = async || Ok(self.shows(text).await?.then_some(()));
        let waited = wait::until(&format!("the page shows {text:?}"), within, shown).await;
        self.with_page(waited).await
    }

    /// Waits until a text is no longer visible.
    pub async fn until_gone(&self, text: &str) -> Result<()> {
        let gone = async || Ok((!self.shows(text).await?).then_some(()));
        let what = format!("the page no longer shows {text:?}");
        let waited = wait::until(&what, SHOWN_WITHIN, gone).await;
        self.with_page(waited).await
    }

    /// Waits until the page has a link whose URL ends with `end`; its text may be a time or an id.
    pub async fn until_link(&self, end: &str) -> Result<()> {
        let link = format!("main a[href$='{end}']");
        let there = async || Ok((self.count(&link).await? > 0).then_some(()));
        let what = format!("the page links to {end:?}");
        let waited = wait::until(&what, SHOWN_WITHIN, there).await;
        self.with_page(waited).await
    }

    /// Clicks the button, link or summary with this name.
    pub async fn click(&self, name: &str) -> Result<()> {
        self.use_found(Locator::new(Kind::Action, name), async |found| found.click().await).await
    }

    /// Like [`Self::click`], for the element closest to the text `near`.
    pub async fn click_near(&self, near: &str, name: &str) -> Result<()> {
        let locator = Locator::new(Kind::Action, name).near(near);
        self.use_found(locator, async |found| found.click().await).await
    }

    /// Whether there is a button or link with this name.
    pub async fn offers(&self, name: &str) -> Result<bool> {
        Ok(!find::all(&self.client, &Locator::new(Kind::Action, name)).await?.is_empty())
    }

    /// Replaces the value of the field with this label by typing.
    pub async fn fill(&self, label: &str, text: &str) -> Result<()> {
        let write = async |field: Element| {
            field.clear().await?;
            field.send_keys(text).await
        };
        self.use_found(Locator::new(Kind::Field, label), write).await
    }

    /// Sets the value of a field at once, as pasting does, including text that cannot be typed.
    pub async fn paste(&self, label: &str, text: &str) -> Result<()> {
        let paste = async |field: Element| {
            let script = "arguments[0].value = arguments[1]; \
                 arguments[0].dispatchEvent(new Event('input', { bubbles: true }))";
            let arguments = vec![serde_json::to_value(&field)?, Value::from(text)];
            self.client.execute(script, arguments).await.map(|_| ())
        };
        self.use_found(Locator::new(Kind::Field, label), paste).await
    }

    /// Chooses an option of the list with this label.
    pub async fn choose(&self, label: &str, option: &str) -> Result<()> {
        let choose = async |field: Element| field.select_by_label(option).await;
        self.use_found(Locator::new(Kind::Field, label), choose).await
    }

    /// Ticks a checkbox, turns a switch on, or selects a radio button, unless it already is.
    pub async fn tick(&self, label: &str) -> Result<()> {
        self.set(label, true).await
    }

    /// Unticks a checkbox or turns a switch off, unless it already is.
    pub async fn untick(&self, label: &str) -> Result<()> {
        self.set(label, false).await
    }

    /// The value of a field.
    pub async fn value(&self, label: &str) -> Result<String> {
        let read = async |field: Element| field.prop("value").await;
        let value = self.use_found(Locator::new(Kind::Field, label), read).await?;
        Ok(value.unwrap_or_default())
    }

    /// Waits until a field has this error; an empty text means no error.
    pub async fn until_error(&self, label: &str, text: &str) -> Result<()> {
        let matches = async || {
            let error = self.error(label).await?;
            let found = if text.is_empty() { error.is_empty() } else { contains(&error, text) };
            Ok(found.then_some(()))
        };
        let what = format!("the error of {label:?} is {text:?}");
        let waited = wait::until(&what, SHOWN_WITHIN, matches).await;
        self.with_page(waited).await
    }

    /// The error of a field, from its accessible description.
    pub async fn error(&self, label: &str) -> Result<String> {
        let read = async |field: Element| {
            self.client.execute(ERROR, vec![serde_json::to_value(&field)?]).await
        };
        let error = self.use_found(Locator::new(Kind::Field, label), read).await?;
        Ok(normalize(error.as_str().unwrap_or_default()))
    }

    /// Whether a checkbox is ticked.
    pub async fn is_ticked(&self, label: &str) -> Result<bool> {
        let read = async |field: Element| field.is_selected().await;
        self.use_found(Locator::new(Kind::Field, label), read).await
    }

    /// Presses a key in the focused element.
    pub async fn press(&self, key: Key) -> Result<()> {
        self.type_in(&String::from(char::from(key))).await
    }

    /// Types into the focused element.
    pub async fn type_in(&self, text: &str) -> Result<()> {
        self.client.active_element().await?.send_keys(text).await.context("press a key")
    }

    pub async fn focus(&self) -> Result<Focus> {
        let focus = self.run(FOCUS, vec![]).await?;
        serde_json::from_value(focus).context("read what has the focus")
    }

    /// The current HTML of the page.
    pub async fn source(&self) -> Result<String> {
        self.client.source().await.context("read the page's source")
    }

    /// The number of elements matching a CSS selector, to check that elements are absent.
    pub async fn count(&self, selector: &str) -> Result<usize> {
        let count = "return document.querySelectorAll(arguments[0]).length";
        let count = self.run(count, vec![Value::from(selector)]).await?;
        Ok(count.as_u64().unwrap_or_default().try_into()?)
    }

    /// Runs a script in the page, exempt from its content security policy.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        self.client.execute(script, arguments).await.context("run a script in the page")
    }

    async fn set(&self, label: &str, ticked: bool) -> Result<()> {
        if self.is_ticked(label).await? == ticked {
            return Ok(());
        }
        // A switch may be drawn by its label, with the checkbox itself hidden.
        self.use_found(Locator::new(Kind::Label, label), async |found| found.click().await).await?;
        ensure!(self.is_ticked(label).await? == ticked, "{label:?} did not change");
        Ok(())
    }

    /// Finds an element and acts on it; retries if the page replaced it meanwhile.
    async fn use_found<T>(
        &self,
        locator: Locator<'_>,
        act: impl AsyncFn(Element) -> Result<T, CmdError>,
    ) -> Result<T> {
        let mut tries = 1;
        loop {
            let found = find::one(&self.client, &locator).await;
            let found = self.with_page(found).await?;
            match act(found).await {
                Err(CmdError::Standard(error))
                    if is_transient(&error.error) && tries < MAX_TRIES =>
                {
                    tries += 1;
                }
                done => {
                    return self.with_page(done.with_context(|| format!("use {locator}"))).await;
                }
            }
        }
    }

    /// Adds the page's URL and text to an error.
    async fn with_page<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else { return result };
        let url = self.client.current_url().await.map(String::from).unwrap_or_default();
        let text = self.text().await.unwrap_or_default();
        Err(error.context(format!("at {url}, which showed: {text}")))
    }
}

/// Whether an element was replaced before it could be used.
fn is_transient(error: &ErrorStatus) -> bool {
    matches!(
        error,
        ErrorStatus::StaleElementReference
            | ErrorStatus::ElementClickIntercepted
            | ErrorStatus::ElementNotInteractable
    )
}

fn capabilities(home: &Path) -> Map<String, Value> {
    let profile = format!("--user-data-dir={}", home.join("profile").display());
    let flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-breakpad",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-proxy-server",
        "--lang=en-US",
        "--force-prefers-reduced-motion",
        // No request to another host gets out.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        &profile,
    ];
    let all = json!({
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {"args": flags},
    });
    match all {
        Value::Object(all) => all,
        _ => unreachable!("the literal is an object"),
    }
}

/// Collapses whitespace to single spaces.
fn normalize(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `whole` contains `text`, ignoring case, which stylesheets may change.
fn contains(whole: &str, text: &str) -> bool {
    whole.to_lowercase().contains(&normalize(text).to_lowercase())
}
