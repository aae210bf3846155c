//! The API over an in-memory store, with shards that only record their wakes and a clock that
//! advances only on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use postrider_cluster::route::{self, LocalShards};
use postrider_cluster::view::{NodeView, View};
use postrider_domain::attempt::{Exchange, Phases, RequestHead, Response, TestReport};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, BootId, DeliveryId, EndpointId, Id, IdGenerator};
use postrider_domain::node::NodeState;
use postrider_domain::outcome::{Outcome, of_status};
use postrider_domain::own_outage::Outage;
use postrider_domain::retry;
use postrider_domain::target::AddressPolicy;
use postrider_domain::time::{Clock, Timestamp};
use postrider_domain::transition::{AttemptResult, Rules};
use postrider_service::{Service, TestSender};
use postrider_store::kv::Store;
use postrider_store::kv::memory::Memory;
use postrider_store::{
    Applied, DeliveryView, EndpointWork, FencedAttempt, Owner, Records, Wake, Workload,
};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Api, Dashboard, OperatorKey, Probe, app};

/// The operator's key.
pub(crate) const OPERATOR: &str = "the operator's key";

pub(crate) struct TestApp {
    pub router: Router,
    pub service: Service,
    pub store: Store,
    pub records: Records,
    pub shards: Arc<RecordingShards>,
    pub clock: Arc<TestClock>,
    /// The outages that the node reports.
    pub outages: Arc<Mutex<Vec<Outage>>>,
}

/// An account and one of its API keys.
pub(crate) struct Account {
    pub id: AccountId,
    pub key: String,
}

pub(crate) struct TestResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl TestResponse {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    /// Asserts the status and returns the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status.as_u16(), status, "{text}");
        if text.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts a problem with this status and returns its errors' pointers.
    #[track_caller]
    pub(crate) fn pointers(self, status: u16) -> Vec<String> {
        self.assert_problem(status);
        let errors = self.json()["errors"].as_array().unwrap().clone();
        let pointer = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
        errors.iter().map(pointer).collect()
    }

    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16) {
        let problem = self.json();
        assert_eq!(self.status.as_u16(), status, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].is_string(), "{problem}");
        }
        assert!(problem["errors"].is_array(), "{problem}");
    }
}

/// Four shards and two nodes, one of them dead.
pub(crate) fn view() -> Arc<View> {
    let node = |byte, state| NodeView {
        node: BootId::from_bytes([byte; 16]),
        name: format!("node-{byte}"),
        version: "1.2.3".to_owned(),
        state,
        address: None,
    };
    let owner = |byte, epoch| Some(Owner { epoch, node: BootId::from_bytes([byte; 16]) });
    Arc::new(View {
        nodes: vec![node(1, NodeState::Alive), node(2, NodeState::Dead)],
        owners: vec![owner(1, 7), owner(1, 1), owner(2, 3), None],
    })
}

/// Ten retries within 24 hours.
fn retry() -> retry::Policy {
    retry::Policy::new(10, Duration::from_secs(24 * 3600), 2.5, 0.2, Duration::from_secs(5))
        .unwrap()
}

/// The number of shards of a [`TestApp`].
pub(crate) const SHARDS: u16 = 4;

impl TestApp {
    pub(crate) async fn new() -> Self {
        Self::with_store(Memory::new()).await
    }

    pub(crate) async fn with_store(memory: Memory) -> Self {
        Self::with_dashboard(memory, Dashboard::default()).await
    }

