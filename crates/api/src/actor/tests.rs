//! Tests of the actor API over an in-memory store.

use postrider_cluster::local_node::LocalNode;
use postrider_cluster::shard_manager::CheckTrigger;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::findings::Field::{EventType, Payload};
use postrider_domain::ids::{AccountId, EndpointId, EventId, IdGenerator};
use postrider_net::messages::{
    DeliveryStatus, EnableEndpoint, EndpointState, Publish, PublishBatch, WakeItem, Work,
};
use postrider_store::{DeliveryFilter, PageRequest};
use serde_json::json;

use super::*;
use crate::tests::harness::{SHARDS, TestApp, view};

struct Fixture {
    app: TestApp,
    api: Arc<ActorApi>,
    account: AccountId,
    endpoint: EndpointId,
}

impl Fixture {
    /// An account with an endpoint that subscribes to all types. A payload of `strict` must be an
    /// object whose `n` is a number; `free` allows any payload.
    async fn new() -> Self {
        let app = TestApp::new().await;
        let account = app.account().await;
        app.event_type("free").await;
        let schema = json!({"type": "object", "properties": {"n": {"type": "number"}}});
        let body = json!({"description": "", "example": {}, "schema": schema});
        app.as_operator("PUT /v1/event-types/strict", body).await.expect(200);
        let endpoint = app.endpoint(&account).await.parse().unwrap();
        let view = tokio::sync::watch::channel(view()).1;
        let node = LocalNode::new(SHARDS, app.shards.clone(), view, CheckTrigger::default());
        let api = ActorApi::new(app.service.clone(), Arc::new(node));
        app.shards.take();
        Self { app, api, account: account.id, endpoint }
    }

    async fn call(&self, request: Request) -> Result<Reply, CallError> {
        self.api.handle(request.into()).await
    }

    async fn kind(&self, request: Request) -> CallErrorKind {
        self.call(request).await.unwrap_err().kind
    }

    fn batch(&self, events: &[(&str, &str)], key: Option<&str>) -> Request {
        Request::PublishBatch(PublishBatch {
            account: self.account,
            events: events.iter().map(|(name, payload)| event(name, payload)).collect(),
            idempotency_key: key.map(str::to_owned),
        })
    }

    fn single(&self, event_type: &str, payload: &str, key: Option<&str>) -> Request {
        Request::Publish(Publish {
            account: self.account,
            event: event(event_type, payload),
            idempotency_key: key.map(str::to_owned),
        })
    }

    fn endpoint_ref(&self) -> EndpointRef {
        EndpointRef { account: self.account, endpoint: self.endpoint }
    }

    /// The newest delivery to the endpoint.
    async fn newest_delivery(&self) -> DeliveryStatus {
        let (filter, page) = (DeliveryFilter::default(), PageRequest { limit: 1, after: None });
        let page = self.app.records.deliveries(self.account, self.endpoint, filter, page).await;
        let delivery = page.unwrap().items[0].delivery.id;
        let target = DeliveryRef { account: self.account, delivery };
        match self.call(Request::DeliveryStatus(target)).await {
            Ok(Reply::Delivery(status)) => status,
            other => panic!("{other:?}"),
        }
    }
}

fn event(event_type: &str, payload: &str) -> postrider_net::messages::NewEvent {
    postrider_net::messages::NewEvent {
        event_type: event_type.to_owned(),
        payload: payload.to_owned().into(),
    }
}

#[tokio::test]
async fn published_events_wake_the_owners_of_their_deliveries() {
    let fixture = Fixture::new().await;
    let Ok(Reply::Published(receipt)) = fixture.call(fixture.single("free", "1", None)).await
    else {
        panic!("no receipt");
    };
    assert_eq!((receipt.event_type.as_str(), receipt.deliveries), ("free", 1));
    let events = [("free", "2"), ("strict", "{}")];
    let Ok(Reply::PublishedBatch(receipts)) = fixture.call(fixture.batch(&events, None)).await
    else {
        panic!("no receipts");
    };
    let ids: Vec<EventId> = receipts.iter().map(|receipt| receipt.id).collect();
    assert_eq!(fixture.app.shards.take().len(), 3);
    let newest = fixture.newest_delivery().await;
    assert_eq!((newest.event, newest.state), (ids[1], DeliveryState::Pending));
}

