//! Every message survives encoding; any other bytes are an error and never a panic; and the bytes
//! of version 1 are pinned.

use std::net::SocketAddr;

use bytes::Bytes;
use postrider_domain::assignment::Fence;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{Disabled, DisabledReason, LastError};
use postrider_domain::findings::{Field, Finding};
use postrider_domain::ids::Id;
use postrider_domain::node::NodeState;
use postrider_domain::outcome::AttemptError;
use postrider_domain::outcome::ErrorKind;
use postrider_domain::time::Timestamp;
use proptest::prelude::*;

use super::*;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn id<T: Id>(byte: u8) -> T {
    T::from_bytes([byte; 16])
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn event() -> NewEvent {
    NewEvent { event_type: "a.b".to_owned(), payload: Bytes::from_static(b"{\"n\":1}") }
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

fn requests() -> Vec<Request> {
    let (account, endpoint) = (id(1), id(2));
    let key = Some("key".to_owned());
    let of_endpoint = EndpointRef { account, endpoint };
    let wakes = [
        Work::Endpoint { account, endpoint, ready: Some(Box::new(ready())) },
        Work::Endpoint { account, endpoint, ready: None },
        Work::Changed { account, endpoint },
        Work::Jobs { shard: 7 },
    ];
    let wakes = wakes.map(|work| WakeItem { work, traceparent: Some(TRACE.to_owned()) });
    vec![
        Request::Ping,
        Request::Publish(Publish { account, event: event(), idempotency_key: key.clone() }),
        Request::PublishBatch(PublishBatch {
            account,
            events: vec![event(), event()],
            idempotency_key: None,
        }),
        Request::EndpointStatus(of_endpoint),
        Request::EnableEndpoint(EnableEndpoint { account, endpoint, held: HeldChoice::Discard }),
        Request::DisableEndpoint(of_endpoint),
        Request::DeliveryStatus(DeliveryRef { account, delivery: id(3) }),
        Request::ClusterStatus,
        Request::WakeMany(WakeMany { wakes: wakes.to_vec() }),
        Request::OwnershipChanged(OwnershipChanged { shards: vec![1, 300] }),
    ]
}

fn replies() -> Vec<Result<Reply, CallError>> {
    let receipt =
        Receipt { id: id(1), event_type: "a.b".to_owned(), created_at: at(200), deliveries: 3 };
    let endpoint = EndpointStatus {
        id: id(2),
        name: "Hook".to_owned(),
        url: "https://example.com/".to_owned(),
        state: EndpointState::Disabled(Disabled {
            reason: DisabledReason::Exhausted,
            at: at(100),
            delivery: Some(id(3)),
        }),
        failure_count: 11,
        last_error: Some(LastError {
            at: at(99),
            kind: ErrorKind::Status,
            status: Some(500),
            message: "answered 500".to_owned(),
            delivery: id(3),
        }),
        pending: 0,
        held: 2,
        oldest_pending_at: Some(at(50)),
    };
    let attempt = AttemptStatus {
        number: 1,
        at: at(60),
        duration_ms: 5,
        status: None,
        error: Some(AttemptError { kind: ErrorKind::Timeout, message: "5 s".to_owned() }),
        fence: Some(Fence { shard: 7, epoch: 2, node: id(9) }),
    };
    let delivery = DeliveryStatus {
        id: id(3),
        event: id(5),
        event_type: "a.b".to_owned(),
        endpoint: id(2),
        state: DeliveryState::Held,
        next_attempt_at: None,
        created_at: at(50),
        finished_at: None,
        attempts: vec![attempt],
    };
    let node = NodeStatus {
        id: id(9),
        name: "node-1".to_owned(),
        version: "0.1.0".to_owned(),
        state: NodeState::Draining,
        shards: 256,
        address: Some(SocketAddr::from(([127, 0, 0, 1], 7946))),
    };
    let finding = Finding {
        index: 1,
        field: Field::Payload,
        pointer: "/a/0".to_owned(),
        detail: "is wrong".to_owned(),
    };
    vec![
        Ok(Reply::Pong(Pong { version: "0.1.0".to_owned(), messages: 1 })),
        Ok(Reply::Published(receipt.clone())),
        Ok(Reply::PublishedBatch(vec![receipt])),
        Ok(Reply::Endpoint(endpoint)),
        Ok(Reply::Delivery(delivery)),
        Ok(Reply::Cluster(ClusterStatus { shards: 256, unowned: 1, nodes: vec![node] })),
        Ok(Reply::Woken(Woken { not_owned: vec![3, 4] })),
        Ok(Reply::Acknowledged),
        Err(CallError::new(CallErrorKind::Invalid(vec![finding]), "no")),
        Err(CallError::new(CallErrorKind::Other(999), "later")),
    ]
}

#[test]
fn requests_survive_encoding() {
    for request in requests() {
        for traceparent in [None, Some(TRACE.to_owned())] {
            let call = Call { request: request.clone(), traceparent };
            assert_eq!(Call::decode(&call.encode().unwrap()), Ok(call));
        }
    }
}

#[test]
fn replies_survive_encoding() {
    for reply in replies() {
        assert_eq!(decode_reply(&encode_reply(&reply)), reply);
    }
    use CallErrorKind::*;
    for kind in [
        UnknownVersion,
        UnknownKind,
        Malformed,
        TooLarge,
        NotFound,
        Conflict,
        Unavailable,
        Overloaded,
        Internal,
        TimedOut,
        ConnectionLost,
    ] {
        let error = Err(CallError::new(kind, "why"));
        assert_eq!(decode_reply(&encode_reply(&error)), error);
    }
}

/// The bytes as hexadecimal text.
fn hex(bytes: &[u8]) -> String {
    concat_bytes(bytes, |byte| format!("{byte:02x}"))
}

fn concat_bytes(bytes: &[u8], show: impl Fn(&u8) -> String) -> String {
    bytes.iter().map(show).collect()
}

/// Changing these bytes requires a new version.
#[test]
fn the_bytes_of_version_1_are_pinned() {
    let ids = |byte: u8| format!("{byte:02x}").repeat(16);
    let event = "03612e6207".to_owned() + &hex(b"{\"n\":1}");
    let trace = "37".to_owned() + &hex(TRACE.as_bytes());
    let wake = |work: &str| format!("{work}01{trace}");
    let ready = format!("{}{}03612e62ac020201ad02ae0202{}", ids(4), ids(5), hex(b"[]"));
    let ends = [ids(1), ids(2)].concat();
    let wakes = [
        wake(&format!("00{ends}01{ready}")),
        wake(&format!("00{ends}00")),
        wake(&format!("01{ends}")),
        wake("0207"),
    ];
    let expected = [
        "0001000100".to_owned(),
        format!("0001000200{}{event}0103{}", ids(1), hex(b"key")),
        format!("0001000300{}02{event}{event}00", ids(1)),
        format!("0001000400{ends}"),
        format!("0001000500{ends}01"),
        format!("0001000600{ends}"),
        format!("0001000700{}{}", ids(1), ids(3)),
        "0001000800".to_owned(),
        format!("000100090004{}", wakes.concat()),
        "0001000a000201ac02".to_owned(),
    ];
    for (request, expected) in requests().into_iter().zip(expected) {
        assert_eq!(hex(&Call::from(request.clone()).encode().unwrap()), expected, "{request:?}");
    }
    let text = |text: &str| format!("{:02x}{}", text.len(), hex(text.as_bytes()));
    let receipt = format!("{}{}c80103", ids(1), text("a.b"));
    let endpoint = [
        ids(2),
        text("Hook"),
        text("https://example.com/"),
        format!("010064 01{}", ids(3)),
        "0b".to_owned(),
        format!("01 63 04 01f403 {}{}", text("answered 500"), ids(3)),
        "00 02 0132".to_owned(),
    ];
    let delivery = [
        ids(3),
        ids(5),
        text("a.b"),
        ids(2),
        "03 00 32 00".to_owned(),
        format!("01 01 3c 05 00 0100{} 010702{}", text("5 s"), ids(9)),
    ];
    let node = [
        ids(9),
        text("node-1"),
        text("0.1.0"),
        "01 8002".to_owned(),
        "01 00 7f000001 8a3e".to_owned(),
    ];
    let expected = [
        format!("00010001{}01", text("0.1.0")),
        format!("00010002{receipt}"),
        format!("0001000301{receipt}"),
        format!("00010004{}", endpoint.concat()),
        format!("00010007{}", delivery.concat()),
        format!("00010008 8002 01 01 {}", node.concat()),
        "00010009020304".to_owned(),
        "0001000a".to_owned(),
        format!("0001000005{} 01 01 01 {}{}", text("no"), text("/a/0"), text("is wrong")),
        format!("00010000e707{}00", text("later")),
    ];
    for (reply, expected) in replies().into_iter().zip(expected) {
        assert_eq!(hex(&encode_reply(&reply)), expected.replace(' ', ""), "{reply:?}");
    }
}

#[test]
fn unknown_versions_and_kinds_are_distinguished_from_malformed_bytes() {
    let kind = |bytes: &[u8]| Call::decode(bytes).unwrap_err().kind;
    assert_eq!(kind(&[0, 2, 0, 1, 0]), CallErrorKind::UnknownVersion);
    assert_eq!(kind(&[0xff; 40]), CallErrorKind::UnknownVersion);
    assert_eq!(kind(&[0, 1, 0, 0, 0]), CallErrorKind::UnknownKind);
    assert_eq!(kind(&[0, 1, 0, 11]), CallErrorKind::UnknownKind);
    assert_eq!(kind(&[]), CallErrorKind::Malformed);
    assert_eq!(kind(&[0, 1, 0]), CallErrorKind::Malformed);
    assert_eq!(kind(&[0, 1, 0, 1]), CallErrorKind::Malformed);
    assert_eq!(kind(&[0, 1, 0, 1, 0, 7]), CallErrorKind::Malformed, "one byte too many");
    assert_eq!(kind(&[0, 1, 0, 4, 0, 1, 1, 1]), CallErrorKind::Malformed, "too few bytes");
    assert_eq!(kind(&[0, 1, 0, 1, 1, 0xff]), CallErrorKind::Malformed, "not UTF-8");
    let reply = decode_reply(&[0, 1, 0, 77]).unwrap_err();
    assert_eq!(reply.kind, CallErrorKind::UnknownKind);
}

#[test]
fn an_error_of_any_version_is_decoded() {
    let error = CallError::new(CallErrorKind::UnknownVersion, "version 1 is no longer supported");
    let mut bytes = encode_reply(&Err(error.clone()));
    bytes[..2].copy_from_slice(&(VERSION + 1).to_be_bytes());
    assert_eq!(decode_reply(&bytes), Err(error));
    // Any other reply of that version is rejected before its body is decoded.
    let mut bytes = encode_reply(&Ok(Reply::Acknowledged));
    bytes[..2].copy_from_slice(&(VERSION + 1).to_be_bytes());
    assert_eq!(decode_reply(&bytes).unwrap_err().kind, CallErrorKind::UnknownVersion);
    assert_eq!(decode_reply(&[0, 1, 0, 0]).unwrap_err().kind, CallErrorKind::Malformed);
}

#[test]
fn limits_are_checked_on_both_sides() {
    let batch = |count: usize, payload: usize| {
        let event = NewEvent { event_type: "a".to_owned(), payload: vec![b'1'; payload].into() };
        let events = vec![event; count];
        Request::PublishBatch(PublishBatch { account: id(1), events, idempotency_key: None })
    };
    let decoded = |request| Call::from(request).encode().and_then(|bytes| Call::decode(&bytes));
    let kind = |request| decoded(request).unwrap_err().kind;
    assert!(decoded(batch(MAX_EVENTS, 1_000)).is_ok());
    assert_eq!(kind(batch(MAX_EVENTS + 1, 1)), CallErrorKind::TooLarge);
    assert_eq!(kind(batch(5, 210_000)), CallErrorKind::TooLarge);
    assert_eq!(kind(batch(0, 0)), CallErrorKind::Malformed);
    let too_long = Call::from(batch(12, 100_000)).encode().unwrap_err();
    assert_eq!(too_long.kind, CallErrorKind::TooLarge);
    assert_eq!(
        Call::decode(&vec![0; MAX_CALL_BYTES + 1]).unwrap_err(),
        CallError {
            message: "the message has 1110017 bytes; the limit is 1110016".to_owned(),
            ..too_long
        }
    );
    let work = Work::Jobs { shard: 1 };
    let wakes = vec![WakeItem { work, traceparent: None }; MAX_WAKES + 1];
    assert_eq!(kind(Request::WakeMany(WakeMany { wakes })), CallErrorKind::TooLarge);
}

#[test]
fn an_error_that_is_too_long_is_shortened() {
    let finding = Finding {
        index: 0,
        field: Field::Payload,
        pointer: "/x".repeat(100_000),
        detail: String::new(),
    };
    let error = CallError::new(CallErrorKind::Invalid(vec![finding; 20]), "no");
    let bytes = encode_reply(&Err(error));
    assert!(bytes.len() <= MAX_CALL_BYTES);
    match decode_reply(&bytes).unwrap_err().kind {
        CallErrorKind::Invalid(findings) => assert_eq!(findings.len(), 5),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_to_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = Call::decode(&bytes) {
            let reply = encode_reply(&Err(error.clone()));
            prop_assert_eq!(decode_reply(&reply), Err(error));
        }
        let _ = decode_reply(&bytes);
    }

    #[test]
    fn any_body_decodes_to_a_message_or_an_error(
        kind in 0_u16..12,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&[0, 1][..], &kind.to_be_bytes(), &[0], &body].concat();
        let _ = Call::decode(&bytes);
        let _ = decode_reply(&bytes);
    }

    #[test]
    fn corrupted_bytes_are_rejected_or_decode_to_another_message(
        which in 0_usize..10,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = Call::from(requests().swap_remove(which)).encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(call) = Call::decode(&bytes) {
            prop_assert_eq!(Call::decode(&call.encode().unwrap()), Ok(call));
        }
        let _ = Call::decode(&bytes[..at]);
    }
}
