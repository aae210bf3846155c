//! The form field to select one of an account's webhooks.

use maud::{Markup, html};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::MAX_PAGE;
use postrider_store::PageRequest;

use super::field::Field;
use super::form::Errors;
use crate::App;
use crate::web::problem::Problem;

/// The webhooks to select from.
pub(crate) struct WebhookSelect {
    webhooks: Vec<(EndpointId, String)>,
    /// The account has more webhooks than these.
    truncated: bool,
}

impl WebhookSelect {
    pub(crate) async fn of(app: &App, account: AccountId) -> Result<Self, Problem> {
        let request = PageRequest { limit: MAX_PAGE, after: None };
        let page = app.records().endpoints(account, request).await?;
        let webhooks = page.items.into_iter().map(|view| view.endpoint);
        let webhooks = webhooks.map(|it| (it.id, it.name.as_str().to_owned())).collect();
        Ok(Self { webhooks, truncated: page.next.is_some() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.webhooks.is_empty()
    }

    /// The field `endpoint`. `all_label` is the text of the option for all webhooks; `None`
    /// omits the option.
    pub(crate) fn field(
        &self,
        all_label: Option<&str>,
        selected_id: &str,
        errors: Errors<'_>,
    ) -> Markup {
        if self.truncated {
            // An incomplete list would hide the others, so this becomes a text field for the id.
            let hint = match all_label {
                Some(all_label) => {
                    format!("The webhook's ID (ep_…), shown on its page. Empty: {all_label}.")
                }
                None => "The webhook's ID (ep_…), shown on its page.".to_owned(),
            };
            return Field::new("endpoint", "Webhook", &hint, errors).text(selected_id);
        }
        let field = Field::new("endpoint", "Webhook", "", errors);
        field.wrap(html! {
            select #endpoint name="endpoint" aria-describedby=(field.described_by())
                aria-invalid=[field.aria_invalid()] {
                @if let Some(all_label) = all_label { option value="" selected[selected_id.is_empty()] { (all_label) } }
                @for (id, name) in &self.webhooks {
                    @let id = id.to_string();
                    option value=(id) selected[id == selected_id] { (name) }
                }
            }
        })
    }
}
