//! A shard that is held, as a value. Whoever works on the shard holds a clone of its [`Tenure`];
//! the keeper holds the [`Tenancy`]. When the tenure is over nobody begins anything new, and when
//! the last clone is dropped the keeper learns it: only then is the shard given away. So the end
//! of the work cannot be forgotten, and nobody can work without having been given the right.

use std::sync::Arc;

use postrider_domain::ownership::Fence;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::pulse::Pulse;

/// The right to work on a shard. Clones are the same right.
#[derive(Clone, Debug)]
pub struct Tenure(Arc<Held>);

#[derive(Debug)]
struct Held {
    fence: Fence,
    pulse: Pulse,
    ending: CancellationToken,
    /// Its end tells the tenancy that the last clone is gone.
    _last: oneshot::Sender<()>,
}

/// The keeper's side of a tenure, which is over when this is dropped.
#[derive(Debug)]
pub struct Tenancy {
    fence: Fence,
    ending: DropGuard,
    released: oneshot::Receiver<()>,
}

/// Tells when a tenure is over, without being part of it.
#[derive(Clone, Debug)]
pub struct Ending(CancellationToken);

impl Tenure {
    /// Begins a tenure under `fence`, which is over as well when the node's `pulse` stops.
    #[must_use]
    pub fn begin(fence: Fence, pulse: Pulse) -> (Self, Tenancy) {
        let ending = CancellationToken::new();
        let (last, released) = oneshot::channel();
        let held = Held { fence, pulse, ending: ending.clone(), _last: last };
        (Self(Arc::new(held)), Tenancy { fence, ending: ending.drop_guard(), released })
    }

    /// What every write of the shard's owner presents.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.0.fence
    }

    /// Whether nothing new may begin.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.ending.is_cancelled() || !self.0.pulse.beats()
    }

    /// Ends it: the store has refused its fence.
    pub fn give_up(&self) {
        self.0.ending.cancel();
    }

    /// For those who wait for its end and must not keep it from being released.
    #[must_use]
    pub fn ending(&self) -> Ending {
        Ending(self.0.ending.clone())
    }
}

impl Tenancy {
    /// The fence that the tenure began under.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Ends the tenure: nothing new begins.
    pub fn end(&self) {
        self.ending.token().cancel();
    }

    /// Whether it was ended, by either side.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ending.token().is_cancelled()
    }

    /// Whether nobody works on the shard any more.
    #[must_use]
    pub fn is_released(&mut self) -> bool {
        self.released.is_terminated()
            || !matches!(self.released.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Waits until nobody works on the shard any more.
    pub async fn released(&mut self) {
        if !self.released.is_terminated() {
            // The sender sends nothing; it is dropped.
            let _ = (&mut self.released).await;
        }
    }
}

impl Ending {
    /// Waits for the end of the tenure.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::BootId;

    use super::*;
    use crate::pulse::TestUptime;

    const FENCE: Fence = Fence { shard: 1, epoch: 2, node: BootId::MIN };

    #[tokio::test]
    async fn it_is_released_with_its_last_clone() {
        let (tenure, mut tenancy) = Tenure::begin(FENCE, Pulse::steady());
        let clone = tenure.clone();
        tenancy.end();
        assert!(clone.is_over() && tenancy.is_over());
        clone.ending().wait().await;
        drop(tenure);
        assert!(!tenancy.is_released());
        drop(clone);
        assert!(tenancy.is_released());
        tenancy.released().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_over_when_the_pulse_stops() {
        let pulse = Pulse::waiting(TestUptime::new());
        let (tenure, tenancy) = Tenure::begin(FENCE, pulse.clone());
        assert!(tenure.is_over(), "it has not begun to beat");
        pulse.beat(pulse.begin());
        assert!(!tenure.is_over());
        tokio::time::sleep(crate::membership::SELF_STOP).await;
        assert!(tenure.is_over() && !tenancy.is_over(), "before anybody has noticed");
    }

    /// A keeper that panicked, or was dropped, can no longer see to it that a shard is released.
    #[tokio::test]
    async fn it_is_over_when_the_tenancy_is_gone() {
        let (tenure, tenancy) = Tenure::begin(FENCE, Pulse::steady());
        assert!(!tenure.is_over());
        drop(tenancy);
        assert!(tenure.is_over());
    }

    #[tokio::test]
    async fn those_who_work_can_give_it_up() {
        let (tenure, mut tenancy) = Tenure::begin(FENCE, Pulse::steady());
        let ending = tenure.ending();
        tenure.give_up();
        ending.wait().await;
        assert!(tenancy.is_over() && !tenancy.is_released());
        drop(tenure);
        tenancy.released().await;
    }
}
