//! The table of deliveries on the pages of webhooks and events.

use maud::{Markup, html};
use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_store::DeliveryView;

use super::components::Column::{Number, Text};
use super::components::{delivery_badge, table, time};
use super::urls::Urls;

/// The deliveries, with one column that differs between pages.
pub(crate) fn delivery_table(
    urls: &Urls,
    deliveries: &[DeliveryView],
    column: &'static str,
    cell: impl Fn(&Delivery) -> Markup,
) -> Markup {
    // Narrow screens show only the first columns.
    let columns = [
        Text("Created"),
        Text("State"),
        Text(column),
        Number("Attempts"),
        Text("Next attempt / finished"),
    ];
    let rows = html! {
        @for view in deliveries { (row(urls, view, cell(&view.delivery))) }
    };
    table("Deliveries", &columns, rows)
}

fn row(urls: &Urls, view: &DeliveryView, cell: Markup) -> Markup {
    let DeliveryView { delivery, state } = view;
    html! {
        tr {
            td { a id=(delivery.id) href=(urls.delivery(delivery.id)) { (time(delivery.created_at)) } }
            td { (delivery_badge(*state)) }
            td { (cell) }
            td.number { (delivery.attempt_count) }
            td { (next_or_end(view)) }
        }
    }
}

fn next_or_end(DeliveryView { delivery, state }: &DeliveryView) -> Markup {
    let due = delivery.due().filter(|_| *state == DeliveryState::Pending);
    html! {
        @match (due, delivery.finished_at()) {
            (Some(due), _) => { "next " (time(due)) }
            (None, Some(end)) => (time(end)),
            (None, None) => span.faint { "when enabled" },
        }
    }
}
