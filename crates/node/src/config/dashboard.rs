//! `[dashboard]`: how people reach the web pages.

use postrider_api::{Dashboard, Origin};
use url::Url;

use super::reader::Reader;

pub(super) fn build(reader: &mut Reader) -> Dashboard {
    let public_url = reader.option("dashboard", "public_url", |text: String| match text.trim() {
        "" => Ok(None),
        text => base(text).map(Some),
    });
    let embed_in = reader.list("dashboard", "embed_in", |item| {
        Origin::parse(item).map_err(|error| format!("\"{item}\" {error}"))
    });
    let dashboard =
        Dashboard { public_url: public_url.flatten(), embed_in: embed_in.unwrap_or_default() };
    if !dashboard.embed_in.is_empty() && !dashboard.is_secure() {
        reader.complain(
            "dashboard",
            "embed_in",
            "needs public_url to be an https URL: within another site's page, browsers keep a \
             session over TLS alone"
                .to_owned(),
        );
    }
    dashboard
}

/// The start of URLs that lead here: the dashboard's own paths begin at the host's root.
fn base(text: &str) -> Result<Url, &'static str> {
    const FORM: &str =
        "must be an http or https URL without a path, such as https://webhooks.example.com";
    let url = Url::parse(text).map_err(|_| FORM)?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    let web = matches!(url.scheme(), "http" | "https");
    if web && bare && anonymous && url.has_host() { Ok(url) } else { Err(FORM) }
}
