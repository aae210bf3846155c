//! The operator's page of the cluster, as seen by this node.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_cluster::view::{NodeView, View};
use postrider_domain::node::NodeState;
use postrider_domain::own_outage::Outage;
use postrider_domain::time::Timestamp;

use super::components::Column::{Number, Text};
use super::components::{Tone, age, badge, table};
use super::format::count;
use super::layout::{NavItem, Page, PageContext};
use super::urls::CLUSTER;
use crate::App;
use crate::web::auth::Operator;
use crate::web::page::Params;
use crate::web::problem::Problem;

/// The number of colours on the map. With more nodes, some share a colour and differ only by
/// number.
const COLOURS: usize = 8;
/// The side of a square, including the gap to the next one.
const SIDE: usize = 14;
const GAP: usize = 2;
/// Squares per row.
const PER_ROW: usize = 32;

pub(crate) fn routes() -> Router<App> {
    Router::new().route(CLUSTER, get(cluster))
}

async fn cluster(
    ctx: PageContext,
    _: Operator,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    let view: Arc<View> = app.0.api.view.borrow().clone();
    let oldest = app.records().oldest_pending().await?;
    let body = html! {
        h1 { "Cluster" }
        div #cluster hx-get=(CLUSTER) hx-select="#cluster" hx-trigger="every 2s" hx-swap="outerHTML" {
            (attention(&app.0.api.probe.outages(), ctx.now()))
            (summary(&view, oldest, ctx.now()))
            (nodes(&view))
            (shard_map(&view))
        }
    };
    Ok(ctx.page(NavItem::Cluster, "Cluster", body))
}

/// What the operator has to repair.
fn attention(outages: &[Outage], now: Timestamp) -> Markup {
    html! {
        @for Outage { cause, since } in outages {
            div.banner.bad role="status" {
                strong.headline { "Attention: this node has an outage of its own" }
                p {
                    "For " (age(*since, now)) ", " (cause.description()) ". "
                    "Deliveries wait and their failures do not count. Sending resumes by itself."
                }
            }
        }
    }
}

fn summary(view: &View, oldest: Option<Timestamp>, now: Timestamp) -> Markup {
    let unowned = view.unowned();
    html! {
        dl.figures {
            div { dt { "Nodes" } dd { (view.nodes.iter().filter(|node| node.state != NodeState::Dead).count()) } }
            div { dt { "Shards" } dd { (view.owners.len()) } }
            div { dt { "Unowned" } dd.bad[unowned > 0] { (unowned) } }
            div { dt { "Oldest pending" } dd {
                @match oldest { Some(at) => (age(at, now)), None => "none" }
            } }
        }
    }
}

/// The nodes and their numbers on this page: their positions in the view, from 1.
fn numbered(view: &View) -> impl Iterator<Item = (&NodeView, usize)> {
    view.nodes.iter().zip(1..)
}

fn nodes(view: &View) -> Markup {
    let counts = view.counts();
    let columns = [
        Text("Node"),
        Text("State"),
        Number("Shards"),
        Text("Version"),
        Text("Address"),
        Text("Boot ID"),
    ];
    let rows = html! {
        @for (node, number) in numbered(view) {
            tr {
                th scope="row" { (swatch(number)) " " (node.name) }
                td { (node_badge(node.state)) }
                td.number { (counts.get(&node.node).copied().unwrap_or(0)) }
                td { (node.version) }
                td { @match node.address { Some(address) => (address), None => span.faint { "standalone" } } }
                td { code { (node.node) } }
            }
        }
    };
    table("Nodes", &columns, rows)
}

fn node_badge(state: NodeState) -> Markup {
    let tone = match state {
        NodeState::Alive => Tone::Good,
        NodeState::Draining => Tone::Accent,
        NodeState::Suspect => Tone::Warn,
        NodeState::Dead => Tone::Bad,
    };
    badge(tone, state.as_str())
}

/// A square in the colour of a node, with its number; without a number, an unowned shard.
fn square(number: Option<usize>, x: usize, y: usize, title: Option<&str>) -> Markup {
    const WIDTH: usize = SIDE - GAP;
    let class = match number {
        Some(number) => format!("shard c{}", number % COLOURS),
        None => "shard none".to_owned(),
    };
    html! {
        rect class=(class) x=(x) y=(y) width=(WIDTH) height=(WIDTH) rx="2" {
            @if let Some(title) = title { title { (title) } }
        }
        @if let Some(number) = number {
            // Squeeze three digits into the square.
            text x=(x + WIDTH / 2) y=(y + WIDTH / 2) textLength=[(number > 99).then_some(WIDTH - GAP)]
                lengthAdjust=[(number > 99).then_some("spacingAndGlyphs")] { (number) }
        }
    }
}

/// The square of a node, as on the map.
fn swatch(number: usize) -> Markup {
    html! {
        svg.swatch.shards viewBox="0 0 12 12" aria-hidden="true" { (square(Some(number), 0, 0, None)) }
        span.hidden { "Node number " (number) }
    }
}

/// Every shard as a square with the number of its owner.
fn shard_map(view: &View) -> Markup {
    let numbers: HashMap<_, _> = numbered(view).map(|(node, number)| (node.node, number)).collect();
    let rows = view.owners.len().div_ceil(PER_ROW);
    let (width, height) = (PER_ROW * SIDE, rows * SIDE);
    let node_name =
        |node| view.node(node).map_or("a node that has left", |node| node.name.as_str());
    html! {
        h2 #map-title { "Shards" }
        svg.map.shards role="img" aria-labelledby="map-title map-text" viewBox={ "0 0 " (width) " " (height) } {
            desc #map-text { (count(view.owners.len() as u64, "shard", "shards")) ", each labelled with the number of the node that owns it." }
            @for (shard, owner) in view.owners.iter().enumerate() {
                @let number = owner.and_then(|owner| numbers.get(&owner.node).copied());
                @let title = match owner {
                    Some(owner) => format!("Shard {shard}: {}, epoch {}", node_name(owner.node), owner.epoch),
                    None => format!("Shard {shard}: no owner"),
                };
                (square(number, shard % PER_ROW * SIDE, shard / PER_ROW * SIDE, Some(&title)))
            }
        }
    }
}
