//! Tests of the service over an in-memory store, with shards that record their wakes.

use parking_lot::Mutex;

use async_trait::async_trait;
use postrider_cluster::route::LocalShards;
use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::attempt::TestReport;
use postrider_domain::delivery::DeliveryState;
use postrider_domain::endpoint::{Endpoint, Ordering, Secrets, State, Subscription};
use postrider_domain::event::{Event, EventType, EventTypeName, Payload};
use postrider_domain::findings::Field;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::signature::Secret;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_store::kv::memory::{Faults, Memory};
use postrider_store::kv::{self, Store};
use postrider_store::{HeldAction, Idempotency, PageRequest, ResendTarget, Wake};

use super::deliveries::RetriedDelivery;
use super::*;
use crate::metrics::Channel;

/// A service with an account, two event types and an endpoint that subscribes to all types. A
/// payload of `strict` must be an object whose `n` is a number; `free` allows any payload.
struct Fixture {
    service: Service,
    memory: Memory,
    shards: Arc<RecordingShards>,
    account: AccountId,
    endpoint: EndpointId,
}

/// Shards that only record their wakes.
#[derive(Default)]
struct RecordingShards(Mutex<Vec<Wake>>);

impl LocalShards for RecordingShards {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.0.lock().extend(wakes);
        Vec::new()
    }

    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.wake(wakes)
    }

    fn scan_now(&self) {}
}

struct NoTestSender;

#[async_trait]
impl TestSender for NoTestSender {
    async fn send_test(&self, _: &Endpoint, _: &Event) -> TestReport {
        panic!("these tests send no test events")
    }
}

impl RecordingShards {
    fn take(&self) -> Vec<Wake> {
        std::mem::take(&mut self.0.lock())
    }
}

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }
}

impl Fixture {
    async fn new() -> Self {
        let memory = Memory::with_faults(1, Faults::default());
        let records = Records::open(Store::new(Arc::new(memory.clone()), 1), 4).await.unwrap();
        let shards = Arc::new(RecordingShards::default());
        let service = Service::new(
            records.clone(),
            Router::new(records.shards(), shards.clone(), None),
            Arc::new(NoTestSender),
            Arc::new(IdGenerator::new(1)),
            Arc::new(FixedClock),
        );
        let now = service.now();
        let account = Account {
            id: service.ids().id(now),
            name: Name::parse("Acme").unwrap(),
            contact_emails: vec![EmailAddress::parse("ops@acme.example").unwrap()],
            created_at: now,
            updated_at: now,
        };
        records.create_account(&account).await.unwrap();
        let strict = r#"{"type": "object", "properties": {"n": {"type": "number"}}}"#;
        for (name, schema) in [("free", None), ("strict", Some(strict))] {
            let entry = EventType {
                name: EventTypeName::parse(name).unwrap(),
                description: String::new(),
                example: "{}".to_owned(),
                schema: schema.map(str::to_owned),
                created_at: now,
                updated_at: now,
            };
            records.put_event_type(entry).await.unwrap();
        }
        let endpoint = Endpoint {
            id: service.ids().id(now),
            account: account.id,
            name: Name::parse("Hook").unwrap(),
            url: TargetUrl::parse("https://example.com/", &AddressPolicy::default()).unwrap(),
            event_types: Subscription::All,
            headers: CustomHeaders::default(),
            ordering: Ordering::Parallel,
            rate_limit: None,
            disable_when: None,
            secrets: Secrets::new(Secret::from_bytes([1; 32])),
            created_at: now,
            updated_at: now,
        };
        assert!(records.create_endpoint(&endpoint).await.unwrap());
        Self { service, memory, shards, account: account.id, endpoint: endpoint.id }
    }

    /// The newest delivery to the endpoint.
    async fn delivery(&self) -> DeliveryId {
        let page = PageRequest { limit: 1, after: None };
        let filter = postrider_store::DeliveryFilter::default();
        let page =
            self.service.records().deliveries(self.account, self.endpoint, filter, page).await;
        page.unwrap().items[0].delivery.id
    }
}

fn new_event(event_type: &str, payload: &str) -> NewEvent {
    NewEvent {
        event_type: EventTypeName::parse(event_type).unwrap(),
        payload: Payload::parse(payload.to_owned().into()).unwrap(),
    }
}

fn partial(event_type: Option<&str>, payload: Option<&str>) -> PartialEvent {
    let complete = new_event(event_type.unwrap_or("none"), payload.unwrap_or("{}"));
    PartialEvent {
        event_type: event_type.map(|_| complete.event_type),
        payload: payload.map(|_| complete.payload),
    }
}

fn key(body: u8) -> Option<Idempotency> {
    Some(IdempotencyKey::parse(b"key").unwrap().for_request([body; 32]))
}