#[tokio::test]
async fn all_errors_of_a_batch_are_reported_at_once() {
    let fixture = Fixture::new().await;
    let events = [("a b", "1"), ("free", "{"), ("strict", "[]"), ("gone", "1")];
    let CallErrorKind::Invalid(findings) = fixture.kind(fixture.batch(&events, None)).await else {
        panic!("the batch was not rejected");
    };
    let locations: Vec<_> = findings.iter().map(|it| (it.index, it.field)).collect();
    assert_eq!(locations, [(0, EventType), (1, Payload), (2, Payload), (3, EventType)]);
    assert!(fixture.app.shards.take().is_empty());
}

#[tokio::test]
async fn a_repeated_call_returns_its_first_reply() {
    let fixture = Fixture::new().await;
    let first = fixture.call(fixture.single("free", "1", Some("k"))).await.unwrap();
    assert_eq!(fixture.call(fixture.single("free", "1", Some("k"))).await.unwrap(), first);
    assert_eq!(fixture.kind(fixture.single("free", "2", Some("k"))).await, CallErrorKind::Conflict);
    let batch = fixture.batch(&[("free", "1")], Some("k"));
    assert_eq!(
        fixture.kind(batch).await,
        CallErrorKind::Conflict,
        "a batch differs from a single event"
    );
    let bad = fixture.single("free", "1", Some("a b"));
    assert_eq!(fixture.kind(bad).await, CallErrorKind::Malformed);
}

#[tokio::test]
async fn an_endpoint_is_disabled_and_enabled() {
    let fixture = Fixture::new().await;
    fixture.call(fixture.single("free", "1", None)).await.unwrap();
    let status = async |request| match fixture.call(request).await {
        Ok(Reply::Endpoint(status)) => {
            (matches!(status.state, EndpointState::Enabled), status.pending, status.held)
        }
        other => panic!("{other:?}"),
    };
    let target = fixture.endpoint_ref();
    assert_eq!(status(Request::DisableEndpoint(target)).await, (false, 0, 1));
    assert_eq!(status(Request::EndpointStatus(target)).await, (false, 0, 1));
    let EndpointRef { account, endpoint } = target;
    let enable = EnableEndpoint { account, endpoint, held: HeldChoice::Resume };
    assert_eq!(status(Request::EnableEndpoint(enable)).await, (true, 1, 0));
    let account = IdGenerator::new(2).id(fixture.app.service.now());
    let unknown = Request::EndpointStatus(EndpointRef { account, endpoint });
    assert_eq!(fixture.kind(unknown).await, CallErrorKind::NotFound);
}

#[tokio::test]
async fn the_cluster_status_is_the_nodes_view() {
    let fixture = Fixture::new().await;
    let Ok(Reply::Cluster(status)) = fixture.call(Request::ClusterStatus).await else {
        panic!("no status");
    };
    assert_eq!((status.shards, status.unowned), (4, 2));
    assert_eq!(status.nodes.iter().map(|node| node.shards).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn wakes_for_unknown_shards_are_rejected() {
    let fixture = Fixture::new().await;
    let wakes = |shard| WakeMany {
        wakes: vec![WakeItem { work: Work::Jobs { shard }, traceparent: None }],
    };
    assert_eq!(fixture.api.wake(wakes(3)), Ok(Woken::default()));
    assert_eq!(fixture.api.wake(wakes(4)).unwrap_err().kind, CallErrorKind::Malformed);
    assert_eq!(fixture.app.shards.take().len(), 1);
}
