//! A delivery engine with an account, and a scripted webhook receiver.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider_cluster::lease_validity::LeaseValidity;
use postrider_cluster::route::{LocalShards, Notifier, Router};
use postrider_cluster::shard_guard::{ShardGrant, ShardGuard};
use postrider_domain::account::{Account, Name};
use postrider_domain::assignment::Fence;
use postrider_domain::endpoint::{Endpoint, Ordering, Secrets, Subscription};
use postrider_domain::event::{Event, EventType, EventTypeName, Payload};
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, BootId, EndpointId, EventId, IdGenerator};
use postrider_domain::retry;
use postrider_domain::signature::Secret;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::{Clock, Timestamp};
use postrider_domain::transition::Rules;
use postrider_net::tasks::Tasks;
use postrider_store::Records;
use postrider_store::kv::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::faulty_engine::FaultyEngine;
use crate::shard::Bounds;
use crate::{ConnectionLimits, DeliveryEngine, Options, OwnedShards, Sender, SharedRng};

pub(crate) const SHARDS: u16 = 4;
/// Long enough for the slowest machine; a test that reaches it fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The system clock, advancing with tokio's clock: a test that pauses it pauses this clock too.
pub(crate) struct RealClock;

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "tests against real sockets run in real time")]
    fn now(&self) -> Timestamp {
        static START: OnceLock<(SystemTime, Instant)> = OnceLock::new();
        let (wall, at) = START.get_or_init(|| (SystemTime::now(), Instant::now()));
        let since = wall.duration_since(UNIX_EPOCH).expect("after 1970");
        Timestamp::EPOCH.plus(since + tokio::time::Instant::now().into_std().duration_since(*at))
    }
}

/// The system clock, which a test can set back, set forward or make panic, and whose wall clock it
/// can set ahead.
#[derive(Default)]
pub(crate) struct TestClock {
    pub(crate) panics: AtomicUsize,
    back_ms: AtomicU64,
    forward_ms: AtomicU64,
    pub(crate) wall_ahead_ms: AtomicU64,
}

impl TestClock {
    pub(crate) fn set_back(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).expect("fits");
        self.back_ms.fetch_add(by, SeqCst);
    }

    pub(crate) fn set_forward(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).expect("fits");
        self.forward_ms.fetch_add(by, SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let left = self.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "a panic injected by the test");
        let forward = Duration::from_millis(self.forward_ms.load(SeqCst));
        RealClock.now().plus(forward).minus(Duration::from_millis(self.back_ms.load(SeqCst)))
    }

    fn wall(&self) -> Timestamp {
        RealClock.now().plus(Duration::from_millis(self.wall_ahead_ms.load(SeqCst)))
    }
}

/// Pauses tokio's clock; it advances only as far as a test tells it to. Sockets and threads keep
/// running, so nothing depends on how busy the machine is.
pub(crate) struct PausedTime {
    /// A running blocking task keeps tokio from advancing its clock automatically.
    _blocker: std::sync::mpsc::Sender<()>,
}

impl PausedTime {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (blocker, blocked) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || blocked.recv());
        Self { _blocker: blocker }
    }

    /// Advances time in steps, running due tasks after each.
    pub(crate) async fn advance(&self, time: Duration) {
        let step = Duration::from_millis(50).max(time / 1_000);
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            run_ready_tasks().await;
            let left = until - tokio::time::Instant::now();
            tokio::time::advance(left.min(step)).await;
        }
        run_ready_tasks().await;
    }
}

/// Runs all tasks as far as they get without waiting for a socket.
pub(crate) async fn run_ready_tasks() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits for at most [`TIMEOUT`] of real time, even while tokio's clock is paused.
pub(crate) async fn with_timeout<T>(waiting: impl Future<Output = T>) -> T {
    let (late, is_late) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(TIMEOUT);
        late.send(())
    });
    tokio::select! {
        done = waiting => done,
        _ = is_late => panic!("timed out"),
    }
}

/// Polls until `done` returns true.
pub(crate) async fn eventually(mut done: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !done().await {
            let pause = || std::thread::sleep(Duration::from_millis(2));
            tokio::task::spawn_blocking(pause).await.expect("it sleeps");
        }
    };
    with_timeout(polling).await;
}

/// Counts calls of the notifier.
#[derive(Default)]
pub(crate) struct NotifierCalls(pub(crate) AtomicUsize);