/// The event, field and pointer of each finding.
fn locations(error: ServiceError) -> Vec<(u32, Field, String)> {
    match error {
        ServiceError::InvalidEvents(findings) => {
            findings.into_vec().into_iter().map(|it| (it.index, it.field, it.pointer)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn published_events_wake_the_owners_of_their_deliveries() {
    let fixture = Fixture::new().await;
    let events = vec![new_event("free", "1"), new_event("strict", "{\"n\": 1}")];
    let receipts =
        fixture.service.publish(Channel::Http, fixture.account, events, None).await.unwrap();
    assert_eq!(receipts.iter().map(|it| it.deliveries).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(fixture.shards.take().len(), 2);
}

#[tokio::test]
async fn all_invalid_events_are_reported_at_once() {
    let fixture = Fixture::new().await;
    let events = vec![
        new_event("gone", "1"),
        new_event("strict", "{\"n\": \"x\"}"),
        new_event("strict", "7"),
        new_event("free", "7"),
    ];
    let error = fixture
        .service
        .publish(Channel::Http, fixture.account, events.clone(), key(1))
        .await
        .unwrap_err();
    let at_n = (1, Field::Payload, "/n".to_owned());
    let at_all = (2, Field::Payload, String::new());
    let unknown = (0, Field::EventType, String::new());
    assert_eq!(locations(error), [at_n, at_all, unknown.clone()]);
    let both = [events[0].clone(), events[0].clone()].to_vec();
    for key in [None, key(1)] {
        let error = fixture
            .service
            .publish(Channel::Http, fixture.account, both.clone(), key)
            .await
            .unwrap_err();
        assert_eq!(locations(error), [unknown.clone(), (1, Field::EventType, String::new())]);
    }
    assert!(fixture.shards.take().is_empty());
}

#[tokio::test]
async fn partial_events_are_validated_as_far_as_possible() {
    let fixture = Fixture::new().await;
    let partial_events = [
        partial(None, Some("1")),
        partial(Some("gone"), None),
        partial(Some("strict"), None),
        partial(Some("strict"), Some("[]")),
        PartialEvent::default(),
    ];
    let found = fixture.service.validate_events(&partial_events).await.unwrap();
    let expected = [(3, Field::Payload, String::new()), (1, Field::EventType, String::new())];
    assert_eq!(locations(ServiceError::InvalidEvents(found)), expected);
    assert!(partial_events.into_iter().all(|event| event.clone().complete().is_none()
        || event == super::tests::partial(Some("strict"), Some("[]"))));
}

#[tokio::test]
async fn a_repeated_request_returns_its_first_receipts() {
    let fixture = Fixture::new().await;
    let publish = |body| {
        fixture.service.publish(
            Channel::Http,
            fixture.account,
            vec![new_event("free", "1")],
            key(body),
        )
    };
    let first = publish(1).await.unwrap();
    let name = EventTypeName::parse("free").unwrap();
    fixture.service.records().delete_event_type(&name).await.unwrap();
    assert_eq!(publish(1).await.unwrap(), first);
    assert!(matches!(publish(2).await, Err(ServiceError::IdempotencyKeyReused)));
    assert_eq!(fixture.shards.take().len(), 1);
}

#[tokio::test]
async fn a_repeated_request_returns_its_first_receipts_after_its_schema_was_tightened() {
    let fixture = Fixture::new().await;
    let publish = |body| {
        fixture.service.publish(
            Channel::Http,
            fixture.account,
            vec![new_event("free", "1")],
            key(body),
        )
    };
    let first = publish(1).await.unwrap();
    let name = EventTypeName::parse("free").unwrap();
    let entry = fixture.service.records().event_type(&name).await.unwrap().unwrap();
    let schema = Some(r#"{"type": "object", "required": ["x"]}"#.to_owned());
    fixture.service.records().put_event_type(EventType { schema, ..entry }).await.unwrap();
    assert_eq!(publish(1).await.unwrap(), first);
    assert!(matches!(publish(2).await, Err(ServiceError::IdempotencyKeyReused)));
    let new = IdempotencyKey::parse(b"new").unwrap().for_request([1; 32]);
    let result = fixture
        .service
        .publish(Channel::Http, fixture.account, vec![new_event("free", "1")], Some(new))
        .await;
    assert!(matches!(result, Err(ServiceError::InvalidEvents(_))), "{result:?}");
}

#[tokio::test]
async fn an_endpoint_is_disabled_and_enabled() {
    let fixture = Fixture::new().await;
    let (account, id) = (fixture.account, fixture.endpoint);
    let view = fixture.service.disable_endpoint(account, id, None).await.unwrap();
    assert!(matches!(view.state, State::Disabled(_)));
    let view =
        fixture.service.enable_endpoint(account, id, HeldAction::Resume, None).await.unwrap();
    assert_eq!(view.state, State::Enabled);
    assert_eq!(fixture.service.endpoint(account, id).await.unwrap().state, State::Enabled);
    let wakes = fixture.shards.take();
    assert!(matches!(wakes[..], [Wake::Changed { .. }, Wake::Changed { .. }]), "{wakes:?}");
}

#[tokio::test]
async fn another_accounts_resources_are_not_found_and_wake_nobody() {
    let fixture = Fixture::new().await;
    let other = fixture.service.ids().id(fixture.service.now());
    let (service, id) = (&fixture.service, fixture.endpoint);
    assert!(matches!(
        service.endpoint(other, id).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
    assert!(matches!(
        service.disable_endpoint(other, id, None).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
    assert!(matches!(
        service.enable_endpoint(other, id, HeldAction::Resume, None).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
    let result = service.publish(Channel::Http, other, vec![new_event("free", "1")], None).await;
    assert!(matches!(result, Err(ServiceError::NotFound(Resource::Account))));
    let delivery = service.ids().id(service.now());
    assert!(matches!(
        service.delivery(other, delivery).await,
        Err(ServiceError::NotFound(Resource::Delivery))
    ));
    assert!(matches!(
        service.retry_delivery(other, delivery, None).await,
        Err(ServiceError::NotFound(Resource::Delivery))
    ));
    assert!(fixture.shards.take().is_empty());
}

#[tokio::test]
async fn a_delivery_can_be_retried_until_its_endpoint_is_deleted() {
    let fixture = Fixture::new().await;
    let (service, account) = (&fixture.service, fixture.account);
    service.publish(Channel::Http, account, vec![new_event("free", "1")], None).await.unwrap();
    let first = fixture.delivery().await;
    // It is pending, so it is sent now instead of twice.
    match service.retry_delivery(account, first, None).await.unwrap() {
        RetriedDelivery::BroughtForward(view) => assert_eq!(view.delivery.id, first),
        created @ RetriedDelivery::Created(_) => panic!("{created:?}"),
    }
    assert_eq!(fixture.shards.take().len(), 2);
    let discarded = service.discard_delivery(account, first, None).await.unwrap();
    assert_eq!(discarded.state, DeliveryState::Discarded);
    assert_eq!(fixture.shards.take().len(), 1, "the next one may be due now");
    assert!(matches!(
        service.discard_delivery(account, first, None).await,
        Err(ServiceError::DeliveryEnded(DeliveryState::Discarded))
    ));
    let again = match service.retry_delivery(account, first, None).await.unwrap() {
        RetriedDelivery::Created(view) => view,
        forward @ RetriedDelivery::BroughtForward(_) => panic!("{forward:?}"),
    };
    assert_eq!(again.state, DeliveryState::Pending);
    assert_ne!(again.delivery.id, first);
    assert_eq!(fixture.shards.take().len(), 1);

    service.disable_endpoint(account, fixture.endpoint, None).await.unwrap();
    for refused in [
        service.retry_delivery(account, again.delivery.id, None).await.map(drop),
        service.send_now(account, fixture.endpoint, None).await.map(drop),
    ] {
        assert!(matches!(refused, Err(ServiceError::EndpointDisabled)), "{refused:?}");
    }
    service.records().delete_endpoint(account, fixture.endpoint).await.unwrap();
    assert!(matches!(
        service.retry_delivery(account, first, None).await,
        Err(ServiceError::EndpointDeleted)
    ));
    assert!(matches!(
        service.send_now(account, fixture.endpoint, None).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
}

#[tokio::test]
async fn a_past_event_can_be_resent_until_its_endpoint_is_deleted() {
    let fixture = Fixture::new().await;
    let (service, account, endpoint) = (&fixture.service, fixture.account, fixture.endpoint);
    let receipts =
        service.publish(Channel::Http, account, vec![new_event("free", "1")], None).await;
    let event = receipts.unwrap()[0].id;
    fixture.shards.take();
    for target in [ResendTarget::Endpoint(endpoint), ResendTarget::AllSubscribers] {
        assert_eq!(service.resend_event(account, event, target, None).await.unwrap(), 1);
        assert_eq!(fixture.shards.take().len(), 1);
    }
    let other = service.ids().id(service.now());
    let result = service.resend_event(other, event, ResendTarget::AllSubscribers, None).await;
    assert!(matches!(result, Err(ServiceError::NotFound(Resource::Event))));
    let nowhere = ResendTarget::Endpoint(service.ids().id(service.now()));
    let result = service.resend_event(account, event, nowhere, None).await;
    assert!(matches!(result, Err(ServiceError::NotFound(Resource::Endpoint))));
    service.records().delete_endpoint(account, endpoint).await.unwrap();
    let result = service.resend_event(account, event, ResendTarget::Endpoint(endpoint), None).await;
    assert!(matches!(result, Err(ServiceError::EndpointDeleted)));
    assert!(fixture.shards.take().is_empty());
}

#[tokio::test]
async fn a_store_failure_is_returned() {
    let fixture = Fixture::new().await;
    fixture.memory.set_faults(Faults { conflict: 1.0, ..Faults::default() });
    tokio::time::pause();
    let result = fixture
        .service
        .publish(Channel::Http, fixture.account, vec![new_event("free", "1")], None)
        .await;
    assert!(matches!(result, Err(ServiceError::Store(kv::Error::Unavailable(_)))), "{result:?}");
}
