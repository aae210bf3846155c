//! Shard managers on one store, with paused time.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::Id;
use postrider_store::kv::memory::Memory;
use postrider_store::kv::{Engine, Error, Store, Transaction};
use postrider_store::{Lease, Owner};
use tokio::task;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::lease_renewal::LeaseRenewer;
use crate::lease_validity::{LeaseValidity, TestUptime};
use crate::membership::{ExitEvidence, LEASE_TTL, RENEW_INTERVAL, SELF_FENCE_AFTER};

const SHARDS: u16 = 30;
/// How long work in flight takes to end after its guard is revoked.
const WORK_DURATION: Duration = Duration::from_millis(80);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

/// A store with injected faults.
#[derive(Default)]
struct FaultyStore {
    memory: Memory,
    is_down: AtomicBool,
    /// The tasks that have used the store.
    users: Mutex<HashSet<task::Id>>,
    /// The next task that has not used the store before panics.
    panic_armed: AtomicBool,
    panicked: AtomicBool,
    /// The next transaction never begins.
    hang_next: AtomicBool,
    /// How long a transaction takes to begin.
    delay_ms: AtomicU32,
}

impl FaultyStore {
    fn panic_on_next_new_task(&self) {
        self.panic_armed.store(true, Ordering::SeqCst);
    }

    fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Engine for FaultyStore {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        // The test itself is not a task.
        if let Some(user) = task::try_id()
            && self.users.lock().insert(user)
            && self.panic_armed.swap(false, Ordering::SeqCst)
        {
            self.panicked.store(true, Ordering::SeqCst);
            panic!("injected panic");
        }
        if self.hang_next.swap(false, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.delay_ms.load(Ordering::SeqCst) {
            0 => {}
            delay_ms => sleep(Duration::from_millis(delay_ms.into())).await,
        }
        match self.is_down.load(Ordering::SeqCst) {
            true => Err(Error::Unavailable("injected outage".to_owned())),
            false => self.memory.begin().await,
        }
    }
}

/// The shards that are worked on. Asserts that no two workers ever work on one shard.
#[derive(Default)]
struct Activity {
    active: Mutex<BTreeSet<Shard>>,
    started: AtomicU32,
    /// Workers never release their guards.
    never_finishes: AtomicBool,
    /// Allows two workers on a shard: the work of a killed or stuck node does not end.
    overlap_allowed: AtomicBool,
}

struct FakeWorkers(Arc<Activity>);

#[async_trait]
impl ShardWorkers for FakeWorkers {
    async fn begin(&self, guard: ShardGuard) {
        let (activity, shard) = (self.0.clone(), guard.fence().shard);
        let is_exclusive = activity.active.lock().insert(shard);
        assert!(
            is_exclusive || activity.overlap_allowed.load(Ordering::SeqCst),
            "two workers work on shard {shard}"
        );
        activity.started.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            guard.revoked().wait().await;
            sleep(WORK_DURATION).await;
            if activity.never_finishes.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            activity.active.lock().remove(&shard);
            drop(guard);
        });
    }
}

struct NoPeers;

impl PeerNotifier for NoPeers {
    fn handed_over(&self, _: Fence) {}
}

struct Cluster {
    store: Arc<FaultyStore>,
    records: Records,
    activity: Arc<Activity>,
    uptime: Arc<TestUptime>,
    tasks: Tasks,
}

impl Cluster {
    async fn new() -> Self {
        Self::with_shards(SHARDS).await
    }

    async fn with_shards(shards: u16) -> Self {
        let store = Arc::new(FaultyStore::default());
        let records = Records::open(Store::new(store.clone(), 1), shards).await.unwrap();
        Self {
            store,
            records,
            activity: Arc::default(),
            uptime: TestUptime::new(),
            tasks: Tasks::new(),
        }
    }

    fn node(&self, number: u8) -> ShardManager {
        ShardManager::start(self.options(number))
    }

    fn shard_manager(&self, number: u8, mode: ClusterMode) -> ShardManager {
        ShardManager::start(Options { mode, ..self.options(number) })
    }

    /// The options of a node in a cluster.
    fn options(&self, number: u8) -> Options {
        let me = Identity {
            node: boot_id(number),
            name: format!("node-{number}"),
            address: None,
            version: "1".to_owned(),
        };
        Options {
            records: self.records.clone(),
            me,
            mode: ClusterMode::Clustered(Arc::new(NoPeers)),
            shard_workers: Arc::new(FakeWorkers(self.activity.clone())),
            drain_timeout: DRAIN_TIMEOUT,
            view: watch::Sender::default(),
            check_trigger: CheckTrigger::default(),
            uptime: self.uptime.clone(),
            seed: number.into(),
            tasks: self.tasks.clone(),
        }
    }

