//! Sessions: signed tokens in a cookie. Every node can verify one and none has to store it, so a
//! session outlives the node that issued it.
//!
//! The signing key is in the store. A session names the credential it was opened with and ends with
//! it: a deleted API key, a replaced operator key, revoked portal links, a deleted account. The
//! middleware checks that on each request.
//!
//! Nodes of different versions verify each other's tokens, so the bytes of a token never change:
//! postcard(claim) ‖ HMAC-SHA-256(key, purpose ‖ postcard(claim)).

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_domain::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The length of a signature.
const MAC_BYTES: usize = 32;
/// The maximum length of a token.
const MAX_TOKEN_BYTES: usize = 512;

/// A session of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Who signed in, and with which credential.
    pub principal: Principal,
    pub expires_at: Timestamp,
}

/// Who signed in, and with which credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Principal {
    /// The operator, with the key that has this fingerprint.
    Operator {
        /// See [`OperatorKey::fingerprint`](crate::web::auth::OperatorKey::fingerprint).
        key: [u8; 8],
    },
    /// A user with an API key of this account.
    ApiKey { account: AccountId, key: KeyId },
    /// A user with a portal link to this account.
    PortalLink {
        account: AccountId,
        /// The link's generation; revoking links starts a new one.
        generation: u64,
    },
}

/// The contents of a portal link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortalLink {
    pub account: AccountId,
    /// The generation of the account's links; links of older generations are revoked.
    pub generation: u64,
    /// When the link and the session that it opens expire.
    pub expires_at: Timestamp,
    /// The page that it opens.
    pub page: String,
}

/// What a signature is for, so that one kind of token cannot be used as another.
#[derive(Clone, Copy)]
enum Purpose {
    Session = 0,
    PortalLink = 1,
    Csrf = 2,
}

/// Signs and verifies tokens.
#[derive(Clone)]
pub(crate) struct Signer([u8; 32]);

impl Signer {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The token of a session.
    pub(crate) fn sign_session(&self, session: &Session) -> String {
        self.sign(Purpose::Session, session)
    }

    /// The session of a valid, unexpired token.
    pub(crate) fn verify_session(&self, token: &str, now: Timestamp) -> Option<Session> {
        self.verify::<Session>(Purpose::Session, token).filter(|session| session.expires_at > now)
    }

    /// The token of a portal link.
    pub(crate) fn sign_link(&self, link: &PortalLink) -> String {
        self.sign(Purpose::PortalLink, link)
    }

    /// The portal link of a valid, unexpired token.
    pub(crate) fn verify_link(&self, token: &str, now: Timestamp) -> Option<PortalLink> {
        self.verify::<PortalLink>(Purpose::PortalLink, token).filter(|link| link.expires_at > now)
    }

    /// The CSRF token of a session, which its forms carry and other sites cannot know.
    pub(crate) fn csrf_token(&self, session: &str) -> String {
        BASE64URL_NOPAD.encode(&self.mac(Purpose::Csrf, session.as_bytes()))
    }

    fn sign(&self, purpose: Purpose, claim: &impl Serialize) -> String {
        let mut bytes = postcard::to_allocvec(claim).expect("a claim is plain data");
        let mac = self.mac(purpose, &bytes);
        bytes.extend(mac);
        BASE64URL_NOPAD.encode(&bytes)
    }

    fn verify<T: DeserializeOwned>(&self, purpose: Purpose, token: &str) -> Option<T> {
        let bytes = match token.len() {
            ..=MAX_TOKEN_BYTES => BASE64URL_NOPAD.decode(token.as_bytes()).ok()?,
            _ => return None,
        };
        let (claim, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        let is_valid: bool = self.mac(purpose, claim).ct_eq(mac).into();
        if is_valid { postcard::from_bytes(claim).ok() } else { None }
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

    use postrider_domain::ids::Id;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn session() -> Session {
        let expires_at = NOW.plus(Duration::from_secs(1));
        Session {
            principal: Principal::PortalLink { account: AccountId::MAX, generation: 0 },
            expires_at,
        }
    }

    #[test]
    fn a_session_is_valid_until_it_expires() {
        let signer = Signer::new([1; 32]);
        let token = signer.sign_session(&session());
        assert_eq!(signer.verify_session(&token, NOW), Some(session()));
        assert_eq!(signer.verify_session(&token, session().expires_at), None);
    }

    #[test]
    fn forged_tokens_are_rejected() {
        let signer = Signer::new([1; 32]);
        let token = signer.sign_session(&session());
        assert_eq!(Signer::new([2; 32]).verify_session(&token, NOW), None, "another key");
        assert_eq!(signer.verify_link(&token, NOW), None, "another purpose");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert_eq!(signer.verify_session(&forged, NOW), None, "character {at}");
        }
        for garbage in ["", "A", "é", &"A".repeat(43), &"A".repeat(10_000)] {
            assert_eq!(signer.verify_session(garbage, NOW), None, "{garbage}");
        }
    }

    #[test]
    fn tokens_keep_their_bytes() {
        let signer = Signer::new([1; 32]);
        let account = AccountId::from_bytes([2; 16]);
        let sessions = [
            (
                Principal::Operator { key: [3; 8] },
                "AAMDAwMDAwMDgKDxwrE0sLS7kqT_NUwZqVYf1r5QzXl_oY8L9ox1sg9On8C1zZc",
            ),
            (
                Principal::ApiKey { account, key: KeyId::from_bytes([4; 16]) },
                "AQICAgICAgICAgICAgICAgIEBAQEBAQEBAQEBAQEBAQEgKDxwrE01iEfidozclj19J3IeW5sRHujTU5dBY5Jx_mXvLJksRI",
            ),
            (
                Principal::PortalLink { account, generation: 300 },
                "AgICAgICAgICAgICAgICAgKsAoCg8cKxNMRF17AP3GxC9Xsf7pKNTf6tmsqK4aTXqN7O0kX8CqDE",
            ),
        ];
        for (principal, token) in sessions {
            assert_eq!(signer.sign_session(&Session { principal, expires_at: NOW }), token);
        }
        let page = "/dashboard".to_owned();
        let link = PortalLink { account, generation: 300, expires_at: NOW, page };
        assert_eq!(
            signer.sign_link(&link),
            "AgICAgICAgICAgICAgICAqwCgKDxwrE0Ci9kYXNoYm9hcmT0n_YuQe8TiiW1PaC4Ohn4BNUVhvRqgzW5-LMjTqsuqA"
        );
        assert_eq!(signer.csrf_token("session"), "uPQo1zyuHbUaWHiZOOqsEE_Ep6UrvoSzQWw2ey5RmBA");
    }

    #[test]
    fn the_longest_portal_link_fits_into_a_token() {
        let path = "p".repeat(super::super::urls::MAX_PORTAL_PATH_BYTES);
        let page = super::super::account_page(AccountId::MAX, &path).expect("it fits");
        let expires_at = session().expires_at;
        let link = PortalLink { account: AccountId::MAX, generation: u64::MAX, expires_at, page };
        let signer = Signer::new([1; 32]);
        assert_eq!(signer.verify_link(&signer.sign_link(&link), NOW), Some(link));
    }
}
