//! The gateway: the one actor of a node that other nodes and other services can send to.
//!
//! Who takes part: callers find a gateway through the process group [`GROUP`] and send it the bytes
//! of a [`Call`]; the gateway reads them, passes the call to its
//! [`Handler`] and replies. Each call gets a task of its own, so that none waits
//! for another's transaction; what is light, or what the cluster's work waits for, the actor
//! answers by itself.
//!
//! Every reply port is answered: bytes that are no message, a variant that this build does not
//! know, too many calls at once, and a panic in a task each have an error for an answer. Only who
//! gives up waiting hears nothing.

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

/// The process group that every gateway joins.
pub const GROUP: &str = "postrider.gateway";
/// Most calls that a gateway has in hand. Each of them may wait for the store; what is beyond is
/// refused at once, so that the caller can go elsewhere.
pub const MAX_CALLS: usize = 256;
/// How long a gateway that stops waits for the calls that it has in hand.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Does what calls ask for. A gateway answers [`Request::Ping`] itself.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Answers a call in a task of its own, so it may wait for the store.
    async fn handle(&self, call: Call) -> Result<Reply, CallError>;

    /// Tells the owners of shards on this node of work, and names the shards that it does not own.
    /// Runs in the gateway's actor, so it must not wait.
    ///
    /// # Errors
    /// `Malformed` when the message cannot be read. None of its work is begun then.
    fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError>;

    /// Has this node read from the store which shards it owns. Runs in the gateway's actor, so it
    /// must not wait.
    fn ownership_changed(&self);
}

/// A gateway that runs. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway {
    actor: ActorRef<GatewayMessage>,
    tasks: TaskTracker,
}

impl Gateway {
    /// Starts the gateway of this node, for others to find.
    ///
    /// # Errors
    /// When its actor cannot start.
    pub async fn start(handler: Arc<dyn Handler>, vital: &Tasks) -> Result<Self, SpawnErr> {
        let tasks = TaskTracker::new();
        let context =
            Context { handler, places: Arc::new(Semaphore::new(MAX_CALLS)), tasks: tasks.clone() };
        let (actor, running) = Actor::spawn(None, GatewayActor, context).await?;
        vital.watch("gateway", running);
        Ok(Self { actor, tasks })
    }

    /// Takes no new call, and waits for those in hand, at most 5 s.
    pub async fn stop(&self) {
        pg::leave(GROUP.to_owned(), vec![self.actor.get_cell()]);
        let last_calls = async {
            // It fails only when the actor has ended.
            let _ = self.actor.drain_and_wait(None).await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(LAST_CALLS, last_calls).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some calls did not end in time");
        }
    }

    /// The actor, for calls from this node.
    #[must_use]
    pub fn actor(&self) -> &ActorRef<GatewayMessage> {
        &self.actor
    }
}

/// The gateway of another node, once its session has told of it.
#[must_use]
pub fn of(node: NodeId) -> Option<ActorRef<GatewayMessage>> {
    let members = pg::get_members(&GROUP.to_owned());
    let gateway = members.into_iter().find(|member| match member.get_id() {
        ActorId::Remote { node_id, .. } => node_id == node,
        ActorId::Local(_) => false,
    });
    gateway.map(Into::into)
}

/// The gateways of all other nodes whose sessions have told of one.
#[must_use]
pub fn remote() -> Vec<ActorRef<GatewayMessage>> {
    let members = pg::get_members(&GROUP.to_owned());
    members.into_iter().filter(|member| !member.get_id().is_local()).map(Into::into).collect()
}

/// Calls a gateway and waits for its answer, at most so long.
///
/// # Errors
/// The gateway's error, or `TooLarge`, `TimedOut` or `Lost` when it could not be called or did not
/// answer.
pub async fn call(
    gateway: &ActorRef<GatewayMessage>,
    call: impl Into<Call>,
    timeout: Duration,
) -> Result<Reply, CallError> {
    let bytes = call.into().encode()?;
    decode_reply(&call_raw(gateway, bytes, timeout).await?)
}

/// Calls a gateway with any bytes, and gives those that it answers.
///
/// # Errors
/// `TimedOut` or `Lost`.
pub async fn call_raw(
    gateway: &ActorRef<GatewayMessage>,
    bytes: Vec<u8>,
    timeout: Duration,
) -> Result<Vec<u8>, CallError> {
    let lost = |message: &str| CallError::new(CallErrorKind::Lost, message);
    match gateway.call(|reply| GatewayMessage::Call(bytes, reply), Some(timeout)).await {
        Ok(CallResult::Success(answer)) => Ok(answer),
        Ok(CallResult::Timeout) => {
            let message = format!("the gateway did not answer within {timeout:?}");
            Err(CallError::new(CallErrorKind::TimedOut, message))
        }
        Ok(CallResult::SenderError) => Err(lost("the session ended before the answer came")),
        Err(_) => Err(lost("the gateway is gone")),
    }
}

