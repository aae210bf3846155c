//! How messages become bytes and bytes become messages. Whatever bytes come in, the outcome is a
//! message or a [`CallError`] that can be sent back.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    CallError, CallErrorKind, MAX_CALL_BYTES, MAX_TRACEPARENT_BYTES, Reply, Request, VERSION,
};

/// The kinds of message. They never change their meaning; a removed one is not given again.
mod kind {
    pub(super) const ERROR: u16 = 0;
    pub(super) const PING: u16 = 1;
    pub(super) const PUBLISH: u16 = 2;
    pub(super) const PUBLISH_BATCH: u16 = 3;
    pub(super) const ENDPOINT_STATUS: u16 = 4;
    pub(super) const ENABLE_ENDPOINT: u16 = 5;
    pub(super) const DISABLE_ENDPOINT: u16 = 6;
    pub(super) const DELIVERY_STATUS: u16 = 7;
    pub(super) const CLUSTER_STATUS: u16 = 8;
    pub(super) const WAKE_MANY: u16 = 9;
    pub(super) const OWNERSHIP_CHANGED: u16 = 10;

    /// The answer to three requests.
    pub(super) const ENDPOINT: u16 = ENDPOINT_STATUS;
}

/// A request, and where it belongs in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// The caller's span, as a W3C `traceparent`.
    pub traceparent: Option<String>,
}

impl From<Request> for Call {
    fn from(request: Request) -> Self {
        Self { request, traceparent: None }
    }
}

impl Call {
    /// The call as bytes.
    ///
    /// # Errors
    /// When there are more than [`MAX_CALL_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CallError> {
        let mut bytes = head(self.request.kind());
        // Beyond the bound a trace breaks off, and the call goes on.
        let trace = self.traceparent.as_deref().unwrap_or("");
        let trace = if trace.len() <= MAX_TRACEPARENT_BYTES { trace } else { "" };
        bytes.push(u8::try_from(trace.len()).expect("bounded"));
        bytes.extend_from_slice(trace.as_bytes());
        let bytes = match &self.request {
            Request::Ping | Request::ClusterStatus => bytes,
            Request::Publish(body) => with(bytes, body),
            Request::PublishBatch(body) => with(bytes, body),
            Request::EndpointStatus(body) | Request::DisableEndpoint(body) => with(bytes, body),
            Request::EnableEndpoint(body) => with(bytes, body),
            Request::DeliveryStatus(body) => with(bytes, body),
            Request::WakeMany(body) => with(bytes, body),
            Request::OwnershipChanged(body) => with(bytes, body),
        };
        check_length(bytes.len())?;
        Ok(bytes)
    }

    /// The call in `bytes`. Counts are held against their bounds; what the fields say is not
    /// checked here.
    ///
    /// # Errors
    /// `UnknownVersion`, `UnknownKind`, `TooLarge`, or `Malformed` with what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, CallError> {
        check_length(bytes.len())?;
        let (kind, rest) = kind_of(bytes)?;
        if !(kind::PING..=kind::OWNERSHIP_CHANGED).contains(&kind) {
            return Err(unknown_kind(kind));
        }
        let (traceparent, body) = split_trace(rest)?;
        let request = match kind {
            kind::PING => bare(body, Request::Ping)?,
            kind::PUBLISH => Request::Publish(read(body)?),
            kind::PUBLISH_BATCH => Request::PublishBatch(read(body)?),
            kind::ENDPOINT_STATUS => Request::EndpointStatus(read(body)?),
            kind::ENABLE_ENDPOINT => Request::EnableEndpoint(read(body)?),
            kind::DISABLE_ENDPOINT => Request::DisableEndpoint(read(body)?),
            kind::DELIVERY_STATUS => Request::DeliveryStatus(read(body)?),
            kind::CLUSTER_STATUS => bare(body, Request::ClusterStatus)?,
            kind::WAKE_MANY => Request::WakeMany(read(body)?),
            kind::OWNERSHIP_CHANGED => Request::OwnershipChanged(read(body)?),
            kind => return Err(unknown_kind(kind)),
        };
        request.check_counts()?;
        Ok(Self { request, traceparent })
    }

    /// Whether `bytes` are a call that the gateway answers by itself, without a place for it: it
    /// costs next to nothing, or the cluster's work waits for it.
    pub(crate) fn is_light(bytes: &[u8]) -> bool {
        matches!(kind_of(bytes), Ok((kind::PING | kind::WAKE_MANY | kind::OWNERSHIP_CHANGED, _)))
    }
}

impl Request {
    fn kind(&self) -> u16 {
        match self {
            Self::Ping => kind::PING,
            Self::Publish(_) => kind::PUBLISH,
            Self::PublishBatch(_) => kind::PUBLISH_BATCH,
            Self::EndpointStatus(_) => kind::ENDPOINT_STATUS,
            Self::EnableEndpoint(_) => kind::ENABLE_ENDPOINT,
            Self::DisableEndpoint(_) => kind::DISABLE_ENDPOINT,
            Self::DeliveryStatus(_) => kind::DELIVERY_STATUS,
            Self::ClusterStatus => kind::CLUSTER_STATUS,
            Self::WakeMany(_) => kind::WAKE_MANY,
            Self::OwnershipChanged(_) => kind::OWNERSHIP_CHANGED,
        }
    }

