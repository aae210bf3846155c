//! A node's deliverers, an account, and a receiver that answers as it is told.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider_cluster::pulse::Pulse;
use postrider_cluster::route::{Notifier, Router, Workers};
use postrider_cluster::tenure::{Tenancy, Tenure};
use postrider_domain::account::{Account, Name};
use postrider_domain::endpoint::{Endpoint, Ordering, Secrets, Subscription};
use postrider_domain::event::{Event, EventType, EventTypeName, Payload};
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, BootId, EndpointId, EventId, Mint};
use postrider_domain::machine::Rules;
use postrider_domain::ownership::Fence;
use postrider_domain::retry;
use postrider_domain::signature::Secret;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::{Clock, Timestamp};
use postrider_net::tasks::Tasks;
use postrider_store::Records;
use postrider_store::kv::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::hindered::Hindered;
use crate::context::Bounds;
use crate::{Delivery, Dice, Options, Sender};

pub(crate) const SHARDS: u16 = 4;
/// Long enough for the slowest machine; a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The system's clock, which goes on as tokio's does: a test that stops that one stops this one, too.
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

/// The system's clock, which panics as often as it is told to and can be set back. The wall clock may
/// be ahead of it.
#[derive(Default)]
pub(crate) struct FragileClock {
    pub(crate) panics: AtomicUsize,
    back_ms: AtomicU64,
    pub(crate) wall_ahead_ms: AtomicU64,
}

impl FragileClock {
    /// Sets it back.
    pub(crate) fn set_back(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).expect("not for ever");
        self.back_ms.fetch_add(by, SeqCst);
    }
}

impl Clock for FragileClock {
    fn now(&self) -> Timestamp {
        let left = self.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "the clock breaks, as the test wants");
        RealClock.now().minus(Duration::from_millis(self.back_ms.load(SeqCst)))
    }

    fn wall(&self) -> Timestamp {
        RealClock.now().plus(Duration::from_millis(self.wall_ahead_ms.load(SeqCst)))
    }
}

/// Tokio's clock while it is stopped: it goes on only as far as a test lets it. Sockets and threads
/// go on as ever, so nothing depends on how busy the machine is.
pub(crate) struct StoppedTime {
    /// A blocking task that is under way keeps tokio from advancing its clock by itself.
    _blocker: std::sync::mpsc::Sender<()>,
}

impl StoppedTime {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (blocker, blocked) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || blocked.recv());
        Self { _blocker: blocker }
    }

    /// Lets time pass, in steps in which everybody does what is due.
    pub(crate) async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(50).max(time / 1_000);
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            settle().await;
            let left = until - tokio::time::Instant::now();
            tokio::time::advance(left.min(step)).await;
        }
        settle().await;
    }
}

/// Lets all tasks do what they can do now without waiting for a socket.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits for at most [`PATIENCE`] of real time, also while tokio's clock is stopped.
pub(crate) async fn patiently<T>(waiting: impl Future<Output = T>) -> T {
    let (late, is_late) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(PATIENCE);
        late.send(())
    });
    tokio::select! {
        done = waiting => done,
        _ = is_late => panic!("it does not come to that in time"),
    }
}

/// Waits until `done`, patiently.
pub(crate) async fn eventually(mut done: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !done().await {
            let pause = || std::thread::sleep(Duration::from_millis(2));
            tokio::task::spawn_blocking(pause).await.expect("it sleeps");
        }
    };
    patiently(looking).await;
}

/// Counts the nudges.
#[derive(Default)]
pub(crate) struct Nudges(pub(crate) AtomicUsize);

impl Notifier for Nudges {
    fn nudge(&self, _fence: Fence) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub(crate) struct World {
    pub(crate) engine: Hindered,
    pub(crate) store: Store,
    pub(crate) records: Records,
    pub(crate) delivery: Delivery,
    pub(crate) clock: Arc<FragileClock>,
    pub(crate) nudges: Arc<Nudges>,
    pub(crate) mint: Arc<Mint>,
    pub(crate) account: AccountId,
    /// By shard.
    pub(crate) tenancies: Vec<Tenancy>,
}

pub(crate) fn loopback() -> AddressPolicy {
    AddressPolicy::new(vec!["127.0.0.0/8".parse().expect("a network")])
}

pub(crate) fn name(text: &str) -> EventTypeName {
    EventTypeName::parse(text).expect("a name")
}

/// Three attempts within a second, each of at most 300 ms.
pub(crate) fn hasty() -> retry::Policy {
    retry::Policy::new(2, Duration::from_secs(1), 2.0, 0.1, Duration::from_millis(300))
        .expect("fits")
}

/// Three attempts, each of at most half an hour: for tests that stop the time.
pub(crate) fn patient() -> retry::Policy {
    let (window, timeout) = (Duration::from_secs(24 * 3600), Duration::from_secs(1800));
    retry::Policy::new(2, window, 2.0, 0.1, timeout).expect("fits")
}

/// A payload that is not kept with a waiting delivery: it is read when it is sent.
pub(crate) fn large() -> String {
    format!("\"{}\"", "x".repeat(20_000))
}

impl World {
    pub(crate) async fn new(retry: retry::Policy) -> Self {
        Self::with(retry, SHARDS).await
    }

