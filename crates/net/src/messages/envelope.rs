//! Encoding and decoding of messages. Decoding any bytes returns a message or a [`CallError`] that
//! can be sent as the reply.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    CallError, CallErrorKind, MAX_CALL_BYTES, MAX_TRACEPARENT_BYTES, Reply, Request, VERSION,
};

/// The numbers of the kinds of message. A number never changes its meaning and is never reused.
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

    /// The kind of the reply to three requests.
    pub(super) const ENDPOINT: u16 = ENDPOINT_STATUS;
}

/// A request and its trace context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The request.
    pub request: Request,
    /// The caller's span, as a W3C `traceparent` of at most [`MAX_TRACEPARENT_BYTES`].
    pub traceparent: Option<String>,
}

impl From<Request> for Call {
    fn from(request: Request) -> Self {
        Self { request, traceparent: None }
    }
}

impl Call {
    /// Encodes the call.
    ///
    /// # Errors
    /// `TooLarge` if the encoding exceeds [`MAX_CALL_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CallError> {
        let mut bytes = header(self.request.kind());
        // A trace context over the limit ends the trace, but not the call.
        let trace = self.traceparent.as_deref().unwrap_or("");
        let trace = if trace.len() <= MAX_TRACEPARENT_BYTES { trace } else { "" };
        bytes.push(u8::try_from(trace.len()).expect("bounded"));
        bytes.extend_from_slice(trace.as_bytes());
        let bytes = match &self.request {
            Request::Ping | Request::ClusterStatus => bytes,
            Request::Publish(body) => append(bytes, body),
            Request::PublishBatch(body) => append(bytes, body),
            Request::EndpointStatus(body) | Request::DisableEndpoint(body) => append(bytes, body),
            Request::EnableEndpoint(body) => append(bytes, body),
            Request::DeliveryStatus(body) => append(bytes, body),
            Request::WakeMany(body) => append(bytes, body),
            Request::OwnershipChanged(body) => append(bytes, body),
        };
        check_length(bytes.len())?;
        Ok(bytes)
    }

    /// Decodes a call. Checks the numbers of events and wakes, but not the contents of the fields.
    ///
    /// # Errors
    /// `UnknownVersion`, `UnknownKind`, `TooLarge` or `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Self, CallError> {
        check_length(bytes.len())?;
        let (kind, rest) = split_header(bytes)?;
        if !(kind::PING..=kind::OWNERSHIP_CHANGED).contains(&kind) {
            return Err(unknown_kind(kind));
        }
        let (traceparent, body) = split_trace(rest)?;
        let request = match kind {
            kind::PING => empty_body(body, Request::Ping)?,
            kind::PUBLISH => Request::Publish(read(body)?),
            kind::PUBLISH_BATCH => Request::PublishBatch(read(body)?),
            kind::ENDPOINT_STATUS => Request::EndpointStatus(read(body)?),
            kind::ENABLE_ENDPOINT => Request::EnableEndpoint(read(body)?),
            kind::DISABLE_ENDPOINT => Request::DisableEndpoint(read(body)?),
            kind::DELIVERY_STATUS => Request::DeliveryStatus(read(body)?),
            kind::CLUSTER_STATUS => empty_body(body, Request::ClusterStatus)?,
            kind::WAKE_MANY => Request::WakeMany(read(body)?),
            kind::OWNERSHIP_CHANGED => Request::OwnershipChanged(read(body)?),
            kind => return Err(unknown_kind(kind)),
        };
        request.check_counts()?;
        Ok(Self { request, traceparent })
    }

    /// Whether `bytes` are a call that the gateway's actor handles itself, outside the limit on
    /// calls in flight: the call is cheap, and other nodes may be waiting for it.
    pub(crate) fn is_inline(bytes: &[u8]) -> bool {
        matches!(
            split_header(bytes),
            Ok((kind::PING | kind::WAKE_MANY | kind::OWNERSHIP_CHANGED, _))
        )
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

/// Encodes a reply in at most [`MAX_CALL_BYTES`]. A longer error is shortened; a longer reply
/// becomes an error.
#[must_use]
pub fn encode_reply(reply: &Result<Reply, CallError>) -> Vec<u8> {
    let bytes = match reply {
        Ok(Reply::Pong(body)) => append(header(kind::PING), body),
        Ok(Reply::Published(body)) => append(header(kind::PUBLISH), body),
        Ok(Reply::PublishedBatch(body)) => append(header(kind::PUBLISH_BATCH), body),
        Ok(Reply::Endpoint(body)) => append(header(kind::ENDPOINT), body),
        Ok(Reply::Delivery(body)) => append(header(kind::DELIVERY_STATUS), body),
        Ok(Reply::Cluster(body)) => append(header(kind::CLUSTER_STATUS), body),
        Ok(Reply::Woken(body)) => append(header(kind::WAKE_MANY), body),
        Ok(Reply::Acknowledged) => header(kind::OWNERSHIP_CHANGED),
        Err(error) => append(header(kind::ERROR), &error.to_wire()),
    };
    match (check_length(bytes.len()), reply) {
        (Ok(()), _) => bytes,
        (Err(_), Err(error)) => encode_reply(&Err(error.clone().shortened())),
        (Err(error), Ok(_)) => encode_reply(&Err(error)),
    }
}

/// Decodes a reply.
///
/// # Errors
/// The gateway's error. `UnknownVersion`, `UnknownKind`, `TooLarge` or `Malformed` if the reply
/// cannot be decoded.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, CallError> {
    check_length(bytes.len())?;
    // The encoding of an error is the same in every version, so that the reason can be decoded.
    if let Some(error) = error_body(bytes) {
        return Err(CallError::from_wire(read(error)?));
    }
    let (kind, body) = split_header(bytes)?;
    Ok(match kind {
        kind::PING => Reply::Pong(read(body)?),
        kind::PUBLISH => Reply::Published(read(body)?),
        kind::PUBLISH_BATCH => Reply::PublishedBatch(read(body)?),
        kind::ENDPOINT => Reply::Endpoint(read(body)?),
        kind::DELIVERY_STATUS => Reply::Delivery(read(body)?),
        kind::CLUSTER_STATUS => Reply::Cluster(read(body)?),
        kind::WAKE_MANY => Reply::Woken(read(body)?),
        kind::OWNERSHIP_CHANGED => empty_body(body, Reply::Acknowledged)?,
        kind => return Err(unknown_kind(kind)),
    })
}

