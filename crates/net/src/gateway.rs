//! The gateway: the actor of a node that other nodes and services send requests to.
//!
//! Callers find gateways in the process group [`GROUP`] and send the bytes of a [`Call`]. The
//! gateway decodes them, passes the call to its [`Handler`] and replies. Each call runs in a
//! separate task, so that no call waits for another's transaction. The actor itself handles pings,
//! wakes and changes of ownership: they are cheap, and other nodes may be waiting for them.
//!
//! The gateway replies to every call. Bytes that cannot be decoded, an unknown variant, too many
//! calls in flight and a panic in a task all result in an error.

mod message;

#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use ractor::rpc::CallResult;
use ractor::{
    Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent, pg,
};
use ractor_cluster::NodeId;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

pub use self::message::GatewayMessage;
use crate::messages::{
    Call, CallError, CallErrorKind, Pong, Reply, Request, VERSION, WakeMany, Woken, decode_reply,
    encode_reply,
};
use crate::tasks::Tasks;

/// The process group of all gateways.
pub const GROUP: &str = "postrider.gateway";
/// The maximum number of calls in flight per gateway. Further calls fail at once with `Overloaded`,
/// so that the caller can try another gateway.
pub const MAX_CALLS: usize = 256;
/// How long a stopping gateway waits for calls in flight.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Handles calls. The gateway itself replies to [`Request::Ping`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles a call, in a separate task. May wait for the store.
    async fn handle(&self, call: Call) -> Result<Reply, CallError>;

    /// Wakes the owners of shards on this node, and returns the shards that this node does not own.
    /// Runs in the gateway's actor and must not block.
    ///
    /// # Errors
    /// `Malformed` if any of the wakes is invalid. The whole message is then rejected.
    fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError>;

    /// Has this node read from the store which shards it owns. Runs in the gateway's actor and must
    /// not block.
    fn ownership_changed(&self);
}

/// A handle to a running gateway. Clones share it.
#[derive(Clone)]
pub struct Gateway {
    actor: ActorRef<GatewayMessage>,
    tasks: TaskTracker,
}

impl Gateway {
    /// Starts the gateway of this node and adds it to [`GROUP`].
    ///
    /// # Errors
    /// If the actor cannot start.
    pub async fn start(handler: Arc<dyn Handler>, node_tasks: &Tasks) -> Result<Self, SpawnErr> {
        let tasks = TaskTracker::new();
        let state = GatewayState {
            handler,
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            tasks: tasks.clone(),
        };
        let (actor, running) = Actor::spawn(None, GatewayActor, state).await?;
        node_tasks.watch("gateway", running);
        Ok(Self { actor, tasks })
    }

    /// Stops accepting calls, and waits at most 5 s for calls in flight.
    pub async fn stop(&self) {
        pg::leave(GROUP.to_owned(), vec![self.actor.get_cell()]);
        let draining = async {
            // Fails only if the actor has already stopped.
            let _ = self.actor.drain_and_wait(None).await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, draining).await.is_err() {
            tracing::warn!(
                left = self.tasks.len(),
                "stopped the gateway with calls still in flight"
            );
        }
    }

    /// The actor, for calls from the same node.
    #[must_use]
    pub fn actor(&self) -> &ActorRef<GatewayMessage> {
        &self.actor
    }
}

/// The gateway of a connected node. `None` until the session has announced it.
#[must_use]
pub fn of(node: NodeId) -> Option<ActorRef<GatewayMessage>> {
    let members = pg::get_members(&GROUP.to_owned());
    let gateway = members.into_iter().find(|member| match member.get_id() {
        ActorId::Remote { node_id, .. } => node_id == node,
        ActorId::Local(_) => false,
    });
    gateway.map(Into::into)
}

/// The gateways of all connected nodes.
#[must_use]
pub fn remote() -> Vec<ActorRef<GatewayMessage>> {
    let members = pg::get_members(&GROUP.to_owned());
    members.into_iter().filter(|member| !member.get_id().is_local()).map(Into::into).collect()
}

/// Calls a gateway and waits for the reply, at most for `timeout`.
///
/// # Errors
/// The gateway's error; `TooLarge` if the request exceeds a limit; `TimedOut` or `ConnectionLost`
/// if no reply arrived.
pub async fn call(
    gateway: &ActorRef<GatewayMessage>,
    call: impl Into<Call>,
    timeout: Duration,
) -> Result<Reply, CallError> {
    let bytes = call.into().encode()?;
    decode_reply(&call_raw(gateway, bytes, timeout).await?)
}

/// Calls a gateway with an encoded call, and returns the encoded reply.
///
/// # Errors
/// `TimedOut` or `ConnectionLost`.
pub async fn call_raw(
    gateway: &ActorRef<GatewayMessage>,
    bytes: Vec<u8>,
    timeout: Duration,
) -> Result<Vec<u8>, CallError> {
    let lost = |message: &str| CallError::new(CallErrorKind::ConnectionLost, message);
    match gateway.call(|reply| GatewayMessage::Call(bytes, reply), Some(timeout)).await {
        Ok(CallResult::Success(reply)) => Ok(reply),
        Ok(CallResult::Timeout) => {
            let message = format!("the gateway did not reply within {timeout:?}");
            Err(CallError::new(CallErrorKind::TimedOut, message))
        }
        Ok(CallResult::SenderError) => {
            Err(lost("the connection was lost before the reply arrived"))
        }
        Err(_) => Err(lost("the gateway has stopped")),
    }
}

