//! Who is signed in: a signed text that the browser keeps, and that any node can check and none
//! has to remember. So a session outlives the node that began it.
//!
//! The key that signs lies in the store. A session names what it was begun with, and is over when
//! that is: an account's key that was deleted, an operator's key that was replaced, links that were
//! ended, an account that is gone. The gate looks at each request.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_domain::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The bytes of a signature.
const MAC_BYTES: usize = 32;
/// Longest signed text that is looked at.
const MAX_CHARS: usize = 512;

/// A session of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Who signed in, and with what.
    pub who: Who,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Who signed in, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Who {
    /// The operator, with the key that has this fingerprint.
    Operator {
        /// See [`OperatorKey::fingerprint`](crate::web::auth::OperatorKey::fingerprint).
        key: [u8; 8],
    },
    /// Somebody with a key of this account.
    Key {
        /// The account.
        account: AccountId,
        /// The key.
        key: KeyId,
    },
    /// Somebody who was given a link to this account.
    Link {
        /// The account.
        account: AccountId,
        /// That of the link.
        generation: u64,
    },
}

/// What a portal link says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The account that it opens.
    pub account: AccountId,
    /// Which of the account's links it is one of: those of older generations were ended.
    pub generation: u64,
    /// When it ends at the latest, and with it the session that it begins.
    pub expires_at: Timestamp,
    /// Which page of the account it opens.
    pub page: String,
}

/// What a signature is for, so that none passes for another.
#[derive(Clone, Copy)]
enum Purpose {
    Session,
    Link,
    Csrf,
}

/// Signs and checks.
#[derive(Clone)]
pub(crate) struct Signer([u8; 32]);

impl Signer {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The text of a session.
    pub(crate) fn session(&self, session: &Session) -> String {
        self.sign(Purpose::Session, session)
    }

    /// The session in a text of ours that has not ended.
    pub(crate) fn read_session(&self, text: &str, now: Timestamp) -> Option<Session> {
        self.check::<Session>(Purpose::Session, text).filter(|session| session.expires_at > now)
    }

    /// The text of a link.
    pub(crate) fn link(&self, link: &Link) -> String {
        self.sign(Purpose::Link, link)
    }

    /// The link in a text of ours that has not ended.
    pub(crate) fn read_link(&self, text: &str, now: Timestamp) -> Option<Link> {
        self.check::<Link>(Purpose::Link, text).filter(|link| link.expires_at > now)
    }

    /// What a form of this session must bring back: another site cannot know it.
    pub(crate) fn csrf(&self, session: &str) -> String {
        BASE64URL_NOPAD.encode(&self.mac(Purpose::Csrf, session.as_bytes()))
    }

    fn sign(&self, purpose: Purpose, claim: &impl Serialize) -> String {
        let mut bytes = postcard::to_allocvec(claim).expect("a claim is plain data");
        let mac = self.mac(purpose, &bytes);
        bytes.extend(mac);
        BASE64URL_NOPAD.encode(&bytes)
    }

    fn check<T: DeserializeOwned>(&self, purpose: Purpose, text: &str) -> Option<T> {
        let bytes = match text.len() {
            ..=MAX_CHARS => BASE64URL_NOPAD.decode(text.as_bytes()).ok()?,
            _ => return None,
        };
        let (claim, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        let ours: bool = self.mac(purpose, claim).ct_eq(mac).into();
        if ours { postcard::from_bytes(claim).ok() } else { None }
    }

    fn mac(&self, purpose: Purpose, bytes: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(&[purpose as u8]);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn session() -> Session {
        let expires_at = NOW.plus(Duration::from_secs(1));
        Session { who: Who::Link { account: AccountId::MAX, generation: 0 }, expires_at }
    }

    #[test]
    fn a_session_is_read_until_it_ends() {
        let signer = Signer::new([1; 32]);
        let text = signer.session(&session());
        assert_eq!(signer.read_session(&text, NOW), Some(session()));
        assert_eq!(signer.read_session(&text, session().expires_at), None);
    }

    #[test]
    fn nothing_else_passes_for_one() {
        let signer = Signer::new([1; 32]);
        let text = signer.session(&session());
        assert_eq!(Signer::new([2; 32]).read_session(&text, NOW), None, "another key");
        assert_eq!(signer.read_link(&text, NOW), None, "another purpose");
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert_eq!(signer.read_session(&forged, NOW), None, "character {at}");
        }
        for garbage in ["", "A", "é", &"A".repeat(43), &"A".repeat(10_000)] {
            assert_eq!(signer.read_session(garbage, NOW), None, "{garbage}");
        }
    }

    #[test]
    fn the_longest_link_is_read() {
        let path = "p".repeat(super::super::links::MAX_OWN_PATH);
        let page = super::super::own_page(AccountId::MAX, &path).expect("it fits");
        let expires_at = session().expires_at;
        let link = Link { account: AccountId::MAX, generation: u64::MAX, expires_at, page };
        let signer = Signer::new([1; 32]);
        assert_eq!(signer.read_link(&signer.link(&link), NOW), Some(link));
    }
}
