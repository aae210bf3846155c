//! Accessibility checks with axe-core.

use std::fmt;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Browser;

/// Installed by `npm ci`.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/node_modules/axe-core/axe.min.js");
/// WCAG 2.1, levels A and AA.
const TAGS: [&str; 4] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];
const RUN: &str = "const [tags, done] = arguments; \
    axe.run(document, { runOnly: tags, resultTypes: ['violations'] }) \
       .then((results) => done({ violations: results.violations }), \
             (error) => done({ failed: String(error) }))";

#[derive(Debug, Deserialize)]
struct Report {
    failed: Option<String>,
    #[serde(default)]
    violations: Vec<Violation>,
}

/// A rule violated by the page.
#[derive(Debug, Deserialize)]
struct Violation {
    id: String,
    help: String,
    nodes: Vec<Node>,
}

/// An element that violates a rule.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    html: String,
    failure_summary: Option<String>,
}

impl Browser {
    /// Fails if the page violates a rule of WCAG 2.1 AA that axe can check.
    pub async fn accessible(&self) -> Result<()> {
        self.load_axe().await?;
        let report = self.client.execute_async(RUN, vec![json!(TAGS)]).await;
        let report: Report = serde_json::from_value(report.context("run axe")?)?;
        ensure!(report.failed.is_none(), "axe failed: {:?}", report.failed);
        let (url, violations) = (self.client.current_url().await?, report.violations);
        ensure!(violations.is_empty(), "{url} is not accessible:\n{}", lines(&violations));
        Ok(())
    }

    /// Loads axe into the page through WebDriver, which is exempt from its content security policy.
    async fn load_axe(&self) -> Result<()> {
        if self.run("return 'axe' in window", vec![]).await? == Value::Bool(true) {
            return Ok(());
        }
        let axe = tokio::fs::read_to_string(AXE).await;
        let axe = axe.context("read axe-core (run `npm ci` in tests/browser)")?;
        self.run(&axe, vec![]).await.map(|_| ())
    }
}

fn lines(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "- {}: {}", self.id, self.help)?;
        for node in &self.nodes {
            let why = node.failure_summary.as_deref().unwrap_or_default().replace('\n', " ");
            writeln!(f, "    {}\n      {why}", node.html)?;
        }
        Ok(())
    }
}
