//! The internal actor messaging API: what another service of the house asks of Postrider by actor
//! message, and what its nodes ask of each other.
//!
//! Who takes part: a node has one gateway (see [`gateway`](crate::gateway)), an actor in the
//! process group `postrider.gateway`, and it is called with bytes. Another service uses the crate
//! `postrider-client`, which joins the cluster, finds the gateways and speaks these messages. This
//! module is the contract: the messages, their limits, and how they become bytes.
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
//!     // With a key a call can be repeated, to any gateway, without a second event.
//!     idempotency_key: Some("application-a1-created".to_owned()),
//! });
//! match gateway::call(&gateway, request, Duration::from_secs(5)).await {
//!     Ok(Reply::Published(receipt)) => println!("{} is durable", receipt.id),
//!     Ok(other) => println!("not an answer to that: {other:?}"),
//!     Err(error) => println!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Bytes
//!
//! | Part of a call | |
//! |---|---|
//! | version | 2 bytes, big-endian: [`VERSION`] |
//! | kind | 2 bytes, big-endian: which request |
//! | trace context | 1 byte for its length, then a W3C `traceparent` as ASCII; length 0 is none |
//! | body | the request's fields, as postcard writes them |
//!
//! An answer has version, kind and body alike, without a trace context. Its kind is that of the
//! request, or 0 for a [`CallError`], whose layout is the same in every version. **Every call is
//! answered**: a version or a kind that the gateway does not know, and bytes that are no message
//! at all, have an error for an answer, never silence.
//!
//! A field that is added, removed or changed makes a new version, or a new kind beside the old one.
//! A gateway keeps answering in the version that it was asked in.
//!
//! # Who may call
//!
//! Whoever has joined the cluster has shown its cookie, and with TLS a certificate, and may do
//! everything, for every account. Accounts are told apart, but not guarded from each other here:
//! that is what the HTTP API's keys are for.

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

/// The version of the messages that this build writes, and the newest that it reads.
pub const VERSION: u16 = 1;
/// Most bytes of a call and of an answer: a batch of 1 MiB with what surrounds it. The link takes
/// frames of 1 MiB and 64 KiB; the rest is for the frame's own fields.
pub const MAX_CALL_BYTES: usize = 1024 * 1024 + 60 * 1024;
/// Most events in one [`PublishBatch`].
pub const MAX_EVENTS: usize = limits::MAX_BATCH_EVENTS;
/// Most bytes of all types and payloads in one [`PublishBatch`]: as much as a batch over HTTP has.
pub const MAX_EVENTS_BYTES: usize = limits::MAX_BATCH_BODY_BYTES;
/// Most wakes in one [`WakeMany`].
pub const MAX_WAKES: usize = 1_000;
/// Largest payload that travels with a wake. The owner reads a larger one from the store.
pub const MAX_WAKE_PAYLOAD_BYTES: usize = 16 * 1024;
/// Most bytes of one [`WakeMany`], so that calls need not wait behind a long one.
pub const MAX_WAKE_BYTES: usize = 256 * 1024;
/// Longest trace context that travels. Version 00 has 55 bytes.
pub const MAX_TRACEPARENT_BYTES: usize = 128;

/// What a gateway is asked. Each says what answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Whether the gateway answers, and what it speaks. Answered by [`Reply::Pong`], also when
    /// every place for calls is taken.
    Ping,
    /// To accept one event. Answered by [`Reply::Published`] once it is durable.
    ///
    /// Errors: `Refused` with everything that is wrong with it, `NotFound` (no such account),
    /// `Conflict` (the idempotency key was used with another request), `Unavailable`, `Overloaded`.
    Publish(Publish),
    /// To accept events, all or none. Answered by [`Reply::PublishedBatch`] once all are durable.
    ///
    /// Errors: as for [`Self::Publish`], and `TooLarge` when there are more than [`MAX_EVENTS`] or
    /// they have more than [`MAX_EVENTS_BYTES`].
    PublishBatch(PublishBatch),
    /// How an endpoint fares. Answered by [`Reply::Endpoint`].
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    EndpointStatus(OfEndpoint),
    /// To send to an endpoint again. One that is enabled stays as it is. Answered by
    /// [`Reply::Endpoint`] as it is then.
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    EnableEndpoint(EnableEndpoint),
    /// To send nothing more to an endpoint, and to hold what is pending. One that is disabled stays
    /// as it is. Answered by [`Reply::Endpoint`] as it is then.
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    DisableEndpoint(OfEndpoint),
    /// What became of a delivery. Answered by [`Reply::Delivery`].
    ///
    /// Errors: `NotFound`, `Unavailable`, `Overloaded`.
    DeliveryStatus(OfDelivery),
    /// Which nodes there are, as the gateway's node sees it. Answered by [`Reply::Cluster`].
    ///
    /// Errors: `Overloaded`.
    ClusterStatus,
    /// Between nodes: there is work for shards that the gateway's node owns. A hint that may be
    /// lost. As a call it is answered by [`Reply::Woken`].
    ///
    /// Errors: `Malformed`, `TooLarge` when there are more than [`MAX_WAKES`].
    WakeMany(WakeMany),
    /// Between nodes: the gateway's node has been made the owner of shards, or somebody's ownership
    /// has ended; look at the store now. A hint that may be lost. As a call it is answered by
    /// [`Reply::Seen`].
    OwnershipChanged(OwnershipChanged),
}

/// An endpoint of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfEndpoint {
    /// Whose it is.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
}

/// An endpoint to enable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnableEndpoint {
    /// Whose it is.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// What becomes of the deliveries that were held.
    pub held: HeldChoice,
}

/// What becomes of the deliveries that were held while an endpoint was disabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldChoice {
    /// They are sent, at a measured pace, with the attempts that they have left.
    #[default]
    Resume,
    /// They are given up.
    Discard,
}

/// A delivery of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfDelivery {
    /// Whose it is.
    pub account: AccountId,
    /// The delivery.
    pub delivery: DeliveryId,
}

/// Ownership that has changed in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipChanged {
    /// The shards that were handed to the gateway's node; empty when it is just to look.
    pub shards: Vec<Shard>,
}

/// What a gateway answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Ping`].
    Pong(Pong),
    /// To [`Request::Publish`]: the event is durable.
    Published(Receipt),
    /// To [`Request::PublishBatch`]: the events are durable. One receipt for each, in their order.
    PublishedBatch(Vec<Receipt>),
    /// To [`Request::EndpointStatus`], [`Request::EnableEndpoint`] and
    /// [`Request::DisableEndpoint`].
    Endpoint(EndpointStatus),
    /// To [`Request::DeliveryStatus`].
    Delivery(DeliveryStatus),
    /// To [`Request::ClusterStatus`].
    Cluster(ClusterStatus),
    /// To [`Request::WakeMany`].
    Woken(Woken),
    /// To [`Request::OwnershipChanged`].
    Seen,
}

/// That a gateway is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The version of Postrider that it runs.
    pub version: String,
    /// The newest version of these messages that it understands.
    pub messages: u16,
}

/// What became of a [`WakeMany`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// Shards that the node does not own. Who does is in the store.
    pub not_owned: Vec<Shard>,
}