    /// A world with so many shards.
    pub(crate) async fn with(retry: retry::Policy, shards: u16) -> Self {
        Self::within(Bounds::default(), retry, shards).await
    }

    /// The same with other bounds.
    pub(crate) async fn within(bounds: Bounds, retry: retry::Policy, shards: u16) -> Self {
        let engine = Hindered::default();
        let store = Store::new(Arc::new(engine.clone()), 1);
        let records = Records::open(store.clone(), shards).await.expect("opened");
        let mint = Arc::new(Mint::new());
        let now = RealClock.now();
        let account = Account {
            id: mint.id(now),
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
        let nudges = Arc::new(Nudges::default());
        let clock = Arc::new(FragileClock::default());
        let router = Router::unattached(records.clone());
        let options = Options {
            records: records.clone(),
            router: router.clone(),
            sender: Sender::new(loopback(), retry.timeout()).expect("a sender"),
            rules: Rules { retry, ..Rules::default() },
            notifier: nudges.clone(),
            clock: clock.clone(),
            mint: mint.clone(),
            dice: Dice::new(1),
            tasks: Tasks::new(),
        };
        let delivery = Delivery::start_within(bounds, options).await.expect("started");
        router.attach(Arc::new(delivery.clone()));
        let account = account.id;
        let tenancies = Vec::new();
        let mut world =
            Self { engine, store, records, delivery, clock, nudges, mint, account, tenancies };
        world.own_all().await;
        world
    }

    /// Claims every shard and works on it.
    pub(crate) async fn own_all(&mut self) {
        let shards: Vec<_> = (0..self.records.shards()).collect();
        for fence in self.records.claim(&shards, BootId::MIN).await.expect("claimed") {
            let (tenure, tenancy) = Tenure::begin(fence, Pulse::steady());
            self.delivery.own(tenure).await.expect("started");
            self.tenancies.push(tenancy);
        }
    }

    /// Ends every tenure and waits until nothing is under way.
    pub(crate) async fn disown_all(&mut self) {
        for mut tenancy in self.tenancies.drain(..) {
            tenancy.end();
            let released = tokio::time::timeout(PATIENCE, tenancy.released());
            released.await.expect("released in time");
        }
    }

    pub(crate) fn build_endpoint(&self, url: &str, ordering: Ordering) -> Endpoint {
        let now = RealClock.now();
        Endpoint {
            id: self.mint.id(now),
            account: self.account,
            name: Name::parse("Hook").expect("a name"),
            url: TargetUrl::parse(url, &loopback()).expect("a URL"),
            event_types: Subscription::Only([name("a")].into()),
            headers: CustomHeaders::default(),
            ordering,
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
            id: self.mint.id(now),
            account: self.account,
            event_type: name("a"),
            created_at: now,
            payload: Payload::from_stored(payload.to_owned().into()),
        }
    }

    /// Accepts an event without telling anybody of it.
    pub(crate) async fn accept_silently(
        &self,
        payload: &str,
    ) -> (EventId, Vec<postrider_store::Wake>) {
        let now = RealClock.now();
        let event = self.build_event(payload);
        let id = event.id;
        let accepted = self.records.accept(self.account, vec![event], None, &self.mint, now).await;
        (id, accepted.expect("accepted").wakes)
    }

    /// Accepts an event and tells of it.
    pub(crate) async fn accept_and_wake(&self, event: Event) {
        let now = RealClock.now();
        let accepted = self.records.accept(self.account, vec![event], None, &self.mint, now).await;
        assert!(self.delivery.wake(accepted.expect("accepted").wakes).is_empty());
    }

    pub(crate) async fn publish(&self, payload: &str) -> EventId {
        let (id, wakes) = self.accept_silently(payload).await;
        assert!(self.delivery.wake(wakes).is_empty());
        id
    }

    /// Waits until `done` holds of an endpoint's records.
    pub(crate) async fn until(
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

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// These bytes.
    Bytes(&'static str),
    /// Nothing, and the connection stays open.
    Hang,
    /// Nothing, and the connection ends.
    Close,
}

pub(crate) const OK: Answer = Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
pub(crate) const OK_AND_CLOSE: Answer =
    Answer::Bytes("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
pub(crate) const BROKEN: Answer = Answer::Bytes("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");

/// A receiver that shows the very bytes of each request.
pub(crate) struct Receiver {
    pub(crate) url: String,
    requests: mpsc::UnboundedReceiver<(String, String)>,
}

impl Receiver {
    /// Answers the nth request, from 0, as `answer` says.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?x=1", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::unbounded_channel();
        let (answer, count) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, sender.clone(), answer.clone(), count.clone()));
            }
        });
        Self { url, requests }
    }

    /// The head and the body of the next request.
    pub(crate) async fn next(&mut self) -> (String, String) {
        patiently(self.requests.recv()).await.expect("the receiver runs")
    }

    /// The requests that have come and were not asked for yet.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.len()
    }
}

async fn converse(
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
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let all = end + length.parse::<usize>().ok()?;
    if buffer.len() < all {
        return None;
    }
    let body = String::from_utf8_lossy(&buffer[end..all]).into_owned();
    buffer.drain(..all);
    Some((head, body))
}
