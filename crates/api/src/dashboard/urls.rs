//! The URLs of the pages.

use std::fmt::Display;

use http::Uri;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, EventId, ReplayId};

/// The operator's pages.
pub(crate) const ACCOUNTS: &str = "/dashboard/accounts";
pub(crate) const NEW_ACCOUNT: &str = "/dashboard/accounts/new";
pub(crate) const CLUSTER: &str = "/dashboard/cluster";
/// The route under which an account's pages are nested.
pub(crate) const ACCOUNT: &str = "/dashboard/accounts/{account}";

/// The URLs of an account's pages.
#[derive(Clone, Debug)]
pub(crate) struct Urls(String);

/// The account segment of a page's path. Every route of an account's pages has one, so it is always
/// checked, whether it looks like an id or not.
pub(crate) fn account_segment(path: &str) -> Option<&str> {
    if path == NEW_ACCOUNT {
        return None;
    }
    let below = path.strip_prefix(ACCOUNTS)?.strip_prefix('/').filter(|below| !below.is_empty())?;
    below.split('/').next()
}

/// The maximum length in bytes of a path that a portal link may open, below the account's root.
pub(crate) const MAX_PORTAL_PATH_BYTES: usize = 200;

/// Resolves a caller's path, absolute or relative to the account's root, to a page of the account.
/// `None` if it leads outside. The empty path is the list of webhooks.
pub(crate) fn account_page(account: AccountId, path: &str) -> Option<String> {
    let urls = Urls::of(account);
    let below = path.strip_prefix(&urls.0).unwrap_or(path).trim_start_matches('/');
    if below.is_empty() {
        return Some(urls.webhooks());
    }
    let plain = below.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.?=&".contains(&b));
    let inside = below.split('/').all(|part| !matches!(part, "." | ".."));
    (plain && inside && below.len() <= MAX_PORTAL_PATH_BYTES).then(|| urls.path(below))
}

impl Urls {
    pub(crate) fn of(account: AccountId) -> Self {
        Self(subpath(ACCOUNTS, account))
    }

    pub(crate) fn webhooks(&self) -> String {
        self.path("webhooks")
    }

    pub(crate) fn new_webhook(&self) -> String {
        self.path("webhooks/new")
    }

    pub(crate) fn check_url(&self) -> String {
        self.path("webhooks/check-url")
    }

    pub(crate) fn webhook(&self, id: EndpointId) -> String {
        self.path(format_args!("webhooks/{id}"))
    }

    pub(crate) fn webhook_settings(&self, id: EndpointId) -> String {
        subpath(&self.webhook(id), "settings")
    }

    pub(crate) fn test(&self, id: EndpointId) -> String {
        subpath(&self.webhook(id), "test")
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> String {
        self.path(format_args!("deliveries/{id}"))
    }

    pub(crate) fn events(&self) -> String {
        self.path("events")
    }

    pub(crate) fn event(&self, id: EventId) -> String {
        self.path(format_args!("events/{id}"))
    }

    pub(crate) fn replays(&self) -> String {
        self.path("replays")
    }

    pub(crate) fn new_replay(&self) -> String {
        self.path("replays/new")
    }

    pub(crate) fn replay(&self, id: ReplayId) -> String {
        self.path(format_args!("replays/{id}"))
    }

    pub(crate) fn event_types(&self) -> String {
        self.path("event-types")
    }

    pub(crate) fn event_type(&self, name: &EventTypeName) -> String {
        self.path(format_args!("event-types/{name}"))
    }

    pub(crate) fn settings(&self) -> String {
        self.path("settings")
    }

    fn path(&self, page: impl Display) -> String {
        subpath(&self.0, page)
    }
}

/// A path below a page: a fragment or a form's action.
pub(crate) fn subpath(page: &str, part: impl Display) -> String {
    format!("{page}/{part}")
}

/// The path to return to after sign-in, if it lies within the dashboard.
pub(crate) fn return_path(text: &str) -> Option<&str> {
    let uri: Uri = text.parse().ok()?;
    let local = uri.authority().is_none() && uri.scheme().is_none();
    let in_dashboard = text == super::ROOT || text.starts_with("/dashboard/");
    let plain = !text.contains(['\\', '\r', '\n']);
    (local && in_dashboard && plain).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_found_in_the_path() {
        let urls = Urls::of(AccountId::MAX);
        let id = AccountId::MAX.to_string();
        for page in [urls.webhooks(), urls.webhook(EndpointId::MAX)] {
            assert_eq!(account_segment(&page), Some(id.as_str()), "{page}");
        }
        assert_eq!(account_segment("/dashboard/accounts//settings"), Some(""));
        assert_eq!(account_segment("/dashboard/accounts/new/settings"), Some("new"));
        assert_eq!(account_segment("/dashboard/accounts/new/"), Some("new"));
        for page in
            ["/dashboard", "/dashboard/accounts", "/dashboard/accounts/", "/dashboard/accounts/new"]
        {
            assert_eq!(account_segment(page), None, "{page}");
        }
    }

    #[test]
    fn a_callers_path_stays_within_the_account() {
        let account = AccountId::MAX;
        let urls = Urls::of(account);
        let page = |path: &str| account_page(account, path);
        assert_eq!(page(""), Some(urls.webhooks()));
        assert_eq!(page("/"), Some(urls.webhooks()));
        assert_eq!(page("/settings"), Some(urls.settings()));
        assert_eq!(page("settings"), Some(urls.settings()));
        assert_eq!(page(&urls.settings()), Some(urls.settings()));
        assert_eq!(page("//evil.example"), Some(urls.path("evil.example")), "never another host");
        let long = "x".repeat(MAX_PORTAL_PATH_BYTES + 1);
        for bad in ["/../x", "/a/./b", "https://evil.example", "/a b", "/%2e%2e/", "/\\e", &long] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_dashboard_paths_are_returned_to() {
        for good in ["/dashboard", "/dashboard/accounts/a/webhooks"] {
            assert_eq!(return_path(good), Some(good));
        }
        for bad in ["", "//evil", "https://evil/dashboard/", "/dashboardx", "/v1", "/dashboard/\\e"]
        {
            assert_eq!(return_path(bad), None, "{bad}");
        }
    }
}
