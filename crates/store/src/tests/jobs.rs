use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{self, EventId, ReplayId};
use postrider_domain::replay::{Command, Filter, Replay, ReplayState};

use super::*;
use crate::kv::Error;
use crate::{HeldAction, OwnerError, PageRequest, ReplayCount, ReplayRequest};

fn request(filter: Filter) -> ReplayRequest {
    ReplayRequest { filter, rate: 100, total: 0 }
}

async fn replay(world: &World, filter: Filter, now: Timestamp) -> Replay {
    let made =
        world.records.create_replay(world.account, request(filter), &world.id_generator, now).await;
    made.unwrap().expect("an account").0
}

async fn run(world: &World, id: ReplayId, max: usize) -> u64 {
    let fence = world.fences[usize::from(world.records.shard_of(id))];
    loop {
        let step = world
            .records
            .step_replay(fence, world.account, id, max, &world.id_generator, later(5_000))
            .await;
        match step.unwrap() {
            Some((replay, _)) if replay.state == ReplayState::Running => {}
            Some((replay, _)) => return replay.done,
            None => return 0,
        }
    }
}

async fn first_running(world: &World) -> Option<ReplayId> {
    for fence in &world.fences {
        let running = world.records.running_replays(fence.shard, None).await.unwrap();
        if let Some((_, id)) = running.first() {
            return Some(*id);
        }
    }
    None
}

#[tokio::test]
async fn a_replay_covers_what_its_filter_matches_but_not_its_own_deliveries() {
    let world = World::new().await;
    let (one, other) = (world.endpoint(&["a"]).await, world.endpoint(&["a", "b"]).await);
    for number in 0..10 {
        world.accept("a", later(10 + number)).await;
        world.accept("b", later(10 + number)).await;
    }
    for _ in 0..10 {
        world.attempt(one, 200, later(100)).await;
    }
    let delivered = Filter { states: Some(vec![DeliveryState::Delivered]), ..Filter::default() };
    let of_b = Filter {
        endpoint: Some(other),
        event_types: Some([name("b")].into()),
        since: Some(later(12)),
        until: Some(later(15)),
        ..Filter::default()
    };
    for (filter, count) in [(delivered, 10), (of_b, 3)] {
        let now = later(1_000);
        let counted = ReplayCount { total: count, exact: true };
        assert_eq!(world.records.count_replay(world.account, &filter).await, Ok(counted));
        let job = replay(&world, filter, now).await;
        let shard = world.records.shard_of(job.id);
        assert_eq!(
            world.records.running_replays(shard, None).await.unwrap(),
            [(world.account, job.id)]
        );
        assert_eq!(run(&world, job.id, 4).await, count);
        assert!(world.records.running_replays(shard, None).await.unwrap().is_empty());
    }
    assert_eq!(world.backlog(one).await, 10);
    assert_eq!(world.backlog(other).await, 23);
}

#[tokio::test]
async fn counting_is_bounded_and_reports_whether_it_is_exact() {
    let world = World::new().await;
    world.endpoint(&["a"]).await;
    for number in 0..450 {
        world.accept("a", later(number)).await;
    }
    for (max, total, exact) in [(200, 200, false), (400, 400, false), (600, 450, true)] {
        let count = world.records.count_within(world.account, &Filter::default(), max).await;
        assert_eq!(count, Ok(ReplayCount { total, exact }));
    }
}

#[tokio::test]
async fn a_replay_pauses_resumes_and_is_cancelled() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    for number in 0..5 {
        world.accept("a", later(10 + number)).await;
    }
    let job = replay(&world, Filter::default(), later(1_000)).await;
    let command =
        |command| world.records.command_replay(world.account, job.id, command, later(2_000));
    assert!(command(Command::Pause).await.unwrap().unwrap().is_ok());
    assert_eq!(run(&world, job.id, 1).await, 0);
    assert!(command(Command::Resume).await.unwrap().unwrap().is_ok());
    let fence = world.fences[usize::from(world.records.shard_of(job.id))];
    let step = world.records.step_replay(
        fence,
        world.account,
        job.id,
        2,
        &world.id_generator,
        later(3_000),
    );
    assert_eq!(step.await.unwrap().unwrap().0.done, 2);
    assert!(command(Command::Cancel).await.unwrap().unwrap().is_ok());
    assert_eq!(
        command(Command::Resume).await.unwrap().unwrap().unwrap_err(),
        ReplayState::Cancelled
    );
    assert_eq!(world.backlog(endpoint).await, 7);
}

