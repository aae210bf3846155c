//! A gateway with a recording handler. The gateway replies to every call, whatever was sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use postrider_domain::ids::{AccountId, EndpointId, Id};
use ractor::Message;
use ractor::concurrency::oneshot;
use ractor::message::SerializedMessage;

use super::*;
use crate::messages::*;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A node that owns the even shards. It panics on [`Request::ClusterStatus`], and on a wake if
/// `panics_on_wake`; all other calls take a second.
#[derive(Default)]
struct Node {
    panics_on_wake: bool,
    woken: Mutex<Vec<Work>>,
    ownership_checks: AtomicUsize,
}

#[async_trait]
impl Handler for Node {
    async fn handle(&self, call: Call) -> Result<Reply, CallError> {
        assert_ne!(call.request, Request::ClusterStatus, "injected panic");
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(CallError::new(CallErrorKind::NotFound, "no such endpoint"))
    }

    fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError> {
        assert!(!self.panics_on_wake, "injected panic");
        let work: Vec<_> = wakes.wakes.into_iter().map(|item| item.work).collect();
        let not_owned = work.iter().filter_map(|work| match work {
            Work::Jobs { shard } if shard % 2 == 1 => Some(*shard),
            _ => None,
        });
        let woken = Woken { not_owned: not_owned.collect() };
        self.woken.lock().extend(work);
        Ok(woken)
    }

    fn ownership_changed(&self) {
        self.ownership_checks.fetch_add(1, Ordering::Relaxed);
    }
}

struct Fixture {
    node: Arc<Node>,
    gateway: Gateway,
    node_tasks: Tasks,
}

impl Fixture {
    async fn new(node: Node) -> Self {
        let node = Arc::new(node);
        let node_tasks = Tasks::new();
        let gateway = Gateway::start(node.clone(), &node_tasks).await.unwrap();
        Self { node, gateway, node_tasks }
    }

    async fn call(&self, request: Request) -> Result<Reply, CallError> {
        call(self.gateway.actor(), request, TIMEOUT).await
    }

    async fn kind(&self, request: Request) -> CallErrorKind {
        self.call(request).await.unwrap_err().kind
    }
}

fn wakes(shards: std::ops::Range<u16>) -> Request {
    let item = |shard| WakeItem { work: Work::Jobs { shard }, traceparent: None };
    Request::WakeMany(WakeMany { wakes: shards.map(item).collect() })
}

fn status() -> Request {
    Request::EndpointStatus(EndpointRef {
        account: AccountId::from_bytes([1; 16]),
        endpoint: EndpointId::from_bytes([2; 16]),
    })
}

