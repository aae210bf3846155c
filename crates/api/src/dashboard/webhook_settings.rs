//! The page of a webhook's settings: what its owner set, its signing secret, its removal.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use maud::{Markup, html};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::ids::EndpointId;
use postrider_domain::time::Timestamp;

use super::catalogue::Catalogue;
use super::form::{Form, as_a_whole, seen};
use super::frame::{Page, Place, Visit};
use super::links::below;
use super::parts::{copyable, time};
use super::said::Said;
use super::webhook::tabs;
use super::webhook_form::Values;
use crate::App;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;
use crate::{endpoints, secrets};

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/webhooks/{{endpoint}}/{action}");
    Router::new()
        .route(&at("settings"), get(show).post(save))
        .route(&at("rotate-secret"), post(rotate))
        .route(&at("delete"), post(delete))
}

async fn show(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let asked =
        params.take("secret", |text| (text == "shown").then_some(true).ok_or("is no choice"));
    params.finish()?;
    let endpoint = app.door().endpoint(tenant.0, id).await?.endpoint;
    let values = Values::of(&endpoint);
    page(&visit, &app, &endpoint, &values, asked.is_some(), None).await
}

async fn page(
    visit: &Visit,
    app: &App,
    endpoint: &Endpoint,
    values: &Values,
    secret_shown: bool,
    problem: Option<&Problem>,
) -> Result<Page, Problem> {
    let links = visit.links();
    let catalogue = Catalogue::with(app, values.chosen()).await?;
    let body = html! {
        (tabs(&links, endpoint, true))
        section aria-labelledby="settings" {
            h2 #settings { "Settings" }
            form method="post" action=(links.webhook_settings(endpoint.id)) {
                (visit.csrf())
                (seen(endpoint.updated_at))
                (as_a_whole(problem, &links.webhook_settings(endpoint.id)))
                (values.show(&links, &catalogue, problem))
                p.actions { button type="submit" { "Save" } }
            }
        }
        (secret(visit, endpoint, secret_shown))
        (removal(visit, endpoint))
    };
    let title = format!("Settings of {}", endpoint.name.as_str());
    Ok(visit.page(Place::Webhooks, &title, body))
}

/// The signing secret, hidden until somebody asks.
fn secret(visit: &Visit, endpoint: &Endpoint, shown: bool) -> Markup {
    let links = visit.links();
    let (id, now) = (endpoint.id, visit.now());
    let page = links.webhook_settings(id);
    html! {
        section #secret aria-labelledby="secret-title" {
            h2 #secret-title { "Signing secret" }
            p { "Each request is signed with it ("
                a href="https://www.standardwebhooks.com" rel="noreferrer" { "Standard Webhooks" }
                "), so that your side can tell that it comes from here." }
            @if shown {
                p { (copyable(endpoint.secrets.current.reveal())) }
                (replaced(endpoint, now))
                p { a href={ (page) "#secret" } { "Hide" } }
            } @else {
                p { code { "whsec_••••••••••••••••" } " "
                    a.button href={ (page) "?secret=shown#secret" } { "Show" } }
            }
            details {
                summary { "Replace it by a new one" }
                form method="post" action=(below(&links.webhook(id), "rotate-secret")) {
                    (visit.csrf())
                    p { "For 24 hours requests are signed with both, so that you can change over without "
                        "losing any." }
                    button type="submit" { "Rotate" }
                }
            }
        }
    }
}

fn replaced(endpoint: &Endpoint, now: Timestamp) -> Markup {
    let active = endpoint.secrets.replaced.iter().filter(|(_, until)| *until > now);
    html! {
        @for (secret, until) in active {
            p { "Until " (time(*until)) " also: " (copyable(secret.reveal())) }
        }
    }
}

fn removal(visit: &Visit, endpoint: &Endpoint) -> Markup {
    let action = below(&visit.links().webhook(endpoint.id), "delete");
    html! {
        section.danger aria-labelledby="removal" {
            h2 #removal { "Delete" }
            details {
                summary { "Delete this webhook" }
                p { "Deliveries that are pending or held are discarded. This cannot be undone." }
                form method="post" action=(action) {
                    (visit.csrf())
                    button.bad type="submit" { "Delete " bdi { (endpoint.name.as_str()) } }
                }
            }
        }
    }
}

async fn save(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let values = Values::read(&form);
    let saved = endpoints::change(&app, tenant.0, id, &values.body(), Some(form.seen())).await;
    match saved {
        Ok(_) => {
            let page = visit.links().webhook_settings(id);
            Ok(Redirect::to(&Said::Saved.at(&page)).into_response())
        }
        Err(problem) => {
            let problem = values.explain(problem.of_form()?);
            let endpoint = app.door().endpoint(tenant.0, id).await?.endpoint;
            let page = page(&visit, &app, &endpoint, &values, false, Some(&problem)).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}

async fn rotate(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    secrets::rotate(&app, tenant.0, id, &Bytes::new()).await?;
    let page = visit.links().webhook_settings(id);
    Ok(Redirect::to(&Said::Rotated.at(&page)))
}

async fn delete(
    visit: Visit,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    endpoints::remove(&app, tenant.0, id).await?;
    Ok(Redirect::to(&Said::Deleted.at(&visit.links().webhooks())))
}
