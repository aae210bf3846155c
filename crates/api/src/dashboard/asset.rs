//! Static files, each at a URL with a hash of its content, so that browsers may cache it forever.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use http::Uri;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use maud::{Markup, html};
use sha2::{Digest, Sha256};

use crate::App;
use crate::web::extract::PathText;
use crate::web::problem::Problem;

/// The stylesheets of every page.
pub(crate) const STYLES: [&str; 3] = ["dashboard.css", "chart.css", "exchange.css"];
/// The scripts of every page. htmx is unmodified (Zero-Clause BSD).
pub(crate) const SCRIPTS: [&str; 2] = ["htmx.js", "dashboard.js"];

struct Asset {
    media_type: &'static str,
    bytes: &'static [u8],
    url: String,
}

static ASSETS: LazyLock<HashMap<&'static str, Asset>> = LazyLock::new(|| {
    const CSS: &str = "text/css; charset=utf-8";
    const JS: &str = "text/javascript; charset=utf-8";
    let files: [(&str, &str, &[u8]); 6] = [
        ("dashboard.css", CSS, include_bytes!("assets/dashboard.css")),
        ("chart.css", CSS, include_bytes!("assets/chart.css")),
        ("exchange.css", CSS, include_bytes!("assets/exchange.css")),
        ("htmx.js", JS, include_bytes!("assets/htmx-2.0.11.min.js")),
        ("dashboard.js", JS, include_bytes!("assets/dashboard.js")),
        ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ];
    let assets = files.map(|(name, media_type, bytes)| {
        let version = HEXLOWER.encode(&Sha256::digest(bytes)[..6]);
        let url = format!("/dashboard/assets/{version}/{name}");
        (name, Asset { media_type, bytes, url })
    });
    HashMap::from(assets)
});

/// The URL of a file.
///
/// # Panics
/// If there is no such file.
pub(crate) fn url(name: &str) -> &'static str {
    &ASSETS[name].url
}

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/dashboard/assets/{version}/{name}", get(file))
}

/// Serves a file. A URL with another hash gets this node's version, uncached: during a rolling
/// upgrade, a page from one node may load its files from a node of another version.
async fn file(uri: Uri, PathText(name): PathText) -> Result<Response, Problem> {
    let asset = ASSETS.get(name.as_str()).ok_or_else(|| Problem::not_found("file"))?;
    let is_current = uri.path() == asset.url;
    let cache_control = if is_current { "public, max-age=31536000, immutable" } else { "no-store" };
    let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, cache_control)];
    Ok((headers, asset.bytes).into_response())
}

/// The logo beside the product's name.
pub(crate) fn logo() -> Markup {
    html! { img.logo src=(url("icon.svg")) alt="" width="24" height="24"; }
}
