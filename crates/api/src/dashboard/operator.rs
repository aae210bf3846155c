//! The operator's pages: the accounts, and the cluster as this node sees it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::{Markup, html};
use postrider_cluster::view::{NodeState, View};
use postrider_domain::account::Account;
use postrider_domain::ids::BootId;
use postrider_domain::limits::DEFAULT_PAGE;
use postrider_domain::time::Timestamp;
use postrider_store::PageRequest;
use serde_json::json;

use super::form::{self, Errors, Form};
use super::frame::{Page, Place, Visit};
use super::links::Links;
use super::parts::{
    Kind, address, ago, area_field, badge, copyable, count, empty, pager, text_field, time,
};
use super::said::Said;
use crate::App;
use crate::accounts;
use crate::auth::Operator;
use crate::error::Problem;
use crate::page::Params;

/// Colours in which the map tells nodes apart; more nodes share them.
const COLOURS: usize = 8;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/dashboard/accounts", get(list))
        .route("/dashboard/accounts/new", get(new_account).post(create))
        .route("/dashboard/cluster", get(cluster))
}

async fn list(
    visit: Visit,
    _: Operator,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let page = params.page();
    params.finish()?;
    let limit = page.limit.min(DEFAULT_PAGE);
    let found = app.records().accounts(PageRequest { limit, ..page }).await?;
    let next = found.next.as_ref().map(|next| address("/dashboard/accounts", &[("cursor", next)]));
    let body = html! {
        div.title {
            h1 { "Accounts" }
            a.button.primary href="/dashboard/accounts/new" { "New account" }
        }
        @if found.items.is_empty() {
            (empty("No accounts yet", "An account is a company whose webhooks are sent.",
                Some(("/dashboard/accounts/new", "New account"))))
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Accounts" {
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Id" } th scope="col" { "Contacts" }
                        th scope="col" { "Made" } } }
                    tbody { @for account in &found.items { (row(account)) } }
                }
            }
            (pager(next.as_deref()))
        }
    };
    Ok(visit.page(Place::Accounts, "Accounts", body))
}

fn row(account: &Account) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(Links::of(account.id).webhooks()) { bdi { (account.name.as_str()) } } }
            td { (copyable(account.id)) }
            td { @for email in &account.contact_emails { span.line { (email.as_str()) } } }
            td { (time(account.created_at)) }
        }
    }
}

async fn new_account(visit: Visit, _: Operator) -> Page {
    account_form(&visit, "", "", None)
}

fn account_form(visit: &Visit, name: &str, contacts: &str, problem: Option<&Problem>) -> Page {
    let errors = Errors::of(problem);
    let body = html! {
        h1 { "New account" }
        form method="post" action="/dashboard/accounts/new" {
            (visit.csrf())
            (text_field("name", "Name", "What people call it.", name, &errors.at("name")))
            (area_field("contact_emails", "Email addresses",
                "A line each. They are told when a webhook is disabled.", contacts,
                &errors.at("contact_emails")))
            p.actions { button type="submit" { "Create account" } }
        }
    };
    visit.page(Place::Accounts, "New account", body)
}

async fn create(
    visit: Visit,
    _: Operator,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let (name, contacts) = (form.text("name"), form.text("contact_emails"));
    let emails: Vec<_> = contacts.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let body = form::body(&json!({ "name": name, "contact_emails": emails }));
    match accounts::make(&app, &body).await {
        Ok(account) => {
            let page = Links::of(account.id).webhooks();
            Ok(Redirect::to(&Said::Created.at(&page)).into_response())
        }
        Err(problem) if problem.errors().is_empty() => Err(problem),
        Err(problem) => Ok(account_form(&visit, name, contacts, Some(&problem))
            .refused(&problem)
            .into_response()),
    }
}

async fn cluster(visit: Visit, _: Operator, State(app): State<App>) -> Result<Page, Problem> {
    let view: Arc<View> = app.0.api.view.borrow().clone();
    let oldest = app.records().oldest_pending().await?;
    let body = html! {
        h1 { "Cluster" }
        div #cluster hx-get="/dashboard/cluster" hx-select="#cluster" hx-trigger="every 2s" hx-swap="outerHTML" {
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
    html! {
        div.scroll tabindex="0" role="region" aria-label="Nodes" {
            table {
                thead { tr { th scope="col" { "Node" } th scope="col" { "State" } th.number scope="col" { "Shards" }
                    th scope="col" { "Version" } th scope="col" { "Address" } th scope="col" { "This run" } } }
                tbody { @for node in &view.nodes {
                    tr {
                        th scope="row" { (swatch(colours.get(&node.node).copied())) " " (node.name) }
                        td { (node_badge(node.state)) }
                        td.number { (counts.get(&node.node).copied().unwrap_or(0)) }
                        td { (node.version) }
                        td { @match node.address { Some(address) => (address), None => span.faint { "alone" } } }
                        td { code { (node.node) } }
                    }
                } }
            }
        }
    }
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

fn swatch(colour: Option<usize>) -> Markup {
    let class = colour.map_or_else(|| "shard none".to_owned(), |n| format!("shard c{n}"));
    html! {
        svg.swatch width="12" height="12" aria-hidden="true" { rect class=(class) width="12" height="12" rx="2" {} }
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
                @let colour = owner.and_then(|owner| colours.get(&owner.node));
                rect class=(colour.map_or_else(|| "shard none".to_owned(), |n| format!("shard c{n}")))
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
