//! The catalogue of event types, to choose from in a form.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use postrider_domain::event::EventTypeName;
use postrider_domain::limits::{MAX_EVENT_TYPES_PER_ENDPOINT, MAX_PAGE};
use postrider_store::PageRequest;

use super::field::toggle;
use super::format::grouped;
use crate::App;
use crate::web::problem::Problem;

/// Entries after which the list is cut.
const MOST_LISTED: usize = 1_000;
/// Most names that are looked up besides; no form that may be taken has more.
const MOST_LOOKED_UP: usize = MAX_EVENT_TYPES_PER_ENDPOINT + 1;

/// The catalogue's names with their descriptions, as far as they are shown. Examples and schemas are
/// large and stay out.
pub(crate) struct Catalogue {
    entries: BTreeMap<EventTypeName, String>,
    /// There are others that are not among them.
    cut: bool,
}

impl Catalogue {
    /// The first entries, and those that have these names.
    pub(crate) async fn with(
        app: &App,
        names: impl Iterator<Item = &str>,
    ) -> Result<Self, Problem> {
        let mut catalogue = Self::first(app).await?;
        if catalogue.cut {
            for name in
                names.filter_map(|name| EventTypeName::parse(name).ok()).take(MOST_LOOKED_UP)
            {
                if !catalogue.entries.contains_key(&name)
                    && let Some(entry) = app.records().event_type(&name).await?
                {
                    catalogue.entries.insert(entry.name, entry.description);
                }
            }
        }
        Ok(catalogue)
    }

    async fn first(app: &App) -> Result<Self, Problem> {
        let (mut entries, mut after) = (BTreeMap::new(), None);
        while entries.len() < MOST_LISTED {
            let page = app.records().event_types(PageRequest { limit: MAX_PAGE, after }).await?;
            entries.extend(page.items.into_iter().map(|entry| (entry.name, entry.description)));
            after = page.next.and_then(|name| EventTypeName::parse(&name).ok());
            if after.is_none() {
                break;
            }
        }
        Ok(Self { entries, cut: after.is_some() })
    }

    /// Whether there are no event types yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names that are shown.
    pub(crate) fn names(&self) -> impl Iterator<Item = &EventTypeName> {
        self.entries.keys()
    }

    /// What an entry means; none when there is none.
    pub(crate) fn description(&self, name: &str) -> Option<&str> {
        let name = EventTypeName::parse(name).ok()?;
        self.entries.get(&name).map(String::as_str)
    }

    /// The boxes `event_types`, of which these are ticked.
    pub(crate) fn choices(&self, chosen: &BTreeSet<String>) -> Markup {
        let gone = chosen.iter().filter(|name| self.description(name).is_none());
        html! {
            div.choices {
                @for (name, description) in &self.entries {
                    (choice(name.as_str(), description, chosen.contains(name.as_str())))
                }
                @for name in gone { (choice(name, "No longer in the catalogue.", true)) }
            }
            (self.rest())
        }
    }

    /// What there is to say of those that are not shown.
    pub(crate) fn rest(&self) -> Markup {
        html! {
            @if self.cut {
                p.hint {
                    "The catalogue has more than the " (grouped(MOST_LISTED as u64))
                    " event types that are listed here. The others can be chosen by the API."
                }
            }
        }
    }
}

fn choice(name: &str, description: &str, chosen: bool) -> Markup {
    let control = html! { input type="checkbox" name="event_types" value=(name) checked[chosen]; };
    toggle(control, html! { code { (name) } }, description)
}
