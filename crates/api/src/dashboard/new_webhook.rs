//! The page of a new webhook, and the check of its URL while it is typed.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::html;
use postrider_domain::target::TargetUrl;

use super::catalogue::Catalogue;
use super::field::errors;
use super::form::Form;
use super::frame::{Fragment, Page, Place, Visit};
use super::said::Said;
use super::webhook_form::Values;
use crate::App;
use crate::rest::endpoints;
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/webhooks/new", get(show).post(create))
        .route("/webhooks/check-url", get(check_url))
}

async fn show(
    visit: Visit,
    _: Tenant,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    page(&visit, &app, &Values::default(), None).await
}

async fn page(
    visit: &Visit,
    app: &App,
    values: &Values,
    problem: Option<&Problem>,
) -> Result<Page, Problem> {
    let links = visit.links();
    let catalogue = Catalogue::with(app, values.chosen()).await?;
    let body = html! {
        h1 { "New webhook" }
        form method="post" action=(links.new_webhook()) {
            (visit.csrf())
            (values.show(&links, &catalogue, problem))
            p.actions {
                button type="submit" { "Create webhook" }
                a href=(links.webhooks()) { "Cancel" }
            }
        }
    };
    Ok(visit.page(Place::Webhooks, "New webhook", body))
}

async fn create(
    visit: Visit,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let values = Values::read(&form);
    let made = endpoints::make(&app, tenant.0, &values.body()).await;
    match made {
        Ok(endpoint) => {
            let page = visit.links().webhook(endpoint.id);
            Ok(Redirect::to(&Said::WebhookCreated.at(&page)).into_response())
        }
        Err(problem) => {
            let problem = values.explain(problem.of_fields()?);
            let page = page(&visit, &app, &values, Some(&problem)).await?;
            Ok(page.refused(&problem).into_response())
        }
    }
}

/// What is wrong with the URL that is being typed, to stand beside it.
async fn check_url(
    _: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Fragment, Problem> {
    let check = |text: &str| {
        let wrong = TargetUrl::parse(text.trim(), &app.0.api.targets).err();
        Ok::<_, String>(wrong.map(|error| error.to_string()))
    };
    let wrong = params.take("url", check).flatten();
    params.finish()?;
    Ok(Fragment(errors("url", &wrong.into_iter().collect::<Vec<_>>())))
}
