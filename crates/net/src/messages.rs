//! The actor messaging API: the requests that other services and other nodes send to a node.
//!
//! Each node runs one gateway (see [`gateway`](crate::gateway)), an actor in the process group
//! `postrider.gateway`. Its messages are bytes. Services use the crate `postrider-client`, which
//! joins the cluster, finds the gateways and encodes these messages. This module defines the
//! messages, their limits and their encoding.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use postrider_net::gateway;
//! use postrider_net::messages::{NewEvent, Publish, Reply, Request};
//! use postrider_domain::ids::AccountId;
//!
//! # async fn example(gateway: ractor::ActorRef<gateway::GatewayMessage>)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let account: AccountId = "acct_06b2k1d5h3vqf8m2c9r7t4w0xg".parse()?;
//! let event = NewEvent {
//!     event_type: "application.created".to_owned(),
//!     payload: r#"{"application_id": "a1"}"#.into(),
//! };
//! let request = Request::Publish(Publish {
//!     account,
//!     event,
//!     // With a key, the call can be repeated on any gateway without publishing a second event.
//!     idempotency_key: Some("application-a1-created".to_owned()),
//! });
//! match gateway::call(&gateway, request, Duration::from_secs(5)).await {
//!     Ok(Reply::Published(receipt)) => println!("{} is durable", receipt.id),
//!     Ok(other) => println!("unexpected reply: {other:?}"),
//!     Err(error) => println!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Encoding
//!
//! A call is a sequence of bytes:
//!
//! | Part of a call | Encoding |
//! |---|---|
//! | version | 2 bytes, big-endian: [`VERSION`] |
//! | kind | 2 bytes, big-endian: the number of the request |
//! | trace context | 1 byte length, then a [W3C `traceparent`] in ASCII; length 0 if absent |
//! | body | the fields of the request, in [postcard] encoding |
//!
//! A reply consists of version, kind and body, without a trace context. Its kind is the kind of the
//! request, or 0 for a [`CallError`]. The encoding of an error is the same in every version.
//!
//! The gateway replies to every call. It replies with an error to bytes that it cannot decode and
//! to versions and kinds that it does not know.
//!
//! Ids are 16 bytes. Times are milliseconds since the Unix epoch. Durations are milliseconds. Sizes
//! are bytes.
//!
//! # Versions
//!
//! The bytes of a version never change: adding, removing or changing a field requires a new
//! version, or a new kind beside the old one. A gateway replies in the version of the call.
//!
//! # Limits
//!
//! | Limit | Value | Source |
//! |---|---|---|
//! | [`MAX_CALL_BYTES`] | 1 MiB + 60 KiB | the transport's frame limit |
//! | [`MAX_EVENTS`], [`MAX_EVENTS_BYTES`] | 1,000 events, 1 MiB | the limits of a batch over HTTP |
//! | [`MAX_CALLS`](crate::gateway::MAX_CALLS) | 256 calls in flight | the gateway |
//! | [`MAX_WAKES`], [`MAX_WAKE_BYTES`] | 1,000 wakes, 256 KiB | keeps calls from waiting behind a long message |
//!
//! # Authorization
//!
//! Every process that has joined the cluster has presented the cookie and, with TLS, a certificate.
//! It may call everything for every account. There is no authorization per account, as there is
//! with the API keys of the HTTP API.
//!
//! [W3C `traceparent`]: https://www.w3.org/TR/trace-context/#traceparent-header
//! [postcard]: https://postcard.jamesmunns.com/wire-format

mod envelope;
mod error;
mod publish;
mod status;
mod wake;

#[cfg(test)]
mod tests;

use postrider_domain::assignment::Shard;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::limits;
use serde::{Deserialize, Serialize};

pub use self::envelope::{Call, decode_reply, encode_reply};
pub use self::error::{CallError, CallErrorKind};
pub use self::publish::{NewEvent, Publish, PublishBatch, Receipt};
pub use self::status::{
    AttemptStatus, ClusterStatus, DeliveryStatus, EndpointState, EndpointStatus, NodeStatus,
};
pub use self::wake::{ReadyDelivery, WakeItem, WakeMany, Work};

/// The version of the messages that this build encodes, and the newest that it decodes.
pub const VERSION: u16 = 1;
/// The maximum size of an encoded call or reply: a batch of 1 MiB and its other fields. The
/// transport accepts frames of 1 MiB and 64 KiB; the difference is left to the frame's own fields.
pub const MAX_CALL_BYTES: usize = 1024 * 1024 + 60 * 1024;
/// The maximum number of events in a [`PublishBatch`], as for a batch over HTTP.
pub const MAX_EVENTS: usize = limits::MAX_BATCH_EVENTS;
/// The maximum total size of the types and payloads in a [`PublishBatch`], as for a batch over
/// HTTP.
pub const MAX_EVENTS_BYTES: usize = limits::MAX_BATCH_BODY_BYTES;
/// The maximum number of wakes in a [`WakeMany`].
pub const MAX_WAKES: usize = 1_000;
/// The maximum size of a payload in a wake. The owner reads larger payloads from the store.
pub const MAX_WAKE_PAYLOAD_BYTES: usize = 16 * 1024;
/// The maximum encoded size of a [`WakeMany`], so that calls do not wait behind a long message.
pub const MAX_WAKE_BYTES: usize = 256 * 1024;
/// The maximum length of a trace context. Longer ones are dropped. A `traceparent` of version 00
/// has 55 bytes.
pub const MAX_TRACEPARENT_BYTES: usize = 128;