    /// The owner of each shard. Panics if a shard has none.
    async fn owners(&self) -> Vec<Owner> {
        let owners = self.records.ownership(None).await.unwrap().unwrap().owners;
        owners.into_iter().map(|owner| owner.expect("every shard has an owner")).collect()
    }

    async fn until_idle(&self, time: Duration) {
        let is_idle = async {
            while !self.activity.active.lock().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(time, is_idle).await.expect("all work stops in time");
    }

    /// Waits until these nodes, and no others, own about an equal share each and work on it.
    async fn until_balanced(&self, nodes: &[u8]) {
        let shared = async {
            loop {
                let owners = self.records.ownership(None).await.unwrap().unwrap().owners;
                let of = |node: &u8| {
                    owners.iter().flatten().filter(|owner| owner.node == boot_id(*node)).count()
                };
                let share = usize::from(SHARDS) / nodes.len();
                let fair = nodes.iter().all(|node| of(node).abs_diff(share) <= 1 + share / 10);
                let all = nodes.iter().map(of).sum::<usize>() == usize::from(SHARDS);
                let worked_on = self.activity.active.lock().len() == usize::from(SHARDS);
                if fair && all && worked_on {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(Duration::from_secs(180), shared).await.is_err() {
            let owners = self.records.ownership(None).await.unwrap().unwrap().owners;
            let active = self.activity.active.lock().clone();
            panic!("the shards were not balanced in time: {owners:?}; work on {active:?}");
        }
    }
}

fn boot_id(number: u8) -> BootId {
    BootId::from_bytes([number; 16])
}

/// The number of shards that a node owns.
fn owned_by(owners: &[Owner], number: u8) -> usize {
    owners.iter().filter(|owner| owner.node == boot_id(number)).count()
}

#[tokio::test(start_paused = true)]
async fn a_single_node_works_on_every_shard() {
    let cluster = Cluster::new().await;
    let node = cluster.shard_manager(1, ClusterMode::Single);
    node.joined().await;
    cluster.until_balanced(&[1]).await;
    assert!(node.is_member() && cluster.records.leases().await.unwrap().is_empty());
    sleep(LEASE_TTL * 20).await;
    assert!(node.is_member() && node.view().borrow().unowned() == 0, "all shards have an owner");
    assert_eq!(node.stop().await, 0);
    assert!(cluster.activity.active.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn shards_are_balanced_when_nodes_join() {
    let cluster = Cluster::new().await;
    let one = cluster.node(1);
    one.joined().await;
    cluster.until_balanced(&[1]).await;
    let two = cluster.node(2);
    cluster.until_balanced(&[1, 2]).await;
    let three = cluster.node(3);
    cluster.until_balanced(&[1, 2, 3]).await;
    for node in [&one, &two, &three] {
        assert_eq!(node.view().borrow().unowned(), 0);
        assert_eq!(node.view().borrow().nodes.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaving_node_hands_over_its_shards_and_removes_its_lease() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.node(1), cluster.node(2));
    cluster.until_balanced(&[1, 2]).await;
    let began = Instant::now();
    assert_eq!(one.stop().await, 0);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    cluster.until_balanced(&[2]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(cluster.records.leases().await.unwrap().len(), 1);
    assert_eq!(two.view().borrow().counts().get(&boot_id(2)), Some(&usize::from(SHARDS)));
}

#[tokio::test(start_paused = true)]
async fn a_yielding_node_leaves_its_shards_to_the_others_until_it_can_work_again() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.node(1), cluster.node(2));
    cluster.until_balanced(&[1, 2]).await;
    one.set_yielding(true).await;
    cluster.until_balanced(&[2]).await;
    assert!(one.is_member(), "it stays in the cluster");
    // Nobody can work: the shards stay where they are.
    two.set_yielding(true).await;
    sleep(LEASE_TTL * 2).await;
    assert_eq!(owned_by(&cluster.owners().await, 2), usize::from(SHARDS));
    one.set_yielding(false).await;
    cluster.until_balanced(&[1]).await;
    two.set_yielding(false).await;
    cluster.until_balanced(&[1, 2]).await;
}

/// So many shards that claiming them takes seconds.
const MANY_SHARDS: u16 = 6_400;

#[tokio::test(start_paused = true)]
async fn a_node_that_claims_many_shards_can_be_stopped() {
    let cluster = Cluster::with_shards(MANY_SHARDS).await;
    let node = cluster.node(1);
    // The node is in its first pass.
    sleep(Duration::from_millis(100)).await;
    let stopped_at = Instant::now();
    node.stop().await;
    assert!(stopped_at.elapsed() < Duration::from_secs(1), "{:?}", stopped_at.elapsed());
    assert!(cluster.activity.started.load(Ordering::SeqCst) > 0, "the node had started to claim");
}

#[tokio::test(start_paused = true)]
async fn a_node_publishes_its_view_while_it_claims_many_shards() {
    let cluster = Cluster::with_shards(MANY_SHARDS).await;
    let began = Instant::now();
    let node = cluster.node(1);
    node.joined().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut view = node.view();
    let all = timeout(Duration::from_secs(60), view.wait_for(|view| view.unowned() == 0));
    all.await.expect("the node claims the rest").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_claims_many_shards_stops_when_its_lease_expires() {
    let cluster = Cluster::with_shards(MANY_SHARDS).await;
    let _node = cluster.node(1);
    sleep(Duration::from_millis(100)).await;
    cluster.uptime.suspend(LEASE_TTL);
    // The next renewal is due only after that.
    cluster.until_idle(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_work_does_not_end_is_handed_over_after_the_drain_timeout() {
    let cluster = Cluster::new().await;
    let (one, _two) = (cluster.node(1), cluster.node(2));
    cluster.until_balanced(&[1, 2]).await;
    cluster.activity.never_finishes.store(true, Ordering::SeqCst);
    cluster.activity.overlap_allowed.store(true, Ordering::SeqCst);
    let left =
        timeout(DRAIN_TIMEOUT * 2, one.stop()).await.expect("the node does not wait forever");
    assert!(left > 0, "work was still in flight");
    let all = async {
        while cluster
            .records
            .ownership(None)
            .await
            .unwrap()
            .unwrap()
            .owners
            .iter()
            .flatten()
            .any(|owner| owner.node != boot_id(2))
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), all).await.expect("the other node owns all shards");
}

/// Simulates a killed process: aborts the shard manager, and with it the lease renewals.
async fn kill(cluster: &Cluster, runtime: tokio::task::JoinHandle<()>) {
    runtime.abort();
    let _ = runtime.await;
    cluster.activity.overlap_allowed.store(true, Ordering::SeqCst);
}

/// A shard manager that can be aborted with all of its tasks.
fn killable_node(cluster: &Cluster, number: u8) -> tokio::task::JoinHandle<()> {
    let (commands, command_receiver) = mpsc::channel(COMMAND_BUFFER);
    let reconciler = Reconciler::new(cluster.options(number), command_receiver);
    tokio::spawn(async move {
        let _commands = commands;
        run(reconciler, CHECK_INTERVAL).await;
    })
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_dead_node_are_taken_over_after_the_lease_ttl() {
    let cluster = Cluster::new().await;
    let one = cluster.node(1);
    let two = killable_node(&cluster, 2);
    cluster.until_balanced(&[1, 2]).await;
    kill(&cluster, two).await;
    let died = Instant::now();
    cluster.until_balanced(&[1]).await;
    let took = died.elapsed();
    assert!(took > LEASE_TTL - SELF_FENCE_AFTER && took < Duration::from_secs(13), "{took:?}");
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn proof_of_exit_brings_the_takeover_forward() {
    let cluster = Cluster::new().await;
    let one = cluster.node(1);
    let two = killable_node(&cluster, 2);
    cluster.until_balanced(&[1, 2]).await;
    kill(&cluster, two).await;
    let died = Instant::now();
    one.report_exit(boot_id(2), ExitEvidence::ThisHost).await;
    cluster.until_balanced(&[1]).await;
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
}

/// Renews the lease of a node without a shard manager. Returns once the lease is valid.
async fn renewing(cluster: &Cluster) -> (LeaseRenewer, LeaseValidity) {
    let validity = LeaseValidity::unconfirmed(cluster.uptime.clone());
    let Options { records, me, tasks, .. } = cluster.options(1);
    let lease_renewer = LeaseRenewer::start(records, &me, validity.clone(), &tasks);
    while !validity.is_valid() {
        sleep(Duration::from_millis(10)).await;
    }
    (lease_renewer, validity)
}

/// Whether the lease stays valid for this long.
async fn stays_valid(validity: &LeaseValidity, time: Duration) -> bool {
    let end = Instant::now() + time;
    while validity.is_valid() && Instant::now() < end {
        sleep(Duration::from_millis(10)).await;
    }
    validity.is_valid()
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_let_the_lease_expire() {
    let cluster = Cluster::new().await;
    let (_lease_renewer, validity) = renewing(&cluster).await;
    for _ in 0..3 {
        cluster.store.hang_next.store(true, Ordering::SeqCst);
        assert!(stays_valid(&validity, LEASE_TTL).await);
        assert!(!cluster.store.hang_next.load(Ordering::SeqCst), "a renewal hung");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_always_slow_does_not_let_the_lease_expire() {
    let cluster = Cluster::new().await;
    for delay_ms in [1_500, 3_000] {
        cluster.store.delay_ms.store(delay_ms, Ordering::SeqCst);
        let (_lease_renewer, validity) = renewing(&cluster).await;
        assert!(stays_valid(&validity, LEASE_TTL * 6).await, "{delay_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_claims_its_shards_again_after_its_machine_was_suspended() {
    let cluster = Cluster::new().await;
    let _node = cluster.node(1);
    cluster.until_balanced(&[1]).await;
    let before = cluster.owners().await;
    cluster.uptime.suspend(LEASE_TTL);
    cluster.until_idle(Duration::from_secs(1)).await;
    cluster.until_balanced(&[1]).await;
    let has_next_epoch = |(before, after): (&Owner, &Owner)| after.epoch == before.epoch + 1;
    assert!(before.iter().zip(&cluster.owners().await).all(has_next_epoch));
}

/// A lease without a running node.
fn lease(number: u8, revision: u64) -> Lease {
    Lease {
        node: boot_id(number),
        name: format!("node-{number}"),
        address: None,
        version: "1".to_owned(),
        draining: false,
        revision,
        is_readable: true,
    }
}

/// Writes a lease in an unknown format.
async fn write_unreadable_lease(cluster: &Cluster, number: u8, revision: u8) {
    let store = Store::new(cluster.store.clone(), 1);
    let written = store.transact(|tx, _| async move {
        let key = [&[b'g', 5][..], &boot_id(number).bytes()].concat();
        tx.set(key, vec![99, revision]);
        Ok::<_, Error>(())
    });
    written.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_with_an_undecodable_lease_keeps_its_shards() {
    let cluster = Cluster::new().await;
    cluster.records.claim(&[0, 1, 2], boot_id(9)).await.unwrap();
    write_unreadable_lease(&cluster, 9, 0).await;
    let (one, two) = (cluster.node(1), cluster.node(2));
    for revision in 1..20 {
        sleep(RENEW_INTERVAL).await;
        write_unreadable_lease(&cluster, 9, revision).await;
    }
    let owners = cluster.owners().await;
    assert_eq!(owned_by(&owners, 9), 3, "its lease is renewed");
    assert!(
        owned_by(&owners, 1).abs_diff(owned_by(&owners, 2)) <= 2,
        "the other nodes share the rest"
    );
    two.stop().await;
    assert_eq!(owned_by(&cluster.owners().await, 2), 0, "and hand over to each other");
    // Without renewals the node is considered dead like any other.
    let all = |view: &Arc<View>| view.counts().get(&boot_id(1)) == Some(&usize::from(SHARDS));
    let mut view = one.view();
    let taken = timeout(LEASE_TTL * 2, view.wait_for(all));
    taken.await.expect("its shards are taken over").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_from_before_the_exit_is_not_a_sign_of_life() {
    let cluster = Cluster::new().await;
    cluster.records.renew_lease(&lease(2, 1)).await.unwrap();
    let all: Vec<Shard> = (0..SHARDS).collect();
    cluster.records.claim(&all, boot_id(2)).await.unwrap();
    let one = cluster.node(1);
    one.joined().await;
    // The node renews once more and exits before any other node has read the lease.
    cluster.records.renew_lease(&lease(2, 2)).await.unwrap();
    one.report_exit(boot_id(2), ExitEvidence::ThisHost).await;
    let ended = Instant::now();
    cluster.until_balanced(&[1]).await;
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_node_receives_no_shards_while_another_one_is_alive() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.node(1), cluster.node(2));
    cluster.until_balanced(&[1, 2]).await;
    cluster.records.renew_lease(&lease(3, 1)).await.unwrap();
    let is_suspect = |view: &Arc<View>| {
        view.node(boot_id(3)).is_some_and(|node| node.state == NodeState::Suspect)
    };
    for node in [&one, &two] {
        node.view().wait_for(is_suspect).await.unwrap();
    }
    let before = cluster.owners().await;
    one.stop().await;
    let after = cluster.owners().await;
    assert_eq!(owned_by(&after, 1), 0, "all are handed over");
    assert_eq!(owned_by(&after, 3), owned_by(&before, 3), "none to the suspect node");
}

#[tokio::test(start_paused = true)]
async fn nodes_wait_while_the_store_is_unavailable_and_resume_afterwards() {
    let cluster = Cluster::new().await;
    let (one, two) = (cluster.node(1), cluster.node(2));
    cluster.until_balanced(&[1, 2]).await;
    let before = cluster.records.ownership(None).await.unwrap().unwrap().owners;
    cluster.store.is_down.store(true, Ordering::SeqCst);
    cluster.until_idle(SELF_FENCE_AFTER + Duration::from_secs(1)).await;
    sleep(LEASE_TTL * 3).await;
    cluster.store.is_down.store(false, Ordering::SeqCst);
    cluster.until_balanced(&[1, 2]).await;
    let after = cluster.records.ownership(None).await.unwrap().unwrap().owners;
    for (before, after) in before.iter().zip(&after) {
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(before.node, after.node, "an outage moves no shards");
        assert_eq!(before.epoch + 1, after.epoch, "each shard is claimed under a new epoch");
    }
    assert!(one.is_member() && two.is_member());
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_work_does_not_end_after_a_lapse_is_claimed_again() {
    let cluster = Cluster::new().await;
    let node = cluster.node(1);
    node.joined().await;
    cluster.until_balanced(&[1]).await;
    let before = cluster.owners().await;
    cluster.activity.never_finishes.store(true, Ordering::SeqCst);
    cluster.activity.overlap_allowed.store(true, Ordering::SeqCst);
    cluster.store.is_down.store(true, Ordering::SeqCst);
    sleep(SELF_FENCE_AFTER + Duration::from_secs(1)).await;
    cluster.store.is_down.store(false, Ordering::SeqCst);
    let claimed_again = async {
        loop {
            let after = cluster.owners().await;
            let mut pairs = before.iter().zip(&after);
            if pairs.all(|(before, after)| after.epoch == before.epoch + 1) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(DRAIN_TIMEOUT + Duration::from_secs(1), claimed_again).await;
    in_time.expect("no shard waits for work that does not end");
    assert!(
        cluster.activity.started.load(Ordering::SeqCst) >= 2 * u32::from(SHARDS),
        "work on the shards has started again"
    );
    assert!(node.is_member());
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_not_stuck_when_its_handoff_panics() {
    let cluster = Cluster::new().await;
    // Only the first node is affected by the panic.
    let unaffected =
        Arc::new(FaultyStore { memory: cluster.store.memory.clone(), ..FaultyStore::default() });
    let unaffected = Records::open(Store::new(unaffected, 1), SHARDS).await.unwrap();
    let _one = cluster.node(1);
    cluster.until_balanced(&[1]).await;
    cluster.store.panic_on_next_new_task();
    let _two = ShardManager::start(Options { records: unaffected, ..cluster.options(2) });
    cluster.until_balanced(&[1, 2]).await;
    assert!(cluster.store.has_panicked(), "a handoff panicked");
}

/// Panics when asked to begin work.
struct PanickingWorkers;

#[async_trait]
impl ShardWorkers for PanickingWorkers {
    async fn begin(&self, _: ShardGuard) {
        panic!("injected panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_manager_that_panics_is_reported() {
    let cluster = Cluster::new().await;
    let options = Options { shard_workers: Arc::new(PanickingWorkers), ..cluster.options(1) };
    let _node = ShardManager::start(options);
    let ended = timeout(LEASE_TTL, cluster.tasks.failed()).await.expect("the failure is reported");
    assert_eq!(ended.task, "shard manager");
}

#[tokio::test(start_paused = true)]
async fn a_lease_renewal_that_panics_is_reported() {
    let cluster = Cluster::new().await;
    cluster.store.panic_on_next_new_task();
    let Options { records, me, tasks, .. } = cluster.options(1);
    let validity = LeaseValidity::unconfirmed(cluster.uptime.clone());
    let _lease_renewer = LeaseRenewer::start(records, &me, validity, &tasks);
    assert_eq!(cluster.tasks.failed().await.task, "lease renewal");
}

#[tokio::test(start_paused = true)]
async fn a_lease_renewal_that_is_stopped_deliberately_is_not_reported() {
    let cluster = Cluster::new().await;
    let node = cluster.node(1);
    cluster.until_balanced(&[1]).await;
    node.stop().await;
    let ended = cluster.tasks.failed().await;
    assert_eq!(ended.task, "shard manager", "it was stopped: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_gets_its_shards_back() {
    let cluster = Cluster::new().await;
    let one = cluster.node(1);
    let two = cluster.node(2);
    cluster.until_balanced(&[1, 2]).await;
    two.stop().await;
    cluster.until_balanced(&[1]).await;
    let _restarted = cluster.node(3);
    cluster.until_balanced(&[1, 3]).await;
    drop(one);
}
