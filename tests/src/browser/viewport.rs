//! Emulated viewports and screenshots.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::Browser;

/// Overrides the directory of screenshots.
const SCREENSHOTS: &str = "POSTRIDER_SCREENSHOTS";
/// The default directory of screenshots.
const DEFAULT_DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots");
/// Window widths on a desktop and on a phone.
const WIDE: u32 = 1280;
const NARROW: u32 = 390;
/// The window height. A screenshot is as high as the page.
const HEIGHT: u32 = 900;
/// The innermost elements that overflow a page horizontally.
const OVERFLOW: &str = "const page = document.documentElement; \
     if (page.scrollWidth <= innerWidth) return []; \
     const wide = (it) => it.getBoundingClientRect().right > innerWidth + scrollX; \
     return [...document.querySelectorAll('body *')] \
         .filter((it) => wide(it) && ![...it.children].some(wide)) \
         .map((it) => it.outerHTML.slice(0, 200))";
/// The largest height of a screenshot.
const MAX_HEIGHT: u64 = 8_000;

/// The emulated viewport and colour scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewport {
    pub theme: Theme,
    /// In CSS pixels.
    pub width: u32,
}

/// The preferred colour scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

impl Viewport {
    /// A desktop window.
    #[must_use]
    pub const fn desktop(theme: Theme) -> Self {
        Self { theme, width: WIDE }
    }

    /// A phone.
    #[must_use]
    pub const fn phone(theme: Theme) -> Self {
        Self { theme, width: NARROW }
    }

    /// All viewports in which a page must be usable.
    pub const ALL: [Self; 3] =
        [Self::desktop(Theme::Light), Self::desktop(Theme::Dark), Self::phone(Theme::Light)];

    /// The suffix of a screenshot's name.
    fn suffix(self) -> String {
        let narrow = if self.width < WIDE { "-narrow" } else { "" };
        format!("{narrow}-{}", self.theme.name())
    }
}

impl Default for Viewport {
    fn default() -> Self {
        Self::desktop(Theme::Light)
    }
}

impl Theme {
    fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

impl Browser {
    /// Emulates this viewport from now on.
    pub async fn emulate(&self, viewport: Viewport) -> Result<()> {
        let theme = json!({"name": "prefers-color-scheme", "value": viewport.theme.name()});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [theme]})).await?;
        self.size(viewport.width, HEIGHT.into()).await
    }

    /// Takes a screenshot of the whole page.
    pub async fn screenshot(&self, name: &str, viewport: Viewport) -> Result<PathBuf> {
        let directory =
            std::env::var_os(SCREENSHOTS).map_or_else(|| DEFAULT_DIRECTORY.into(), PathBuf::from);
        self.screenshot_in(&directory, name, viewport).await
    }

    /// Like [`Self::screenshot`], in this directory.
    pub async fn screenshot_in(
        &self,
        directory: &Path,
        name: &str,
        viewport: Viewport,
    ) -> Result<PathBuf> {
        self.emulate(viewport).await?;
        let height = self.run("return document.documentElement.scrollHeight", vec![]).await?;
        let height = height.as_u64().unwrap_or_default().clamp(HEIGHT.into(), MAX_HEIGHT);
        self.size(viewport.width, height).await?;
        let png = self.client.screenshot().await.context("take a screenshot")?;
        self.size(viewport.width, HEIGHT.into()).await?;
        write(directory, &format!("{name}{}.png", viewport.suffix()), &png).await
    }

    /// Elements that make the page wider than its window, so that it must scroll horizontally.
    pub async fn overflow(&self) -> Result<Vec<String>> {
        let wide = self.run(OVERFLOW, vec![]).await?;
        serde_json::from_value(wide).context("read the overflowing elements")
    }

    async fn size(&self, width: u32, height: u64) -> Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await
    }
}

async fn write(directory: &Path, name: &str, png: &[u8]) -> Result<PathBuf> {
    let path = directory.join(name);
    tokio::fs::create_dir_all(directory).await.context("create the screenshot directory")?;
    tokio::fs::write(&path, png).await.with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
