//! A gateway over records in memory. Every port is answered, whatever was sent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use postrider_domain::delivery::DeliveryState;
use postrider_domain::ids::{BootId, Id};
use postrider_domain::ownership::Shard;
use postrider_store::Owner;
use postrider_store::memory::Faults;
use ractor::Message;
use ractor::concurrency::oneshot;
use ractor::message::SerializedMessage;

use super::*;
use crate::door::tests::World;
use crate::messages::*;
use crate::view::{NodeState, NodeView};

const SOON: Duration = Duration::from_secs(20);

/// A node that owns the even shards, and panics when it is asked for its view and has none, or when
/// it is woken and is fragile.
#[derive(Default)]
struct Node {
    fragile: bool,
    woken: Mutex<Vec<Wake>>,
    looks: AtomicUsize,
    view: Option<Arc<View>>,
}

impl Local for Node {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Shard> {
        assert!(!self.fragile, "it breaks, as the test wants");
        let elsewhere = wakes.iter().map(Wake::shard).filter(|shard| shard % 2 == 1).collect();
        self.woken.lock().unwrap().extend(wakes);
        elsewhere
    }

    fn look(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    fn view(&self) -> Arc<View> {
        self.view.clone().expect("a view")
    }
}

struct House {
    world: World,
    node: Arc<Node>,
    gateway: Gateway,
    vital: Tasks,
}

impl House {
    async fn new(node: Node) -> Self {
        let world = World::new().await;
        let node = Arc::new(node);
        let vital = Tasks::new();
        let gateway = Gateway::start(world.door.clone(), node.clone(), &vital).await.unwrap();
        Self { world, node, gateway, vital }
    }

    async fn call(&self, request: Request) -> Result<Reply, CallError> {
        call(self.gateway.actor(), request, SOON).await
    }

    async fn kind(&self, request: Request) -> CallErrorKind {
        self.call(request).await.unwrap_err().kind
    }

    fn batch(&self, events: &[(&str, &str)], key: Option<&str>) -> Request {
        let event = |&(event_type, payload): &(&str, &str)| NewEvent {
            event_type: event_type.to_owned(),
            payload: payload.to_owned().into(),
        };
        Request::PublishBatch(PublishBatch {
            account: self.world.account,
            events: events.iter().map(event).collect(),
            idempotency_key: key.map(str::to_owned),
        })
    }

    fn single(&self, event_type: &str, payload: &str, key: Option<&str>) -> Request {
        Request::Publish(Publish {
            account: self.world.account,
            event: NewEvent {
                event_type: event_type.to_owned(),
                payload: payload.to_owned().into(),
            },
            idempotency_key: key.map(str::to_owned),
        })
    }