#[tokio::test]
async fn replays_are_listed_newest_first() {
    let world = World::new().await;
    let mut made = Vec::new();
    for number in 0..3 {
        made.insert(0, replay(&world, Filter::default(), later(number)).await);
    }
    let request = |after| PageRequest { limit: 2, after };
    let first = world.records.replays(world.account, request(None)).await.unwrap();
    assert_eq!(first.items, made[..2]);
    let after = first.next.unwrap().parse().unwrap();
    let second = world.records.replays(world.account, request(Some(after))).await.unwrap();
    assert_eq!((second.items, second.next), (made[2..].to_vec(), None));
    let nobody = world.id_generator.id(later(9));
    assert!(world.records.replays(nobody, request(None)).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_replay_whose_owners_clock_is_behind_excludes_its_own_deliveries() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    for number in 0..10 {
        world.accept("a", later(number)).await;
        world.attempt(endpoint, 200, later(number)).await;
    }
    let delivered = Filter { states: Some(vec![DeliveryState::Delivered]), ..Filter::default() };
    let job = replay(&world, delivered, later(1_000)).await;
    let (fence, behind) =
        (world.fences[usize::from(world.records.shard_of(job.id))], IdGenerator::new(2));
    let mut done = 0;
    for _ in 0..100 {
        let step =
            world.records.step_replay(fence, world.account, job.id, 4, &behind, later(900)).await;
        let Some((job, _)) = step.unwrap() else { break };
        done = job.done;
        while world.backlog(endpoint).await > 0 {
            world.attempt(endpoint, 200, later(900)).await;
        }
    }
    assert_eq!(done, 10);
}

#[tokio::test]
async fn a_replay_covers_deliveries_created_with_a_fast_clock() {
    let world = World::new().await;
    world.endpoint(&["a"]).await;
    let (event, ahead) = (world.event("a", later(5_000)), IdGenerator::new(3));
    let accepted = world.records.accept(world.account, vec![event], None, &ahead, later(5_000));
    accepted.await.unwrap();
    let job = replay(&world, Filter::default(), later(1_000)).await;
    assert_eq!((job.created_at, run(&world, job.id, 100).await), (later(1_000), 1));
}

#[tokio::test]
async fn until_is_compared_with_the_creation_time_and_not_with_the_id() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    // The id generator has run ahead, as after the clock was set back.
    world.id_generator.id::<ReplayId>(later(10_000));
    world.accept("a", later(0)).await;
    world.accept("a", later(5_000)).await;
    let filter = Filter { until: Some(later(5_000)), ..Filter::default() };
    let count = world.records.count_replay(world.account, &filter).await;
    assert_eq!(count, Ok(ReplayCount { total: 1, exact: true }));
    let job = replay(&world, filter, later(6_000)).await;
    assert_eq!(run(&world, job.id, 100).await, 1);
    assert_eq!(world.backlog(endpoint).await, 3);
}

/// An endpoint whose held deliveries, created with a clock a second ahead, are to be discarded.
async fn discarding(world: &World) -> (EndpointId, postrider_domain::ids::DeliveryId) {
    let endpoint = world.endpoint(&["a"]).await;
    let (event, ahead) = (world.event("a", later(1_000)), IdGenerator::new(4));
    world.records.disable_endpoint(world.account, endpoint, later(1)).await.unwrap();
    let accepted = world.records.accept(world.account, vec![event], None, &ahead, later(1_000));
    let receipt = accepted.await.unwrap().receipts.remove(0);
    let page = PageRequest { limit: 1, after: None };
    let held = world.records.event_deliveries(world.account, receipt.id, page).await;
    let held = held.unwrap().items.remove(0).delivery.id;
    let enabled = world.records.enable_endpoint(world.account, endpoint, HeldAction::Discard);
    enabled.await.unwrap();
    (endpoint, held)
}

#[tokio::test]
async fn a_retry_is_not_discarded_with_held_deliveries() {
    let world = World::new().await;
    let (endpoint, held) = discarding(&world).await;
    let retried =
        world.records.resend_delivery(world.account, held, &IdGenerator::new(5), later(900)).await;
    let (view, wake) = retried.unwrap().expect("a delivery");
    assert_eq!((view.state, wake.is_some()), (DeliveryState::Pending, true));
    world.discard(endpoint, later(910)).await;
    assert_eq!(world.workload(endpoint, 5).await.first().id, view.delivery.id);
}