/// Sends a message to a gateway without waiting for a reply. The message may be lost.
///
/// # Errors
/// `TooLarge` if the request exceeds a limit; `ConnectionLost` if the gateway is known to have
/// stopped.
pub fn cast(gateway: &ActorRef<GatewayMessage>, call: impl Into<Call>) -> Result<(), CallError> {
    let bytes = call.into().encode()?;
    let sent = gateway.cast(GatewayMessage::Cast(bytes));
    sent.map_err(|_| CallError::new(CallErrorKind::ConnectionLost, "the gateway has stopped"))
}

/// The actor. Its state is in [`GatewayState`].
struct GatewayActor;

struct GatewayState {
    handler: Arc<dyn Handler>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

#[ractor::async_trait]
impl Actor for GatewayActor {
    type Msg = GatewayMessage;
    type State = GatewayState;
    type Arguments = GatewayState;

    async fn pre_start(
        &self,
        _myself: ActorRef<GatewayMessage>,
        state: GatewayState,
    ) -> Result<GatewayState, ActorProcessingErr> {
        Ok(state)
    }

    async fn post_start(
        &self,
        myself: ActorRef<GatewayMessage>,
        _state: &mut GatewayState,
    ) -> Result<(), ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<GatewayMessage>,
        message: GatewayMessage,
        state: &mut GatewayState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GatewayMessage::Call(bytes, reply) if Call::is_inline(&bytes) => {
                let outcome = catch_panic(|| state.reply_inline(&bytes));
                send_reply(reply, &outcome.unwrap_or_else(|| Err(CallError::internal())));
            }
            GatewayMessage::Call(bytes, reply) => state.spawn_call(bytes, reply),
            GatewayMessage::Cast(bytes) => {
                catch_panic(|| state.handle_cast(&bytes));
            }
            GatewayMessage::Unknown(variant, reply) => {
                let message = format!("this gateway does not support the message {variant:?}");
                send_reply(reply, &Err(CallError::new(CallErrorKind::UnknownKind, message)));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<GatewayMessage>,
        event: SupervisionEvent,
        _state: &mut GatewayState,
    ) -> Result<(), ActorProcessingErr> {
        // The gateway has no children, and events of other actors must not stop it.
        tracing::debug!(%event, "ignored a supervision event");
        Ok(())
    }
}

impl GatewayState {
    /// Starts a task for a call, if the limit on calls in flight allows it.
    fn spawn_call(&self, bytes: Vec<u8>, reply: RpcReplyPort<Vec<u8>>) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            let message = format!("the gateway has {MAX_CALLS} calls in flight");
            return send_reply(reply, &Err(CallError::new(CallErrorKind::Overloaded, message)));
        };
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let handled = async { handler.handle(Call::decode(&bytes)?).await };
            let outcome = AssertUnwindSafe(handled).catch_unwind().await;
            // The process's panic hook has logged the panic.
            let outcome = outcome.unwrap_or_else(|_| Err(CallError::internal()));
            send_reply(reply, &outcome);
            drop(permit);
        });
    }

    /// Handles a call that needs no waiting.
    fn reply_inline(&self, bytes: &[u8]) -> Result<Reply, CallError> {
        match Call::decode(bytes)?.request {
            Request::Ping => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                Ok(Reply::Pong(Pong { version, messages: VERSION }))
            }
            Request::WakeMany(wakes) => self.handler.wake(wakes).map(Reply::Woken),
            Request::OwnershipChanged(_) => {
                self.handler.ownership_changed();
                Ok(Reply::Acknowledged)
            }
            other => Err(CallError::new(
                CallErrorKind::Internal,
                format!("{other:?} cannot be handled inline"),
            )),
        }
    }

    /// Handles a message without a reply port. A request that is useful only for its reply is
    /// ignored.
    fn handle_cast(&self, bytes: &[u8]) {
        let outcome = match Call::is_inline(bytes) {
            true => self.reply_inline(bytes).map(drop),
            false => Call::decode(bytes).map(drop),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "ignored an invalid message");
        }
    }
}

/// The result of `act`, or `None` if it panicked. A panic must not stop the actor, which serves all
/// callers.
fn catch_panic<T>(act: impl FnOnce() -> T) -> Option<T> {
    // The process's panic hook has logged the panic.
    std::panic::catch_unwind(AssertUnwindSafe(act)).ok()
}

fn send_reply(reply: RpcReplyPort<Vec<u8>>, outcome: &Result<Reply, CallError>) {
    // Ignore a closed channel: the caller was cancelled.
    let _ = reply.send(encode_reply(outcome));
}
