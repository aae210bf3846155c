//! Unreadable rows: damaged, or written by a later version during a rolling upgrade. Work continues
//! without them.

use postrider_domain::ids::{DeliveryId, EventId, Id, ReplayId};
use postrider_domain::replay::Filter;

use super::*;
use crate::codec::Record;
use crate::keys::fan_out::FanOut;
use crate::keys::{due, expiry, fan_out, removal, replay, resend};
use crate::kv::Error;
use crate::replays::ReplayRequest;

/// A record with an unknown version.
const UNREADABLE: &[u8] = &[99, 1, 2, 3];

/// Puts unreadable rows in front of each kind of work, in every shard.
async fn damage(fixture: &Fixture) {
    let merged = FanOut::new(fixture.account, EndpointId::MAX);
    let mut rows = Vec::new();
    for Fence { shard, .. } in &fixture.fences {
        for n in 0..3 {
            let id = [[0; 15].as_slice(), &[n]].concat().try_into().expect("16 bytes");
            rows.extend([
                fan_out::key(*shard, EventId::from_bytes(id), &merged),
                resend::key(*shard, DeliveryId::from_bytes(id), &merged),
                replay::running(*shard, ReplayId::from_bytes(id)),
                due::key(*shard, due::IMMEDIATELY, EndpointId::from_bytes(id)),
            ]);
        }
        // Keys that are too short.
        rows.push(expiry::before(*shard, later(1)));
        rows.push(removal::of_shard(*shard));
    }
    let rows = &rows;
    let write = fixture.records.store.transact(|tx, _| async move {
        rows.iter().for_each(|key| tx.set(key.clone(), UNREADABLE));
        Ok::<_, Error>(())
    });
    write.await.unwrap();
}

#[tokio::test]
async fn work_continues_past_unreadable_rows() {
    let fixture = Fixture::new().await;
    damage(&fixture).await;
    let mut endpoints = Vec::new();
    for _ in 0..=MAX_FAN_OUT_PER_TRANSACTION {
        endpoints.push(fixture.endpoint(&["a"]).await);
    }
    let event = fixture.accept("a", later(1)).await.receipts[0].id;
    fixture.fan_out().await;
    let all = crate::ResendTarget::AllSubscribers;
    fixture
        .records
        .resend(fixture.account, event, all, &fixture.id_generator, later(2))
        .await
        .unwrap();
    fixture.fan_out().await;
    for endpoint in &endpoints {
        assert_eq!(fixture.backlog(*endpoint).await, 2);
    }

    let mut due = 0;
    for Fence { shard, .. } in &fixture.fences {
        let mut after = None;
        loop {
            let page = fixture.records.due_endpoints(*shard, after.as_ref(), 2).await.unwrap();
            due += page.len();
            after = page.last().copied();
            if page.len() < 2 {
                break;
            }
        }
    }
    assert_eq!(due, endpoints.len());
    assert!(fixture.records.oldest_pending().await.unwrap().is_some());

    let request = ReplayRequest { filter: Filter::default(), rate: 10, total: 1 };
    let made = fixture
        .records
        .create_replay(fixture.account, request, &fixture.id_generator, later(3))
        .await;
    let (made, _) = made.unwrap().expect("an account");
    let shard = fixture.records.shard_of(made.id);
    let running = fixture.records.running_replays(shard, None).await.unwrap();
    assert_eq!(running, [(fixture.account, made.id)]);
}

#[tokio::test]
async fn sweeping_continues_past_unreadable_rows() {
    let fixture = Fixture::new().await;
    damage(&fixture).await;
    assert!(fixture.records.close_account(fixture.account).await.unwrap());
    for fence in &fixture.fences {
        while fixture.records.sweep(*fence, later(10)).await.unwrap() {}
    }
    let account = fixture.account;
    let left = fixture.records.store.read(|tx| async move {
        tx.snap_range(crate::kv::Range::prefix(crate::keys::account_space(account))).await
    });
    assert_eq!(left.await.unwrap(), []);
    assert!(FanOut::decode(UNREADABLE).is_err());
}
