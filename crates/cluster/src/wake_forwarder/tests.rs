use std::sync::atomic::{AtomicBool, Ordering};

use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::node::NodeState;
use postrider_store::Owner;
use tokio::sync::mpsc;

use super::*;
use crate::view::NodeView;

const ME: BootId = BootId::MIN;
const OTHER: BootId = BootId::MAX;
const TIMEOUT: Duration = Duration::from_secs(10);

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

/// Records the wakes it sends, and reports the shards in `not_owned` once.
struct FakeTransport {
    sent: mpsc::UnboundedSender<Vec<Shard>>,
    is_down: AtomicBool,
    /// Makes the next call panic.
    panics: AtomicBool,
    not_owned: Mutex<Vec<Shard>>,
}

#[async_trait]
impl WakeTransport for FakeTransport {
    async fn send(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, Unreachable> {
        assert_eq!(to, OTHER);
        assert!(!self.panics.swap(false, Ordering::SeqCst), "simulated");
        if self.is_down.load(Ordering::SeqCst) {
            return Err(Unreachable);
        }
        let _ = self.sent.send(wakes.iter().map(Wake::shard).collect());
        Ok(std::mem::take(&mut *self.not_owned.lock()))
    }
}

/// This node's shards: shard 0. Reports the wakes for it.
struct Shard0(mpsc::UnboundedSender<Shard>);

impl LocalShards for Shard0 {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        let (local, others): (Vec<_>, Vec<_>) =
            wakes.into_iter().partition(|wake| wake.shard() == 0);
        local.iter().for_each(|wake| self.0.send(wake.shard()).unwrap());
        others
    }

    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.wake(wakes)
    }

    fn scan_now(&self) {}
}

struct Fixture {
    forwarder: WakeForwarder,
    view: watch::Sender<Arc<View>>,
    transport: Arc<FakeTransport>,
    sent: mpsc::UnboundedReceiver<Vec<Shard>>,
    local: mpsc::UnboundedReceiver<Shard>,
    check_trigger: CheckTrigger,
}

/// Shard 0 belongs to this node, shard 1 to the other.
fn fixture() -> Fixture {
    let (view, view_receiver) = watch::channel(view(&[ME, OTHER]));
    let (sent, receiver) = mpsc::unbounded_channel();
    let transport = FakeTransport {
        sent,
        is_down: AtomicBool::new(false),
        panics: AtomicBool::new(false),
        not_owned: Mutex::default(),
    };
    let transport = Arc::new(transport);
    let check_trigger = CheckTrigger::default();
    let (local_sender, local) = mpsc::unbounded_channel();
    let forwarder = WakeForwarder::start(
        ME,
        view_receiver,
        transport.clone(),
        check_trigger.clone(),
        Arc::new(Shard0(local_sender)),
        &Tasks::new(),
    );
    Fixture { forwarder, view, transport, sent: receiver, local, check_trigger }
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(TIMEOUT, receiver.recv())
        .await
        .expect("a value in time")
        .expect("the forwarder is running")
}

#[tokio::test(start_paused = true)]
async fn wakes_for_one_node_are_sent_in_one_batch() {
    let mut fixture = fixture();
    fixture.forwarder.send(vec![wake(1), wake(1), wake(1)]);
    assert_eq!(next(&mut fixture.sent).await, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded() {
    let mut fixture = fixture();
    fixture.forwarder.send((0..MAX_BATCH + 1).map(|_| wake(1)).collect());
    assert_eq!(next(&mut fixture.sent).await.len(), MAX_BATCH);
    assert_eq!(next(&mut fixture.sent).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn wakes_for_this_node_are_routed_locally_once_it_works_on_the_shard() {
    let mut fixture = fixture();
    fixture.forwarder.send(vec![wake(0)]);
    assert_eq!(next(&mut fixture.local).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_wake_marks_the_view_as_stale_and_is_rerouted() {
    let mut fixture = fixture();
    *fixture.transport.not_owned.lock() = vec![1];
    fixture.forwarder.send(vec![wake(1)]);
    assert_eq!(next(&mut fixture.sent).await, [1]);
    tokio::time::timeout(TIMEOUT, fixture.check_trigger.triggered())
        .await
        .expect("the view is reported as stale");
    assert_eq!(next(&mut fixture.sent).await, [1], "the wake is sent again");
}

#[tokio::test(start_paused = true)]
async fn forwarding_continues_after_a_panic() {
    let mut fixture = fixture();
    fixture.transport.panics.store(true, Ordering::SeqCst);
    fixture.forwarder.send(vec![wake(1)]);
    let sent = async {
        loop {
            fixture.forwarder.send(vec![wake(1)]);
            tokio::select! {
                sent = fixture.sent.recv() => return sent,
                () = tokio::time::sleep(REROUTE_INTERVAL) => {}
            }
        }
    };
    let sent = tokio::time::timeout(TIMEOUT, sent).await.expect("sent in time");
    assert!(sent.is_some_and(|shards| shards.contains(&1)));
}

#[tokio::test(start_paused = true)]
async fn a_short_disconnection_delays_wakes_and_a_long_one_drops_them() {
    let mut fixture = fixture();
    fixture.transport.is_down.store(true, Ordering::SeqCst);
    fixture.forwarder.send(vec![wake(1)]);
    tokio::time::sleep(UNROUTABLE_TTL / 2).await;
    fixture.transport.is_down.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut fixture.sent).await, [1]);
    fixture.transport.is_down.store(true, Ordering::SeqCst);
    fixture.forwarder.send(vec![wake(1)]);
    tokio::time::sleep(UNROUTABLE_TTL * 2).await;
    fixture.transport.is_down.store(false, Ordering::SeqCst);
    tokio::time::sleep(UNROUTABLE_TTL).await;
    assert!(fixture.sent.try_recv().is_err(), "the owner has scanned the store by then");
}

#[tokio::test(start_paused = true)]
async fn unroutable_wakes_are_bounded() {
    let fixture = fixture();
    fixture.transport.is_down.store(true, Ordering::SeqCst);
    fixture.forwarder.send((0..3 * MAX_QUEUED).map(|_| wake(1)).collect());
    tokio::time::sleep(REROUTE_INTERVAL * 3).await;
    assert!(fixture.forwarder.0.unroutable.lock().len() <= MAX_QUEUED);
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_removed_node_is_closed() {
    let mut fixture = fixture();
    fixture.forwarder.send(vec![wake(1)]);
    next(&mut fixture.sent).await;
    assert_eq!(fixture.forwarder.0.queues.lock().len(), 1);
    let mut gone = (*view(&[ME, ME])).clone();
    gone.nodes.pop();
    fixture.view.send(Arc::new(gone)).unwrap();
    tokio::time::sleep(REROUTE_INTERVAL * 2).await;
    assert_eq!(fixture.forwarder.0.queues.lock().len(), 0);
}
