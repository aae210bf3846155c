//! The catalogue of event types, to select from in a form.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use postrider_domain::event::EventTypeName;
use postrider_domain::limits::{MAX_EVENT_TYPES_PER_ENDPOINT, MAX_PAGE};
use postrider_store::PageRequest;

use super::field::toggle;
use super::format::grouped;
use crate::App;
use crate::web::problem::Problem;

/// The maximum number of entries listed.
const MAX_LISTED: usize = 1_000;
/// The maximum number of names looked up in addition; no valid form has more.
const MAX_LOOKUPS: usize = MAX_EVENT_TYPES_PER_ENDPOINT + 1;

/// Names and descriptions of the listed event types. Examples and schemas are large and left out.
pub(crate) struct Catalogue {
    entries: BTreeMap<EventTypeName, String>,
    /// The catalogue has more entries than these.
    truncated: bool,
}

impl Catalogue {
    /// Loads the first entries and those with these names.
    pub(crate) async fn load(
        app: &App,
        names: impl Iterator<Item = &str>,
    ) -> Result<Self, Problem> {
        let mut catalogue = Self::load_first(app).await?;
        if catalogue.truncated {
            for name in names.filter_map(|name| EventTypeName::parse(name).ok()).take(MAX_LOOKUPS) {
                if !catalogue.entries.contains_key(&name)
                    && let Some(entry) = app.records().event_type(&name).await?
                {
                    catalogue.entries.insert(entry.name, entry.description);
                }
            }
        }
        Ok(catalogue)
    }

    async fn load_first(app: &App) -> Result<Self, Problem> {
        let (mut entries, mut after) = (BTreeMap::new(), None);
        while entries.len() < MAX_LISTED {
            let page = app.records().event_types(PageRequest { limit: MAX_PAGE, after }).await?;
            entries.extend(page.items.into_iter().map(|entry| (entry.name, entry.description)));
            after = page.next.and_then(|name| EventTypeName::parse(&name).ok());
            if after.is_none() {
                break;
            }
        }
        Ok(Self { entries, truncated: after.is_some() })
    }

    /// Whether the catalogue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The listed names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &EventTypeName> {
        self.entries.keys()
    }

    /// The description of a listed event type.
    pub(crate) fn description(&self, name: &str) -> Option<&str> {
        let name = EventTypeName::parse(name).ok()?;
        self.entries.get(&name).map(String::as_str)
    }

    /// The checkboxes `event_types`.
    pub(crate) fn choices(&self, selected: &BTreeSet<String>) -> Markup {
        let removed = selected.iter().filter(|name| self.description(name).is_none());
        html! {
            div.choices {
                @for (name, description) in &self.entries {
                    (choice(name.as_str(), description, selected.contains(name.as_str())))
                }
                @for name in removed { (choice(name, "No longer in the catalogue.", true)) }
            }
            (self.truncation_hint())
        }
    }

    /// A hint that the list is incomplete, if it is.
    pub(crate) fn truncation_hint(&self) -> Markup {
        html! {
            @if self.truncated {
                p.hint {
                    "The catalogue has more than the " (grouped(MAX_LISTED as u64))
                    " event types listed here. Use the API for the others."
                }
            }
        }
    }
}

fn choice(name: &str, description: &str, selected: bool) -> Markup {
    let control =
        html! { input type="checkbox" name="event_types" value=(name) checked[selected]; };
    toggle(control, html! { code { (name) } }, description)
}