    fn check_counts(&self) -> Result<(), CallError> {
        match self {
            Self::PublishBatch(batch) => batch.check_counts(),
            Self::WakeMany(many) => many.check_counts(),
            _ => Ok(()),
        }
    }
}

/// An answer as bytes, at most [`MAX_CALL_BYTES`].
#[must_use]
pub fn encode_reply(reply: &Result<Reply, CallError>) -> Vec<u8> {
    let bytes = match reply {
        Ok(Reply::Pong(body)) => with(head(kind::PING), body),
        Ok(Reply::Published(body)) => with(head(kind::PUBLISH), body),
        Ok(Reply::PublishedBatch(body)) => with(head(kind::PUBLISH_BATCH), body),
        Ok(Reply::Endpoint(body)) => with(head(kind::ENDPOINT), body),
        Ok(Reply::Delivery(body)) => with(head(kind::DELIVERY_STATUS), body),
        Ok(Reply::Cluster(body)) => with(head(kind::CLUSTER_STATUS), body),
        Ok(Reply::Woken(body)) => with(head(kind::WAKE_MANY), body),
        Ok(Reply::Seen) => head(kind::OWNERSHIP_CHANGED),
        Err(error) => with(head(kind::ERROR), &error.wire()),
    };
    match (check_length(bytes.len()), reply) {
        (Ok(()), _) => bytes,
        (Err(_), Err(error)) => encode_reply(&Err(error.clone().shortened())),
        (Err(error), Ok(_)) => encode_reply(&Err(error)),
    }
}

/// The answer in `bytes`: what the gateway replied, or its error.
///
/// # Errors
/// The gateway's error, or `Malformed` when the bytes are no answer.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, CallError> {
    check_length(bytes.len())?;
    // An error is laid out alike in every version: whoever answers in another one says why.
    if let Some(error) = error_in(bytes) {
        return Err(CallError::of_wire(read(error)?));
    }
    let (kind, body) = kind_of(bytes)?;
    Ok(match kind {
        kind::PING => Reply::Pong(read(body)?),
        kind::PUBLISH => Reply::Published(read(body)?),
        kind::PUBLISH_BATCH => Reply::PublishedBatch(read(body)?),
        kind::ENDPOINT => Reply::Endpoint(read(body)?),
        kind::DELIVERY_STATUS => Reply::Delivery(read(body)?),
        kind::CLUSTER_STATUS => Reply::Cluster(read(body)?),
        kind::WAKE_MANY => Reply::Woken(read(body)?),
        kind::OWNERSHIP_CHANGED => bare(body, Reply::Seen)?,
        kind => return Err(unknown_kind(kind)),
    })
}

fn head(kind: u16) -> Vec<u8> {
    [VERSION.to_be_bytes(), kind.to_be_bytes()].concat()
}

fn with(bytes: Vec<u8>, body: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(body, bytes).expect("messages are plain data, which always serializes")
}

/// The body of an answer that is an error, whatever its version.
fn error_in(reply: &[u8]) -> Option<&[u8]> {
    let (_version, rest) = reply.split_first_chunk::<2>()?;
    let (kind, body) = rest.split_first_chunk()?;
    (u16::from_be_bytes(*kind) == kind::ERROR).then_some(body)
}

/// The kind of a message of a known version, and what follows.
fn kind_of(bytes: &[u8]) -> Result<(u16, &[u8]), CallError> {
    let too_short = || malformed("it ends before its head does");
    let (version, rest) = bytes.split_first_chunk().ok_or_else(too_short)?;
    let version = u16::from_be_bytes(*version);
    if version != VERSION {
        return Err(CallError::new(
            CallErrorKind::UnknownVersion,
            format!("version {version} is not known; {VERSION} is"),
        ));
    }
    let (kind, rest) = rest.split_first_chunk().ok_or_else(too_short)?;
    Ok((u16::from_be_bytes(*kind), rest))
}

fn split_trace(bytes: &[u8]) -> Result<(Option<String>, &[u8]), CallError> {
    let split =
        bytes.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    let (trace, body) = split.ok_or_else(|| malformed("it ends before its trace context does"))?;
    let trace =
        std::str::from_utf8(trace).map_err(|_| malformed("its trace context is no text"))?;
    Ok(((!trace.is_empty()).then(|| trace.to_owned()), body))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(malformed(&format!("{} bytes follow its end", rest.len()))),
        Err(error) => Err(malformed(&format!("its body cannot be read: {error}"))),
    }
}

/// A message without fields.
fn bare<T>(body: &[u8], message: T) -> Result<T, CallError> {
    read::<()>(body).map(|()| message)
}

fn malformed(why: &str) -> CallError {
    CallError::new(CallErrorKind::Malformed, format!("the message cannot be read: {why}"))
}

fn unknown_kind(kind: u16) -> CallError {
    let message = format!("there is no message of kind {kind} in version {VERSION}");
    CallError::new(CallErrorKind::UnknownKind, message)
}

fn check_length(length: usize) -> Result<(), CallError> {
    if length <= MAX_CALL_BYTES {
        return Ok(());
    }
    let message = format!("the message has {length} bytes; at most {MAX_CALL_BYTES} are taken");
    Err(CallError::new(CallErrorKind::TooLarge, message))
}
