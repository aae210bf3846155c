//! Keepers over one store, on a clock that the tests own.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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
use crate::membership::{ExitEvidence, RENEW_EVERY, SELF_STOP, TTL};

const SHARDS: u16 = 30;
/// How long those who work take to end what is under way.
const WINDING_UP: Duration = Duration::from_millis(80);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

/// A store that can be away.
#[derive(Default)]
struct Outage {
    memory: Memory,
    away: AtomicBool,
    /// The tasks that have used it.
    users: Mutex<HashSet<task::Id>>,
    /// The next task that has not used it yet panics.
    trap: AtomicBool,
    sprung: AtomicBool,
    /// The next transaction never begins.
    hang: AtomicBool,
    /// How long a transaction takes to begin.
    delay_ms: AtomicU32,
}

impl Outage {
    fn next_stranger_panics(&self) {
        self.trap.store(true, Ordering::SeqCst);
    }

    fn has_panicked(&self) -> bool {
        self.sprung.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Engine for Outage {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        // The test itself is no task.
        if let Some(user) = task::try_id()
            && self.users.lock().unwrap().insert(user)
            && self.trap.swap(false, Ordering::SeqCst)
        {
            self.sprung.store(true, Ordering::SeqCst);
            panic!("the trap was set");
        }
        if self.hang.swap(false, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.delay_ms.load(Ordering::SeqCst) {
            0 => {}
            delay_ms => sleep(Duration::from_millis(delay_ms.into())).await,
        }
        match self.away.load(Ordering::SeqCst) {
            true => Err(Error::Unavailable("it is away".to_owned())),
            false => self.memory.begin().await,
        }
    }
}

/// Everybody who works, and proof that no two ever work on one shard.
#[derive(Default)]
struct Floor {
    working: Mutex<BTreeSet<Shard>>,
    begun: AtomicU32,
    /// They keep their tenures for ever.
    stubborn: AtomicBool,
    /// Two may work on a shard: a node that was cut off cannot be told.
    lenient: AtomicBool,
}

struct Crew(Arc<Floor>);

#[async_trait]
impl ShardWorkers for Crew {
    async fn begin(&self, guard: ShardGuard) {
        let (floor, shard) = (self.0.clone(), guard.fence().shard);
        let free = floor.working.lock().unwrap().insert(shard);
        assert!(free || floor.lenient.load(Ordering::SeqCst), "two work on shard {shard}");
        floor.begun.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            guard.revoked().wait().await;
            sleep(WINDING_UP).await;
            if floor.stubborn.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            floor.working.lock().unwrap().remove(&shard);
            drop(guard);
        });
    }
}

struct Nobody;

impl PeerNotifier for Nobody {
    fn handed_over(&self, _: Fence) {}
}

struct World {
    store: Arc<Outage>,
    records: Records,
    floor: Arc<Floor>,
    uptime: Arc<TestUptime>,
    tasks: Tasks,
}

impl World {
    async fn new() -> Self {
        Self::with_shards(SHARDS).await
    }

