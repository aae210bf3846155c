//! `[dashboard]`: the public URL, and which sites may embed the pages.

use postrider_api::{Dashboard, Origin};

use super::reader::Reader;

pub(super) fn build(reader: &mut Reader) -> Dashboard {
    let public_url = reader.option("dashboard", "public_url", |text: String| match text.trim() {
        "" => Ok(None),
        text => Origin::parse(text).map(Some),
    });
    let embed_in = reader.list("dashboard", "embed_in", |item| {
        Origin::parse(item).map_err(|error| format!("\"{item}\" {error}"))
    });
    let dashboard =
        Dashboard { public_url: public_url.flatten(), embed_in: embed_in.unwrap_or_default() };
    if !dashboard.embed_in.is_empty() && !dashboard.is_secure() {
        reader.error(
            "dashboard",
            "embed_in",
            "needs an https public_url: browsers keep the session of an embedded page only over \
             TLS"
            .to_owned(),
        );
    }
    dashboard
}
