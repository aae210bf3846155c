//! Chromium's DevTools protocol and log, which WebDriver itself does not offer.

use anyhow::{Context, Result};
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::Browser;

/// The path of stylesheets and scripts.
const ASSETS: &str = "/assets/";

/// A chromedriver command, below the session's path.
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
    /// Errors in the browser's log since the last call: script errors, violations of the content
    /// security policy, failed requests.
    pub async fn console_errors(&self) -> Result<Vec<String>> {
        let log = Extension { path: "se/log", body: json!({"type": "browser"}) };
        let log = self.client.issue_cmd(log).await.context("read the browser's log")?;
        let entries: Vec<Entry> = serde_json::from_value(log).context("read the browser's log")?;
        Ok(entries.into_iter().filter(Entry::is_error).map(|entry| entry.message).collect())
    }

    /// Disables scripts from the next page on.
    pub async fn without_scripts(&self) -> Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await
    }

    /// Emulates a time zone.
    pub async fn in_zone(&self, zone: &str) -> Result<()> {
        self.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": zone})).await
    }

    /// Runs a command of the DevTools protocol.
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
    /// Pages with a 4xx status (an invalid form, a page that does not exist) are also logged. They
    /// may be what a test is about, unlike missing assets.
    fn is_error(&self) -> bool {
        let rejected = self.source == "network" && self.message.contains(" a status of 4");
        self.level == "SEVERE" && (!rejected || self.message.contains(ASSETS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_error(level: &str, source: &str, message: &str) -> bool {
        let owned = |text: &str| text.to_owned();
        Entry { level: owned(level), source: owned(source), message: owned(message) }.is_error()
    }

    #[test]
    fn a_4xx_page_is_no_error_but_a_missing_asset_is() {
        let rejected = "responded with a status of 422 (Unprocessable Entity)";
        let page = format!("http://127.0.0.1:1/dashboard/sign-in - {rejected}");
        assert!(!is_error("SEVERE", "network", &page));
        let asset = format!("http://127.0.0.1:1/dashboard/assets/dashboard.css - {rejected}");
        assert!(is_error("SEVERE", "network", &asset));
        assert!(is_error("SEVERE", "network", "responded with a status of 500 (Internal)"));
        assert!(is_error("SEVERE", "security", "Executing inline script violates the policy"));
        assert!(!is_error("INFO", "console-api", "hello"));
    }
}