    async fn with_shards(shards: u16) -> Self {
        let store = Arc::new(Outage::default());
        let records = Records::open(Store::new(store.clone(), 1), shards).await.unwrap();
        Self {
            store,
            records,
            floor: Arc::default(),
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

    /// What a node among others works with.
    fn options(&self, number: u8) -> Options {
        let me = Identity {
            node: boot(number),
            name: format!("node-{number}"),
            address: None,
            version: "1".to_owned(),
        };
        Options {
            records: self.records.clone(),
            me,
            mode: ClusterMode::Clustered(Arc::new(Nobody)),
            shard_workers: Arc::new(Crew(self.floor.clone())),
            drain_timeout: DRAIN_TIMEOUT,
            uptime: self.uptime.clone(),
            seed: number.into(),
            tasks: self.tasks.clone(),
        }
    }

    /// The owner of each shard, all of which have one.
    async fn owners(&self) -> Vec<Owner> {
        let owners = self.records.ownership(None).await.unwrap().unwrap().owners;
        owners.into_iter().map(|owner| owner.expect("every shard has an owner")).collect()
    }

    async fn until_nobody_works(&self, time: Duration) {
        let nobody_works = async {
            while !self.floor.working.lock().unwrap().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(time, nobody_works).await.expect("they stop in time");
    }

    /// Waits until these nodes, and no others, own about their share each, and work on it.
    async fn until_shared(&self, nodes: &[u8]) {
        let shared = async {
            loop {
                let owners = self.records.ownership(None).await.unwrap().unwrap().owners;
                let of = |node: &u8| {
                    owners.iter().flatten().filter(|owner| owner.node == boot(*node)).count()
                };
                let share = usize::from(SHARDS) / nodes.len();
                let fair = nodes.iter().all(|node| of(node).abs_diff(share) <= 1 + share / 10);
                let all = nodes.iter().map(of).sum::<usize>() == usize::from(SHARDS);
                let worked_on = self.floor.working.lock().unwrap().len() == usize::from(SHARDS);
                if fair && all && worked_on {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(Duration::from_secs(180), shared).await.is_err() {
            let owners = self.records.ownership(None).await.unwrap().unwrap().owners;
            let working = self.floor.working.lock().unwrap().clone();
            panic!("they do not come to share: {owners:?}, {working:?} are worked on");
        }
    }
}

fn boot(number: u8) -> BootId {
    BootId::from_bytes([number; 16])
}

/// How many shards a node owns.
fn owned_by(owners: &[Owner], number: u8) -> usize {
    owners.iter().filter(|owner| owner.node == boot(number)).count()
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_works_on_everything() {
    let world = World::new().await;
    let node = world.shard_manager(1, ClusterMode::Single);
    node.joined().await;
    world.until_shared(&[1]).await;
    assert!(node.is_member() && world.records.leases().await.unwrap().is_empty());
    sleep(TTL * 20).await;
    assert!(node.is_member() && node.view().borrow().unowned() == 0, "nothing need move");
    assert_eq!(node.stop().await, 0);
    assert!(world.floor.working.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nodes_share_and_a_third_one_gets_its_part() {
    let world = World::new().await;
    let one = world.node(1);
    one.joined().await;
    world.until_shared(&[1]).await;
    let two = world.node(2);
    world.until_shared(&[1, 2]).await;
    let three = world.node(3);
    world.until_shared(&[1, 2, 3]).await;
    for node in [&one, &two, &three] {
        assert_eq!(node.view().borrow().unowned(), 0);
        assert_eq!(node.view().borrow().nodes.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaving_node_hands_everything_over_and_is_gone() {
    let world = World::new().await;
    let (one, two) = (world.node(1), world.node(2));
    world.until_shared(&[1, 2]).await;
    let began = Instant::now();
    assert_eq!(one.stop().await, 0);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    world.until_shared(&[2]).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(world.records.leases().await.unwrap().len(), 1);
    assert_eq!(two.view().borrow().counts().get(&boot(2)), Some(&usize::from(SHARDS)));
}

/// Shards that take seconds to claim.
const MANY: u16 = 6_400;

#[tokio::test(start_paused = true)]
async fn a_node_that_claims_many_shards_can_be_stopped() {
    let world = World::with_shards(MANY).await;
    let node = world.node(1);
    // It is in the midst of its first reconciler.
    sleep(Duration::from_millis(100)).await;
    let told = Instant::now();
    node.stop().await;
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert!(world.floor.begun.load(Ordering::SeqCst) > 0, "it had begun");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_claims_many_shards_is_seen_meanwhile() {
    let world = World::with_shards(MANY).await;
    let began = Instant::now();
    let node = world.node(1);
    node.joined().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut view = node.view();
    let all = timeout(Duration::from_secs(60), view.wait_for(|view| view.unowned() == 0));
    all.await.expect("it goes on with the rest").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_claims_many_shards_stops_when_its_lease_is_not_renewed() {
    let world = World::with_shards(MANY).await;
    let _node = world.node(1);
    sleep(Duration::from_millis(100)).await;
    world.uptime.suspend(TTL);
    // The lease is not renewed before that.
    world.until_nobody_works(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_handed_over_all_the_same() {
    let world = World::new().await;
    let (one, _two) = (world.node(1), world.node(2));
    world.until_shared(&[1, 2]).await;
    world.floor.stubborn.store(true, Ordering::SeqCst);
    world.floor.lenient.store(true, Ordering::SeqCst);
    let left = timeout(DRAIN_TIMEOUT * 2, one.stop()).await.expect("it does not wait for ever");
    assert!(left > 0, "something was under way");
    let all = async {
        while world
            .records
            .ownership(None)
            .await
            .unwrap()
            .unwrap()
            .owners
            .iter()
            .flatten()
            .any(|owner| owner.node != boot(2))
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), all).await.expect("the other has all of them");
}

/// A node whose process is gone: its shard_manager, and with it its lease's renewals, are aborted.
async fn die(world: &World, runtime: tokio::task::JoinHandle<()>) {
    runtime.abort();
    let _ = runtime.await;
    world.floor.lenient.store(true, Ordering::SeqCst);
}

/// A shard_manager all of whose tasks can be ended at once.
fn mortal(world: &World, number: u8) -> tokio::task::JoinHandle<()> {
    let options = world.options(number);
    let (view, _watched) = watch::channel(Arc::default());
    let (commands, told) = mpsc::channel(COMMANDS);
    let look = Arc::new(Notify::new());
    let reconciler = Reconciler::new(options, view, look.clone(), told);
    tokio::spawn(async move {
        let _commands = commands;
        run(reconciler, look, CHECK_INTERVAL).await;
    })
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_dead_node_are_taken_after_its_time() {
    let world = World::new().await;
    let one = world.node(1);
    let two = mortal(&world, 2);
    world.until_shared(&[1, 2]).await;
    die(&world, two).await;
    let died = Instant::now();
    world.until_shared(&[1]).await;
    let took = died.elapsed();
    assert!(took > TTL - SELF_STOP && took < Duration::from_secs(13), "{took:?}");
    drop(one);
}

#[tokio::test(start_paused = true)]
async fn proof_of_its_end_saves_the_waiting() {
    let world = World::new().await;
    let one = world.node(1);
    let two = mortal(&world, 2);
    world.until_shared(&[1, 2]).await;
    die(&world, two).await;
    let died = Instant::now();
    one.ended(boot(2), ExitEvidence::ThisHost).await;
    world.until_shared(&[1]).await;
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
}

/// Renews the lease of a node without a shard_manager, and gives its validity when it has begun to renewals.
async fn renewing(world: &World) -> (LeaseRenewer, LeaseValidity) {
    let validity = LeaseValidity::unconfirmed(world.uptime.clone());
    let Options { records, me, tasks, .. } = world.options(1);
    let lease_renewer = LeaseRenewer::start(records, &me, validity.clone(), &tasks);
    while !validity.is_valid() {
        sleep(Duration::from_millis(10)).await;
    }
    (lease_renewer, validity)
}

/// Whether the validity never stops for so long.
async fn beats_for(validity: &LeaseValidity, time: Duration) -> bool {
    let end = Instant::now() + time;
    while validity.is_valid() && Instant::now() < end {
        sleep(Duration::from_millis(10)).await;
    }
    validity.is_valid()
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_stop_the_pulse() {
    let world = World::new().await;
    let (_lifeline, validity) = renewing(&world).await;
    for _ in 0..3 {
        world.store.hang.store(true, Ordering::SeqCst);
        assert!(beats_for(&validity, TTL).await);
        assert!(!world.store.hang.load(Ordering::SeqCst), "one hung");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_all_the_time_does_not_stop_the_pulse() {
    let world = World::new().await;
    for delay_ms in [1_500, 3_000] {
        world.store.delay_ms.store(delay_ms, Ordering::SeqCst);
        let (_lifeline, validity) = renewing(&world).await;
        assert!(beats_for(&validity, TTL * 6).await, "{delay_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_suspended_claims_its_shards_anew() {
    let world = World::new().await;
    let _node = world.node(1);
    world.until_shared(&[1]).await;
    let before = world.owners().await;
    world.uptime.suspend(TTL);
    world.until_nobody_works(Duration::from_secs(1)).await;
    world.until_shared(&[1]).await;
    let anew = |(before, after): (&Owner, &Owner)| after.epoch == before.epoch + 1;
    assert!(before.iter().zip(&world.owners().await).all(anew));
}

/// A lease that nobody renews.
fn lease(number: u8, revision: u64) -> Lease {
    Lease {
        node: boot(number),
        name: format!("node-{number}"),
        address: None,
        version: "1".to_owned(),
        draining: false,
        revision,
        is_readable: true,
    }
}

/// Writes a lease in a layout that no build of today knows.
async fn renew_unreadably(world: &World, number: u8, revision: u8) {
    let store = Store::new(world.store.clone(), 1);
    let written = store.transact(|tx, _| async move {
        let key = [&[b'g', 5][..], &boot(number).bytes()].concat();
        tx.set(key, vec![99, revision]);
        Ok::<_, Error>(())
    });
    written.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_read_hides_no_other_and_its_node_keeps_its_shards() {
    let world = World::new().await;
    world.records.claim(&[0, 1, 2], boot(9)).await.unwrap();
    renew_unreadably(&world, 9, 0).await;
    let (one, two) = (world.node(1), world.node(2));
    for revision in 1..20 {
        sleep(RENEW_EVERY).await;
        renew_unreadably(&world, 9, revision).await;
    }
    let owners = world.owners().await;
    assert_eq!(owned_by(&owners, 9), 3, "it lives, as far as anybody can see");
    assert!(owned_by(&owners, 1).abs_diff(owned_by(&owners, 2)) <= 2, "the others share the rest");
    two.stop().await;
    assert_eq!(owned_by(&world.owners().await, 2), 0, "and hand over to each other");
    // When it stands still it is dead like any other.
    let all = |view: &Arc<View>| view.counts().get(&boot(1)) == Some(&usize::from(SHARDS));
    let mut view = one.view();
    let taken = timeout(TTL * 2, view.wait_for(all));
    taken.await.expect("its shards are taken").unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_node_wrote_before_its_end_is_no_sign_of_life() {
    let world = World::new().await;
    world.records.renew_lease(&lease(2, 1)).await.unwrap();
    let all: Vec<Shard> = (0..SHARDS).collect();
    world.records.claim(&all, boot(2)).await.unwrap();
    let one = world.node(1);
    one.joined().await;
    // It renews once more, and ends before anybody has looked.
    world.records.renew_lease(&lease(2, 2)).await.unwrap();
    one.ended(boot(2), ExitEvidence::ThisHost).await;
    let ended = Instant::now();
    world.until_shared(&[1]).await;
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_nobodys_heir_while_another_one_is_alive() {
    let world = World::new().await;
    let (one, two) = (world.node(1), world.node(2));
    world.until_shared(&[1, 2]).await;
    world.records.renew_lease(&lease(3, 1)).await.unwrap();
    let silent =
        |view: &Arc<View>| view.node(boot(3)).is_some_and(|node| node.state == NodeState::Suspect);
    for node in [&one, &two] {
        node.view().wait_for(silent).await.unwrap();
    }
    let before = world.owners().await;
    one.stop().await;
    let after = world.owners().await;
    assert_eq!(owned_by(&after, 1), 0, "all are handed over");
    assert_eq!(owned_by(&after, 3), owned_by(&before, 3), "none to the node that is silent");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_everybody_waits_and_then_goes_on() {
    let world = World::new().await;
    let (one, two) = (world.node(1), world.node(2));
    world.until_shared(&[1, 2]).await;
    let before = world.records.ownership(None).await.unwrap().unwrap().owners;
    world.store.away.store(true, Ordering::SeqCst);
    world.until_nobody_works(SELF_STOP + Duration::from_secs(1)).await;
    sleep(TTL * 3).await;
    world.store.away.store(false, Ordering::SeqCst);
    world.until_shared(&[1, 2]).await;
    let after = world.records.ownership(None).await.unwrap().unwrap().owners;
    for (before, after) in before.iter().zip(&after) {
        let (before, after) = (before.unwrap(), after.unwrap());
        assert_eq!(before.node, after.node, "an outage moves nothing");
        assert_eq!(before.epoch + 1, after.epoch, "and it is claimed anew");
    }
    assert!(one.is_member() && two.is_member());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_after_a_lapse_is_claimed_anew_all_the_same() {
    let world = World::new().await;
    let node = world.node(1);
    node.joined().await;
    world.until_shared(&[1]).await;
    let before = world.owners().await;
    world.floor.stubborn.store(true, Ordering::SeqCst);
    world.floor.lenient.store(true, Ordering::SeqCst);
    world.store.away.store(true, Ordering::SeqCst);
    sleep(SELF_STOP + Duration::from_secs(1)).await;
    world.store.away.store(false, Ordering::SeqCst);
    let claimed_anew = async {
        loop {
            let after = world.owners().await;
            let mut pairs = before.iter().zip(&after);
            if pairs.all(|(before, after)| after.epoch == before.epoch + 1) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(DRAIN_TIMEOUT + Duration::from_secs(1), claimed_anew).await;
    in_time.expect("no shard waits for what does not end");
    assert!(world.floor.begun.load(Ordering::SeqCst) >= 2 * u32::from(SHARDS), "it is worked on");
    assert!(node.is_member());
}

#[tokio::test(start_paused = true)]
async fn a_handoff_that_panics_does_not_keep_its_shard() {
    let world = World::new().await;
    // Only the first node meets the panic.
    let beside = Arc::new(Outage { memory: world.store.memory.clone(), ..Outage::default() });
    let beside = Records::open(Store::new(beside, 1), SHARDS).await.unwrap();
    let _one = world.node(1);
    world.until_shared(&[1]).await;
    world.store.next_stranger_panics();
    let _two = ShardManager::start(Options { records: beside, ..world.options(2) });
    world.until_shared(&[1, 2]).await;
    assert!(world.store.has_panicked(), "a handoff panicked");
}

/// They cannot begin.
struct Broken;

#[async_trait]
impl ShardWorkers for Broken {
    async fn begin(&self, _: ShardGuard) {
        panic!("as the test wants");
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_fails_is_told_of() {
    let world = World::new().await;
    let options = Options { shard_workers: Arc::new(Broken), ..world.options(1) };
    let _node = ShardManager::start(options);
    let ended = timeout(TTL, world.tasks.failed()).await.expect("somebody is told");
    assert_eq!(ended.task, "shard_manager");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_no_more_is_told_of() {
    let world = World::new().await;
    world.store.next_stranger_panics();
    let Options { records, me, tasks, .. } = world.options(1);
    let validity = LeaseValidity::unconfirmed(world.uptime.clone());
    let _lifeline = LeaseRenewer::start(records, &me, validity, &tasks);
    assert_eq!(world.tasks.failed().await.task, "lease renewal");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_removed_in_order_is_not_told_of() {
    let world = World::new().await;
    let node = world.node(1);
    world.until_shared(&[1]).await;
    node.stop().await;
    let ended = world.tasks.failed().await;
    assert_eq!(ended.task, "shard_manager", "it was told to: {ended}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_gets_its_shards_back() {
    let world = World::new().await;
    let one = world.node(1);
    let two = world.node(2);
    world.until_shared(&[1, 2]).await;
    two.stop().await;
    world.until_shared(&[1]).await;
    let _again = world.node(3);
    world.until_shared(&[1, 3]).await;
    drop(one);
}
