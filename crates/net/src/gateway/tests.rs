//! A gateway with a handler that takes notes. Every call is answered, whatever was sent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use postrider_domain::ids::{AccountId, EndpointId, Id};
use ractor::Message;
use ractor::concurrency::oneshot;
use ractor::message::SerializedMessage;

use super::*;
use crate::messages::*;

const SOON: Duration = Duration::from_secs(20);

/// A node that owns the even shards. It panics when it is asked for the cluster, and when it is
/// woken if it is `fragile`; all other calls take it a second.
#[derive(Default)]
struct Node {
    fragile: bool,
    woken: Mutex<Vec<Work>>,
    looks: AtomicUsize,
}

#[async_trait]
impl Handler for Node {
    async fn handle(&self, call: Call) -> Result<Reply, CallError> {
        assert_ne!(call.request, Request::ClusterStatus, "it panics, as the test wants");
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(CallError::new(CallErrorKind::NotFound, "nothing is here"))
    }

    fn wake(&self, wakes: WakeMany) -> Result<Woken, CallError> {
        assert!(!self.fragile, "it panics, as the test wants");
        let work: Vec<_> = wakes.wakes.into_iter().map(|nudge| nudge.work).collect();
        let elsewhere = work.iter().filter_map(|work| match work {
            Work::Jobs { shard } if shard % 2 == 1 => Some(*shard),
            _ => None,
        });
        let woken = Woken { not_owned: elsewhere.collect() };
        self.woken.lock().unwrap().extend(work);
        Ok(woken)
    }

    fn ownership_changed(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    node: Arc<Node>,
    gateway: Gateway,
    vital: Tasks,
}

impl World {
    async fn new(node: Node) -> Self {
        let node = Arc::new(node);
        let vital = Tasks::new();
        let gateway = Gateway::start(node.clone(), &vital).await.unwrap();
        Self { node, gateway, vital }
    }

    async fn call(&self, request: Request) -> Result<Reply, CallError> {
        call(self.gateway.actor(), request, SOON).await
    }