#[tokio::test]
async fn wakes_are_passed_on_and_shards_that_are_not_owned_are_returned() {
    let fixture = Fixture::new(Node::default()).await;
    let reply = fixture.call(wakes(0..4)).await;
    assert_eq!(reply, Ok(Reply::Woken(Woken { not_owned: vec![1, 3] })));
    assert_eq!(
        fixture.call(Request::OwnershipChanged(OwnershipChanged::default())).await,
        Ok(Reply::Acknowledged)
    );
    cast(fixture.gateway.actor(), wakes(0..4)).unwrap();
    cast(fixture.gateway.actor(), Request::OwnershipChanged(OwnershipChanged { shards: vec![1] }))
        .unwrap();
    // A mailbox is ordered, so the reply to the ping comes after the casts are handled.
    assert!(matches!(fixture.call(Request::Ping).await, Ok(Reply::Pong(_))));
    assert_eq!(fixture.node.woken.lock().len(), 8);
    assert_eq!(fixture.node.ownership_checks.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn undecodable_bytes_get_an_error_reply() {
    let fixture = Fixture::new(Node::default()).await;
    let kind = async |bytes: &[u8]| {
        let reply = call_raw(fixture.gateway.actor(), bytes.to_vec(), TIMEOUT).await.unwrap();
        decode_reply(&reply).unwrap_err().kind
    };
    assert_eq!(kind(&[0, 9, 0, 1, 0]).await, CallErrorKind::UnknownVersion);
    assert_eq!(kind(&[0, 1, 1, 0, 0]).await, CallErrorKind::UnknownKind);
    assert_eq!(kind(&[0, 1, 0, 2, 0, 7]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&[0, 1, 0, 9, 0, 7]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&[]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&vec![0; MAX_CALL_BYTES + 1]).await, CallErrorKind::TooLarge);
    cast(fixture.gateway.actor(), Request::ClusterStatus).unwrap();
    fixture.gateway.actor().cast(GatewayMessage::Cast(vec![7])).unwrap();
    assert!(
        matches!(fixture.call(Request::Ping).await, Ok(Reply::Pong(_))),
        "the gateway still replies"
    );
}

#[tokio::test]
async fn a_serialized_call_of_an_unknown_variant_gets_a_reply() {
    let fixture = Fixture::new(Node::default()).await;
    let (port, reply) = oneshot();
    let call = SerializedMessage::Call {
        variant: "Later".to_owned(),
        args: vec![1, 2, 3],
        reply: port.into(),
        metadata: None,
    };
    fixture.gateway.actor().get_cell().send_serialized(call).unwrap();
    let reply = tokio::time::timeout(TIMEOUT, reply).await.unwrap().unwrap();
    assert_eq!(decode_reply(&reply).unwrap_err().kind, CallErrorKind::UnknownKind);
    let cast =
        SerializedMessage::Cast { variant: "Later".to_owned(), args: Vec::new(), metadata: None };
    fixture.gateway.actor().get_cell().send_serialized(cast).unwrap();
    assert!(matches!(fixture.call(Request::Ping).await, Ok(Reply::Pong(_))));
}

#[test]
fn messages_survive_their_serialized_form() {
    let (port, _reply) = oneshot();
    let message = GatewayMessage::Call(vec![1], port.into()).serialize().unwrap();
    let back = GatewayMessage::deserialize(message).unwrap();
    assert!(matches!(back, GatewayMessage::Call(bytes, _) if bytes == [1]));
    let message = GatewayMessage::Cast(vec![2]).serialize().unwrap();
    let back = GatewayMessage::deserialize(message).unwrap();
    assert!(matches!(back, GatewayMessage::Cast(bytes) if bytes == [2]));
    assert!(GatewayMessage::serializable());
}

#[tokio::test]
async fn a_panic_in_the_actor_does_not_stop_it() {
    let fixture = Fixture::new(Node { panics_on_wake: true, ..Node::default() }).await;
    assert_eq!(fixture.kind(wakes(1..2)).await, CallErrorKind::Internal);
    cast(fixture.gateway.actor(), wakes(1..2)).unwrap();
    assert!(matches!(fixture.call(Request::Ping).await, Ok(Reply::Pong(_))));
    assert_eq!(fixture.node_tasks.ended(), None);
}

#[tokio::test]
async fn a_gateway_that_stops_unexpectedly_is_reported() {
    let fixture = Fixture::new(Node::default()).await;
    fixture.gateway.actor().kill();
    let ended = tokio::time::timeout(TIMEOUT, fixture.node_tasks.failed())
        .await
        .expect("the end is reported");
    assert_eq!(ended.task, "gateway");
}

#[tokio::test]
async fn a_call_whose_handler_panics_gets_an_error_reply() {
    let fixture = Fixture::new(Node::default()).await;
    assert_eq!(fixture.kind(Request::ClusterStatus).await, CallErrorKind::Internal);
    assert_eq!(fixture.kind(Request::ClusterStatus).await, CallErrorKind::Internal);
}

#[tokio::test(start_paused = true)]
async fn calls_over_the_limit_fail_at_once_and_pings_still_get_replies() {
    let fixture = Fixture::new(Node::default()).await;
    let calls = (0..MAX_CALLS + 10).map(|_| fixture.kind(status()));
    let calls = futures::future::join_all(calls);
    let ping = fixture.call(Request::Ping);
    let (kinds, pong) = tokio::join!(calls, ping);
    assert!(matches!(pong, Ok(Reply::Pong(_))));
    let overloaded = kinds.iter().filter(|kind| **kind == CallErrorKind::Overloaded);
    assert_eq!(overloaded.count(), 10);
    let handled = kinds.iter().filter(|kind| **kind == CallErrorKind::NotFound);
    assert_eq!(handled.count(), MAX_CALLS);
    assert_eq!(fixture.kind(status()).await, CallErrorKind::NotFound, "permits are released");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_finishes_its_calls() {
    let fixture = Fixture::new(Node::default()).await;
    let (handled, ()) = tokio::join!(biased; fixture.kind(status()), fixture.gateway.stop());
    assert_eq!(handled, CallErrorKind::NotFound);
    assert_eq!(fixture.kind(Request::Ping).await, CallErrorKind::ConnectionLost);
}
