//! Supervises a node's shard actors and restarts failed ones under the same ownership.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_cluster::shard_guard::ShardGuard;
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr,
    SupervisionEvent,
};

use crate::owned_shards::OwnedShards;
use crate::shard::{ShardHandle, ShardResources};

/// Delay before a failed shard restarts, so that one that fails immediately cannot spin.
const RESTART_DELAY: Duration = Duration::from_secs(1);

pub(crate) enum SupervisorMsg {
    /// Start a claimed shard.
    Own(ShardGuard, RpcReplyPort<Result<(), SpawnErr>>),
    /// Restart a failed shard.
    Restart(ShardGuard),
}

impl ractor::Message for SupervisorMsg {}

/// The actor type; its state is [`SupervisorState`].
pub(crate) struct Supervisor;

pub(crate) struct SupervisorState {
    resources: Arc<ShardResources>,
    owned: OwnedShards,
    shards: HashMap<ActorId, ShardGuard>,
}

#[ractor::async_trait]
impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = (Arc<ShardResources>, OwnedShards);

    async fn pre_start(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        (resources, owned): (Arc<ShardResources>, OwnedShards),
    ) -> Result<SupervisorState, ActorProcessingErr> {
        Ok(SupervisorState { resources, owned, shards: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Own(guard, reply) => {
                let started = state.start(guard, myself.get_cell()).await;
                // The caller may have timed out.
                let _ = reply.send(started);
            }
            SupervisorMsg::Restart(guard) if guard.is_revoked() => {}
            SupervisorMsg::Restart(guard) => {
                if let Err(error) = state.start(guard.clone(), myself.get_cell()).await {
                    let shard = guard.fence().shard;
                    tracing::error!(shard, %error, "restarting a shard failed; retrying");
                    myself.send_after(RESTART_DELAY, move || SupervisorMsg::Restart(guard));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                if let Some(guard) = state.remove(&actor) {
                    let shard = guard.fence().shard;
                    tracing::error!(shard, %error, "a shard actor failed; restarting it");
                    myself.send_after(RESTART_DELAY, move || SupervisorMsg::Restart(guard));
                }
            }
            // It stopped because its guard was revoked.
            SupervisionEvent::ActorTerminated(actor, ..) => {
                state.remove(&actor);
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn start(&mut self, guard: ShardGuard, myself: ActorCell) -> Result<(), SpawnErr> {
        let handle = ShardHandle::start(self.resources.clone(), guard.clone(), myself).await?;
        self.owned.insert(&guard, handle.clone());
        self.shards.insert(handle.id(), guard);
        Ok(())
    }

    /// Removes an actor that has ended and returns its guard. No more wakes are routed to it.
    fn remove(&mut self, actor: &ActorCell) -> Option<ShardGuard> {
        let guard = self.shards.remove(&actor.get_id())?;
        self.owned.remove(guard.fence());
        Some(guard)
    }
}