/// Sends a gateway a message that needs no answer. It may be lost.
///
/// # Errors
/// `TooLarge`, or `Lost` when the gateway is known to be gone.
pub fn cast(gateway: &ActorRef<GatewayMessage>, call: impl Into<Call>) -> Result<(), CallError> {
    let bytes = call.into().encode()?;
    let sent = gateway.cast(GatewayMessage::Cast(bytes));
    sent.map_err(|_| CallError::new(CallErrorKind::Lost, "the gateway is gone"))
}

/// The actor's type; all that it knows is in [`Context`].
struct GatewayActor;

struct Context {
    handler: Arc<dyn Handler>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

#[ractor::async_trait]
impl Actor for GatewayActor {
    type Msg = GatewayMessage;
    type State = Context;
    type Arguments = Context;

    async fn pre_start(
        &self,
        _myself: ActorRef<GatewayMessage>,
        context: Context,
    ) -> Result<Context, ActorProcessingErr> {
        Ok(context)
    }

    async fn post_start(
        &self,
        myself: ActorRef<GatewayMessage>,
        _context: &mut Context,
    ) -> Result<(), ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<GatewayMessage>,
        message: GatewayMessage,
        context: &mut Context,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            GatewayMessage::Call(bytes, reply) if Call::is_light(&bytes) => {
                let outcome = caught(|| context.answer_light(&bytes));
                answer(reply, &outcome.unwrap_or_else(|| Err(CallError::internal())));
            }
            GatewayMessage::Call(bytes, reply) => context.take(bytes, reply),
            GatewayMessage::Cast(bytes) => {
                caught(|| context.handle_cast(&bytes));
            }
            GatewayMessage::Unknown(variant, reply) => {
                let message = format!("a gateway has no message {variant:?}");
                answer(reply, &Err(CallError::new(CallErrorKind::UnknownKind, message)));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<GatewayMessage>,
        event: SupervisionEvent,
        _context: &mut Context,
    ) -> Result<(), ActorProcessingErr> {
        // It has no children, and whatever is told of other actors must not end it.
        tracing::debug!(%event, "the gateway goes on");
        Ok(())
    }
}

impl Context {
    /// Gives a call its task, if there is a place for it.
    fn take(&self, bytes: Vec<u8>, reply: RpcReplyPort<Vec<u8>>) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            let message = format!("the gateway has {MAX_CALLS} calls in hand");
            return answer(reply, &Err(CallError::new(CallErrorKind::Overloaded, message)));
        };
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let answered = async { handler.handle(Call::decode(&bytes)?).await };
            let outcome = AssertUnwindSafe(answered).catch_unwind().await;
            // The panic's message has gone to the log, by the process's hook.
            let outcome = outcome.unwrap_or_else(|_| Err(CallError::internal()));
            answer(reply, &outcome);
            drop(place);
        });
    }

    /// Answers what needs no waiting.
    fn answer_light(&self, bytes: &[u8]) -> Result<Reply, CallError> {
        match Call::decode(bytes)?.request {
            Request::Ping => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                Ok(Reply::Pong(Pong { version, messages: VERSION }))
            }
            Request::WakeMany(wakes) => self.handler.wake(wakes).map(Reply::Woken),
            Request::OwnershipChanged(_) => {
                self.handler.ownership_changed();
                Ok(Reply::Seen)
            }
            other => Err(CallError::new(CallErrorKind::Internal, format!("{other:?} has to wait"))),
        }
    }

    /// Handles a message that wants no reply. A request that makes sense only with its reply is
    /// ignored.
    fn handle_cast(&self, bytes: &[u8]) {
        let outcome = match Call::is_light(bytes) {
            true => self.answer_light(bytes).map(drop),
            false => Call::decode(bytes).map(drop),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "ignored a message");
        }
    }
}

/// What comes of an act in the actor itself; none if it panicked. The actor must not end with it: it
/// answers for everybody.
fn caught<T>(act: impl FnOnce() -> T) -> Option<T> {
    // The panic's message has gone to the log, by the process's hook.
    std::panic::catch_unwind(AssertUnwindSafe(act)).ok()
}

fn answer(reply: RpcReplyPort<Vec<u8>>, outcome: &Result<Reply, CallError>) {
    // Whoever asked may have given up.
    let _ = reply.send(encode_reply(outcome));
}
