//! Who asks, and what that one may see.
//!
//! The gate stands before everything under `/v1`, also before routes that do not exist and
//! bodies that are not read yet: it looks up the key, and the account in the path, and leaves
//! [`Caller`] and [`Tenant`] for the handlers. A handler that takes a [`Tenant`] cannot come to
//! another account's data; one that takes an [`Operator`] refuses account keys.

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_service::key_sha256;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::App;
use crate::web::problem::Problem;

/// Longest key that is looked at.
const MAX_KEY_BYTES: usize = 512;
/// Below this path, an account's id comes next.
const ACCOUNTS: &str = "/v1/accounts/";

/// The operator's key, as its SHA-256.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// The key with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(key_sha256(text))
    }

    /// What tells this key from others, and does not lead back to it.
    pub(crate) fn fingerprint(&self) -> [u8; 8] {
        let hash: [u8; 32] = Sha256::digest(self.0).into();
        *hash.first_chunk().expect("it is longer")
    }

    /// Whether `key` has this hash. Takes the same time whatever it is.
    fn is(&self, key: &[u8; 32]) -> bool {
        self.0.ct_eq(key).into()
    }
}

/// Whose key a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Operator,
    Account(AccountId),
}

impl Caller {
    /// Whether the caller may see an account, should there be one: its own, or as the operator any.
    pub(crate) fn may_see(self, account: AccountId) -> bool {
        match self {
            Self::Operator => true,
            Self::Account(own) => own == account,
        }
    }
}

/// The account in the path, which exists and which the caller may see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant(pub AccountId);

/// The caller is the operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator;

/// Lets a request pass if its key opens what its path names.
pub(crate) async fn gate(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let path = request.uri().path();
    if path != "/v1" && !path.starts_with("/v1/") {
        return Ok(next.run(request).await);
    }
    let caller = identify(&app, request.headers()).await?;
    if let Some(segment) = account_in(path) {
        let tenant = admit(&app, caller, segment).await?;
        request.extensions_mut().insert(tenant);
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Whose key it is.
async fn identify(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let key = bearer(headers).ok_or_else(|| {
        unauthorized("Send a key in the header Authorization, as in «Bearer KEY».")
    })?;
    match whose(app, key).await? {
        Some(Key::Operator) => Ok(Caller::Operator),
        Some(Key::Account(account, _)) => Ok(Caller::Account(account)),
        None => Err(unauthorized("The key is unknown. It may have been deleted.")),
    }
}

/// A key that opens something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Operator,
    Account(AccountId, KeyId),
}

/// What a key opens. An account's key is looked up each time, so that a deleted one stops working
/// at once.
pub(crate) async fn whose(app: &App, key: &str) -> Result<Option<Key>, Problem> {
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(None);
    }
    let hash = key_sha256(key);
    if app.0.api.operator_key.is(&hash) {
        return Ok(Some(Key::Operator));
    }
    let found = app.records().key_by_hash(hash).await?;
    Ok(found.map(|(account, key)| Key::Account(account, key)))
}

/// Whether `caller` may see the account that the path names. To an account every other one is as
/// if it did not exist.
async fn admit(app: &App, caller: Caller, segment: &str) -> Result<Tenant, Problem> {
    let nobody = || Problem::not_found("account");
    let id: AccountId = segment.parse().map_err(|_| nobody())?;
    // An account's key goes with its account.
    let known = match caller {
        _ if !caller.may_see(id) => false,
        Caller::Account(_) => true,
        Caller::Operator => app.records().account(id).await?.is_some(),
    };
    known.then_some(Tenant(id)).ok_or_else(nobody)
}

/// The segment of the path where an account's id stands, which may be empty before others.
fn account_in(path: &str) -> Option<&str> {
    let below = path.strip_prefix(ACCOUNTS).filter(|below| !below.is_empty())?;
    below.split('/').next()
}

/// The key in `Authorization: Bearer KEY` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        left_by_gate(parts)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match left_by_gate(parts)? {
            Caller::Operator => Ok(Self),
            Caller::Account(_) => {
                Err(Problem::new(StatusCode::FORBIDDEN, "This call takes the operator's key."))
            }
        }
    }
}

/// What the gate left with the request. Fails closed where the gate does not stand.
fn left_by_gate<T: Copy + Send + Sync + 'static>(parts: &Parts) -> Result<T, Problem> {
    parts.extensions.get().copied().ok_or_else(|| {
        tracing::error!(path = parts.uri.path(), "a route lies outside the gate");
        Problem::internal()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bearer_scheme() {
        let of = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("bearer  abc ").as_deref(), Some("abc"));
        for bad in ["", "Bearer", "Bearer ", "abc", "Basic abc"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_account_of_a_path() {
        assert_eq!(account_in("/v1/accounts/a"), Some("a"));
        assert_eq!(account_in("/v1/accounts/a/endpoints/b"), Some("a"));
        assert_eq!(account_in("/v1/accounts//endpoints"), Some(""));
        for path in ["/v1/accounts", "/v1/accounts/", "/v1/event-types/a", "/v1"] {
            assert_eq!(account_in(path), None, "{path}");
        }
    }
}
