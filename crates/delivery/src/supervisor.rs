//! The supervisor of a node's shards: one that fails starts anew, with the same fence.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::ownership::Fence;
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr,
    SupervisionEvent,
};

use crate::context::Context;
use crate::shard::ShardActor;

/// The pause before a failed shard starts anew, so that one which fails at once spins no wheels.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What the supervisor is told.
pub(crate) enum Message {
    /// Work on a shard that was claimed.
    Own(Fence, RpcReplyPort<Result<(), SpawnErr>>),
    /// Start a shard anew that failed.
    Restart(Fence),
}

impl ractor::Message for Message {}

/// The actor's type; all that it knows is in [`Data`].
pub(crate) struct Supervisor;

/// What the supervisor knows.
pub(crate) struct Data {
    context: Arc<Context>,
    shards: HashMap<ActorId, Fence>,
}

#[ractor::async_trait]
impl Actor for Supervisor {
    type Msg = Message;
    type State = Data;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        context: Arc<Context>,
    ) -> Result<Data, ActorProcessingErr> {
        Ok(Data { context, shards: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Own(fence, reply) => {
                let started = data.start(fence, myself.get_cell()).await;
                // Whoever asked may have given up.
                let _ = reply.send(started);
            }
            Message::Restart(fence) => {
                if let Err(error) = data.start(fence, myself.get_cell()).await {
                    tracing::error!(shard = fence.shard, %error, "a shard cannot start anew");
                    myself.send_after(AFTER_FAILURE, move || Message::Restart(fence));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                if let Some(fence) = data.shards.remove(&actor.get_id()) {
                    tracing::error!(shard = fence.shard, %error, "a shard failed; it starts anew");
                    myself.send_after(AFTER_FAILURE, move || Message::Restart(fence));
                }
            }
            // It gave its shard up, or the node drains.
            SupervisionEvent::ActorTerminated(actor, ..) => {
                data.shards.remove(&actor.get_id());
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl Data {
    async fn start(&mut self, fence: Fence, myself: ActorCell) -> Result<(), SpawnErr> {
        let arguments = (self.context.clone(), fence);
        let (actor, _) = Actor::spawn_linked(None, ShardActor, arguments, myself).await?;
        self.shards.insert(actor.get_id(), fence);
        self.context.shards.insert(fence, actor);
        Ok(())
    }
}
