//! The service, over records in memory and workers that take notes.

use std::sync::Mutex;

use async_trait::async_trait;
use postrider_domain::account::{Account, EmailAddress, Name};
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

use super::*;
use crate::metrics::Channel;
use postrider_cluster::route::{TestReport, Workers};

/// A service with an account, two event types and an endpoint that wants all of them. Payloads of
/// `strict` must be objects whose `n` is a number; `free` takes any.
struct World {
    service: Service,
    memory: Memory,
    workers: Arc<Notes>,
    account: AccountId,
    endpoint: EndpointId,
}

/// Workers that take notes of what they are told.
#[derive(Default)]
struct Notes(Mutex<Vec<Wake>>);

#[async_trait]
impl Workers for Notes {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.0.lock().unwrap().extend(wakes);
        Vec::new()
    }

    async fn send_test(&self, _: Endpoint, _: Event) -> TestReport {
        panic!("nobody asks for a test event here")
    }
}

impl Notes {
    fn take(&self) -> Vec<Wake> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }
}

impl World {
    async fn new() -> Self {
        let memory = Memory::with_faults(1, Faults::default());
        let records = Records::open(Store::new(Arc::new(memory.clone()), 1), 4).await.unwrap();
        let workers = Arc::new(Notes::default());
        let router = Router::new(records.clone(), workers.clone());
        let service = Service::new(router, Arc::new(IdGenerator::new()), Arc::new(Still));
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
            secrets: Secrets::new(Secret::from_bytes([1; 32])),
            created_at: now,
            updated_at: now,
        };
        assert!(records.create_endpoint(&endpoint).await.unwrap());
        Self { service, memory, workers, account: account.id, endpoint: endpoint.id }
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
    let NewEvent { event_type: read, payload: body } =
        new_event(event_type.unwrap_or("none"), payload.unwrap_or("{}"));
    PartialEvent { event_type: event_type.map(|_| read), payload: payload.map(|_| body) }
}

fn key(body: u8) -> Option<Idempotency> {
    Some(IdempotencyKey::parse(b"key").unwrap().of_request([body; 32]))
}

