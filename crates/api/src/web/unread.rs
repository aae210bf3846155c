//! Bodies that nobody read. Most refusals are made before the body is looked at, and many callers
//! listen only when they have sent all of it. A connection that is closed with unread bytes on it is
//! reset, and the answer is lost on its way.
//!
//! So the body is only lent to those who answer: what they leave of it is read here before the
//! answer goes out, whichever route, gate or page made it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONNECTION, EXPECT};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// How much is still read of a body that nobody wanted, and for how long.
const MAX_DRAIN_BYTES: usize = 4 * 1024 * 1024;
const MAX_DRAIN_TIME: Duration = Duration::from_secs(3);

/// Reads what is left of a request's body when it has been answered. If that has no end, the
/// connection has one.
pub(crate) async fn hear_out(request: Request, next: Next) -> Response {
    let waits_for_continue = request.headers().contains_key(EXPECT);
    let left = Left::default();
    let request = request.map(|body| Body::new(Lent::new(body, left.clone())));
    let mut response = next.run(request).await;
    let Some(Rest { body, is_untouched }) = left.take() else { return response };
    // Who expects to be told to continue has sent nothing yet, and is told no.
    let has_end = !(waits_for_continue && is_untouched) && drain(body).await;
    if !has_end {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads on and keeps nothing, within bounds. Tells whether the body came to its end.
async fn drain(mut body: Body) -> bool {
    let drained = async {
        let mut left = MAX_DRAIN_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(MAX_DRAIN_TIME, drained).await.unwrap_or(false)
}

/// Where a body that was lent comes back to.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Option<Rest>>>);

/// What is left of a body.
struct Rest {
    body: Body,
    /// Nobody has asked for any of it.
    is_untouched: bool,
}

impl Left {
    fn put(&self, rest: Rest) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }

    fn take(&self) -> Option<Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that comes back when it is dropped, unless it has come to its end.
struct Lent {
    /// None when nothing more comes.
    rest: Option<Rest>,
    left: Left,
}

impl Lent {
    fn new(body: Body, left: Left) -> Self {
        Self { rest: Some(Rest { body, is_untouched: true }), left }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        rest.is_untouched = false;
        let frame = Pin::new(&mut rest.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.rest = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.body.size_hint())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|rest| !rest.body.is_end_stream()) {
            self.left.put(rest);
        }
    }
}