/// A request to a gateway.
///
/// Besides the errors listed for each request, every call can fail with `UnknownVersion`,
/// `UnknownKind`, `Malformed`, `TooLarge` (see [`MAX_CALL_BYTES`]), `Internal`, `TimedOut` and
/// `ConnectionLost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Checks that the gateway responds, and returns its version. The gateway replies with
    /// [`Reply::Pong`], even while the maximum number of calls is in flight.
    Ping,
    /// Publishes an event. The gateway replies with [`Reply::Published`] once the event is durable.
    ///
    /// Errors:
    /// - `Invalid`: the event violates a rule; the error lists every violation.
    /// - `NotFound`: the account does not exist.
    /// - `Conflict`: the idempotency key was used with another request.
    /// - `Unavailable`, `Overloaded`.
    Publish(Publish),
    /// Publishes several events, all or none. The gateway replies with [`Reply::PublishedBatch`]
    /// once all of them are durable.
    ///
    /// Errors: as for [`Self::Publish`], and
    /// - `Malformed`: the batch is empty.
    /// - `TooLarge`: the batch exceeds [`MAX_EVENTS`] or [`MAX_EVENTS_BYTES`].
    PublishBatch(PublishBatch),
    /// Returns the status of an endpoint. The gateway replies with [`Reply::Endpoint`].
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    EndpointStatus(EndpointRef),
    /// Enables an endpoint. Has no effect on an enabled endpoint. The gateway replies with
    /// [`Reply::Endpoint`], the status after the change.
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    EnableEndpoint(EnableEndpoint),
    /// Disables an endpoint: nothing more is sent to it, and its pending deliveries are held. Has
    /// no effect on a disabled endpoint. The gateway replies with [`Reply::Endpoint`], the status
    /// after the change.
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    DisableEndpoint(EndpointRef),
    /// Returns the status of a delivery and its attempts. The gateway replies with
    /// [`Reply::Delivery`].
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    DeliveryStatus(DeliveryRef),
    /// Returns the nodes of the cluster, as the gateway's node sees them. The gateway replies with
    /// [`Reply::Cluster`].
    ///
    /// Errors: `Overloaded`.
    ClusterStatus,
    /// Between nodes: announces work in shards that the gateway's node owns. The message is a hint
    /// and may be lost. If it is sent as a call, the gateway replies with [`Reply::Woken`].
    ///
    /// Errors: `Malformed`; `TooLarge` if the message exceeds [`MAX_WAKES`].
    WakeMany(WakeMany),
    /// Between nodes: announces that the gateway's node has become the owner of shards, or that
    /// another node's ownership has ended, so that it reads the store now. The message is a hint
    /// and may be lost. If it is sent as a call, the gateway replies with [`Reply::Acknowledged`].
    OwnershipChanged(OwnershipChanged),
}

/// Identifies an endpoint of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRef {
    /// The account that owns the endpoint.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
}

/// The parameters of [`Request::EnableEndpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnableEndpoint {
    /// The account that owns the endpoint.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whether held deliveries are sent or discarded.
    pub held: HeldChoice,
}

/// What happens to the deliveries that were held while an endpoint was disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldChoice {
    /// Send them, at a limited rate, with the attempts that they have left.
    #[default]
    Resume,
    /// Discard them.
    Discard,
}

/// Identifies a delivery of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRef {
    /// The account that owns the delivery.
    pub account: AccountId,
    /// The delivery.
    pub delivery: DeliveryId,
}

/// The parameters of [`Request::OwnershipChanged`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipChanged {
    /// The shards that were handed over to the gateway's node. May be empty.
    pub shards: Vec<Shard>,
}

/// A successful reply of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Replies to [`Request::Ping`].
    Pong(Pong),
    /// Replies to [`Request::Publish`]: the event is durable.
    Published(Receipt),
    /// Replies to [`Request::PublishBatch`]: the events are durable. One receipt per event, in the
    /// order of the request.
    PublishedBatch(Vec<Receipt>),
    /// Replies to [`Request::EndpointStatus`], [`Request::EnableEndpoint`] and
    /// [`Request::DisableEndpoint`].
    Endpoint(EndpointStatus),
    /// Replies to [`Request::DeliveryStatus`].
    Delivery(DeliveryStatus),
    /// Replies to [`Request::ClusterStatus`].
    Cluster(ClusterStatus),
    /// Replies to [`Request::WakeMany`].
    Woken(Woken),
    /// Replies to [`Request::OwnershipChanged`].
    Acknowledged,
}

/// The reply to [`Request::Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The version of Postrider on the gateway's node.
    pub version: String,
    /// The newest [`VERSION`] of these messages that the gateway supports.
    pub messages: u16,
}

/// The reply to [`Request::WakeMany`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// Shards that the gateway's node does not own. The store has their owners.
    pub not_owned: Vec<Shard>,
}