#[tokio::test]
async fn a_replay_is_not_discarded_with_held_deliveries() {
    let world = World::new().await;
    let (endpoint, _) = discarding(&world).await;
    let job = replay(&world, Filter::default(), later(900)).await;
    assert_eq!(run(&world, job.id, 100).await, 1);
    world.discard(endpoint, later(910)).await;
    assert_eq!(world.backlog(endpoint).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_with_an_unknown_commit_result_creates_one_delivery() {
    for seed in 0..40 {
        let world = World::with_faults(seed, Faults::default()).await;
        let endpoint = world.endpoint(&["a"]).await;
        world.accept("a", later(1)).await;
        let first = world.workload(endpoint, 1).await.first().id;
        let faults =
            Faults { lost_after_commit: 0.4, lost_before_commit: 0.3, ..Faults::default() };
        world.memory.set_faults(faults);
        let retried = world
            .records
            .resend_delivery(world.account, first, &world.id_generator, later(2))
            .await;
        let made = retried.unwrap().expect("a delivery").0.delivery.id;
        assert_eq!(world.backlog(endpoint).await, 2);
        let queue = world.workload(endpoint, 5).await.firsts.deliveries;
        assert_eq!(queue.iter().map(|it| it.id).collect::<Vec<_>>(), [first, made]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_created_twice_does_not_start_over() {
    for seed in 0..20 {
        let world = World::with_faults(seed, Faults::default()).await;
        let endpoint = world.endpoint(&["a"]).await;
        for number in 0..10 {
            world.accept("a", later(number)).await;
        }
        // The commit's result is unknown, and the replay's owner takes a step before the next run.
        world.memory.set_faults(Faults { lost_after_commit: 0.7, ..Faults::default() });
        let owner = async {
            let id = loop {
                match first_running(&world).await {
                    Some(id) => break id,
                    None => tokio::task::yield_now().await,
                }
            };
            run(&world, id, 4).await;
        };
        let made = replay(&world, Filter::default(), later(1_000));
        let (job, ()) = tokio::join!(made, owner);
        world.memory.set_faults(Faults::default());
        run(&world, job.id, 4).await;
        let job = world.records.replay(world.account, job.id).await.unwrap().expect("a replay");
        assert_eq!((job.state, job.done), (ReplayState::Completed, 10), "seed {seed}");
        assert_eq!(world.backlog(endpoint).await, 20);
    }
}

/// A node whose clock is an hour ahead has accepted an event. The replay's id is greater than the
/// ids of that event's deliveries, but other new ids keep the time of this node's clock.
#[tokio::test]
async fn a_replay_does_not_propagate_another_nodes_fast_clock() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    let ahead = later(3_600_000);
    let event = world.event("a", later(0));
    let event = Event { id: IdGenerator::new(6).id(ahead), created_at: ahead, ..event };
    world
        .records
        .accept(world.account, vec![event], None, &IdGenerator::new(7), ahead)
        .await
        .unwrap();
    let job = replay(&world, Filter::default(), later(1)).await;
    assert!(ids::created_at(job.id) > ahead);
    run(&world, job.id, 4).await;
    assert_eq!(world.backlog(endpoint).await, 2);
    assert_eq!(ids::created_at(world.id_generator.id::<EventId>(later(2))), later(2));
}

#[tokio::test]
async fn a_deleted_account_gets_no_replay() {
    let world = World::new().await;
    world.records.delete_account(world.account).await.unwrap();
    let request = request(Filter::default());
    let made =
        world.records.create_replay(world.account, request, &world.id_generator, later(1)).await;
    assert!(made.unwrap().is_none());
    let page = PageRequest { limit: 10, after: None };
    assert!(world.records.replays(world.account, page).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_nearly_full_disk_rejects_new_deliveries() {
    let world = World::new().await;
    let endpoint = world.endpoint(&["a"]).await;
    world.accept("a", later(1)).await;
    let first = world.workload(endpoint, 1).await.first().id;
    let job = replay(&world, Filter::default(), later(2)).await;
    let fence = world.fences[usize::from(world.records.shard_of(job.id))];
    world.memory.set_nearly_full(true);
    let step =
        world.records.step_replay(fence, world.account, job.id, 1, &world.id_generator, later(3));
    assert!(matches!(step.await, Err(OwnerError::Store(Error::Full))));
    let request = request(Filter::default());
    let made =
        world.records.create_replay(world.account, request, &world.id_generator, later(3)).await;
    assert_eq!(made.unwrap_err(), Error::Full);
    let retried =
        world.records.resend_delivery(world.account, first, &world.id_generator, later(3)).await;
    assert_eq!(retried.unwrap_err(), Error::Full);
    // Accepted work is still finished.
    assert!(matches!(world.attempt(endpoint, 200, later(4)).await, Applied::Recorded(_)));
    world.memory.set_nearly_full(false);
    assert_eq!(run(&world, job.id, 1).await, 1);
}
