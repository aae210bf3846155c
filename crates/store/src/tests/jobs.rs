use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{self, EventId, ReplayId};
use postrider_domain::replay::{Command, Filter, Replay, ReplayState};

use super::*;
use crate::kv::Error;
use crate::{HeldAction, OwnerError, PageRequest, ReplayCount, ReplayRequest};

fn request(filter: Filter) -> ReplayRequest {
    ReplayRequest { filter, rate: 100, total: 0 }
}

async fn replay(fixture: &Fixture, filter: Filter, now: Timestamp) -> Replay {
    let made = fixture
        .records
        .create_replay(fixture.account, request(filter), &fixture.id_generator, now)
        .await;
    made.unwrap().expect("an account").0
}

async fn run(fixture: &Fixture, id: ReplayId, max: usize) -> u64 {
    let fence = fixture.fences[usize::from(fixture.records.shard_of(id))];
    loop {
        let step = fixture
            .records
            .step_replay(fence, fixture.account, id, max, &fixture.id_generator, later(5_000))
            .await;
        match step.unwrap() {
            Some((replay, _)) if replay.state == ReplayState::Running => {}
            Some((replay, _)) => return replay.done,
            None => return 0,
        }
    }
}

async fn first_running(fixture: &Fixture) -> Option<ReplayId> {
    for fence in &fixture.fences {
        let running = fixture.records.running_replays(fence.shard, None).await.unwrap();
        if let Some((_, id)) = running.first() {
            return Some(*id);
        }
    }
    None
}

#[tokio::test]
async fn a_replay_covers_what_its_filter_matches_but_not_its_own_deliveries() {
    let fixture = Fixture::new().await;
    let (one, other) = (fixture.endpoint(&["a"]).await, fixture.endpoint(&["a", "b"]).await);
    for number in 0..10 {
        fixture.accept("a", later(10 + number)).await;
        fixture.accept("b", later(10 + number)).await;
    }
    for _ in 0..10 {
        fixture.attempt(one, 200, later(100)).await;
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
        assert_eq!(fixture.records.count_replay(fixture.account, &filter).await, Ok(counted));
        let job = replay(&fixture, filter, now).await;
        let shard = fixture.records.shard_of(job.id);
        assert_eq!(
            fixture.records.running_replays(shard, None).await.unwrap(),
            [(fixture.account, job.id)]
        );
        assert_eq!(run(&fixture, job.id, 4).await, count);
        assert!(fixture.records.running_replays(shard, None).await.unwrap().is_empty());
    }
    assert_eq!(fixture.backlog(one).await, 10);
    assert_eq!(fixture.backlog(other).await, 23);
}

#[tokio::test]
async fn counting_is_bounded_and_reports_whether_it_is_exact() {
    let fixture = Fixture::new().await;
    fixture.endpoint(&["a"]).await;
    for number in 0..450 {
        fixture.accept("a", later(number)).await;
    }
    for (max, total, exact) in [(200, 200, false), (400, 400, false), (600, 450, true)] {
        let count = fixture.records.count_within(fixture.account, &Filter::default(), max).await;
        assert_eq!(count, Ok(ReplayCount { total, exact }));
    }
}

#[tokio::test]
async fn a_replay_pauses_resumes_and_is_cancelled() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    for number in 0..5 {
        fixture.accept("a", later(10 + number)).await;
    }
    let job = replay(&fixture, Filter::default(), later(1_000)).await;
    let command =
        |command| fixture.records.command_replay(fixture.account, job.id, command, later(2_000));
    assert!(command(Command::Pause).await.unwrap().unwrap().is_ok());
    assert_eq!(run(&fixture, job.id, 1).await, 0);
    assert!(command(Command::Resume).await.unwrap().unwrap().is_ok());
    let fence = fixture.fences[usize::from(fixture.records.shard_of(job.id))];
    let step = fixture.records.step_replay(
        fence,
        fixture.account,
        job.id,
        2,
        &fixture.id_generator,
        later(3_000),
    );
    assert_eq!(step.await.unwrap().unwrap().0.done, 2);
    assert!(command(Command::Cancel).await.unwrap().unwrap().is_ok());
    assert_eq!(
        command(Command::Resume).await.unwrap().unwrap().unwrap_err(),
        ReplayState::Cancelled
    );
    assert_eq!(fixture.backlog(endpoint).await, 7);
}