impl Notifier for NotifierCalls {
    fn wake(&self, _fence: Fence) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub(crate) struct Fixture {
    pub(crate) engine: FaultyEngine,
    pub(crate) store: Store,
    pub(crate) records: Records,
    pub(crate) owned_shards: OwnedShards,
    pub(crate) delivery: DeliveryEngine,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) notifier_calls: Arc<NotifierCalls>,
    pub(crate) id_generator: Arc<IdGenerator>,
    pub(crate) account: AccountId,
    /// By shard.
    pub(crate) grants: Vec<ShardGrant>,
}

pub(crate) fn loopback() -> AddressPolicy {
    AddressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")])
}

pub(crate) fn name(text: &str) -> EventTypeName {
    EventTypeName::parse(text).expect("a name")
}

/// Three attempts within a second, each with a timeout of 300 ms.
pub(crate) fn fast_retries() -> retry::Policy {
    retry::Policy::new(2, Duration::from_secs(1), 2.0, 0.1, Duration::from_millis(300))
        .expect("fits")
}

/// Three attempts, each with a timeout of half an hour, for tests that pause time.
pub(crate) fn slow_retries() -> retry::Policy {
    let (window, timeout) = (Duration::from_secs(24 * 3600), Duration::from_secs(1800));
    retry::Policy::new(2, window, 2.0, 0.1, timeout).expect("fits")
}

/// A payload too large to be cached with a queued delivery; it is read when it is sent.
pub(crate) fn large_payload() -> String {
    format!("\"{}\"", "x".repeat(20_000))
}

impl Fixture {
    pub(crate) async fn new(retry: retry::Policy) -> Self {
        Self::with(retry, SHARDS).await
    }

    pub(crate) async fn with(retry: retry::Policy, shards: u16) -> Self {
        Self::within(Bounds::default(), retry, shards).await
    }

    pub(crate) async fn within(bounds: Bounds, retry: retry::Policy, shards: u16) -> Self {
        let sender = build_sender(retry.timeout());
        Self::with_sender(sender, bounds, retry, shards).await
    }

    pub(crate) async fn with_sender(
        sender: Sender,
        bounds: Bounds,
        retry: retry::Policy,
        shards: u16,
    ) -> Self {
        let engine = FaultyEngine::default();
        let store = Store::new(Arc::new(engine.clone()), 1);
        let records = Records::open(store.clone(), shards).await.expect("opened");
        let id_generator = Arc::new(IdGenerator::new(1));
        let now = RealClock.now();
        let account = Account {
            id: id_generator.id(now),
            name: Name::parse("Acme").expect("a name"),
            contact_emails: vec![],
            created_at: now,
            updated_at: now,
        };
        records.create_account(&account).await.expect("created");
        for text in ["a", "b"] {
            let event_type = EventType {
                name: name(text),
                description: String::new(),
                example: "{}".to_owned(),
                schema: None,
                created_at: now,
                updated_at: now,
            };
            records.put_event_type(event_type).await.expect("put");
        }
        let notifier_calls = Arc::new(NotifierCalls::default());
        let clock = Arc::new(TestClock::default());
        let owned_shards = OwnedShards::new(records.clone());
        let router = Router::new(records.shards(), Arc::new(owned_shards.clone()), None);
        let options = Options {
            records: records.clone(),
            owned_shards: owned_shards.clone(),
            router,
            sender,
            rules: Rules { retry, ..Rules::default() },
            notifier: notifier_calls.clone(),
            clock: clock.clone(),
            id_generator: id_generator.clone(),
            rng: SharedRng::new(1),
            tasks: Tasks::new(),
        };
        let delivery = DeliveryEngine::start_within(bounds, options).await.expect("started");
        let account = account.id;
        let grants = Vec::new();
        let mut fixture = Self {
            engine,
            store,
            records,
            owned_shards,
            delivery,
            clock,
            notifier_calls,
            id_generator,
            account,
            grants,
        };
        fixture.own_all().await;
        fixture
    }

    /// Claims and starts every shard.
    pub(crate) async fn own_all(&mut self) {
        let shards: Vec<_> = (0..self.records.shards()).collect();
        for fence in self.records.claim(&shards, BootId::MIN).await.expect("claimed") {
            let (guard, grant) = ShardGuard::begin(fence, LeaseValidity::always());
            self.delivery.own(guard).await.expect("started");
            self.grants.push(grant);
        }
    }

    /// Revokes every guard and waits until nothing is in flight.
    pub(crate) async fn revoke_all(&mut self) {
        for mut grant in self.grants.drain(..) {
            grant.revoke();
            let released = tokio::time::timeout(TIMEOUT, grant.released());
            released.await.expect("released in time");
        }
    }

