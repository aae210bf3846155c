//! Outages of this node: its name servers, its network, and its clock.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use postrider_cluster::route::LocalShards;
use postrider_domain::account::{Account, Name};
use postrider_domain::endpoint::{Endpoint, Ordering};
use postrider_domain::event::Event;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::own_outage::{Cause, MIN_UNRELATED};
use postrider_domain::target::TargetUrl;
use postrider_domain::time::Clock;
use postrider_store::{DeliveryFilter, DeliveryView, PageRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::fixture::{
    Answer, Fixture, OK, RealClock, Receiver, SHARDS, eventually, fast_retries, loopback,
};
use super::name_server::NameServer;
use crate::ConnectionLimits;
use crate::resolver::GuardedResolver;
use crate::sender::{self, Sender};
use crate::shard::Bounds;

/// An endpoint, and whose it is.
type Place = (AccountId, EndpointId);

impl Fixture {
    /// A fixture whose names are resolved by `server`.
    async fn with_names(server: &NameServer) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = fast_retries();
        let resolver = GuardedResolver::of_files(server.files(), loopback());
        let tls = sender::tls().expect("certificates");
        let sender = Sender::with_resolver(
            resolver,
            loopback(),
            retry.timeout(),
            ConnectionLimits::default(),
            tls,
        );
        Self::with_sender(sender.expect("a sender"), Bounds::default(), retry, SHARDS).await
    }

    /// An endpoint of an account of its own.
    async fn endpoint_of_new_account(&self, url: &str) -> Place {
        let now = RealClock.now();
        let account = Account {
            id: self.id_generator.id(now),
            name: Name::parse("Other").expect("a name"),
            contact_emails: vec![],
            created_at: now,
            updated_at: now,
        };
        self.records.create_account(&account).await.expect("created");
        (account.id, self.endpoint_of(account.id, url).await)
    }

    async fn endpoint_of(&self, account: AccountId, url: &str) -> EndpointId {
        let url = TargetUrl::parse(url, &loopback()).expect("a URL");
        let endpoint = Endpoint {
            account,
            url,
            ..self.build_endpoint("http://127.0.0.1/", Ordering::Parallel)
        };
        assert!(self.records.create_endpoint(&endpoint).await.expect("created"));
        endpoint.id
    }

    async fn publish_to(&self, (account, _): Place) {
        let event = Event { account, ..self.build_event("1") };
        let (ids, now) = (&self.id_generator, RealClock.now());
        let accepted = self.records.accept(account, vec![event], None, ids, now).await;
        assert!(self.owned_shards.wake(accepted.expect("accepted").wakes).is_empty());
    }

    async fn deliveries_of(&self, (account, endpoint): Place) -> Vec<DeliveryView> {
        let (filter, page) = (DeliveryFilter::default(), PageRequest { limit: 100, after: None });
        self.records.deliveries(account, endpoint, filter, page).await.expect("read").items
    }

    async fn failures_of(&self, (account, endpoint): Place) -> u32 {
        let view = self.records.endpoint(account, endpoint).await.expect("read");
        view.expect("there").health.failure_count
    }

    fn has_outage(&self, cause: Cause) -> bool {
        self.delivery.outages().iter().any(|outage| outage.cause == cause)
    }

    /// Waits until every delivery of these endpoints has succeeded, with its first attempt.
    async fn wait_for_first_attempts(&self, places: &[Place]) {
        for place in places {
            eventually(async || {
                self.deliveries_of(*place).await.iter().all(|view| view.delivery.due().is_none())
            })
            .await;
            for view in self.deliveries_of(*place).await {
                assert_eq!(view.delivery.attempt_count, 1, "the outage changed no count");
            }
            assert_eq!(self.failures_of(*place).await, 0);
        }
    }
}

/// A name server that answers while `working`, except for names of `dead.test`.
async fn name_server(working: &Arc<AtomicBool>) -> NameServer {
    let working = working.clone();
    NameServer::start(1, move |name, _| {
        let answers = working.load(SeqCst) && !name.ends_with("dead.test.");
        answers.then(|| vec![IpAddr::from(Ipv4Addr::LOCALHOST)])
    })
    .await
}

fn url_at(host: &str, receiver: &Receiver) -> String {
    receiver.url.replace("127.0.0.1", host)
}

#[tokio::test]
async fn an_outage_of_the_name_servers_changes_nothing() {
    let working = Arc::new(AtomicBool::new(false));
    let server = name_server(&working).await;
    let fixture = Fixture::with_names(&server).await;
    let receiver = Receiver::start(|_| OK).await;
    let mut places = Vec::new();
    for number in 0..MIN_UNRELATED {
        let url = url_at(&format!("host{number}.test"), &receiver);
        places.push(fixture.endpoint_of_new_account(&url).await);
    }
    for place in &places {
        fixture.publish_to(*place).await;
    }
    eventually(async || fixture.has_outage(Cause::Dns)).await;
    // An endpoint that needs no name server is not affected.
    let address = fixture.endpoint_of_new_account(&receiver.url).await;
    fixture.publish_to(address).await;
    fixture.wait_for_first_attempts(&[address]).await;
    assert_eq!(receiver.waiting(), 1);
    assert!(fixture.has_outage(Cause::Dns));

    working.store(true, SeqCst);
    fixture.wait_for_first_attempts(&places).await;
    assert!(!fixture.has_outage(Cause::Dns));
}

