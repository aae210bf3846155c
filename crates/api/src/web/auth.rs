//! Authentication and authorization of REST requests.
//!
//! [`require_key`] runs before every path under `/v1`, including unknown ones, and before the body
//! is read. It authenticates the key, authorizes access to the account in the path, and stores
//! [`Caller`] and [`Tenant`] in the request's extensions. A handler that takes a [`Tenant`] cannot
//! access another account's data; a handler that takes an [`Operator`] rejects account keys.

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hmac::{Hmac, KeyInit, Mac};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use postrider_domain::ids::{AccountId, KeyId};
use postrider_service::key_sha256;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::App;
use crate::web::problem::Problem;

/// The maximum length of a key; longer keys are invalid.
const MAX_KEY_BYTES: usize = 512;
/// The prefix of paths with an account id.
const ACCOUNTS: &str = "/v1/accounts/";

/// The SHA-256 of the operator key.
#[derive(Clone)]
pub struct OperatorKey([u8; 32]);

impl OperatorKey {
    /// Hashes the key.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self(key_sha256(key))
    }

    /// Identifies the key without revealing it.
    pub(crate) fn fingerprint(&self) -> [u8; 8] {
        let hash: [u8; 32] = Sha256::digest(self.0).into();
        *hash.first_chunk().expect("SHA-256 has 32 bytes")
    }

    /// A keyed hash of `parts`, for what must not be readable without the key. The last part may
    /// have any length, the others have fixed ones.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key length is valid");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Compares with the hash of a key, in constant time.
    fn matches(&self, sha256: &[u8; 32]) -> bool {
        self.0.ct_eq(sha256).into()
    }
}

/// The authenticated caller of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Operator,
    Account(AccountId),
}

impl Caller {
    /// Whether the caller may access an account: the operator any, an account only itself.
    pub(crate) fn may_access(self, account: AccountId) -> bool {
        match self {
            Self::Operator => true,
            Self::Account(own) => own == account,
        }
    }
}

/// The account in the path. It exists and the caller may access it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant(pub AccountId);

/// Proof that the caller is the operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator;

/// Requires a valid key, and access to the account in the path, for requests under `/v1`.
pub(crate) async fn require_key(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let path = request.uri().path();
    if path != "/v1" && !path.starts_with("/v1/") {
        return Ok(next.run(request).await);
    }
    let caller = authenticate(&app, request.headers()).await?;
    if let Some(segment) = account_segment(path) {
        let tenant = authorize_account(&app, caller, segment).await?;
        request.extensions_mut().insert(tenant);
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let key = bearer_token(headers).ok_or_else(|| {
        unauthorized("No API key provided. Send the header Authorization: Bearer YOUR_KEY.")
    })?;
    match verify_key(app, key).await? {
        Some(VerifiedKey::Operator) => Ok(Caller::Operator),
        Some(VerifiedKey::Account(account, _)) => Ok(Caller::Account(account)),
        None => Err(unauthorized("Invalid API key. It may have been deleted.")),
    }
}

/// A valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VerifiedKey {
    Operator,
    Account(AccountId, KeyId),
}

/// Verifies a key. Account keys are not cached, so that a deleted key stops working immediately.
pub(crate) async fn verify_key(app: &App, key: &str) -> Result<Option<VerifiedKey>, Problem> {
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(None);
    }
    let hash = key_sha256(key);
    if app.0.api.operator_key.matches(&hash) {
        return Ok(Some(VerifiedKey::Operator));
    }
    let found = app.records().key_by_hash(hash).await?;
    Ok(found.map(|(account, key)| VerifiedKey::Account(account, key)))
}

/// Authorizes access to the account in the path. To an account key, other accounts do not exist.
async fn authorize_account(app: &App, caller: Caller, segment: &str) -> Result<Tenant, Problem> {
    let not_found = || Problem::not_found("account");
    let id: AccountId = segment.parse().map_err(|_| not_found())?;
    let exists = match caller {
        _ if !caller.may_access(id) => false,
        // An account's keys are deleted with it.
        Caller::Account(_) => true,
        Caller::Operator => app.records().account(id).await?.is_some(),
    };
    exists.then_some(Tenant(id)).ok_or_else(not_found)
}

/// The path segment of the account id. It may be empty if other segments follow.
fn account_segment(path: &str) -> Option<&str> {
    let below = path.strip_prefix(ACCOUNTS).filter(|below| !below.is_empty())?;
    below.split('/').next()
}

/// The token in `Authorization: Bearer TOKEN` (RFC 6750 §2.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
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
        from_extensions(parts)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match from_extensions(parts)? {
            Caller::Operator => Ok(Self),
            Caller::Account(_) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "This operation requires the operator key.",
            )),
        }
    }
}

/// Returns a value that [`require_key`] stored. Fails closed on routes outside of the middleware.
fn from_extensions<T: Copy + Send + Sync + 'static>(parts: &Parts) -> Result<T, Problem> {
    parts.extensions.get().copied().ok_or_else(|| {
        tracing::error!(
            path = parts.uri.path(),
            "route is not behind the authentication middleware"
        );
        Problem::internal()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_extracted() {
        let token = |value: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            bearer_token(&headers).map(str::to_owned)
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        for bad in ["", "Bearer", "Bearer ", "abc", "Basic abc"] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }

    #[test]
    fn account_segments_are_extracted() {
        assert_eq!(account_segment("/v1/accounts/a"), Some("a"));
        assert_eq!(account_segment("/v1/accounts/a/endpoints/b"), Some("a"));
        assert_eq!(account_segment("/v1/accounts//endpoints"), Some(""));
        for path in ["/v1/accounts", "/v1/accounts/", "/v1/event-types/a", "/v1"] {
            assert_eq!(account_segment(path), None, "{path}");
        }
    }
}
