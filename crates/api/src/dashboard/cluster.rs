//! The operator's page of the cluster, as this node sees it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use maud::{Markup, html};
use postrider_cluster::view::{NodeState, View};
use postrider_domain::ids::BootId;
use postrider_domain::time::Timestamp;

use super::format::count;
use super::frame::{Page, Place, Visit};
use super::links::CLUSTER;
use super::parts::Column::{Number, Text};
use super::parts::{Kind, ago, badge, table};
use crate::App;
use crate::auth::Operator;
use crate::error::Problem;
use crate::page::Params;

/// Colours in which the map tells nodes apart; more nodes share them.
const COLOURS: usize = 8;

pub(crate) fn routes() -> Router<App> {
    Router::new().route(CLUSTER, get(cluster))
}

async fn cluster(
    visit: Visit,
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
            (summary(&view, oldest, visit.now()))
            (nodes(&view))
            (map(&view))
        }
    };
    Ok(visit.page(Place::Cluster, "Cluster", body))
}

fn summary(view: &View, oldest: Option<Timestamp>, now: Timestamp) -> Markup {
    let unowned = view.unowned();
    html! {
        dl.figures {
            div { dt { "Nodes" } dd { (view.nodes.iter().filter(|node| node.state != NodeState::Dead).count()) } }
            div { dt { "Shards" } dd { (view.owners.len()) } }
            div { dt { "Without an owner" } dd.bad[unowned > 0] { (unowned) } }
            div { dt { "Oldest pending" } dd {
                @match oldest { Some(at) => (ago(at, now)), None => "none" }
            } }
        }
    }
}

/// The colour of each node, by its place in the view.
fn colours(view: &View) -> HashMap<BootId, usize> {
    view.nodes.iter().enumerate().map(|(at, node)| (node.node, at % COLOURS)).collect()
}

fn nodes(view: &View) -> Markup {
    let (colours, counts) = (colours(view), view.counts());
    let columns = [
        Text("Node"),
        Text("State"),
        Number("Shards"),
        Text("Version"),
        Text("Address"),
        Text("This run"),
    ];
    let rows = html! {
        @for node in &view.nodes {
            tr {
                th scope="row" { (swatch(colours.get(&node.node).copied())) " " (node.name) }
                td { (node_badge(node.state)) }
                td.number { (counts.get(&node.node).copied().unwrap_or(0)) }
                td { (node.version) }
                td { @match node.address { Some(address) => (address), None => span.faint { "alone" } } }
                td { code { (node.node) } }
            }
        }
    };
    table("Nodes", &columns, rows)
}

fn node_badge(state: NodeState) -> Markup {
    let kind = match state {
        NodeState::Alive => Kind::Good,
        NodeState::Draining => Kind::Accent,
        NodeState::Suspect => Kind::Warn,
        NodeState::Dead => Kind::Bad,
    };
    badge(kind, state.as_str())
}

/// The class of a node's colour, or of none.
fn class(colour: Option<usize>) -> String {
    colour.map_or_else(|| "shard none".to_owned(), |colour| format!("shard c{colour}"))
}

fn swatch(colour: Option<usize>) -> Markup {
    html! {
        svg.swatch width="12" height="12" aria-hidden="true" { rect class=(class(colour)) width="12" height="12" rx="2" {} }
    }
}

/// Every shard as a square in the colour of its owner.
fn map(view: &View) -> Markup {
    const SIDE: usize = 14;
    const IN_ROW: usize = 32;
    let colours = colours(view);
    let rows = view.owners.len().div_ceil(IN_ROW);
    let (width, height) = (IN_ROW * SIDE, rows * SIDE);
    let named = |node| view.node(node).map_or("a node that is gone", |node| node.name.as_str());
    html! {
        h2 #map-title { "Shards" }
        svg.map role="img" aria-labelledby="map-title map-text" viewBox={ "0 0 " (width) " " (height) } {
            desc #map-text { (count(view.owners.len() as u64, "shard", "shards")) ", each in the colour of the node that owns it." }
            @for (shard, owner) in view.owners.iter().enumerate() {
                @let colour = owner.and_then(|owner| colours.get(&owner.node).copied());
                rect class=(class(colour))
                    x=(shard % IN_ROW * SIDE) y=(shard / IN_ROW * SIDE) width=(SIDE - 2) height=(SIDE - 2) rx="2" {
                    title {
                        "Shard " (shard) ": "
                        @match owner { Some(owner) => { (named(owner.node)) ", epoch " (owner.epoch) } None => "no owner" }
                    }
                }
            }
        }
    }
}
