//! The supervisor of a node's shards: one that fails starts anew, in the same tenure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_cluster::tenure::Tenure;
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
    Own(Tenure, RpcReplyPort<Result<(), SpawnErr>>),
    /// Start a shard anew that failed.
    Restart(Tenure),
}

impl ractor::Message for Message {}

/// The actor's type; all that it knows is in [`Data`].
pub(crate) struct Supervisor;

/// What the supervisor knows.
pub(crate) struct Data {
    context: Arc<Context>,
    shards: HashMap<ActorId, Tenure>,
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
            Message::Own(tenure, reply) => {
                let started = data.start(tenure, myself.get_cell()).await;
                // Whoever asked may have given up.
                let _ = reply.send(started);
            }
            Message::Restart(tenure) if tenure.is_over() => {}
            Message::Restart(tenure) => {
                if let Err(error) = data.start(tenure.clone(), myself.get_cell()).await {
                    let shard = tenure.fence().shard;
                    tracing::error!(shard, %error, "a shard cannot start anew");
                    myself.send_after(AFTER_FAILURE, move || Message::Restart(tenure));
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
                if let Some(tenure) = data.forget(&actor) {
                    let shard = tenure.fence().shard;
                    tracing::error!(shard, %error, "a shard failed; it starts anew");
                    myself.send_after(AFTER_FAILURE, move || Message::Restart(tenure));
                }
            }
            // Its tenure is over.
            SupervisionEvent::ActorTerminated(actor, ..) => {
                data.forget(&actor);
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl Data {
    async fn start(&mut self, tenure: Tenure, myself: ActorCell) -> Result<(), SpawnErr> {
        let arguments = (self.context.clone(), tenure.clone());
        let (actor, _) = Actor::spawn_linked(None, ShardActor, arguments, myself).await?;
        self.shards.insert(actor.get_id(), tenure);
        Ok(())
    }

    /// Forgets an actor that has ended, and gives the tenure in which it worked. Nobody is woken
    /// through it any more.
    fn forget(&mut self, actor: &ActorCell) -> Option<Tenure> {
        let tenure = self.shards.remove(&actor.get_id())?;
        self.context.shards.remove(tenure.fence());
        Some(tenure)
    }
}
