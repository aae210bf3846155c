//! Flash messages. After a form is submitted, the redirect names the message in its query.

use std::str::FromStr;

use http::Uri;
use serde::Serialize;

use crate::web::choice::{json_name, parse_choice};

/// The query parameter.
const PARAMETER: &str = "flash";

/// A flash message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Flash {
    Created,
    WebhookCreated,
    Saved,
    ContactsSaved,
    Enabled,
    Discarded,
    Disabled,
    Deleted,
    Rotated,
    Resent,
    SentNow,
    DeliveryDiscarded,
    ResentToAll,
    NoSubscribers,
    Started,
    ReplayPaused,
    ReplayCancelled,
    KeyDeleted,
    LinksRevoked,
}

const ALL: [Flash; 19] = [
    Flash::Created,
    Flash::WebhookCreated,
    Flash::ContactsSaved,
    Flash::Saved,
    Flash::Enabled,
    Flash::Discarded,
    Flash::Disabled,
    Flash::Deleted,
    Flash::Rotated,
    Flash::Resent,
    Flash::SentNow,
    Flash::DeliveryDiscarded,
    Flash::ResentToAll,
    Flash::NoSubscribers,
    Flash::Started,
    Flash::ReplayPaused,
    Flash::ReplayCancelled,
    Flash::KeyDeleted,
    Flash::LinksRevoked,
];

impl Flash {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Created => "Account created.",
            Self::WebhookCreated => "Webhook created. Its signing secret is in Settings.",
            Self::Saved => "Changes saved. They apply to everything sent from now on.",
            Self::ContactsSaved => "Contacts saved. Emails go to these addresses from now on.",
            Self::Enabled => "Webhook enabled. Held deliveries are being sent.",
            Self::Discarded => "Webhook enabled. Held deliveries were discarded.",
            Self::Disabled => "Webhook disabled. New deliveries are held until you enable it.",
            Self::Deleted => "Webhook deleted.",
            Self::Rotated => "New signing secret created. The old one stays valid for 24 hours.",
            Self::Resent => "Resent. A new delivery was created.",
            Self::SentNow => "Pending deliveries are being sent now.",
            Self::DeliveryDiscarded => "Delivery discarded. Nothing more will be sent for it.",
            Self::ResentToAll => "Resent to all subscribed webhooks. New deliveries were created.",
            Self::NoSubscribers => "Nothing was sent: no webhook is subscribed to this event type.",
            Self::Started => "The replay is running.",
            Self::ReplayPaused => "The replay is paused.",
            Self::ReplayCancelled => {
                "The replay is cancelled. Deliveries that it already created are still sent."
            }
            Self::KeyDeleted => "API key deleted. It no longer works.",
            Self::LinksRevoked => {
                "Portal links revoked. Anyone who signed in with one has been signed out."
            }
        }
    }

    /// The URL of a page that shows this message.
    pub(crate) fn redirect_target(self, page: &str) -> String {
        format!("{page}?{PARAMETER}={}", json_name(&self))
    }

    /// Removes the parameter from a URL and returns its message.
    pub(crate) fn take(uri: &mut Uri) -> Option<Self> {
        let mut flash = None;
        let query = uri.query()?;
        let others = query.split('&').filter(|pair| match pair.split_once('=') {
            Some((PARAMETER, key)) => {
                flash = parse_choice(key, &ALL).ok();
                false
            }
            _ => true,
        });
        let others = others.collect::<Vec<_>>().join("&");
        let path = uri.path();
        let rest = if others.is_empty() { path.to_owned() } else { format!("{path}?{others}") };
        *uri = Uri::from_str(&rest).unwrap_or_default();
        flash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flash_message_is_removed_from_the_url() {
        let take = |text: &str| {
            let mut uri: Uri = text.parse().unwrap();
            (Flash::take(&mut uri), uri.to_string())
        };
        assert_eq!(
            take(&Flash::Saved.redirect_target("/a")),
            (Some(Flash::Saved), "/a".to_owned())
        );
        assert_eq!(
            take("/a?b=1&flash=key-deleted&c="),
            (Some(Flash::KeyDeleted), "/a?b=1&c=".to_owned())
        );
        assert_eq!(take("/a?flash=%3Cscript%3E"), (None, "/a".to_owned()));
        assert_eq!(take("/a?b=1"), (None, "/a?b=1".to_owned()));
    }
}
