use std::sync::atomic::{AtomicBool, Ordering};

use postrider_domain::ids::{AccountId, EndpointId};
use postrider_store::Owner;
use tokio::sync::mpsc;

use super::*;
use crate::view::NodeView;
use postrider_domain::node::NodeState;

const ME: BootId = BootId::MIN;
const OTHER: BootId = BootId::MAX;
const PATIENCE: Duration = Duration::from_secs(10);

fn wake(shard: Shard) -> Wake {
    Wake::Endpoint { shard, account: AccountId::MIN, endpoint: EndpointId::MIN, ready: None }
}

fn view(owners: &[BootId]) -> Arc<View> {
    let node = |node| NodeView {
        node,
        name: String::new(),
        version: String::new(),
        address: None,
        state: NodeState::Alive,
    };
    let owners = owners.iter().map(|node| Some(Owner { epoch: 1, node: *node })).collect();
    Arc::new(View { nodes: vec![node(ME), node(OTHER)], owners })
}

/// Tells what it carried, refuses what it is told to refuse.
struct Van {
    carried: mpsc::UnboundedSender<Vec<Shard>>,
    broken: AtomicBool,
    elsewhere: Mutex<Vec<Shard>>,
}

#[async_trait]
impl WakeTransport for Van {
    async fn send(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, Unreachable> {
        assert_eq!(to, OTHER);
        if self.broken.load(Ordering::SeqCst) {
            return Err(Unreachable);
        }
        let _ = self.carried.send(wakes.iter().map(Wake::shard).collect());
        Ok(std::mem::take(&mut *lock(&self.elsewhere)))
    }
}

struct World {
    forwarder: WakeForwarder,
    view: watch::Sender<Arc<View>>,
    van: Arc<Van>,
    carried: mpsc::UnboundedReceiver<Vec<Shard>>,
    here: mpsc::UnboundedReceiver<Shard>,
    view_is_stale: Arc<Notify>,
}

/// Shards 0 and 1: mine and the other's.
fn world() -> World {
    let (view, watched) = watch::channel(view(&[ME, OTHER]));
    let (carried, told) = mpsc::unbounded_channel();
    let van = Van { carried, broken: AtomicBool::new(false), elsewhere: Mutex::default() };
    let van = Arc::new(van);
    let view_is_stale = Arc::new(Notify::new());
    let (at_home, here) = mpsc::unbounded_channel();
    let route = move |wakes: Vec<Wake>| {
        let (mine, others): (Vec<_>, Vec<_>) = wakes.into_iter().partition(|w| w.shard() == 0);
        mine.iter().for_each(|wake| at_home.send(wake.shard()).unwrap());
        others
    };
    let forwarder =
        WakeForwarder::open(ME, watched, van.clone(), view_is_stale.clone(), route, &Tasks::new());
    World { forwarder, view, van, carried: told, here, view_is_stale }
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, receiver.recv()).await.expect("in time").expect("it runs")
}

#[tokio::test(start_paused = true)]
async fn what_another_owns_travels_together() {
    let mut world = world();
    world.forwarder.send(vec![wake(1), wake(1), wake(1)]);
    assert_eq!(next(&mut world.carried).await, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded() {
    let mut world = world();
    world.forwarder.send((0..MAX_BATCH + 1).map(|_| wake(1)).collect());
    assert_eq!(next(&mut world.carried).await.len(), MAX_BATCH);
    assert_eq!(next(&mut world.carried).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_ours_by_the_view_comes_home_when_it_is_worked_on() {
    let mut world = world();
    world.forwarder.send(vec![wake(0)]);
    assert_eq!(next(&mut world.here).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_turns_out_to_be_elsewhere_raises_doubt_and_is_routed_anew() {
    let mut world = world();
    *lock(&world.van.elsewhere) = vec![1];
    world.forwarder.send(vec![wake(1)]);
    assert_eq!(next(&mut world.carried).await, [1]);
    tokio::time::timeout(PATIENCE, world.view_is_stale.notified()).await.expect("somebody looks");
    assert_eq!(next(&mut world.carried).await, [1], "it was tried again");
}

#[tokio::test(start_paused = true)]
async fn a_broken_link_delays_and_a_long_one_loses() {
    let mut world = world();
    world.van.broken.store(true, Ordering::SeqCst);
    world.forwarder.send(vec![wake(1)]);
    tokio::time::sleep(UNROUTABLE_TTL / 2).await;
    world.van.broken.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut world.carried).await, [1]);
    world.van.broken.store(true, Ordering::SeqCst);
    world.forwarder.send(vec![wake(1)]);
    tokio::time::sleep(UNROUTABLE_TTL * 2).await;
    world.van.broken.store(false, Ordering::SeqCst);
    tokio::time::sleep(UNROUTABLE_TTL).await;
    assert!(world.carried.try_recv().is_err(), "its owner has looked for itself by then");
}

#[tokio::test(start_paused = true)]
async fn waiting_wakes_are_bounded() {
    let world = world();
    world.van.broken.store(true, Ordering::SeqCst);
    world.forwarder.send((0..3 * MAX_WAITING).map(|_| wake(1)).collect());
    tokio::time::sleep(REROUTE_INTERVAL * 3).await;
    assert!(lock(&world.forwarder.0.unroutable).len() <= MAX_WAITING);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_leaves_no_outbox() {
    let mut world = world();
    world.forwarder.send(vec![wake(1)]);
    next(&mut world.carried).await;
    assert_eq!(lock(&world.forwarder.0.queues).len(), 1);
    let mut gone = (*view(&[ME, ME])).clone();
    gone.nodes.pop();
    world.view.send(Arc::new(gone)).unwrap();
    tokio::time::sleep(REROUTE_INTERVAL * 2).await;
    assert_eq!(lock(&world.forwarder.0.queues).len(), 0);
}
