//! Wakes survive encoding, and their messages are bounded.

use bytes::Bytes;
use postrider_domain::ids::Id;
use postrider_domain::time::Timestamp;
use postrider_net::messages::{Call, Request};
use proptest::prelude::*;

use super::*;

const SHARDS: u16 = 16;
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn id<T: Id>(byte: u8) -> T {
    T::from_bytes([byte; 16])
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ready() -> ReadyDelivery {
    ReadyDelivery {
        id: id(4),
        event: id(5),
        event_type: "a.b".to_owned(),
        created_at: at(300),
        attempt_count: 2,
        first_attempt_at: Some(at(301)),
        due: at(302),
        payload: Bytes::from_static(b"[]"),
    }
}

fn wake(ready: Option<usize>) -> Wake {
    let (account, endpoint) = (id(1), id(2));
    let ready = ready.map(|payload| {
        let delivery = Delivery {
            id: id(3),
            account,
            event: id(4),
            event_type: EventTypeName::parse("a.b").unwrap(),
            endpoint,
            created_at: at(1),
            attempt_count: 0,
            first_attempt_at: None,
            schedule: Schedule::default(),
            progress: Progress::Pending { due: at(2) },
        };
        let payload = Payload::within_limits(vec![b'1'; payload].into()).unwrap();
        Box::new(Ready { delivery, payload, trace: TRACE.parse().ok() })
    });
    Wake::Endpoint { shard: shard_of(endpoint, SHARDS), account, endpoint, ready }
}

#[test]
fn wakes_survive_encoding() {
    let shard = shard_of(id::<EndpointId>(2), SHARDS);
    let changed = Wake::Changed { shard, account: id(1), endpoint: id(2) };
    let wakes = [wake(Some(7)), wake(None), changed, Wake::Jobs { shard: 3 }];
    let packed = pack(wakes.clone());
    let [many] = packed.try_into().unwrap();
    let arrived: Vec<_> = unpack(many, SHARDS).unwrap();
    for (wake, sent) in arrived.into_iter().zip(wakes) {
        assert_eq!(format!("{wake:?}"), format!("{sent:?}"));
        assert_eq!(wake.trace(), sent.trace());
    }
}

#[test]
fn large_payloads_are_left_out_and_messages_are_bounded() {
    let [many] = pack([wake(Some(MAX_WAKE_PAYLOAD_BYTES + 1))]).try_into().unwrap();
    assert!(matches!(many.wakes[0].work, Work::Endpoint { ready: None, .. }));
    for (count, payload) in [(2_500, None), (100, Some(MAX_WAKE_PAYLOAD_BYTES)), (900, Some(600))] {
        let packed = pack((0..count).map(|_| wake(payload)));
        assert_eq!(packed.iter().map(|many| many.wakes.len()).sum::<usize>(), count);
        for many in packed {
            assert!(many.wakes.len() <= MAX_WAKES);
            let bytes = Call::from(Request::WakeMany(many)).encode().unwrap();
            assert!(bytes.len() <= MAX_WAKE_BYTES, "{}", bytes.len());
        }
    }
}

#[test]
fn invalid_wakes_are_rejected() {
    let rejected = |work| {
        let many = WakeMany { wakes: vec![WakeItem { work, traceparent: None }] };
        unpack(many, SHARDS).unwrap_err().kind
    };
    let with = |ready: ReadyDelivery| Work::Endpoint {
        account: id(1),
        endpoint: id(2),
        ready: Some(Box::new(ready)),
    };
    assert_eq!(rejected(Work::Jobs { shard: SHARDS }), CallErrorKind::Malformed);
    let event_type = "a\r\nx: y".to_owned();
    assert_eq!(rejected(with(ReadyDelivery { event_type, ..ready() })), CallErrorKind::Malformed);
    let payload = vec![b'['; 300].into();
    assert_eq!(rejected(with(ReadyDelivery { payload, ..ready() })), CallErrorKind::Malformed);
}

proptest! {
    #[test]
    fn any_wake_message_is_decoded_or_rejected(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [&[0, 1, 0, 9, 0][..], &body].concat();
        if let Ok(Call { request: Request::WakeMany(many), .. }) = Call::decode(&bytes) {
            let _ = unpack(many, SHARDS);
        }
    }
}
