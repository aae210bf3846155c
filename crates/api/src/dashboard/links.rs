//! Where the pages are.

use std::fmt::Display;

use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, ReplayId};

/// The operator's pages.
pub(crate) const ACCOUNTS: &str = "/dashboard/accounts";
pub(crate) const NEW_ACCOUNT: &str = "/dashboard/accounts/new";
pub(crate) const CLUSTER: &str = "/dashboard/cluster";
/// Where the routes of an account's pages are.
pub(crate) const ACCOUNT: &str = "/dashboard/accounts/{account}";

/// The addresses of an account's pages.
#[derive(Clone, Debug)]
pub(crate) struct Links(String);

/// The segment of a page's path where an account's id stands. Nothing else leads into the routes of an
/// account's pages, so whatever stands there is looked up, whether it looks like an id or not.
pub(crate) fn account_in(path: &str) -> Option<&str> {
    if path == NEW_ACCOUNT {
        return None;
    }
    let below = path.strip_prefix(ACCOUNTS)?.strip_prefix('/').filter(|below| !below.is_empty())?;
    below.split('/').next()
}

/// Longest path of a page that a portal link opens, below the account's own, in bytes.
pub(crate) const MAX_OWN_PATH: usize = 200;

/// The page of an account at a path that a caller gave, whole or below the account's own; none for
/// one that leads out of it. The empty path is the list of webhooks.
pub(crate) fn own_page(account: AccountId, path: &str) -> Option<String> {
    let links = Links::of(account);
    let below = path.strip_prefix(&links.0).unwrap_or(path).trim_start_matches('/');
    if below.is_empty() {
        return Some(links.webhooks());
    }
    let plain = below.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.?=&".contains(&b));
    let inside = below.split('/').all(|part| !matches!(part, "." | ".."));
    (plain && inside && below.len() <= MAX_OWN_PATH).then(|| links.to(below))
}

impl Links {
    pub(crate) fn of(account: AccountId) -> Self {
        Self(below(ACCOUNTS, account))
    }

    pub(crate) fn webhooks(&self) -> String {
        self.to("webhooks")
    }

    pub(crate) fn new_webhook(&self) -> String {
        self.to("webhooks/new")
    }

    pub(crate) fn check_url(&self) -> String {
        self.to("webhooks/check-url")
    }

    pub(crate) fn webhook(&self, id: EndpointId) -> String {
        self.to(format_args!("webhooks/{id}"))
    }

    pub(crate) fn webhook_settings(&self, id: EndpointId) -> String {
        below(&self.webhook(id), "settings")
    }

    pub(crate) fn test(&self, id: EndpointId) -> String {
        below(&self.webhook(id), "test")
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> String {
        self.to(format_args!("deliveries/{id}"))
    }

    pub(crate) fn events(&self) -> String {
        self.to("events")
    }

    pub(crate) fn event(&self, id: EventId) -> String {
        self.to(format_args!("events/{id}"))
    }

    pub(crate) fn replays(&self) -> String {
        self.to("replays")
    }

    pub(crate) fn new_replay(&self) -> String {
        self.to("replays/new")
    }

    pub(crate) fn replay(&self, id: ReplayId) -> String {
        self.to(format_args!("replays/{id}"))
    }

    pub(crate) fn event_types(&self) -> String {
        self.to("event-types")
    }

    pub(crate) fn event_type(&self, name: &EventTypeName) -> String {
        self.to(format_args!("event-types/{name}"))
    }

    pub(crate) fn settings(&self) -> String {
        self.to("settings")
    }

    fn to(&self, page: impl Display) -> String {
        below(&self.0, page)
    }
}

/// A part of a page, or what is done on it by a form.
pub(crate) fn below(page: &str, part: impl Display) -> String {
    format!("{page}/{part}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_a_page() {
        let links = Links::of(AccountId::MAX);
        let id = AccountId::MAX.to_string();
        for page in [links.webhooks(), links.webhook(EndpointId::MAX)] {
            assert_eq!(account_in(&page), Some(id.as_str()), "{page}");
        }
        assert_eq!(account_in("/dashboard/accounts//settings"), Some(""));
        assert_eq!(account_in("/dashboard/accounts/new/settings"), Some("new"));
        assert_eq!(account_in("/dashboard/accounts/new/"), Some("new"));
        for page in
            ["/dashboard", "/dashboard/accounts", "/dashboard/accounts/", "/dashboard/accounts/new"]
        {
            assert_eq!(account_in(page), None, "{page}");
        }
    }

    #[test]
    fn a_path_that_a_caller_gave_stays_within_the_account() {
        let account = AccountId::MAX;
        let links = Links::of(account);
        let page = |path: &str| own_page(account, path);
        assert_eq!(page(""), Some(links.webhooks()));
        assert_eq!(page("/"), Some(links.webhooks()));
        assert_eq!(page("/settings"), Some(links.settings()));
        assert_eq!(page("settings"), Some(links.settings()));
        assert_eq!(page(&links.settings()), Some(links.settings()));
        assert_eq!(page("//evil.example"), Some(links.to("evil.example")), "no host of another");
        let long = "x".repeat(MAX_OWN_PATH + 1);
        for bad in ["/../x", "/a/./b", "https://evil.example", "/a b", "/%2e%2e/", "/\\e", &long] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }
}