    async fn kind(&self, request: Request) -> CallErrorKind {
        self.call(request).await.unwrap_err().kind
    }
}

fn wakes(shards: std::ops::Range<u16>) -> Request {
    let nudge = |shard| WakeItem { work: Work::Jobs { shard }, traceparent: None };
    Request::WakeMany(WakeMany { wakes: shards.map(nudge).collect() })
}

fn status() -> Request {
    Request::EndpointStatus(OfEndpoint {
        account: AccountId::from_bytes([1; 16]),
        endpoint: EndpointId::from_bytes([2; 16]),
    })
}

#[tokio::test]
async fn work_is_passed_on_and_shards_owned_elsewhere_are_named() {
    let world = World::new(Node::default()).await;
    let reply = world.call(wakes(0..4)).await;
    assert_eq!(reply, Ok(Reply::Woken(Woken { not_owned: vec![1, 3] })));
    assert_eq!(
        world.call(Request::OwnershipChanged(OwnershipChanged::default())).await,
        Ok(Reply::Seen)
    );
    cast(world.gateway.actor(), wakes(0..4)).unwrap();
    cast(world.gateway.actor(), Request::OwnershipChanged(OwnershipChanged { shards: vec![1] }))
        .unwrap();
    // A mailbox is in order, so the ping's answer comes after what was cast.
    assert!(matches!(world.call(Request::Ping).await, Ok(Reply::Pong(_))));
    assert_eq!(world.node.woken.lock().unwrap().len(), 8);
    assert_eq!(world.node.looks.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn bytes_that_are_no_call_are_answered_with_an_error() {
    let world = World::new(Node::default()).await;
    let kind = async |bytes: &[u8]| {
        let answer = call_raw(world.gateway.actor(), bytes.to_vec(), SOON).await.unwrap();
        decode_reply(&answer).unwrap_err().kind
    };
    assert_eq!(kind(&[0, 9, 0, 1, 0]).await, CallErrorKind::UnknownVersion);
    assert_eq!(kind(&[0, 1, 1, 0, 0]).await, CallErrorKind::UnknownKind);
    assert_eq!(kind(&[0, 1, 0, 2, 0, 7]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&[0, 1, 0, 9, 0, 7]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&[]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&vec![0; MAX_CALL_BYTES + 1]).await, CallErrorKind::TooLarge);
    cast(world.gateway.actor(), Request::ClusterStatus).unwrap();
    world.gateway.actor().cast(GatewayMessage::Cast(vec![7])).unwrap();
    assert!(matches!(world.call(Request::Ping).await, Ok(Reply::Pong(_))), "it still answers");
}

#[tokio::test]
async fn a_serialized_call_of_an_unknown_variant_is_answered() {
    let world = World::new(Node::default()).await;
    let (reply, answer) = oneshot();
    let call = SerializedMessage::Call {
        variant: "Later".to_owned(),
        args: vec![1, 2, 3],
        reply: reply.into(),
        metadata: None,
    };
    world.gateway.actor().get_cell().send_serialized(call).unwrap();
    let answer = tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(decode_reply(&answer).unwrap_err().kind, CallErrorKind::UnknownKind);
    let cast =
        SerializedMessage::Cast { variant: "Later".to_owned(), args: Vec::new(), metadata: None };
    world.gateway.actor().get_cell().send_serialized(cast).unwrap();
    assert!(matches!(world.call(Request::Ping).await, Ok(Reply::Pong(_))));
}

#[test]
fn messages_survive_their_serialized_form() {
    let (reply, _answer) = oneshot();
    let message = GatewayMessage::Call(vec![1], reply.into()).serialize().unwrap();
    let back = GatewayMessage::deserialize(message).unwrap();
    assert!(matches!(back, GatewayMessage::Call(bytes, _) if bytes == [1]));
    let message = GatewayMessage::Cast(vec![2]).serialize().unwrap();
    let back = GatewayMessage::deserialize(message).unwrap();
    assert!(matches!(back, GatewayMessage::Cast(bytes) if bytes == [2]));
    assert!(GatewayMessage::serializable());
}

#[tokio::test]
async fn a_panic_in_the_actor_itself_does_not_end_it() {
    let world = World::new(Node { fragile: true, ..Node::default() }).await;
    assert_eq!(world.kind(wakes(1..2)).await, CallErrorKind::Internal);
    cast(world.gateway.actor(), wakes(1..2)).unwrap();
    assert!(matches!(world.call(Request::Ping).await, Ok(Reply::Pong(_))));
    assert_eq!(world.vital.ended(), None);
}

#[tokio::test]
async fn the_end_of_a_gateway_is_reported() {
    let world = World::new(Node::default()).await;
    world.gateway.actor().kill();
    let ended = tokio::time::timeout(SOON, world.vital.failed()).await.expect("it is reported");
    assert_eq!(ended.task, "gateway");
}

#[tokio::test]
async fn a_call_whose_handler_panics_is_answered_with_an_error() {
    let world = World::new(Node::default()).await;
    assert_eq!(world.kind(Request::ClusterStatus).await, CallErrorKind::Internal);
    assert_eq!(world.kind(Request::ClusterStatus).await, CallErrorKind::Internal);
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_refused_at_once_and_pings_are_answered() {
    let world = World::new(Node::default()).await;
    let calls = (0..MAX_CALLS + 10).map(|_| world.kind(status()));
    let calls = futures::future::join_all(calls);
    let ping = world.call(Request::Ping);
    let (kinds, pong) = tokio::join!(calls, ping);
    assert!(matches!(pong, Ok(Reply::Pong(_))));
    let overloaded = kinds.iter().filter(|kind| **kind == CallErrorKind::Overloaded);
    assert_eq!(overloaded.count(), 10);
    let handled = kinds.iter().filter(|kind| **kind == CallErrorKind::NotFound);
    assert_eq!(handled.count(), MAX_CALLS);
    assert_eq!(world.kind(status()).await, CallErrorKind::NotFound, "permits are given back");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_finishes_its_calls() {
    let world = World::new(Node::default()).await;
    let (handled, ()) = tokio::join!(biased; world.kind(status()), world.gateway.stop());
    assert_eq!(handled, CallErrorKind::NotFound);
    assert_eq!(world.kind(Request::Ping).await, CallErrorKind::Lost);
}
