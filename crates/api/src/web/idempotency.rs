//! Idempotency keys of POST requests, so that a repeated request takes effect once and gets the
//! first answer.
//!
//! Publishing keeps the ids of its events instead (see `rest::events`). Every other handler of a
//! POST takes a [`JsonPost`] or an [`EmptyPost`], which answer a repeated request before the handler
//! runs, and returns its result through [`Repeatable`], which keeps the answer. Callers that may not
//! make a request get no answer to it: the extractors of their rights come first.
//!
//! Kept answers are sealed, because some of them are the only place with a secret, such as a new API
//! key. The key that opens them is derived from the operator key, which is not in the store.

use std::future::Future;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use postrider_domain::ids::Id;
use postrider_service::{IdempotencyKey, Once, ServiceError};
use postrider_store::{Answer, AnswerError, EarlierRequest, Idempotency, KeyedRequest};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::App;
use crate::web::auth::{OperatorKey, Tenant};
use crate::web::extract::JsonBody;
use crate::web::problem::Problem;

/// The name of the header.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The size of the salt of a sealed answer.
const SALT_BYTES: usize = 16;

/// The idempotency key of a request, if it has one.
pub(crate) struct KeyHeader(pub Option<IdempotencyKey>);

impl<S: Sync> FromRequestParts<S> for KeyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse_key(&parts.headers).map(Self)
    }
}

fn parse_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match IdempotencyKey::parse(value.as_bytes()) {
        Ok(key) if values.next().is_none() => Ok(Some(key)),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "The Idempotency-Key header must be sent once, with 1 to 256 visible ASCII characters.",
        )),
    }
}

/// A POST request with a JSON body. It is the last argument of its handler.
pub(crate) struct JsonPost {
    pub body: Bytes,
    pub request: Repeatable,
}

impl FromRequest<App> for JsonPost {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let key = parse_key(&parts.headers).map_err(IntoResponse::into_response)?;
        let body = <JsonBody>::read(&parts.headers, body).await;
        let JsonBody(body) = body.map_err(IntoResponse::into_response)?;
        let request = Repeatable::new(app, &parts, key, &body);
        request.unless_repeated().await.map(|request| Self { body, request })
    }
}

/// A POST request whose body is ignored. It is the last argument of its handler.
pub(crate) struct EmptyPost(pub Repeatable);

impl FromRequestParts<App> for EmptyPost {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let key = parse_key(&parts.headers).map_err(IntoResponse::into_response)?;
        Repeatable::new(app, parts, key, b"").unless_repeated().await.map(Self)
    }
}

/// A request that may be repeated with its idempotency key.
pub(crate) struct Repeatable {
    app: App,
    /// `None` without a key.
    keyed: Option<KeyedRequest>,
}

/// An answer before it is sealed.
struct Rendered {
    status: StatusCode,
    body: Vec<u8>,
}

impl Repeatable {
    fn new(app: &App, parts: &Parts, key: Option<IdempotencyKey>, body: &[u8]) -> Self {
        let keyed = key.map(|key| {
            let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
            let sha256 = Sha256::new().chain_update(b"request\0").chain_update(target);
            let sha256 = sha256.chain_update(b"\0").chain_update(body).finalize().into();
            KeyedRequest {
                account: parts.extensions.get::<Tenant>().map(|tenant| tenant.0),
                idempotency: key.for_request(sha256),
                at: app.now(),
            }
        });
        Self { app: app.clone(), keyed }
    }

    /// Returns itself, or the answer if the request is a repeated one.
    async fn unless_repeated(self) -> Result<Self, Response> {
        match self.earlier_answer().await {
            Ok(None) => Ok(self),
            Ok(Some(answer)) => Err(answer),
            Err(error) => Err(problem(error).into_response()),
        }
    }

    /// Runs a use case and answers with its result.
    pub(crate) async fn run<T, B, Fut>(
        self,
        use_case: impl FnOnce(Option<Once<T>>) -> Fut,
        render: impl Fn(&T) -> (StatusCode, B) + Send + Sync + 'static,
    ) -> Result<Response, Problem>
    where
        B: Serialize,
        Fut: Future<Output = Result<T, ServiceError>>,
    {
        let render = Arc::new(move |result: &T| {
            let (status, body) = render(result);
            Rendered::new(status, &body)
        });
        let once = self.keyed.map(|keyed| {
            let (app, render) = (self.app.clone(), render.clone());
            Once::new(keyed, move |result| render(result).seal(&app.0.api.operator_key, &keyed))
        });
        match use_case(once).await {
            Ok(result) => Ok(render(&result).into_response()),
            // A concurrent request with the same key may have been the reason, or the change took
            // effect before the store became unavailable.
            Err(error) => match self.earlier_answer().await {
                Ok(Some(answer)) => Ok(answer),
                Err(error @ AnswerError::IdempotencyKeyReused) => Err(problem(error)),
                Ok(None) | Err(AnswerError::Store(_)) => Err(error.into()),
            },
        }
    }

