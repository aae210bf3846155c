//! The settings page of a webhook: its fields, its signing secret, and its deletion.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::ids::EndpointId;
use postrider_domain::secret::DEFAULT_OVERLAP;
use postrider_domain::time::Timestamp;

use super::catalogue::Catalogue;
use super::components::{copyable, time};
use super::flash::Flash;
use super::form::{Form, form_error, version_field};
use super::layout::{NavItem, Page, PageContext};
use super::urls::subpath;
use super::webhook::tabs;
use super::webhook_form::Values;
use crate::App;
use crate::rest::endpoints::EndpointUpdate;
use crate::web::auth::Tenant;
use crate::web::extract::PathId;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    let at = |action: &str| format!("/webhooks/{{endpoint}}/{action}");
    Router::new()
        .route(&at("settings"), get(show).post(save))
        .route(&at("rotate-secret"), post(rotate))
        .route(&at("delete"), post(delete))
}

async fn show(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    mut params: Params,
) -> Result<Page, Problem> {
    let shown =
        params.take("secret", |text| (text == "shown").then_some(true).ok_or("must be `shown`"));
    params.finish()?;
    let endpoint = app.service().endpoint(tenant.0, id).await?.endpoint;
    let values = Values::of(&endpoint);
    page(&ctx, &app, &endpoint, &values, shown.is_some(), None).await
}

async fn page(
    ctx: &PageContext,
    app: &App,
    endpoint: &Endpoint,
    values: &Values,
    secret_shown: bool,
    problem: Option<&Problem>,
) -> Result<Page, Problem> {
    let urls = ctx.urls();
    let catalogue = Catalogue::load(app, values.chosen()).await?;
    let body = html! {
        (tabs(&urls, endpoint, true))
        section aria-labelledby="settings" {
            h2 #settings { "Settings" }
            form method="post" action=(urls.webhook_settings(endpoint.id)) {
                (ctx.csrf())
                (version_field(endpoint.updated_at))
                (form_error(problem, &urls.webhook_settings(endpoint.id)))
                (values.show(&urls, &catalogue, problem))
                p.actions { button type="submit" { "Save" } }
            }
        }
        (secret(ctx, endpoint, secret_shown))
        (delete_section(ctx, endpoint))
    };
    let title = format!("{} settings", endpoint.name.as_str());
    Ok(ctx.page(NavItem::Webhooks, &title, body))
}

/// The signing secret, hidden until it is asked for.
fn secret(ctx: &PageContext, endpoint: &Endpoint, shown: bool) -> Markup {
    let urls = ctx.urls();
    let (id, now) = (endpoint.id, ctx.now());
    let page = urls.webhook_settings(id);
    html! {
        section #secret aria-labelledby="secret-title" {
            h2 #secret-title { "Signing secret" }
            p { "Every request is signed with this secret ("
                a href="https://www.standardwebhooks.com" rel="noreferrer" { "Standard Webhooks" }
                "), so you can verify that it comes from us." }
            @if shown {
                p { (copyable(endpoint.secrets.current.reveal())) }
                (old_secrets(endpoint, now))
                p { a href={ (page) "#secret" } { "Hide" } }
            } @else {
                p { code { "whsec_••••••••••••••••" } " "
                    a.button href={ (page) "?secret=shown#secret" } { "Show" } }
            }
            details {
                summary { "Rotate secret" }
                form method="post" action=(subpath(&urls.webhook(id), "rotate-secret")) {
                    (ctx.csrf())
                    p { "For 24 hours, requests are signed with both the old and the new secret, so you can "
                        "switch over without rejecting any." }
                    button type="submit" { "Rotate" }
                }
            }
        }
    }
}

fn old_secrets(endpoint: &Endpoint, now: Timestamp) -> Markup {
    let active = endpoint.secrets.replaced.iter().filter(|(_, until)| *until > now);
    html! {
        @for (secret, until) in active {
            p { "Old secret, valid until " (time(*until)) ": " (copyable(secret.reveal())) }
        }
    }
}

fn delete_section(ctx: &PageContext, endpoint: &Endpoint) -> Markup {
    let action = subpath(&ctx.urls().webhook(endpoint.id), "delete");
    html! {
        section.danger aria-labelledby="removal" {
            h2 #removal { "Delete" }
            details {
                summary { "Delete this webhook" }
                p { "Pending and held deliveries are discarded. This cannot be undone." }
                form method="post" action=(action) {
                    (ctx.csrf())
                    button.bad type="submit" { "Delete " bdi { (endpoint.name.as_str()) } }
                }
            }
        }
    }
}

async fn save(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let values = Values::read(&form);
    let before = app.service().endpoint(tenant.0, id).await?.endpoint;
    let saved = match EndpointUpdate::parse(values.fields(), &app, &before.event_types).await {
        Ok(change) => {
            let version = Some(form.version());
            let saved = app.service().update_endpoint(tenant.0, id, change, version).await;
            saved.map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    match saved {
        Ok(_) => {
            let page = ctx.urls().webhook_settings(id);
            Ok(Redirect::to(&Flash::Saved.redirect_target(&page)).into_response())
        }
        Err(problem) => {
            let problem = problem.if_invalid_fields_or_conflict()?;
            let endpoint = app.service().endpoint(tenant.0, id).await?.endpoint;
            let page = page(&ctx, &app, &endpoint, &values, false, Some(&problem)).await?;
            Ok(page.with_status_of(&problem).into_response())
        }
    }
}

async fn rotate(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().rotate_secret(tenant.0, id, DEFAULT_OVERLAP, None).await?;
    let page = ctx.urls().webhook_settings(id);
    Ok(Redirect::to(&Flash::Rotated.redirect_target(&page)))
}

async fn delete(
    ctx: PageContext,
    tenant: Tenant,
    PathId(id): PathId<EndpointId>,
    State(app): State<App>,
) -> Result<Redirect, Problem> {
    app.service().delete_endpoint(tenant.0, id).await?;
    Ok(Redirect::to(&Flash::Deleted.redirect_target(&ctx.urls().webhooks())))
}
