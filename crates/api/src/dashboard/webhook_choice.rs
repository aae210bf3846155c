//! One webhook out of an account's, to choose in a form.

use maud::{Markup, html};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::MAX_PAGE;
use postrider_store::PageRequest;

use super::field::Field;
use super::form::Errors;
use crate::App;
use crate::web::problem::Problem;

/// The webhooks to choose from.
pub(crate) struct WebhookChoice {
    webhooks: Vec<(EndpointId, String)>,
    /// There are others that are not among them.
    more: bool,
}

impl WebhookChoice {
    pub(crate) async fn of(app: &App, account: AccountId) -> Result<Self, Problem> {
        let request = PageRequest { limit: MAX_PAGE, after: None };
        let page = app.records().endpoints(account, request).await?;
        let webhooks = page.items.into_iter().map(|view| view.endpoint);
        let webhooks = webhooks.map(|it| (it.id, it.name.as_str().to_owned())).collect();
        Ok(Self { webhooks, more: page.next.is_some() })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.webhooks.is_empty()
    }

    /// The field `endpoint`. `any` is the text of the choice that restricts nothing, if there is one.
    pub(crate) fn field(&self, any: Option<&str>, chosen: &str, errors: Errors<'_>) -> Markup {
        if self.more {
            // A list that leaves some out would hide them; their ids are on their pages.
            let hint = match any {
                Some(any) => format!("Its id, as its page shows it (ep_…). Empty: {any}."),
                None => "Its id, as its page shows it (ep_…).".to_owned(),
            };
            return Field::new("endpoint", "Webhook", &hint, errors).text(chosen);
        }
        let field = Field::new("endpoint", "Webhook", "", errors);
        field.around(html! {
            select #endpoint name="endpoint" aria-describedby=(field.described_by())
                aria-invalid=[field.is_wrong()] {
                @if let Some(any) = any { option value="" selected[chosen.is_empty()] { (any) } }
                @for (id, name) in &self.webhooks {
                    @let id = id.to_string();
                    option value=(id) selected[id == chosen] { (name) }
                }
            }
        })
    }
}