#[tokio::test]
async fn replays_are_listed_newest_first() {
    let fixture = Fixture::new().await;
    let mut made = Vec::new();
    for number in 0..3 {
        made.insert(0, replay(&fixture, Filter::default(), later(number)).await);
    }
    let request = |after| PageRequest { limit: 2, after };
    let first = fixture.records.replays(fixture.account, request(None)).await.unwrap();
    assert_eq!(first.items, made[..2]);
    let after = first.next.unwrap().parse().unwrap();
    let second = fixture.records.replays(fixture.account, request(Some(after))).await.unwrap();
    assert_eq!((second.items, second.next), (made[2..].to_vec(), None));
    let nobody = fixture.id_generator.id(later(9));
    assert!(fixture.records.replays(nobody, request(None)).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_replay_whose_owners_clock_is_behind_excludes_its_own_deliveries() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    for number in 0..10 {
        fixture.accept("a", later(number)).await;
        fixture.attempt(endpoint, 200, later(number)).await;
    }
    let delivered = Filter { states: Some(vec![DeliveryState::Delivered]), ..Filter::default() };
    let job = replay(&fixture, delivered, later(1_000)).await;
    let (fence, behind) =
        (fixture.fences[usize::from(fixture.records.shard_of(job.id))], IdGenerator::new(2));
    let mut done = 0;
    for _ in 0..100 {
        let step = fixture
            .records
            .step_replay(fence, fixture.account, job.id, 4, &behind, later(900))
            .await;
        let Some((job, _)) = step.unwrap() else { break };
        done = job.done;
        while fixture.backlog(endpoint).await > 0 {
            fixture.attempt(endpoint, 200, later(900)).await;
        }
    }
    assert_eq!(done, 10);
}

#[tokio::test]
async fn a_replay_covers_deliveries_created_with_a_fast_clock() {
    let fixture = Fixture::new().await;
    fixture.endpoint(&["a"]).await;
    let (event, ahead) = (fixture.event("a", later(5_000)), IdGenerator::new(3));
    let accepted = fixture.records.accept(fixture.account, vec![event], None, &ahead, later(5_000));
    accepted.await.unwrap();
    let job = replay(&fixture, Filter::default(), later(1_000)).await;
    assert_eq!((job.created_at, run(&fixture, job.id, 100).await), (later(1_000), 1));
}

#[tokio::test]
async fn until_is_compared_with_the_creation_time_and_not_with_the_id() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    // The id generator has run ahead, as after the clock was set back.
    fixture.id_generator.id::<ReplayId>(later(10_000));
    fixture.accept("a", later(0)).await;
    fixture.accept("a", later(5_000)).await;
    let filter = Filter { until: Some(later(5_000)), ..Filter::default() };
    let count = fixture.records.count_replay(fixture.account, &filter).await;
    assert_eq!(count, Ok(ReplayCount { total: 1, exact: true }));
    let job = replay(&fixture, filter, later(6_000)).await;
    assert_eq!(run(&fixture, job.id, 100).await, 1);
    assert_eq!(fixture.backlog(endpoint).await, 3);
}

/// An endpoint whose held deliveries, created with a clock a second ahead, are to be discarded.
async fn discarding(fixture: &Fixture) -> (EndpointId, postrider_domain::ids::DeliveryId) {
    let endpoint = fixture.endpoint(&["a"]).await;
    let (event, ahead) = (fixture.event("a", later(1_000)), IdGenerator::new(4));
    fixture.records.disable_endpoint(fixture.account, endpoint, later(1)).await.unwrap();
    let accepted = fixture.records.accept(fixture.account, vec![event], None, &ahead, later(1_000));
    let receipt = accepted.await.unwrap().receipts.remove(0);
    let page = PageRequest { limit: 1, after: None };
    let held = fixture.records.event_deliveries(fixture.account, receipt.id, page).await;
    let held = held.unwrap().items.remove(0).delivery.id;
    let enabled = fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Discard);
    enabled.await.unwrap();
    (endpoint, held)
}

#[tokio::test]
async fn a_retry_is_not_discarded_with_held_deliveries() {
    let fixture = Fixture::new().await;
    let (endpoint, held) = discarding(&fixture).await;
    let retried = fixture
        .records
        .resend_delivery(fixture.account, held, &IdGenerator::new(5), later(900))
        .await;
    let (view, wake) = retried.unwrap().expect("a delivery");
    assert_eq!((view.state, wake.is_some()), (DeliveryState::Pending, true));
    fixture.discard(endpoint, later(910)).await;
    assert_eq!(fixture.workload(endpoint, 5).await.first().id, view.delivery.id);
}

