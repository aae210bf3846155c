//! A real browser, driven as a person would: by what is to be read on a page, never by its ids and
//! classes.
//!
//! ```text
//!   test ──▶ Browser ──WebDriver──▶ chromedriver ──▶ Chromium ──HTTP──▶ Node
//!               │                   (a process of this browser's own)
//!               ├─ find      labels, buttons and links by their names
//!               ├─ devtools  the browser's log, its zone, its scripts
//!               ├─ look      colours, width, screenshots
//!               └─ axe       what stands in the way of some readers
//! ```
//!
//! [`Browser::close`] ends a test: whatever the browser complained of, such as a script that the
//! page's policy forbids, fails it.

mod axe;
mod devtools;
mod driver;
mod find;
mod look;

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
use find::{Kind, Wanted};
pub use look::{Look, Theme};

/// How long a page may take to show what it is asked for, on a busy machine.
pub const SHOWN_WITHIN: Duration = seconds(10);
/// How often a control is looked for anew because the page put another in its place.
const TRIES: usize = 5;
/// The visible text of a page.
const TEXT: &str = "return document.body ? document.body.innerText : ''";
/// What a field is described by, as far as it says what is wrong.
const ERROR: &str = "return (arguments[0].getAttribute('aria-describedby') ?? '').split(' ') \
     .filter((id) => id.endsWith('-error')) \
     .map((id) => document.getElementById(id)?.innerText).join(' ')";
/// What has the focus.
const FOCUS: &str = include_str!("browser/focus.js");

/// A browser with a profile of its own, and one window.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    // Dropped in this order: the processes end before their files.
    _driver: Driver,
    _home: TempDir,
}

/// What has the focus of the keyboard.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Focus {
    /// The element's kind, such as `a` or `input`.
    pub tag: String,
    /// What it is called.
    pub name: String,
    /// Whether a reader can see that it has the focus.
    pub shown: bool,
}

