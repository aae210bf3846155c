//! How a page is looked at, and pictures of it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::Browser;

/// Where the pictures are put, unless they are in the usual place.
const SCREENSHOTS: &str = "POSTRIDER_SCREENSHOTS";
/// The usual place.
const USUAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots");
/// The width of a window on a desk, and of a telephone.
const WIDE: u32 = 1280;
const NARROW: u32 = 390;
/// The height of the window; a picture is as high as the page.
const HEIGHT: u32 = 900;
/// The innermost elements that stand out of a page which is too wide.
const OVERFLOW: &str = "const page = document.documentElement; \
     if (page.scrollWidth <= innerWidth) return []; \
     const wide = (it) => it.getBoundingClientRect().right > innerWidth + scrollX; \
     return [...document.querySelectorAll('body *')] \
         .filter((it) => wide(it) && ![...it.children].some(wide)) \
         .map((it) => it.outerHTML.slice(0, 200))";
/// The highest picture.
const HIGHEST: u64 = 8_000;

/// How a page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The reader's colours.
    pub theme: Theme,
    /// The width of the window, in CSS pixels.
    pub width: u32,
}

/// The colours that a reader prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Look {
    /// On a desk.
    #[must_use]
    pub const fn wide(theme: Theme) -> Self {
        Self { theme, width: WIDE }
    }

    /// On a telephone.
    #[must_use]
    pub const fn narrow(theme: Theme) -> Self {
        Self { theme, width: NARROW }
    }

    /// Each in which a page must be usable.
    pub const ALL: [Self; 3] =
        [Self::wide(Theme::Light), Self::wide(Theme::Dark), Self::narrow(Theme::Light)];

    /// What is added to the name of a picture.
    fn suffix(self) -> String {
        let narrow = if self.width < WIDE { "-narrow" } else { "" };
        format!("{narrow}-{}", self.theme.name())
    }
}

impl Default for Look {
    fn default() -> Self {
        Self::wide(Theme::Light)
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
    /// Looks at pages so from now on.
    pub async fn look(&self, look: Look) -> Result<()> {
        let theme = json!({"name": "prefers-color-scheme", "value": look.theme.name()});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [theme]})).await?;
        self.size(look.width, HEIGHT.into()).await
    }

    /// Takes a picture of the whole page, for people to look at.
    pub async fn screenshot(&self, name: &str, look: Look) -> Result<PathBuf> {
        let folder = std::env::var_os(SCREENSHOTS).map_or_else(|| USUAL.into(), PathBuf::from);
        self.screenshot_in(&folder, name, look).await
    }

    /// The same in a folder of one's own.
    pub async fn screenshot_in(&self, folder: &Path, name: &str, look: Look) -> Result<PathBuf> {
        self.look(look).await?;
        let height = self.run("return document.documentElement.scrollHeight", vec![]).await?;
        let height = height.as_u64().unwrap_or_default().clamp(HEIGHT.into(), HIGHEST);
        self.size(look.width, height).await?;
        let picture = self.client.screenshot().await.context("take a picture")?;
        self.size(look.width, HEIGHT.into()).await?;
        write(folder, &format!("{name}{}.png", look.suffix()), &picture).await
    }

    /// What stands out of a page that is wider than its window, so that it must be pushed to and fro.
    pub async fn overflow(&self) -> Result<Vec<String>> {
        let wide = self.run(OVERFLOW, vec![]).await?;
        serde_json::from_value(wide).context("read what is too wide")
    }

    async fn size(&self, width: u32, height: u64) -> Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await
    }
}

async fn write(folder: &Path, name: &str, picture: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    tokio::fs::create_dir_all(folder).await.context("make the folder of the pictures")?;
    tokio::fs::write(&path, picture).await.with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