#[tokio::test]
async fn a_replay_is_not_discarded_with_held_deliveries() {
    let fixture = Fixture::new().await;
    let (endpoint, _) = discarding(&fixture).await;
    let job = replay(&fixture, Filter::default(), later(900)).await;
    assert_eq!(run(&fixture, job.id, 100).await, 1);
    fixture.discard(endpoint, later(910)).await;
    assert_eq!(fixture.backlog(endpoint).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_with_an_unknown_commit_result_creates_one_delivery() {
    for seed in 0..40 {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let endpoint = fixture.endpoint(&["a"]).await;
        fixture.accept("a", later(1)).await;
        let first = fixture.workload(endpoint, 1).await.first().id;
        let faults =
            Faults { lost_after_commit: 0.4, lost_before_commit: 0.3, ..Faults::default() };
        fixture.memory.set_faults(faults);
        let retried = fixture
            .records
            .resend_delivery(fixture.account, first, &fixture.id_generator, later(2))
            .await;
        let made = retried.unwrap().expect("a delivery").0.delivery.id;
        assert_eq!(fixture.backlog(endpoint).await, 2);
        let queue = fixture.workload(endpoint, 5).await.firsts.deliveries;
        assert_eq!(queue.iter().map(|it| it.id).collect::<Vec<_>>(), [first, made]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_is_created_twice_does_not_start_over() {
    for seed in 0..20 {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let endpoint = fixture.endpoint(&["a"]).await;
        for number in 0..10 {
            fixture.accept("a", later(number)).await;
        }
        // The commit's result is unknown, and the replay's owner takes a step before the next run.
        fixture.memory.set_faults(Faults { lost_after_commit: 0.7, ..Faults::default() });
        let owner = async {
            let id = loop {
                match first_running(&fixture).await {
                    Some(id) => break id,
                    None => tokio::task::yield_now().await,
                }
            };
            run(&fixture, id, 4).await;
        };
        let made = replay(&fixture, Filter::default(), later(1_000));
        let (job, ()) = tokio::join!(made, owner);
        fixture.memory.set_faults(Faults::default());
        run(&fixture, job.id, 4).await;
        let job = fixture.records.replay(fixture.account, job.id).await.unwrap().expect("a replay");
        assert_eq!((job.state, job.done), (ReplayState::Completed, 10), "seed {seed}");
        assert_eq!(fixture.backlog(endpoint).await, 20);
    }
}

/// A node whose clock is an hour ahead has accepted an event. The replay's id is greater than the
/// ids of that event's deliveries, but other new ids keep the time of this node's clock.
#[tokio::test]
async fn a_replay_does_not_propagate_another_nodes_fast_clock() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let ahead = later(3_600_000);
    let event = fixture.event("a", later(0));
    let event = Event { id: IdGenerator::new(6).id(ahead), created_at: ahead, ..event };
    fixture
        .records
        .accept(fixture.account, vec![event], None, &IdGenerator::new(7), ahead)
        .await
        .unwrap();
    let job = replay(&fixture, Filter::default(), later(1)).await;
    assert!(ids::created_at(job.id) > ahead);
    run(&fixture, job.id, 4).await;
    assert_eq!(fixture.backlog(endpoint).await, 2);
    assert_eq!(ids::created_at(fixture.id_generator.id::<EventId>(later(2))), later(2));
}

#[tokio::test]
async fn a_deleted_account_gets_no_replay() {
    let fixture = Fixture::new().await;
    fixture.records.delete_account(fixture.account).await.unwrap();
    let request = request(Filter::default());
    let made = fixture
        .records
        .create_replay(fixture.account, request, &fixture.id_generator, later(1))
        .await;
    assert!(made.unwrap().is_none());
    let page = PageRequest { limit: 10, after: None };
    assert!(fixture.records.replays(fixture.account, page).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_nearly_full_disk_rejects_new_deliveries() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", later(1)).await;
    let first = fixture.workload(endpoint, 1).await.first().id;
    let job = replay(&fixture, Filter::default(), later(2)).await;
    let fence = fixture.fences[usize::from(fixture.records.shard_of(job.id))];
    fixture.memory.set_nearly_full(true);
    let step = fixture.records.step_replay(
        fence,
        fixture.account,
        job.id,
        1,
        &fixture.id_generator,
        later(3),
    );
    assert!(matches!(step.await, Err(OwnerError::Store(Error::Full))));
    let request = request(Filter::default());
    let made = fixture
        .records
        .create_replay(fixture.account, request, &fixture.id_generator, later(3))
        .await;
    assert_eq!(made.unwrap_err(), Error::Full);
    let retried = fixture
        .records
        .resend_delivery(fixture.account, first, &fixture.id_generator, later(3))
        .await;
    assert_eq!(retried.unwrap_err(), Error::Full);
    // Accepted work is still finished.
    assert!(matches!(fixture.attempt(endpoint, 200, later(4)).await, Applied::Recorded(_)));
    fixture.memory.set_nearly_full(false);
    assert_eq!(run(&fixture, job.id, 1).await, 1);
}