    /// Answers a request that changed nothing.
    pub(crate) async fn answer(
        self,
        status: StatusCode,
        body: &impl Serialize,
    ) -> Result<Response, Problem> {
        let rendered = Rendered::new(status, body);
        let Some(keyed) = &self.keyed else { return Ok(rendered.into_response()) };
        let sealed = rendered.seal(&self.app.0.api.operator_key, keyed);
        match self.app.records().keep_answer(keyed, sealed).await {
            Ok(None) => Ok(rendered.into_response()),
            Ok(Some(earlier)) => Ok(self.respond(keyed, earlier)),
            Err(error) => Err(problem(error)),
        }
    }

    /// The answer to an earlier request with the same key.
    async fn earlier_answer(&self) -> Result<Option<Response>, AnswerError> {
        let Some(keyed) = &self.keyed else { return Ok(None) };
        let earlier = self.app.records().earlier_request(keyed).await?;
        Ok(earlier.map(|earlier| self.respond(keyed, earlier)))
    }

    fn respond(&self, keyed: &KeyedRequest, earlier: EarlierRequest) -> Response {
        let opened = match earlier {
            EarlierRequest::InProgress => return Problem::request_in_progress().into_response(),
            EarlierRequest::AnswerTooLarge => None,
            EarlierRequest::Answered(answer) => {
                Rendered::open(&self.app.0.api.operator_key, keyed, &answer)
            }
        };
        opened.map_or_else(|| Problem::answer_not_kept().into_response(), Rendered::into_response)
    }
}

fn problem(error: AnswerError) -> Problem {
    ServiceError::from(error).into()
}

impl Rendered {
    fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("bodies are plain data, with string keys");
        Self { status, body }
    }

    fn into_response(self) -> Response {
        (self.status, [(CONTENT_TYPE, "application/json")], self.body).into_response()
    }

    /// Encrypts the body. The salt depends on the body, so that no key encrypts two of them.
    fn seal(&self, secret: &OperatorKey, keyed: &KeyedRequest) -> Answer {
        let status = self.status.as_u16();
        let salt = secret.mac(&[b"salt", &context(keyed, status), &self.body]);
        let salt: [u8; SALT_BYTES] = *salt.first_chunk().expect("a MAC is longer");
        let mut sealed = self.body.clone();
        cipher(secret, keyed, status, &salt)
            .seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
            .expect("an answer is shorter than the cipher's limit");
        sealed.splice(0..0, salt);
        Answer { status, body: sealed.into() }
    }

    /// Decrypts an answer. `None` if it was sealed with another operator key.
    fn open(secret: &OperatorKey, keyed: &KeyedRequest, answer: &Answer) -> Option<Self> {
        let (salt, sealed) = answer.body.split_first_chunk::<SALT_BYTES>()?;
        let mut body = sealed.to_vec();
        let opened = cipher(secret, keyed, answer.status, salt)
            .open_in_place(nonce(), Aad::empty(), &mut body)
            .ok()?
            .len();
        body.truncate(opened);
        Some(Self { status: StatusCode::from_u16(answer.status).ok()?, body })
    }
}

/// What an answer belongs to: no other request opens it.
fn context(keyed: &KeyedRequest, status: u16) -> Vec<u8> {
    let account = keyed.account.map_or([0; 16], |account| account.bytes());
    let Idempotency { key_sha256, body_sha256 } = &keyed.idempotency;
    [&account[..], key_sha256, body_sha256, &status.to_be_bytes()].concat()
}

fn cipher(
    secret: &OperatorKey,
    keyed: &KeyedRequest,
    status: u16,
    salt: &[u8; SALT_BYTES],
) -> LessSafeKey {
    let key = secret.mac(&[b"answer", &context(keyed, status), salt]);
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key);
    LessSafeKey::new(key.expect("a MAC is as long as a key"))
}

/// Each key encrypts one answer, so the nonce need not differ.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::AccountId;
    use postrider_domain::time::Timestamp;

    use super::*;

    #[test]
    fn only_the_same_request_and_operator_key_open_an_answer() {
        let secret = OperatorKey::new("secret");
        let keyed = KeyedRequest {
            account: Some(AccountId::MAX),
            idempotency: Idempotency { key_sha256: [1; 32], body_sha256: [2; 32] },
            at: Timestamp::EPOCH,
        };
        let rendered = Rendered::new(StatusCode::CREATED, &"prk_secret");
        let sealed = rendered.seal(&secret, &keyed);
        assert!(!sealed.body.windows(6).any(|bytes| bytes == b"secret"));
        let later = KeyedRequest { at: Timestamp::from_millis(5), ..keyed };
        let opened = Rendered::open(&secret, &later, &sealed).unwrap();
        assert_eq!((opened.status, opened.body), (rendered.status, rendered.body));
        let other = Idempotency { key_sha256: [3; 32], ..keyed.idempotency };
        let mut changed = sealed.body.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        for (secret, keyed, answer) in [
            (&OperatorKey::new("other"), keyed, sealed.clone()),
            (&secret, KeyedRequest { account: None, ..keyed }, sealed.clone()),
            (&secret, KeyedRequest { idempotency: other, ..keyed }, sealed.clone()),
            (&secret, keyed, Answer { status: 200, ..sealed.clone() }),
            (&secret, keyed, Answer { body: changed.into(), ..sealed.clone() }),
            (&secret, keyed, Answer { body: Bytes::new(), ..sealed.clone() }),
        ] {
            assert!(Rendered::open(secret, &keyed, &answer).is_none());
        }
    }
}