    fn of_endpoint(&self) -> OfEndpoint {
        OfEndpoint { account: self.world.account, endpoint: self.world.endpoint }
    }
}

#[tokio::test]
async fn events_are_published_and_their_deliveries_told_of() {
    let house = House::new(Node::default()).await;
    let Ok(Reply::Published(receipt)) = house.call(house.single("free", "1", None)).await else {
        panic!("no receipt");
    };
    assert_eq!((receipt.event_type.as_str(), receipt.deliveries), ("free", 1));
    let events = [("free", "2"), ("strict", "{}")];
    let Ok(Reply::PublishedBatch(receipts)) = house.call(house.batch(&events, None)).await else {
        panic!("no receipts");
    };
    assert_eq!(receipts.len(), 2);
    assert_eq!(house.world.workers.take().len(), 3);
    let delivery = house.world.delivery().await;
    let of = OfDelivery { account: house.world.account, delivery };
    match house.call(Request::DeliveryStatus(of)).await {
        Ok(Reply::Delivery(status)) => {
            assert_eq!((status.event, status.state), (receipts[1].id, DeliveryState::Pending));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let house = House::new(Node::default()).await;
    let events = [("a b", "1"), ("free", "{"), ("strict", "[]"), ("gone", "1")];
    let CallErrorKind::Refused(findings) = house.kind(house.batch(&events, None)).await else {
        panic!("not refused");
    };
    use crate::door::Field::{EventType, Payload};
    let places: Vec<_> = findings.iter().map(|it| (it.index, it.field)).collect();
    assert_eq!(places, [(0, EventType), (1, Payload), (2, Payload), (3, EventType)]);
    assert!(house.world.workers.take().is_empty());
}

#[tokio::test]
async fn a_repeated_call_has_its_first_answer() {
    let house = House::new(Node::default()).await;
    let first = house.call(house.single("free", "1", Some("k"))).await.unwrap();
    assert_eq!(house.call(house.single("free", "1", Some("k"))).await.unwrap(), first);
    assert_eq!(house.kind(house.single("free", "2", Some("k"))).await, CallErrorKind::Conflict);
    let batch = house.batch(&[("free", "1")], Some("k"));
    assert_eq!(house.kind(batch).await, CallErrorKind::Conflict, "another form");
    let bad = house.single("free", "1", Some("a b"));
    assert_eq!(house.kind(bad).await, CallErrorKind::Malformed);
}

#[tokio::test]
async fn an_endpoint_is_disabled_and_enabled() {
    let house = House::new(Node::default()).await;
    house.call(house.single("free", "1", None)).await.unwrap();
    let status = async |request| match house.call(request).await {
        Ok(Reply::Endpoint(status)) => {
            (matches!(status.state, EndpointState::Enabled), status.pending, status.held)
        }
        other => panic!("{other:?}"),
    };
    let of = house.of_endpoint();
    assert_eq!(status(Request::DisableEndpoint(of)).await, (false, 0, 1));
    assert_eq!(status(Request::EndpointStatus(of)).await, (false, 0, 1));
    let OfEndpoint { account, endpoint } = of;
    let enable = EnableEndpoint { account, endpoint, held: HeldChoice::Resume };
    assert_eq!(status(Request::EnableEndpoint(enable)).await, (true, 1, 0));
    let account = house.world.door.mint().id(house.world.door.now());
    let strange = Request::EndpointStatus(OfEndpoint { account, endpoint });
    assert_eq!(house.kind(strange).await, CallErrorKind::NotFound);
}

#[tokio::test]
async fn the_cluster_is_shown_as_the_node_sees_it() {
    let boot = BootId::from_bytes([1; 16]);
    let node = NodeView {
        node: boot,
        name: "node-1".to_owned(),
        version: "1".to_owned(),
        state: NodeState::Alive,
        address: None,
    };
    let held = Some(Owner { node: boot, epoch: 1 });
    let view = View { nodes: vec![node], owners: vec![held, None, held] };
    let house = House::new(Node { view: Some(Arc::new(view)), ..Node::default() }).await;
    let Ok(Reply::Cluster(status)) = house.call(Request::ClusterStatus).await else {
        panic!("no status");
    };
    assert_eq!((status.shards, status.unowned), (3, 1));
    assert_eq!((status.nodes[0].id, status.nodes[0].shards), (boot, 2));
}

#[tokio::test]
async fn work_is_passed_on_and_what_is_elsewhere_is_told() {
    let house = House::new(Node::default()).await;
    let wakes = (0..4).map(|shard| Wake::Jobs { shard });
    let [many] = WakeMany::pack(wakes).try_into().unwrap();
    let reply = house.call(Request::WakeMany(many.clone())).await;
    assert_eq!(reply, Ok(Reply::Woken(Woken { elsewhere: vec![1, 3] })));
    assert_eq!(house.call(Request::Handed(Handed::default())).await, Ok(Reply::Seen));
    cast(house.gateway.actor(), Request::WakeMany(many)).unwrap();
    cast(house.gateway.actor(), Request::Handed(Handed { shards: vec![1] })).unwrap();
    // A mailbox is in order, so the ping's answer comes after what was cast.
    assert!(matches!(house.call(Request::Ping).await, Ok(Reply::Pong(_))));
    assert_eq!(house.node.woken.lock().unwrap().len(), 8);
    assert_eq!(house.node.looks.load(Ordering::Relaxed), 2);
    let strange = Nudge { work: Work::Jobs { shard: 4 }, traceparent: None };
    let strange = Request::WakeMany(WakeMany { nudges: vec![strange] });
    assert_eq!(house.kind(strange).await, CallErrorKind::Malformed);
}

#[tokio::test]
async fn what_cannot_be_read_has_an_error_for_an_answer() {
    let house = House::new(Node::default()).await;
    let kind = async |bytes: &[u8]| {
        let answer = call_raw(house.gateway.actor(), bytes.to_vec(), SOON).await.unwrap();
        decode_reply(&answer).unwrap_err().kind
    };
    assert_eq!(kind(&[0, 9, 0, 1, 0]).await, CallErrorKind::UnknownVersion);
    assert_eq!(kind(&[0, 1, 1, 0, 0]).await, CallErrorKind::UnknownKind);
    assert_eq!(kind(&[0, 1, 0, 2, 0, 7]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&[0, 1, 0, 9, 0, 7]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&[]).await, CallErrorKind::Malformed);
    assert_eq!(kind(&vec![0; MAX_CALL_BYTES + 1]).await, CallErrorKind::TooLarge);
    cast(house.gateway.actor(), Request::ClusterStatus).unwrap();
    house.gateway.actor().cast(GatewayMessage::Cast(vec![7])).unwrap();
    assert!(matches!(house.call(Request::Ping).await, Ok(Reply::Pong(_))), "it goes on");
}

#[tokio::test]
async fn a_serialized_call_of_an_unknown_variant_is_answered() {
    let house = House::new(Node::default()).await;
    let (reply, answer) = oneshot();
    let call = SerializedMessage::Call {
        variant: "Later".to_owned(),
        args: vec![1, 2, 3],
        reply: reply.into(),
        metadata: None,
    };
    house.gateway.actor().get_cell().send_serialized(call).unwrap();
    let answer = tokio::time::timeout(SOON, answer).await.unwrap().unwrap();
    assert_eq!(decode_reply(&answer).unwrap_err().kind, CallErrorKind::UnknownKind);
    let cast =
        SerializedMessage::Cast { variant: "Later".to_owned(), args: Vec::new(), metadata: None };
    house.gateway.actor().get_cell().send_serialized(cast).unwrap();
    assert!(matches!(house.call(Request::Ping).await, Ok(Reply::Pong(_))));
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
    let house = House::new(Node { fragile: true, ..Node::default() }).await;
    let wakes = || {
        let nudges = vec![Nudge { work: Work::Jobs { shard: 1 }, traceparent: None }];
        Request::WakeMany(WakeMany { nudges })
    };
    assert_eq!(house.kind(wakes()).await, CallErrorKind::Internal);
    cast(house.gateway.actor(), wakes()).unwrap();
    assert!(matches!(house.call(Request::Ping).await, Ok(Reply::Pong(_))));
    assert_eq!(house.vital.ended(), None);
}

#[tokio::test]
async fn a_gateway_that_ends_is_told_of() {
    let house = House::new(Node::default()).await;
    house.gateway.actor().kill();
    let ended = tokio::time::timeout(SOON, house.vital.failed()).await.expect("somebody is told");
    assert_eq!(ended.task, "gateway");
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let house = House::new(Node::default()).await;
    assert_eq!(house.kind(Request::ClusterStatus).await, CallErrorKind::Internal);
    assert_eq!(house.kind(Request::ClusterStatus).await, CallErrorKind::Internal);
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_refused_at_once_and_light_ones_go_on() {
    let house = House::new(Node::default()).await;
    let delay = Duration::from_secs(1);
    house.world.memory.set_faults(Faults { delay, ..Faults::default() });
    let calls = (0..MAX_CALLS + 10).map(|_| house.call(house.single("free", "1", None)));
    let calls = futures::future::join_all(calls);
    let ping = house.call(Request::Ping);
    let (outcomes, pong) = tokio::join!(calls, ping);
    assert!(matches!(pong, Ok(Reply::Pong(_))));
    let refused = outcomes
        .iter()
        .filter(|it| matches!(it, Err(CallError { kind: CallErrorKind::Overloaded, .. })));
    assert_eq!(refused.count(), 10);
    assert_eq!(outcomes.iter().filter(|it| it.is_ok()).count(), MAX_CALLS);
    house.world.memory.set_faults(Faults::default());
    assert!(house.call(house.single("free", "1", None)).await.is_ok(), "places are given back");
}

#[tokio::test]
async fn a_gateway_that_stops_ends_what_it_has_in_hand() {
    let house = House::new(Node::default()).await;
    let published = house.call(house.single("free", "1", None));
    let (published, ()) = tokio::join!(biased; published, house.gateway.stop());
    assert!(published.is_ok(), "{published:?}");
    assert_eq!(house.kind(Request::Ping).await, CallErrorKind::Lost);
}
