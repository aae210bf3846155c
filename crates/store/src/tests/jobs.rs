use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::ReplayId;
use postrider_domain::replay::{Command, Filter, Replay, ReplayState};

use super::*;
use crate::{PageRequest, ReplayCount};

fn replay(world: &World, filter: Filter, now: Timestamp) -> Replay {
    Replay {
        id: world.mint.id(now),
        account: world.account,
        filter,
        rate: 100,
        state: ReplayState::Running,
        total: 0,
        done: 0,
        cursor: None,
        created_at: now,
        finished_at: None,
    }
}

async fn run(world: &World, id: ReplayId, most: usize) -> u64 {
    let fence = world.fences[usize::from(world.records.shard_of(id))];
    loop {
        let step = world
            .records
            .step_replay(fence, world.account, id, most, &world.mint, later(5_000))
            .await;
        match step.unwrap() {
            Some((replay, _)) if replay.state == ReplayState::Running => {}
            Some((replay, _)) => return replay.done,
            None => return 0,
        }
    }
}

#[tokio::test]
async fn a_replay_takes_what_its_filter_takes_and_nothing_of_its_own() {
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
        let job = replay(&world, filter, now);
        world.records.create_replay(&job).await.unwrap();
        let shard = world.records.shard_of(job.id);
        assert_eq!(
            world.records.running_replays(shard, None).await.unwrap(),
            [(world.account, job.id)]
        );
        assert_eq!(run(&world, job.id, 4).await, count);
        assert!(world.records.running_replays(shard, None).await.unwrap().is_empty());
    }
    assert_eq!(world.records.endpoint(world.account, one).await.unwrap().unwrap().unfinished, 10);
    assert_eq!(world.records.endpoint(world.account, other).await.unwrap().unwrap().unfinished, 23);
}

#[tokio::test]
async fn counting_is_bounded_and_says_so() {
    let world = World::new().await;
    world.endpoint(&["a"]).await;
    for number in 0..450 {
        world.accept("a", later(number)).await;
    }
    for (most, total, exact) in [(200, 200, false), (400, 400, false), (600, 450, true)] {
        let count = world.records.count_within(world.account, &Filter::default(), most).await;
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
    let job = replay(&world, Filter::default(), later(1_000));
    world.records.create_replay(&job).await.unwrap();
    let command =
        |command| world.records.command_replay(world.account, job.id, command, later(2_000));
    assert!(command(Command::Pause).await.unwrap().unwrap().is_ok());
    assert_eq!(run(&world, job.id, 1).await, 0);
    assert!(command(Command::Resume).await.unwrap().unwrap().is_ok());
    let fence = world.fences[usize::from(world.records.shard_of(job.id))];
    let step =
        world.records.step_replay(fence, world.account, job.id, 2, &world.mint, later(3_000));
    assert_eq!(step.await.unwrap().unwrap().0.done, 2);
    assert!(command(Command::Cancel).await.unwrap().unwrap().is_ok());
    assert_eq!(
        command(Command::Resume).await.unwrap().unwrap().unwrap_err(),
        ReplayState::Cancelled
    );
    assert_eq!(
        world.records.endpoint(world.account, endpoint).await.unwrap().unwrap().unfinished,
        7
    );
}

#[tokio::test]
async fn replays_are_listed_the_newest_first() {
    let world = World::new().await;
    let mut made = Vec::new();
    for number in 0..3 {
        let job = replay(&world, Filter::default(), later(number));
        world.records.create_replay(&job).await.unwrap();
        made.insert(0, job);
    }
    let request = |after| PageRequest { limit: 2, after };
    let first = world.records.replays(world.account, request(None)).await.unwrap();
    assert_eq!(first.items, made[..2]);
    let after = first.next.unwrap().parse().unwrap();
    let second = world.records.replays(world.account, request(Some(after))).await.unwrap();
    assert_eq!((second.items, second.next), (made[2..].to_vec(), None));
    let nobody = world.mint.id(later(9));
    assert!(world.records.replays(nobody, request(None)).await.unwrap().items.is_empty());
}