/// Which event, which part of it, and where in it.
fn places(refusal: ServiceError) -> Vec<(u32, Field, String)> {
    match refusal {
        ServiceError::InvalidEvents(findings) => {
            findings.into_vec().into_iter().map(|it| (it.index, it.field, it.pointer)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_accepted_is_told_to_the_owners() {
    let world = World::new().await;
    let events = vec![new_event("free", "1"), new_event("strict", "{\"n\": 1}")];
    let receipts = world.service.publish(Channel::Http, world.account, events, None).await.unwrap();
    assert_eq!(receipts.iter().map(|it| it.deliveries).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(world.workers.take().len(), 2);
}

#[tokio::test]
async fn everything_that_is_wrong_is_found_at_once() {
    let world = World::new().await;
    let events = vec![
        new_event("gone", "1"),
        new_event("strict", "{\"n\": \"x\"}"),
        new_event("strict", "7"),
        new_event("free", "7"),
    ];
    let refusal = world
        .service
        .publish(Channel::Http, world.account, events.clone(), key(1))
        .await
        .unwrap_err();
    let at_n = (1, Field::Payload, "/n".to_owned());
    let at_all = (2, Field::Payload, String::new());
    let unknown = (0, Field::EventType, String::new());
    assert_eq!(places(refusal), [at_n, at_all, unknown.clone()]);
    let both = [events[0].clone(), events[0].clone()].to_vec();
    for key in [None, key(1)] {
        let refusal = world
            .service
            .publish(Channel::Http, world.account, both.clone(), key)
            .await
            .unwrap_err();
        assert_eq!(places(refusal), [unknown.clone(), (1, Field::EventType, String::new())]);
    }
    assert!(world.workers.take().is_empty());
}

#[tokio::test]
async fn the_catalogue_speaks_of_what_could_be_read() {
    let world = World::new().await;
    let partial_events = [
        partial(None, Some("1")),
        partial(Some("gone"), None),
        partial(Some("strict"), None),
        partial(Some("strict"), Some("[]")),
        PartialEvent::default(),
    ];
    let found = world.service.check(&partial_events).await.unwrap();
    let expected = [(3, Field::Payload, String::new()), (1, Field::EventType, String::new())];
    assert_eq!(places(ServiceError::InvalidEvents(found)), expected);
    assert!(partial_events.into_iter().all(|event| event.clone().complete().is_none()
        || event == super::tests::partial(Some("strict"), Some("[]"))));
}

#[tokio::test]
async fn a_repeated_request_has_its_first_answer() {
    let world = World::new().await;
    let publish = |body| {
        world.service.publish(Channel::Http, world.account, vec![new_event("free", "1")], key(body))
    };
    let first = publish(1).await.unwrap();
    let name = EventTypeName::parse("free").unwrap();
    world.service.records().delete_event_type(&name).await.unwrap();
    assert_eq!(publish(1).await.unwrap(), first);
    assert!(matches!(publish(2).await, Err(ServiceError::IdempotencyKeyReused)));
    assert_eq!(world.workers.take().len(), 1);
}

#[tokio::test]
async fn a_repeated_request_has_its_first_answer_after_its_schema_was_tightened() {
    let world = World::new().await;
    let publish = |body| {
        world.service.publish(Channel::Http, world.account, vec![new_event("free", "1")], key(body))
    };
    let first = publish(1).await.unwrap();
    let name = EventTypeName::parse("free").unwrap();
    let entry = world.service.records().event_type(&name).await.unwrap().unwrap();
    let schema = Some(r#"{"type": "object", "required": ["x"]}"#.to_owned());
    world.service.records().put_event_type(EventType { schema, ..entry }).await.unwrap();
    assert_eq!(publish(1).await.unwrap(), first);
    assert!(matches!(publish(2).await, Err(ServiceError::IdempotencyKeyReused)));
    let new = IdempotencyKey::parse(b"new").unwrap().of_request([1; 32]);
    let refused = world
        .service
        .publish(Channel::Http, world.account, vec![new_event("free", "1")], Some(new))
        .await;
    assert!(matches!(refused, Err(ServiceError::InvalidEvents(_))), "{refused:?}");
}

#[tokio::test]
async fn an_endpoint_is_disabled_and_enabled() {
    let world = World::new().await;
    let (account, id) = (world.account, world.endpoint);
    let view = world.service.disable(account, id).await.unwrap();
    assert!(matches!(view.state, State::Disabled(_)));
    let view = world.service.enable(account, id, HeldAction::Resume).await.unwrap();
    assert_eq!(view.state, State::Enabled);
    assert_eq!(world.service.endpoint(account, id).await.unwrap().state, State::Enabled);
    let told = world.workers.take();
    assert!(matches!(told[..], [Wake::Changed { .. }, Wake::Changed { .. }]), "{told:?}");
}

#[tokio::test]
async fn what_another_account_has_is_not_there_and_nobody_is_told() {
    let world = World::new().await;
    let other = world.service.ids().id(world.service.now());
    let (service, id) = (&world.service, world.endpoint);
    assert!(matches!(
        service.endpoint(other, id).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
    assert!(matches!(
        service.disable(other, id).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
    assert!(matches!(
        service.enable(other, id, HeldAction::Resume).await,
        Err(ServiceError::NotFound(Resource::Endpoint))
    ));
    let refused = service.publish(Channel::Http, other, vec![new_event("free", "1")], None).await;
    assert!(matches!(refused, Err(ServiceError::NotFound(Resource::Account))));
    let delivery = service.ids().id(service.now());
    assert!(matches!(
        service.delivery(other, delivery).await,
        Err(ServiceError::NotFound(Resource::Delivery))
    ));
    assert!(matches!(
        service.retry(other, delivery).await,
        Err(ServiceError::NotFound(Resource::Delivery))
    ));
    assert!(world.workers.take().is_empty());
}

#[tokio::test]
async fn a_delivery_is_made_again_while_its_endpoint_is_there() {
    let world = World::new().await;
    let (service, account) = (&world.service, world.account);
    service.publish(Channel::Http, account, vec![new_event("free", "1")], None).await.unwrap();
    let first = world.delivery().await;
    let again = service.retry(account, first).await.unwrap();
    assert_eq!(again.state, DeliveryState::Pending);
    assert_ne!(again.delivery.id, first);
    assert_eq!(world.workers.take().len(), 2);
    service.records().delete_endpoint(account, world.endpoint).await.unwrap();
    assert!(matches!(service.retry(account, first).await, Err(ServiceError::EndpointDeleted)));
}

#[tokio::test]
async fn a_past_event_is_sent_again_while_somebody_is_there_to_receive_it() {
    let world = World::new().await;
    let (service, account, endpoint) = (&world.service, world.account, world.endpoint);
    let receipts =
        service.publish(Channel::Http, account, vec![new_event("free", "1")], None).await;
    let event = receipts.unwrap()[0].id;
    world.workers.take();
    for audience in [ResendTarget::Endpoint(endpoint), ResendTarget::AllSubscribers] {
        assert_eq!(service.resend(account, event, audience).await.unwrap(), 1);
        assert_eq!(world.workers.take().len(), 1);
    }
    let other = service.ids().id(service.now());
    let refused = service.resend(other, event, ResendTarget::AllSubscribers).await;
    assert!(matches!(refused, Err(ServiceError::NotFound(Resource::Event))));
    let nowhere = ResendTarget::Endpoint(service.ids().id(service.now()));
    let refused = service.resend(account, event, nowhere).await;
    assert!(matches!(refused, Err(ServiceError::NotFound(Resource::Endpoint))));
    service.records().delete_endpoint(account, endpoint).await.unwrap();
    let refused = service.resend(account, event, ResendTarget::Endpoint(endpoint)).await;
    assert!(matches!(refused, Err(ServiceError::EndpointDeleted)));
    assert!(world.workers.take().is_empty());
}

#[tokio::test]
async fn a_store_that_fails_is_told_as_such() {
    let world = World::new().await;
    world.memory.set_faults(Faults { conflict: 1.0, ..Faults::default() });
    tokio::time::pause();
    let refused = world
        .service
        .publish(Channel::Http, world.account, vec![new_event("free", "1")], None)
        .await;
    assert!(matches!(refused, Err(ServiceError::Store(kv::Error::Unavailable(_)))), "{refused:?}");
}
