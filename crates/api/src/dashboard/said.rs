//! What a page says after a form was brought in: one of these sentences, named in the address.

use std::str::FromStr;

use http::Uri;
use serde::Serialize;

use crate::rest::fields::{choose, name_of};

/// The parameter that names the sentence.
const NAME: &str = "said";

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
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
    ResentToAll,
    NobodyWantsIt,
    Started,
    ReplayPaused,
    ReplayCancelled,
    KeyDeleted,
    LinksEnded,
}

const ALL: [Said; 17] = [
    Said::Created,
    Said::WebhookCreated,
    Said::ContactsSaved,
    Said::Saved,
    Said::Enabled,
    Said::Discarded,
    Said::Disabled,
    Said::Deleted,
    Said::Rotated,
    Said::Resent,
    Said::ResentToAll,
    Said::NobodyWantsIt,
    Said::Started,
    Said::ReplayPaused,
    Said::ReplayCancelled,
    Said::KeyDeleted,
    Said::LinksEnded,
];

impl Said {
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Created => "Created.",
            Self::WebhookCreated => "Created. Its signing secret is in its settings.",
            Self::Saved => "Saved. What is sent from now on goes by it.",
            Self::ContactsSaved => "Saved. Emails go to these addresses from now on.",
            Self::Enabled => "Enabled. What was held is being sent.",
            Self::Discarded => "Enabled. What was held is discarded.",
            Self::Disabled => "Disabled. Nothing is sent; what comes for it is held.",
            Self::Deleted => "Deleted.",
            Self::Rotated => {
                "There is a new signing secret; requests are signed with the old one too for a day."
            }
            Self::Resent => "Sent again: a new delivery was made.",
            Self::ResentToAll => "Sent again to all that want it: new deliveries are made.",
            Self::NobodyWantsIt => "Nothing was sent: no webhook wants its type.",
            Self::Started => "The replay runs.",
            Self::ReplayPaused => "The replay is paused.",
            Self::ReplayCancelled => {
                "The replay is cancelled. What it had made already is not taken back."
            }
            Self::KeyDeleted => "The key is deleted and works no more.",
            Self::LinksEnded => "All links are ended. Whoever came by one is signed out.",
        }
    }

    /// The address of a page that says so.
    pub(crate) fn at(self, page: &str) -> String {
        format!("{page}?{NAME}={}", name_of(&self))
    }

    /// Takes the parameter out of an address.
    pub(crate) fn take(uri: &mut Uri) -> Option<Self> {
        let mut said = None;
        let query = uri.query()?;
        let left = query.split('&').filter(|pair| match pair.split_once('=') {
            Some((NAME, key)) => {
                said = choose(key, &ALL).ok();
                false
            }
            _ => true,
        });
        let left = left.collect::<Vec<_>>().join("&");
        let path = uri.path();
        let rest = if left.is_empty() { path.to_owned() } else { format!("{path}?{left}") };
        *uri = Uri::from_str(&rest).unwrap_or_default();
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_from_the_address() {
        let take = |text: &str| {
            let mut uri: Uri = text.parse().unwrap();
            (Said::take(&mut uri), uri.to_string())
        };
        assert_eq!(take(&Said::Saved.at("/a")), (Some(Said::Saved), "/a".to_owned()));
        assert_eq!(
            take("/a?b=1&said=key-deleted&c="),
            (Some(Said::KeyDeleted), "/a?b=1&c=".to_owned())
        );
        assert_eq!(take("/a?said=%3Cscript%3E"), (None, "/a".to_owned()));
        assert_eq!(take("/a?b=1"), (None, "/a?b=1".to_owned()));
    }
}
