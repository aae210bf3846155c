//! Draining of unread request bodies. Most requests are rejected before their body is read, and
//! many clients read the response only after sending the whole body. A server that closes a
//! connection with unread bytes resets it, and the client never sees the response.
//!
//! Handlers therefore receive a wrapper of the body that returns the unread rest when it is
//! dropped. The rest is drained before the response is sent, no matter which layer created the
//! response.

use std::pin::Pin;
use std::sync::Arc;
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
use parking_lot::Mutex;

/// The maximum number of bytes to drain, and the deadline.
const MAX_DRAIN_BYTES: usize = 4 * 1024 * 1024;
const MAX_DRAIN_TIME: Duration = Duration::from_secs(3);

/// Drains the unread rest of the request body before the response is sent. Closes the connection if
/// the body exceeds the limits.
pub(crate) async fn drain_unread_body(request: Request, next: Next) -> Response {
    let expects_continue = request.headers().contains_key(EXPECT);
    let returned = ReturnSlot::default();
    let request = request.map(|body| Body::new(ReturningBody::new(body, returned.clone())));
    let mut response = next.run(request).await;
    let Some(UnreadBody { body, is_untouched }) = returned.take() else { return response };
    // A client that expects a 100 Continue has not sent its body, and will not send it now.
    let is_drained = !(expects_continue && is_untouched) && drain(body).await;
    if !is_drained {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads and discards a body within the limits. Returns whether the end was reached.
async fn drain(mut body: Body) -> bool {
    let drained = async {
        let mut budget = MAX_DRAIN_BYTES;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            match budget.checked_sub(length) {
                Some(rest) => budget = rest,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(MAX_DRAIN_TIME, drained).await.unwrap_or(false)
}

/// Receives the unread rest of a body.
#[derive(Clone, Default)]
struct ReturnSlot(Arc<Mutex<Option<UnreadBody>>>);

/// The unread rest of a body.
struct UnreadBody {
    body: Body,
    /// Whether the body was never polled.
    is_untouched: bool,
}

impl ReturnSlot {
    fn put(&self, rest: UnreadBody) {
        *self.0.lock() = Some(rest);
    }

    fn take(&self) -> Option<UnreadBody> {
        self.0.lock().take()
    }
}

/// A body that returns its unread rest when it is dropped.
struct ReturningBody {
    /// `None` at the end of the body.
    rest: Option<UnreadBody>,
    slot: ReturnSlot,
}

impl ReturningBody {
    fn new(body: Body, slot: ReturnSlot) -> Self {
        Self { rest: Some(UnreadBody { body, is_untouched: true }), slot }
    }
}

impl HttpBody for ReturningBody {
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

impl Drop for ReturningBody {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|rest| !rest.body.is_end_stream()) {
            self.slot.put(rest);
        }
    }
}
