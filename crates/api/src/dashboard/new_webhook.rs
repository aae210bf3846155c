//! The page of a new webhook, and the validation of its URL while it is typed.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use maud::html;
use postrider_domain::target::TargetUrl;

use super::catalogue::Catalogue;
use super::field::errors;
use super::flash::Flash;
use super::form::Form;
use super::layout::{Fragment, NavItem, Page, PageContext};
use super::webhook_form::Values;
use crate::App;
use crate::rest::endpoints::NewEndpoint;
use crate::web::auth::Tenant;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/webhooks/new", get(show).post(create))
        .route("/webhooks/check-url", get(check_url))
}

async fn show(
    ctx: PageContext,
    _: Tenant,
    State(app): State<App>,
    params: Params,
) -> Result<Page, Problem> {
    params.finish()?;
    page(&ctx, &app, &Values::default(), None).await
}

async fn page(
    ctx: &PageContext,
    app: &App,
    values: &Values,
    problem: Option<&Problem>,
) -> Result<Page, Problem> {
    let urls = ctx.urls();
    let catalogue = Catalogue::load(app, values.chosen()).await?;
    let body = html! {
        h1 { "New webhook" }
        form method="post" action=(urls.new_webhook()) {
            (ctx.csrf())
            (values.show(&urls, &catalogue, problem))
            p.actions {
                button type="submit" { "Create webhook" }
                a href=(urls.webhooks()) { "Cancel" }
            }
        }
    };
    Ok(ctx.page(NavItem::Webhooks, "New webhook", body))
}

async fn create(
    ctx: PageContext,
    tenant: Tenant,
    State(app): State<App>,
    form: Form,
) -> Result<Response, Problem> {
    let values = Values::read(&form);
    let created = match NewEndpoint::parse(values.fields(), &app).await {
        Ok(new) => app.service().create_endpoint(tenant.0, new, None).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    match created {
        Ok(view) => {
            let page = ctx.urls().webhook(view.endpoint.id);
            Ok(Redirect::to(&Flash::WebhookCreated.redirect_target(&page)).into_response())
        }
        Err(problem) => {
            let problem = problem.if_invalid_fields()?;
            let page = page(&ctx, &app, &values, Some(&problem)).await?;
            Ok(page.with_status_of(&problem).into_response())
        }
    }
}

/// The errors of the URL that is being typed, as a fragment.
async fn check_url(
    _: Tenant,
    State(app): State<App>,
    mut params: Params,
) -> Result<Fragment, Problem> {
    let check = |text: &str| {
        let error = TargetUrl::parse(text.trim(), &app.0.api.targets).err();
        Ok::<_, String>(error.map(|error| error.to_string()))
    };
    let error = params.take("url", check).flatten();
    params.finish()?;
    Ok(Fragment(errors("url", &error.into_iter().collect::<Vec<_>>())))
}