fn header(kind: u16) -> Vec<u8> {
    [VERSION.to_be_bytes(), kind.to_be_bytes()].concat()
}

fn append(bytes: Vec<u8>, body: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(body, bytes).expect("messages are plain data, which always serializes")
}

/// The body of a reply if it is an error, whatever its version.
fn error_body(reply: &[u8]) -> Option<&[u8]> {
    let (_version, rest) = reply.split_first_chunk::<2>()?;
    let (kind, body) = rest.split_first_chunk()?;
    (u16::from_be_bytes(*kind) == kind::ERROR).then_some(body)
}

/// The kind of a message of a supported version, and the bytes after the header.
fn split_header(bytes: &[u8]) -> Result<(u16, &[u8]), CallError> {
    let too_short = || malformed("it ends within its header");
    let (version, rest) = bytes.split_first_chunk().ok_or_else(too_short)?;
    let version = u16::from_be_bytes(*version);
    if version != VERSION {
        return Err(CallError::new(
            CallErrorKind::UnknownVersion,
            format!("version {version} is not supported; this build supports version {VERSION}"),
        ));
    }
    let (kind, rest) = rest.split_first_chunk().ok_or_else(too_short)?;
    Ok((u16::from_be_bytes(*kind), rest))
}

fn split_trace(bytes: &[u8]) -> Result<(Option<String>, &[u8]), CallError> {
    let split =
        bytes.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    let (trace, body) = split.ok_or_else(|| malformed("it ends within its trace context"))?;
    let trace =
        std::str::from_utf8(trace).map_err(|_| malformed("its trace context is not UTF-8"))?;
    Ok(((!trace.is_empty()).then(|| trace.to_owned()), body))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(malformed(&format!("{} bytes follow its end", rest.len()))),
        Err(error) => Err(malformed(&format!("its body is invalid: {error}"))),
    }
}

/// Decodes the body of a message without fields.
fn empty_body<T>(body: &[u8], message: T) -> Result<T, CallError> {
    read::<()>(body).map(|()| message)
}

fn malformed(why: &str) -> CallError {
    CallError::new(CallErrorKind::Malformed, format!("the message cannot be decoded: {why}"))
}

fn unknown_kind(kind: u16) -> CallError {
    let message = format!("version {VERSION} has no message of kind {kind}");
    CallError::new(CallErrorKind::UnknownKind, message)
}

fn check_length(length: usize) -> Result<(), CallError> {
    if length <= MAX_CALL_BYTES {
        return Ok(());
    }
    let message = format!("the message has {length} bytes; the limit is {MAX_CALL_BYTES}");
    Err(CallError::new(CallErrorKind::TooLarge, message))
}
