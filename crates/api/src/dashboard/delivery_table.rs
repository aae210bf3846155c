//! A table of deliveries, as a webhook's page and an event's show it.

use maud::{Markup, html};
use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_store::DeliveryView;

use super::links::Links;
use super::parts::Column::{Number, Text};
use super::parts::{delivery_badge, table, time};

/// The deliveries, with a column of the page's own.
pub(crate) fn delivery_table(
    links: &Links,
    deliveries: &[DeliveryView],
    column: &'static str,
    cell: impl Fn(&Delivery) -> Markup,
) -> Markup {
    // What a narrow screen shows comes first.
    let columns =
        [Text("Made"), Text("State"), Text(column), Number("Attempts"), Text("Next or end")];
    let rows = html! {
        @for view in deliveries { (row(links, view, cell(&view.delivery))) }
    };
    table("Deliveries", &columns, rows)
}

fn row(links: &Links, view: &DeliveryView, cell: Markup) -> Markup {
    let DeliveryView { delivery, state } = view;
    html! {
        tr {
            td { a id=(delivery.id) href=(links.delivery(delivery.id)) { (time(delivery.created_at)) } }
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
