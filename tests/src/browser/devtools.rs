//! What WebDriver itself does not offer: Chromium's own protocol, and its log.

use anyhow::{Context, Result};
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::Browser;

/// The part of a page's address that leads to its stylesheet and its scripts.
const ASSETS: &str = "/assets/";

/// A command of chromedriver's own, below the session.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

/// A line of the browser's log.
#[derive(Debug, Deserialize)]
struct Entry {
    level: String,
    source: String,
    message: String,
}

impl Browser {
    /// What the browser complained of since it was last asked: errors of scripts, what the page's
    /// policy forbade, what could not be loaded.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let log = Extension { path: "se/log", body: json!({"type": "browser"}) };
        let log = self.client.issue_cmd(log).await.context("read the browser's log")?;
        let entries: Vec<Entry> = serde_json::from_value(log).context("read the browser's log")?;
        Ok(entries.into_iter().filter(Entry::is_grave).map(|entry| entry.message).collect())
    }

    /// From the next page on, scripts of pages are not run.
    pub async fn without_scripts(&self) -> Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await
    }

    /// Reads as if in this time zone.
    pub async fn in_zone(&self, zone: &str) -> Result<()> {
        self.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": zone})).await
    }

    /// A command of Chromium's protocol for developers' tools.
    pub(super) async fn devtools(&self, command: &str, parameters: Value) -> Result<()> {
        let body = json!({"cmd": command, "params": parameters});
        let extension = Extension { path: "goog/cdp/execute", body };
        self.client.issue_cmd(extension).await.with_context(|| command.to_owned())?;
        Ok(())
    }
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

impl Entry {
    /// A page that is answered with an error (a form with a mistake in it, a page that does not
    /// exist) is logged too, and may well be what a test is about; a missing part of a page is not.
    fn is_grave(&self) -> bool {
        let refused = self.source == "network" && self.message.contains(" a status of 4");
        self.level == "SEVERE" && (!refused || self.message.contains(ASSETS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_grave(level: &str, source: &str, message: &str) -> bool {
        let owned = |text: &str| text.to_owned();
        Entry { level: owned(level), source: owned(source), message: owned(message) }.is_grave()
    }

    #[test]
    fn a_refused_page_is_no_complaint_but_a_missing_part_is() {
        let refused = "responded with a status of 422 (Unprocessable Entity)";
        let page = format!("http://127.0.0.1:1/dashboard/sign-in - {refused}");
        assert!(!is_grave("SEVERE", "network", &page));
        let part = format!("http://127.0.0.1:1/dashboard/assets/dashboard.css - {refused}");
        assert!(is_grave("SEVERE", "network", &part));
        assert!(is_grave("SEVERE", "network", "responded with a status of 500 (Internal)"));
        assert!(is_grave("SEVERE", "security", "Executing inline script violates the policy"));
        assert!(!is_grave("INFO", "console-api", "hello"));
    }
}