impl Browser {
    /// Starts a browser.
    pub async fn start() -> Result<Self> {
        let home = tempfile::tempdir().context("make the browser's home")?;
        let driver = Driver::start(home.path()).await?;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(home.path()))
            .connect(driver.url())
            .await
            .context("start the browser")?;
        let browser = Self { client, _driver: driver, _home: home };
        browser.look(Look::default()).await?;
        Ok(browser)
    }

    /// Ends a test: fails if the browser had anything to complain of.
    pub async fn close(self) -> Result<()> {
        let complaints = self.complaints().await?;
        self.client.clone().close().await.context("close the browser")?;
        ensure!(complaints.is_empty(), "the browser complained: {complaints:#?}");
        Ok(())
    }

    /// Goes to an address.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.with_context(|| format!("open {url}"))
    }

    /// Asks for the page again.
    pub async fn reload(&self) -> Result<()> {
        self.client.refresh().await.context("reload the page")
    }

    /// Where it is: the path of the address, without its query.
    pub async fn path(&self) -> Result<String> {
        Ok(self.client.current_url().await?.path().to_owned())
    }

    /// The query of the address.
    pub async fn query(&self) -> Result<String> {
        Ok(self.client.current_url().await?.query().unwrap_or_default().to_owned())
    }

    /// The page's title.
    pub async fn title(&self) -> Result<String> {
        self.client.title().await.context("read the page's title")
    }

    /// All text that is to be seen, with single spaces.
    pub async fn text(&self) -> Result<String> {
        let text = self.run(TEXT, vec![]).await?;
        Ok(plain(text.as_str().unwrap_or_default()))
    }

    /// Whether a text is to be seen, in any case of letters.
    pub async fn shows(&self, text: &str) -> Result<bool> {
        Ok(contains(&self.text().await?, text))
    }

    /// Waits until a text is to be seen.
    pub async fn until(&self, text: &str) -> Result<()> {
        self.until_within(text, SHOWN_WITHIN).await
    }

    /// The same with a time of one's own, for what takes its time.
    pub async fn until_within(&self, text: &str, within: Duration) -> Result<()> {
        let shown = async || Ok(self.shows(text).await?.then_some(()));
        let waited = wait::until(&format!("the page shows {text:?}"), within, shown).await;
        self.with_page(waited).await
    }

    /// Waits until a text is no longer to be seen.
    pub async fn until_gone(&self, text: &str) -> Result<()> {
        let gone = async || Ok((!self.shows(text).await?).then_some(()));
        let what = format!("the page no longer shows {text:?}");
        let waited = wait::until(&what, SHOWN_WITHIN, gone).await;
        self.with_page(waited).await
    }

    /// Waits until there is a link whose address ends so: its text may be a time, or nothing but an id.
    pub async fn until_link(&self, end: &str) -> Result<()> {
        let link = format!("main a[href$='{end}']");
        let there = async || Ok((self.count(&link).await? > 0).then_some(()));
        let what = format!("the page links to {end:?}");
        let waited = wait::until(&what, SHOWN_WITHIN, there).await;
        self.with_page(waited).await
    }

    /// Clicks on what is called `name`: a button, a link, a summary.
    pub async fn click(&self, name: &str) -> Result<()> {
        self.use_found(Wanted::new(Kind::Action, name), async |found| found.click().await).await
    }

    /// The same where there are several: the one that stands with the text `near`.
    pub async fn click_near(&self, near: &str, name: &str) -> Result<()> {
        let wanted = Wanted::new(Kind::Action, name).near(near);
        self.use_found(wanted, async |found| found.click().await).await
    }

    /// Whether there is a button or link called `name`.
    pub async fn offers(&self, name: &str) -> Result<bool> {
        Ok(!find::all(&self.client, &Wanted::new(Kind::Action, name)).await?.is_empty())
    }

    /// Writes into the field that is labelled so, in place of what it holds.
    pub async fn fill(&self, label: &str, text: &str) -> Result<()> {
        let write = async |field: Element| {
            field.clear().await?;
            field.send_keys(text).await
        };
        self.use_found(Wanted::new(Kind::Field, label), write).await
    }

    /// Puts text into the field at once, as by pasting: also what cannot be typed.
    pub async fn paste(&self, label: &str, text: &str) -> Result<()> {
        let paste = async |field: Element| {
            let script = "arguments[0].value = arguments[1]; \
                 arguments[0].dispatchEvent(new Event('input', { bubbles: true }))";
            let arguments = vec![serde_json::to_value(&field)?, Value::from(text)];
            self.client.execute(script, arguments).await.map(|_| ())
        };
        self.use_found(Wanted::new(Kind::Field, label), paste).await
    }

    /// Chooses an option of the list that is labelled so.
    pub async fn choose(&self, label: &str, option: &str) -> Result<()> {
        let choose = async |field: Element| field.select_by_label(option).await;
        self.use_found(Wanted::new(Kind::Field, label), choose).await
    }

    /// Ticks a box, turns a switch on, chooses one of several: unless it is so already.
    pub async fn tick(&self, label: &str) -> Result<()> {
        self.set(label, true).await
    }

    /// Takes the tick away, unless there is none.
    pub async fn untick(&self, label: &str) -> Result<()> {
        self.set(label, false).await
    }

    /// What a field holds.
    pub async fn value(&self, label: &str) -> Result<String> {
        let read = async |field: Element| field.prop("value").await;
        let value = self.use_found(Wanted::new(Kind::Field, label), read).await?;
        Ok(value.unwrap_or_default())
    }

    /// Waits until this is said to be wrong with a field; an empty text is no error at all.
    pub async fn until_error(&self, label: &str, text: &str) -> Result<()> {
        let said = async || {
            let error = self.error(label).await?;
            let fits = if text.is_empty() { error.is_empty() } else { contains(&error, text) };
            Ok(fits.then_some(()))
        };
        let what = format!("the error of {label:?} is {text:?}");
        let waited = wait::until(&what, SHOWN_WITHIN, said).await;
        self.with_page(waited).await
    }

    /// What is wrong with a field, as it is read out together with the field.
    pub async fn error(&self, label: &str) -> Result<String> {
        let read = async |field: Element| {
            self.client.execute(ERROR, vec![serde_json::to_value(&field)?]).await
        };
        let error = self.use_found(Wanted::new(Kind::Field, label), read).await?;
        Ok(plain(error.as_str().unwrap_or_default()))
    }

    /// Whether a box is ticked.
    pub async fn is_ticked(&self, label: &str) -> Result<bool> {
        let read = async |field: Element| field.is_selected().await;
        self.use_found(Wanted::new(Kind::Field, label), read).await
    }

    /// Presses a key, wherever the focus is.
    pub async fn press(&self, key: Key) -> Result<()> {
        self.type_in(&String::from(char::from(key))).await
    }

    /// Types, wherever the focus is.
    pub async fn type_in(&self, text: &str) -> Result<()> {
        self.client.active_element().await?.send_keys(text).await.context("press a key")
    }

    /// What has the focus.
    pub async fn focus(&self) -> Result<Focus> {
        let focus = self.run(FOCUS, vec![]).await?;
        serde_json::from_value(focus).context("read what has the focus")
    }

    /// The page as HTML, as it is now.
    pub async fn source(&self) -> Result<String> {
        self.client.source().await.context("read the page's source")
    }

    /// The elements that a CSS selector finds: for tests of what must *not* be there.
    pub async fn count(&self, selector: &str) -> Result<usize> {
        let count = "return document.querySelectorAll(arguments[0]).length";
        let count = self.run(count, vec![Value::from(selector)]).await?;
        Ok(count.as_u64().unwrap_or_default().try_into()?)
    }

    /// Runs a script in the page, which its policy does not concern.
    pub async fn run(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        self.client.execute(script, arguments).await.context("run a script in the page")
    }

    async fn set(&self, label: &str, ticked: bool) -> Result<()> {
        if self.is_ticked(label).await? == ticked {
            return Ok(());
        }
        // A switch may be drawn by its label, with the box itself out of sight.
        self.use_found(Wanted::new(Kind::Label, label), async |found| found.click().await).await?;
        ensure!(self.is_ticked(label).await? == ticked, "{label:?} did not change");
        Ok(())
    }

    /// Finds something and does something with it; again if the page was changed in between.
    async fn use_found<T>(
        &self,
        wanted: Wanted<'_>,
        act: impl AsyncFn(Element) -> Result<T, CmdError>,
    ) -> Result<T> {
        let mut tries = 1;
        loop {
            let found = find::one(&self.client, &wanted).await;
            let found = self.with_page(found).await?;
            match act(found).await {
                Err(CmdError::Standard(error)) if passes(&error.error) && tries < TRIES => {
                    tries += 1;
                }
                done => return self.with_page(done.with_context(|| format!("use {wanted}"))).await,
            }
        }
    }

    /// Adds to an error what the page showed.
    async fn with_page<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else { return result };
        let url = self.client.current_url().await.map(String::from).unwrap_or_default();
        let text = self.text().await.unwrap_or_default();
        Err(error.context(format!("at {url}, which showed: {text}")))
    }
}

/// Whether an element was replaced while it was about to be used.
fn passes(error: &ErrorStatus) -> bool {
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
        // Nothing that a page asks of another host gets out.
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
        _ => unreachable!("it is written as an object"),
    }
}

/// Single spaces instead of any others.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `text` is part of `whole`. Stylesheets may change the case of letters.
fn contains(whole: &str, text: &str) -> bool {
    whole.to_lowercase().contains(&plain(text).to_lowercase())
}
