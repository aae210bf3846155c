use maud::{Markup, html};
use postrider_domain::statistics::{Sparkline, Statistics};
pub(crate) fn charts(_: &Statistics) -> Markup {
    html! {}
}
pub(crate) fn sparkline(_: &Sparkline) -> Markup {
    html! {}
}