    /// An app whose dashboard is configured like this.
    pub(crate) async fn with_dashboard(memory: Memory, dashboard: Dashboard) -> Self {
        let store = Store::new(Arc::new(memory), 1);
        let records = Records::open(store.clone(), SHARDS).await.unwrap();
        let shards = Arc::new(RecordingShards::default());
        let clock = Arc::new(TestClock(AtomicU64::new(1_800_000_000_000), AtomicU64::new(0)));
        let service = Service::new(
            records.clone(),
            route::Router::new(records.shards(), shards.clone(), None),
            Arc::new(FakeTestSender),
            Arc::new(IdGenerator::new(1)),
            clock.clone(),
        );
        let outages: Arc<Mutex<Vec<Outage>>> = Arc::default();
        let router = app(Api {
            service: service.clone(),
            records: records.clone(),
            view: tokio::sync::watch::channel(view()).1,
            operator_key: OperatorKey::new(OPERATOR),
            targets: AddressPolicy::default(),
            retry: retry(),
            dashboard,
            probe: Arc::new(AlwaysReady(outages.clone())),
        });
        Self { router, service, store, records, shards, clock, outages }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> TestResponse {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        TestResponse { status: head.status, headers: head.headers, bytes }
    }

    /// Sends a request with a key and a body; `Null` means no body.
    pub(crate) async fn call(&self, key: &str, call: &str, body: Value) -> TestResponse {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(request(Some(key), call, text)).await
    }

    /// Sends a request with the account's key to a path below the account.
    pub(crate) async fn as_account(
        &self,
        account: &Account,
        call: &str,
        body: Value,
    ) -> TestResponse {
        let (method, path) = call.split_once(' ').unwrap();
        let call = format!("{method} /v1/accounts/{}{path}", account.id);
        self.call(&account.key, &call, body).await
    }

    pub(crate) async fn as_operator(&self, call: &str, body: Value) -> TestResponse {
        self.call(OPERATOR, call, body).await
    }

    pub(crate) async fn account(&self) -> Account {
        let body = json!({"name": "Example", "contact_emails": ["ops@example.com"]});
        let created = self.as_operator("POST /v1/accounts", body).await.expect(201);
        let id = created["id"].as_str().unwrap();
        let call = format!("POST /v1/accounts/{id}/api-keys");
        let key = self.as_operator(&call, json!({"name": "test"})).await.expect(201);
        Account { id: id.parse().unwrap(), key: key["key"].as_str().unwrap().to_owned() }
    }

    pub(crate) async fn event_type(&self, name: &str) {
        let body = json!({"description": "", "example": {"of": name}});
        self.as_operator(&format!("PUT /v1/event-types/{name}"), body).await.expect(200);
    }

    /// Records an attempt of the endpoint's next delivery, with this status and duration.
    pub(crate) async fn attempt_next(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        status: u16,
        duration_ms: u32,
    ) {
        self.records.claim(&[self.records.shard_of(endpoint)], BootId::MIN).await.unwrap();
        let work = self.records.workload(account, endpoint, 1).await.unwrap();
        let EndpointWork::Send(workload) = work else { panic!("{work:?}") };
        let Workload { retries, firsts, .. } = *workload;
        let delivery = retries.deliveries.first().or(firsts.deliveries.first()).unwrap();
        let (id, outcome) = (delivery.id, of_status(status, None, None));
        self.record_attempt(account, id, None, outcome, duration_ms).await;
    }

    /// Records an attempt of a delivery that starts now, with this result and duration.
    pub(crate) async fn record_attempt(
        &self,
        account: AccountId,
        id: DeliveryId,
        response: Option<Response>,
        outcome: Outcome,
        duration_ms: u32,
    ) {
        let (DeliveryView { delivery, .. }, _) =
            self.records.delivery(account, id).await.unwrap().unwrap();
        let endpoint = delivery.endpoint;
        let fences = self.records.claim(&[self.records.shard_of(endpoint)], BootId::MIN).await;
        let now = self.clock.now();
        let result = AttemptResult {
            id: IdGenerator::new(2).id(now),
            number: delivery.attempt_count + 1,
            at: now,
            exchange: Exchange {
                request: RequestHead {
                    url: "https://example.com/hooks".to_owned(),
                    headers: vec![("webhook-id".to_owned(), "evt_1".to_owned())],
                },
                response,
                outcome,
                duration: Duration::from_millis(duration_ms.into()),
            },
            jitter: 0.5,
            disable_when: None,
        };
        let fence = fences.unwrap()[0];
        let attempt = FencedAttempt { fence, account, endpoint, delivery: id, result };
        let applied = self.records.apply(&[attempt], &Rules::default()).await.unwrap();
        assert!(matches!(applied[..], [Applied::Recorded(_)]), "{applied:?}");
    }

    /// Creates an endpoint subscribed to every type and returns its id.
    pub(crate) async fn endpoint(&self, account: &Account) -> String {
        let body = json!({"name": "e", "url": "https://example.com/", "event_types": ["*"]});
        let created = self.as_account(account, "POST /endpoints", body).await.expect(201);
        created["id"].as_str().unwrap().to_owned()
    }
}

/// A request; `call` is a method and a path.
pub(crate) fn request(key: Option<&str>, call: &str, body: impl Into<Body>) -> Request<Body> {
    let (method, path) = call.split_once(' ').unwrap();
    let mut request = Request::new(body.into());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    if let Some(key) = key {
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    request
}

/// Shards that only record their wakes.
#[derive(Default)]
pub(crate) struct RecordingShards {
    wakes: Mutex<Vec<Wake>>,
}

impl RecordingShards {
    pub(crate) fn take(&self) -> Vec<Wake> {
        std::mem::take(&mut self.wakes.lock())
    }
}

impl LocalShards for RecordingShards {
    fn wake(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.wakes.lock().extend(wakes);
        Vec::new()
    }

    fn wake_from_peer(&self, wakes: Vec<Wake>) -> Vec<Wake> {
        self.wake(wakes)
    }

    fn scan_now(&self) {}
}

/// Sends nothing, and reports a success.
struct FakeTestSender;

#[async_trait]
impl TestSender for FakeTestSender {
    async fn send_test(&self, endpoint: &Endpoint, event: &Event) -> TestReport {
        assert_ne!(event.event_type.as_str(), "test.panic", "the test asked for a panic");
        let headers = vec![("webhook-id".to_owned(), event.id.to_string())];
        TestReport {
            exchange: Exchange {
                request: RequestHead { url: endpoint.url.as_str().to_owned(), headers },
                response: Some(Response {
                    status: 204,
                    headers: Vec::new(),
                    body: b"ok \xff".as_slice().into(),
                }),
                outcome: of_status(204, None, None),
                duration: Duration::from_millis(7),
            },
            phases: Phases {
                connect: Some(Duration::from_nanos(1_234_567)),
                wait: Some(Duration::from_micros(5_001)),
                read: Some(Duration::ZERO),
                ..Phases::default()
            },
        }
    }
}

/// A monotonic clock that may lag behind the wall clock: the first field is its time in
/// milliseconds, the second is the lag.
pub(crate) struct TestClock(AtomicU64, AtomicU64);

impl TestClock {
    /// Steps the wall clock forward, but not the monotonic clock.
    pub(crate) fn step_wall(&self, by: Duration) {
        self.1.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        self.now().plus(Duration::from_millis(self.1.load(Ordering::Relaxed)))
    }
}

struct AlwaysReady(Arc<Mutex<Vec<Outage>>>);

#[async_trait]
impl Probe for AlwaysReady {
    fn metrics(&self) -> String {
        "postrider_up 1\n".to_owned()
    }

    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn outages(&self) -> Vec<Outage> {
        self.0.lock().clone()
    }
}