#[tokio::test]
async fn names_that_are_dead_while_others_work_are_their_endpoints_failures() {
    let working = Arc::new(AtomicBool::new(true));
    let server = name_server(&working).await;
    let fixture = Fixture::with_names(&server).await;
    let receiver = Receiver::start(|_| OK).await;
    let healthy = fixture.endpoint_of_new_account(&url_at("healthy.test", &receiver)).await;
    fixture.publish_to(healthy).await;
    fixture.wait_for_first_attempts(&[healthy]).await;
    // More accounts and sites than an outage needs.
    let mut dead = Vec::new();
    for number in 0..2 * MIN_UNRELATED {
        let url = url_at(&format!("host{number}.dead.test"), &receiver);
        dead.push(fixture.endpoint_of_new_account(&url).await);
    }
    for place in &dead {
        fixture.publish_to(*place).await;
    }
    for place in &dead {
        eventually(async || fixture.failures_of(*place).await > 0).await;
    }
    assert!(fixture.delivery.outages().is_empty());
    fixture.publish_to(healthy).await;
    fixture.wait_for_first_attempts(&[healthy]).await;
}

/// A listener that accepts no connection until it is told to: its queue is full.
struct Unreachable {
    listener: TcpListener,
    _queued: TcpStream,
}

impl Unreachable {
    async fn new(ip: [u8; 4]) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((IpAddr::from(ip), 0).into()).expect("a port");
        let listener = socket.listen(0).expect("listens");
        let queued = TcpStream::connect(listener.local_addr().expect("an address")).await;
        Self { listener, _queued: queued.expect("connected") }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().expect("an address"))
    }

    /// Accepts connections and responds to every request with 200.
    fn serve(self) {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = self.listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4_096];
                    while let Ok(1..) = stream.read(&mut buffer).await {
                        let Answer::Bytes(answer) = OK else { unreachable!() };
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
    }
}

#[tokio::test]
async fn an_outage_of_the_network_changes_nothing() {
    let fixture = Fixture::new(fast_retries()).await;
    let (mut places, mut hosts) = (Vec::new(), Vec::new());
    for number in 0..u8::try_from(MIN_UNRELATED).expect("few") {
        let host = Unreachable::new([127, 0, 0, 11 + number]).await;
        places.push(fixture.endpoint_of_new_account(&host.url()).await);
        hosts.push(host);
    }
    for place in &places {
        fixture.publish_to(*place).await;
    }
    eventually(async || fixture.has_outage(Cause::Network)).await;
    assert!(fixture.delivery.has_been_cut_off_for(Duration::ZERO));
    hosts.into_iter().for_each(Unreachable::serve);
    fixture.wait_for_first_attempts(&places).await;
    assert!(fixture.delivery.outages().is_empty());
    assert!(!fixture.delivery.has_been_cut_off_for(Duration::ZERO));
}

#[tokio::test]
async fn one_host_that_does_not_answer_is_its_endpoints_failure() {
    let fixture = Fixture::new(fast_retries()).await;
    let host = Unreachable::new([127, 0, 0, 20]).await;
    // Of one account, and of several.
    let account = fixture.account;
    let mut places = vec![(account, fixture.endpoint_of(account, &host.url()).await)];
    for _ in 0..MIN_UNRELATED {
        places.push(fixture.endpoint_of_new_account(&host.url()).await);
    }
    for place in &places {
        fixture.publish_to(*place).await;
        eventually(async || fixture.failures_of(*place).await > 0).await;
    }
    assert!(fixture.delivery.outages().is_empty());
}

/// A response of an endpoint whose clock is far from any test's.
const REJECTED: Answer = Answer::Bytes(
    "HTTP/1.1 401 Unauthorized\r\ndate: Thu, 01 Jan 2015 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n",
);

#[tokio::test]
async fn rejections_because_of_a_wrong_clock_do_not_count() {
    let server = name_server(&Arc::new(AtomicBool::new(true))).await;
    let fixture = Fixture::with_names(&server).await;
    let mut receiver = Receiver::start(|_| REJECTED).await;
    let mut places = Vec::new();
    for number in 0..=MIN_UNRELATED {
        let url = url_at(&format!("host{number}.test"), &receiver);
        places.push(fixture.endpoint_of_new_account(&url).await);
    }
    let (last, first) = places.split_last().expect("there are some");
    for place in first {
        fixture.publish_to(*place).await;
        receiver.next().await;
    }
    eventually(async || fixture.has_outage(Cause::Clock)).await;
    fixture.publish_to(*last).await;
    receiver.next().await;
    // The endpoint pauses; its attempt is over once the node has nothing in flight.
    eventually(async || fixture.delivery.in_flight() == 0).await;
    assert_eq!(fixture.failures_of(*last).await, 0);
    let deliveries = fixture.deliveries_of(*last).await;
    assert_eq!(deliveries[0].delivery.attempt_count, 0);
}