    pub(crate) fn build_endpoint(&self, url: &str, ordering: Ordering) -> Endpoint {
        let now = RealClock.now();
        Endpoint {
            id: self.id_generator.id(now),
            account: self.account,
            name: Name::parse("Hook").expect("a name"),
            url: TargetUrl::parse(url, &loopback()).expect("a URL"),
            event_types: Subscription::Only([name("a")].into()),
            headers: CustomHeaders::default(),
            ordering,
            rate_limit: None,
            disable_when: None,
            secrets: Secrets::new(Secret::from_bytes([1; 32])),
            created_at: now,
            updated_at: now,
        }
    }

    pub(crate) async fn endpoint(&self, url: &str, ordering: Ordering) -> EndpointId {
        let endpoint = self.build_endpoint(url, ordering);
        assert!(self.records.create_endpoint(&endpoint).await.expect("created"));
        endpoint.id
    }

    pub(crate) fn build_event(&self, payload: &str) -> Event {
        let now = RealClock.now();
        Event {
            id: self.id_generator.id(now),
            account: self.account,
            event_type: name("a"),
            created_at: now,
            payload: Payload::from_stored(payload.to_owned().into()),
        }
    }

    /// Accepts an event without waking its shard.
    pub(crate) async fn accept_without_wake(
        &self,
        payload: &str,
    ) -> (EventId, Vec<postrider_store::Wake>) {
        let now = RealClock.now();
        let event = self.build_event(payload);
        let id = event.id;
        let accepted =
            self.records.accept(self.account, vec![event], None, &self.id_generator, now).await;
        (id, accepted.expect("accepted").wakes)
    }

    /// Accepts an event and wakes its shard.
    pub(crate) async fn accept_and_wake(&self, event: Event) {
        let now = RealClock.now();
        let accepted =
            self.records.accept(self.account, vec![event], None, &self.id_generator, now).await;
        assert!(self.owned_shards.wake(accepted.expect("accepted").wakes).is_empty());
    }

    pub(crate) async fn publish(&self, payload: &str) -> EventId {
        let (id, wakes) = self.accept_without_wake(payload).await;
        assert!(self.owned_shards.wake(wakes).is_empty());
        id
    }

    /// Waits until the endpoint's record satisfies `done`.
    pub(crate) async fn wait_for_endpoint(
        &self,
        endpoint: EndpointId,
        done: impl Fn(&postrider_store::EndpointView) -> bool,
    ) {
        eventually(async || {
            let view = self.records.endpoint(self.account, endpoint).await.expect("read");
            done(&view.expect("there"))
        })
        .await;
    }
}

/// A sender that may connect to this machine.
pub(super) fn build_sender(timeout: Duration) -> Sender {
    Sender::new(loopback(), timeout, ConnectionLimits::default()).expect("a sender")
}

/// How a receiver answers a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Sends these bytes.
    Bytes(&'static str),
    /// Sends nothing and keeps the connection open.
    Hang,
    /// Sends nothing and closes the connection.
    Close,
}

pub(crate) const OK: Answer = Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
pub(crate) const OK_AND_CLOSE: Answer =
    Answer::Bytes("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
pub(crate) const BROKEN: Answer = Answer::Bytes("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");

/// A receiver that captures the exact bytes of each request.
pub(crate) struct Receiver {
    pub(crate) url: String,
    requests: mpsc::UnboundedReceiver<(String, String)>,
}

impl Receiver {
    /// Answers the nth request, counting from 0, with `answer(n)`.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?x=1", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::unbounded_channel();
        let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_connection(
                    stream,
                    sender.clone(),
                    answer.clone(),
                    count.clone(),
                ));
            }
        });
        Self { url, requests }
    }

    /// The head and the body of the next request.
    pub(crate) async fn next(&mut self) -> (String, String) {
        with_timeout(self.requests.recv()).await.expect("the receiver is running")
    }

    /// Number of received requests that have not been taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.len()
    }
}

async fn serve_connection(
    mut stream: TcpStream,
    requests: mpsc::UnboundedSender<(String, String)>,
    answer: Arc<impl Fn(usize) -> Answer>,
    count: Arc<AtomicUsize>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some((head, body)) = take_request(&mut buffer) else {
            match stream.read_buf(&mut buffer).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        let _ = requests.send((head, body));
        match answer(count.fetch_add(1, SeqCst)) {
            Answer::Bytes(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
            Answer::Hang => std::future::pending().await,
            Answer::Close => return,
        }
    }
}

fn take_request(buffer: &mut Vec<u8>) -> Option<(String, String)> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let all = end + length.parse::<usize>().ok()?;
    if buffer.len() < all {
        return None;
    }
    let body = String::from_utf8_lossy(&buffer[end..all]).into_owned();
    buffer.drain(..all);
    Some((head, body))
}
