//! Tests of the outbox with a real SMTP server and the memory engine.

mod by_step;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mailin::{Action, Handler, Response, SessionBuilder, response};
use postrider_cluster::lease_validity::LeaseValidity;
use postrider_domain::account::Account;
use postrider_domain::email::RecipientStatus;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::ids::BootId;
use postrider_domain::notice::Report;
use postrider_domain::time::Timestamp;
use postrider_net::tasks::Tasks;
use postrider_store::kv::memory::Memory;
use postrider_store::kv::{Pair, Range, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::smtp::{FromAddress, HelloName, Server};

/// Short intervals in the same order as the real ones.
const FAST: Intervals = Intervals {
    rescan: Duration::from_millis(50),
    unavailable: Backoff { initial: Duration::from_millis(20), max: Duration::from_millis(50) },
    deferred: Backoff { initial: Duration::from_millis(50), max: Duration::from_millis(100) },
    collect: Periods { first: Duration::ZERO, next: Duration::ZERO },
};
/// Scans only when woken.
const ONLY_ON_WAKE: Intervals = Intervals { rescan: Duration::from_secs(3600), ..FAST };
/// A test that waits this long fails.
const TIMEOUT: Duration = Duration::from_secs(10);

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        test_data::AT
    }
}

/// Late enough that notices deferred often enough are given up.
struct DaysLater;

impl Clock for DaysLater {
    fn now(&self) -> Timestamp {
        test_data::AT.plus(Duration::from_secs(3 * 24 * 3600))
    }
}

/// Panics while the first email is composed, like a bug that one notice causes.
#[derive(Default)]
struct PanicsOnce(AtomicBool);

impl Clock for PanicsOnce {
    fn now(&self) -> Timestamp {
        test_data::AT
    }

    fn wall(&self) -> Timestamp {
        assert!(self.0.swap(true, Ordering::SeqCst), "a panic injected by the test");
        test_data::AT
    }
}

/// Corrupts records while an email is composed: between reading its data and sending it.
struct CorruptsOnRead(Store, Vec<Pair>);

impl Clock for CorruptsOnRead {
    fn now(&self) -> Timestamp {
        test_data::AT
    }

    fn wall(&self) -> Timestamp {
        write(&self.0, &self.1).now_or_never().expect("the memory engine never blocks");
        test_data::AT
    }
}

/// An SMTP server that forwards the recipients and text of each accepted email.
#[derive(Clone)]
struct TestMailbox {
    accepted_emails: UnboundedSender<(Vec<String>, String)>,
    recipients: Vec<String>,
    text: Vec<u8>,
    /// Sessions in which the recipient `later@…` is still deferred.
    deferrals: Arc<AtomicUsize>,
}

impl Handler for TestMailbox {
    fn mail(&mut self, _: IpAddr, _: &str, _: &str) -> Response {
        self.recipients.clear();
        self.text.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if to.starts_with("cut@") {
            return Response::custom(421, "Not this one".to_owned());
        }
        if to.starts_with("foreign@") {
            return Response::custom(530, "Authentication required".to_owned());
        }
        if to.starts_with("never@") {
            return response::NO_MAILBOX;
        }
        let left = |left: usize| left.checked_sub(1);
        if to.starts_with("later@")
            && self.deferrals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok()
        {
            return response::OUT_OF_SPACE;
        }
        self.recipients.push(to.to_owned());
        response::OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.text.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let text = String::from_utf8_lossy(&self.text).into_owned();
        let _ = self.accepted_emails.send((self.recipients.clone(), text));
        response::OK
    }
}

type Inbox = UnboundedReceiver<(Vec<String>, String)>;

/// Serves until the process exits.
fn serve(listener: TcpListener, deferrals: usize) -> Inbox {
    let (accepted_emails, inbox) = unbounded_channel();
    let mailbox = TestMailbox {
        accepted_emails,
        recipients: Vec::new(),
        text: Vec::new(),
        deferrals: Arc::new(AtomicUsize::new(deferrals)),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, mailbox) = (stream.expect("a connection"), mailbox.clone());
            // A client that disconnects ends only its own session.
            std::thread::spawn(move || run_session(&stream, mailbox));
        }
    });
    inbox
}

fn run_session(mut stream: &TcpStream, mailbox: TestMailbox) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut session = SessionBuilder::new("mail.test").build(stream.peer_addr()?.ip(), mailbox);
    let mut response = session.greeting();
    loop {
        if response.action != Action::NoReply {
            stream.write_all(&response.buffer()?)?;
        }
        let mut line = Vec::new();
        if response.action == Action::Close || lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        response = session.process(&line);
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Accepts `times` connections and closes them at once.
async fn close_connections(listener: TcpListener, times: usize) -> TcpListener {
    let closing = tokio::task::spawn_blocking(move || {
        for _ in 0..times {
            listener.accept().expect("a connection");
        }
        listener
    });
    closing.await.expect("joins")
}

struct Fixture {
    store: Store,
    records: Records,
    fences: Vec<Fence>,
    account: Account,
    endpoint: Endpoint,
    notice: Notice,
}

impl Fixture {
    /// An account with these contacts, and a notice about its endpoint.
    async fn new(contacts: &[&str]) -> Self {
        Self::with_shards(contacts, 8).await
    }

    async fn with_shards(contacts: &[&str], shards: Shard) -> Self {
        let store = Store::new(Arc::new(Memory::new()), 1);
        let records = Records::open(store.clone(), shards).await.expect("opens");
        let boot: BootId = test_data::IDS.id(test_data::AT);
        let shards: Vec<Shard> = (0..shards).collect();
        let fences = records.claim(&shards, boot).await.expect("claims");
        let account = test_data::account(contacts);
        let endpoint = test_data::endpoint(&account, "Orders");
        let notice = test_data::notice(&endpoint);
        let fixture = Self { store, records, fences, account, endpoint, notice };
        fixture.records.create_account(&fixture.account).await.expect("created");
        assert!(fixture.records.create_endpoint(&fixture.endpoint).await.expect("created"));
        fixture.record(&fixture.notice).await;
        fixture
    }

    fn fence(&self) -> Fence {
        self.fences[usize::from(self.records.shard_of(self.endpoint.id))]
    }

    /// Records the endpoint's next notice, a second after the first.
    async fn record_another(&self) {
        let mut another = self.notice.clone();
        *disabled_at(&mut another) = test_data::AT.plus(Duration::from_secs(1));
        self.record(&another).await;
    }

    async fn record(&self, notice: &Notice) {
        let recorded = self.records.record_notice(self.fence(), notice).await;
        recorded.expect("recorded");
    }

    /// Adds an account with an endpoint, and its notice `later` seconds after the first one.
    async fn add(&self, account: &Account, called: &str, later: u64) {
        self.records.create_account(account).await.expect("created");
        let endpoint = test_data::endpoint(account, called);
        assert!(self.records.create_endpoint(&endpoint).await.expect("created"));
        let mut notice = test_data::notice(&endpoint);
        *disabled_at(&mut notice) = test_data::AT.plus(Duration::from_secs(later));
        self.record(&notice).await;
    }

    async fn rows(&self) -> Vec<Pair> {
        let everything = |tx: kv::Tx| async move { tx.range(Range::prefix([])).await };
        self.store.read::<_, kv::Error, _, _>(everything).await.expect("read")
    }

    /// All rows added since `before`.
    async fn rows_since(&self, before: &[Pair]) -> Vec<Pair> {
        let rows = self.rows().await.into_iter();
        rows.filter(|row| !before.contains(row)).collect()
    }

    /// Corrupts all rows added since `before`, and returns their original contents.
    async fn corrupt_since(&self, before: &[Pair]) -> Vec<Pair> {
        let new = self.rows_since(before).await;
        write(&self.store, &corrupted(&new)).await;
        new
    }

    async fn start(&self, smtp: SocketAddr, intervals: Intervals) -> OutboxHandle {
        self.start_at(smtp, intervals, Arc::new(FixedClock)).await
    }

    async fn start_at(
        &self,
        smtp: SocketAddr,
        intervals: Intervals,
        clock: Arc<dyn Clock>,
    ) -> OutboxHandle {
        let handle = self.start_idle(smtp, intervals, clock).await;
        for fence in &self.fences {
            let (guard, grant) = ShardGuard::begin(*fence, LeaseValidity::always());
            // The shard stays owned for as long as the test runs.
            std::mem::forget(grant);
            handle.own(guard);
        }
        handle
    }

    /// Starts an outbox that owns no shards.
    async fn start_idle(
        &self,
        smtp: SocketAddr,
        intervals: Intervals,
        clock: Arc<dyn Clock>,
    ) -> OutboxHandle {
        let notice_sender = self.notice_sender(smtp, clock);
        start(notice_sender, 1, intervals, &Tasks::new()).await.expect("starts")
    }

    fn notice_sender(&self, smtp: SocketAddr, clock: Arc<dyn Clock>) -> NoticeSender {
        let server = Server::parse(&format!("smtp://{smtp}")).expect("a server");
        let sender = FromAddress::parse("Postrider <webhooks@example.com>").expect("a sender");
        let hello = HelloName::parse("node.example.com").expect("a host name");
        NoticeSender {
            records: self.records.clone(),
            clock,
            mailer: Arc::new(Mailer::new(server, sender, hello).expect("a mailer")),
            instruments: Instruments::new(),
            page_of: Arc::new(|_, _| None),
        }
    }

    /// Waits until no notice is left.
    async fn until_sent(&self) {
        let sent = async {
            while !self.left().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, sent).await.expect("the notice is deleted");
    }

    /// Each recipient of the endpoint's latest email with the mail server's reply.
    async fn logged(&self) -> Vec<(String, RecipientStatus)> {
        let emails = self.records.emails(self.account.id, self.endpoint.id, 1).await.expect("read");
        let recipients = emails.into_iter().flat_map(|email| email.to);
        recipients.map(|recipient| (recipient.address, recipient.status)).collect()
    }

    async fn left(&self) -> Vec<Notice> {
        let shard = self.fence().shard;
        self.records.notices(shard, test_data::AT, None, 10).await.expect("read").notices
    }
}

/// The time of a notice about a disabled endpoint.
fn disabled_at(notice: &mut Notice) -> &mut Timestamp {
    let Report::Disabled(disabled) = &mut notice.report else { panic!("not disabled") };
    &mut disabled.at
}

fn corrupted(rows: &[Pair]) -> Vec<Pair> {
    assert!(!rows.is_empty());
    rows.iter().map(|(key, _)| (key.clone(), "corrupt".into())).collect()
}

async fn write(store: &Store, rows: &[Pair]) {
    let write = |tx: kv::Tx, _| async move {
        for (key, value) in rows {
            tx.set(key.clone(), value.clone());
        }
        Ok(())
    };
    store.transact::<_, kv::Error, _, _>(write).await.expect("written");
}

async fn next(inbox: &mut Inbox) -> (Vec<String>, String) {
    tokio::time::timeout(TIMEOUT, inbox.recv())
        .await
        .expect("an email in time")
        .expect("the server is running")
}

#[tokio::test]
async fn notices_left_by_an_earlier_process_are_sent_once_and_deleted() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["ops@example.com", "dev@example.com", "ops@example.com"]).await;
    let notifier = fixture.start(smtp, FAST).await;

    let (recipients, text) = next(&mut inbox).await;
    assert_eq!(recipients, ["ops@example.com", "dev@example.com"]);
    for part in [
        "Subject: Webhook endpoint \"Orders\" was disabled",
        "https://example.com/hooks",
        "no response within 5s",
        "Auto-Submitted: auto-generated",
        &format!("<{}.1700000000000@example.com>", fixture.endpoint.id),
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    fixture.until_sent().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a second email");
}

#[tokio::test]
async fn an_email_in_flight_holds_only_its_own_shard() {
    let (listener, smtp) = listen();
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let notifier = fixture.start_idle(smtp, ONLY_ON_WAKE, Arc::new(FixedClock)).await;
    let begin = |fence: &Fence| {
        let (guard, grant) = ShardGuard::begin(*fence, LeaseValidity::always());
        notifier.own(guard);
        grant
    };
    let grants: Vec<_> = fixture.fences.iter().map(begin).collect();
    let accept = tokio::task::spawn_blocking(move || listener.accept().expect("a connection"));
    let _silent = accept.await.expect("joins");

    for mut grant in grants {
        grant.revoke();
        if grant.fence() == fixture.fence() {
            assert!(!grant.is_released(), "its email is in flight");
        } else {
            let released = tokio::time::timeout(TIMEOUT, grant.released());
            released.await.expect("released without waiting for another shard's email");
        }
    }
}

#[tokio::test]
async fn a_wake_alone_triggers_sending() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let notifier = fixture.start(smtp, ONLY_ON_WAKE).await;
    next(&mut inbox).await;
    fixture.until_sent().await;

    fixture.record_another().await;
    for _ in 0..100 {
        notifier.wake(fixture.fence());
    }
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("1700000001000@example.com"), "{text}");
    fixture.until_sent().await;
}

#[tokio::test]
async fn the_email_is_sent_once_the_mail_server_is_available_again() {
    let (listener, smtp) = listen();
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let notifier = fixture.start(smtp, FAST).await;
    let listener = close_connections(listener, 3).await;
    assert_eq!(fixture.left().await, std::slice::from_ref(&fixture.notice));

    let mut inbox = serve(listener, 0);
    next(&mut inbox).await;
    fixture.until_sent().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a second email");
}

#[tokio::test]
async fn a_rejected_contact_does_not_affect_the_others() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["never@example.com", "ops@example.com"]).await;
    let _notifier = fixture.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    fixture.until_sent().await;
    let logged = fixture.logged().await;
    assert!(matches!(&logged[0], (to, RecipientStatus::Refused(_)) if to == "never@example.com"));
    assert_eq!(logged[1], ("ops@example.com".to_owned(), RecipientStatus::Accepted));
}

#[tokio::test]
async fn a_notice_whose_contacts_are_all_rejected_is_given_up() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["never@example.com"]).await;
    let _notifier = fixture.start(smtp, FAST).await;
    fixture.until_sent().await;
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn only_the_deferred_contact_is_retried() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 3);
    let fixture = Fixture::new(&["ops@example.com", "later@example.com"]).await;
    let notifier = fixture.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    assert_eq!(next(&mut inbox).await.0, ["later@example.com"]);
    fixture.until_sent().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a third email");
}

#[tokio::test]
async fn a_deferred_email_is_recorded_until_it_is_accepted() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 1);
    let fixture = Fixture::new(&["ops@example.com", "later@example.com"]).await;
    let slow = Backoff { initial: Duration::from_secs(3600), max: Duration::from_secs(3600) };
    let notifier = fixture.start(smtp, Intervals { deferred: slow, ..FAST }).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    // It is recorded before the actor's next step.
    notifier.stop().await;
    let logged = fixture.logged().await;
    assert_eq!(logged[0], ("ops@example.com".to_owned(), RecipientStatus::Accepted));
    assert!(
        matches!(&logged[1], (to, RecipientStatus::Deferred(why)) if to == "later@example.com"
        && why.contains("452")),
        "{logged:?}"
    );

    let _notifier = fixture.start(smtp, FAST).await;
    fixture.until_sent().await;
    let accepted = |to: &str| (to.to_owned(), RecipientStatus::Accepted);
    assert_eq!(fixture.logged().await, ["ops@example.com", "later@example.com"].map(accepted));
}

#[tokio::test]
async fn notices_whose_email_panics_are_retried_alone_after_the_others() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["ops@example.com"]).await;
    fixture.record_another().await;
    let other = test_data::account(&["other@example.com"]);
    fixture.add(&other, "Others", 3).await;
    let notifier = fixture.start_at(smtp, FAST, Arc::new(PanicsOnce::default())).await;
    let (recipients, _) = next(&mut inbox).await;
    assert_eq!(recipients, ["other@example.com"]);
    for id in ["1700000000000@example.com", "1700000001000@example.com"] {
        let (_, text) = next(&mut inbox).await;
        assert!(text.contains(id), "no {id} in:\n{text}");
    }
    fixture.until_sent().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a fourth email");
}

#[tokio::test]
async fn a_corrupt_notice_is_delayed_and_the_others_are_sent() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let finish = [(&fixture.notice, None)];
    fixture
        .records
        .finish_notices(fixture.fence(), &finish, test_data::AT)
        .await
        .expect("finished");
    let before = fixture.rows().await;
    fixture.record(&fixture.notice).await;
    let intact = fixture.corrupt_since(&before).await;
    // In the same shard, after it.
    fixture.record_another().await;

    let _notifier = fixture.start(smtp, FAST).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("1700000001000@example.com"), "{text}");
    write(&fixture.store, &intact).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("1700000000000@example.com"), "{text}");
}

#[tokio::test]
async fn an_aborted_session_does_not_delay_others() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["cut@example.com"]).await;
    let other = test_data::account(&["ops@example.com"]);
    fixture.add(&other, "Others", 1).await;

    // No retries during this test.
    let slow = Backoff { initial: Duration::from_secs(3600), max: Duration::from_secs(3600) };
    let _notifier =
        fixture.start(smtp, Intervals { deferred: slow, unavailable: slow, ..FAST }).await;
    let (recipients, text) = next(&mut inbox).await;
    assert_eq!(recipients, ["ops@example.com"]);
    assert!(text.contains("\"Others\""), "{text}");
    let deferred = async {
        while fixture.logged().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, deferred).await.expect("the deferral is recorded");
    let logged = fixture.logged().await;
    assert!(
        matches!(&logged[..], [(_, RecipientStatus::Deferred(why))] if why.contains("closed the connection")),
        "{logged:?}"
    );
}

#[tokio::test]
async fn a_contact_for_whom_the_server_aborts_does_not_affect_the_others() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["cut@example.com", "ops@example.com"]).await;
    let _notifier = fixture.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
}

/// Some relays accept mail for local recipients from anyone, but require a login for others.
#[tokio::test]
async fn a_contact_that_requires_a_login_does_not_affect_the_others() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["foreign@example.com", "ops@example.com"]).await;
    let _notifier = fixture.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    let other = test_data::account(&["own@example.com"]);
    fixture.add(&other, "Others", 3600).await;
    assert_eq!(next(&mut inbox).await.0, ["own@example.com"]);
}

#[tokio::test]
async fn an_email_whose_sessions_are_always_aborted_is_given_up() {
    let (listener, smtp) = listen();
    let _inbox = serve(listener, 0);
    let fixture = Fixture::new(&["cut@example.com"]).await;
    let _notifier = fixture.start_at(smtp, FAST, Arc::new(DaysLater)).await;
    fixture.until_sent().await;
    let logged = fixture.logged().await;
    assert!(matches!(&logged[..], [(_, RecipientStatus::Refused(_))]), "{logged:?}");
}

#[tokio::test]
async fn deferred_notices_do_not_hide_later_ones() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, usize::MAX);
    let fixture = Fixture::new(&["later@example.com"]).await;
    for second in 1..=PAGE_SIZE as u64 {
        let mut another = fixture.notice.clone();
        *disabled_at(&mut another) = test_data::AT.plus(Duration::from_secs(second));
        fixture.record(&another).await;
    }
    let slow = Backoff { initial: Duration::from_secs(3600), max: Duration::from_secs(3600) };
    let _notifier = fixture.start(smtp, Intervals { deferred: slow, ..FAST }).await;
    // In the same shard, after all of them.
    let other = test_data::account(&["ops@example.com"]);
    fixture.add(&other, "Others", 3600).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    let left = fixture
        .records
        .notices(fixture.fence().shard, test_data::AT, None, usize::MAX)
        .await
        .expect("read");
    assert!(left.notices.len() > PAGE_SIZE, "the deferred notices still exist");
}

#[tokio::test]
async fn a_notice_that_needs_a_corrupt_record_is_deferred_and_the_others_are_sent() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let before = fixture.rows().await;
    let corrupted = test_data::endpoint(&fixture.account, "Corrupted");
    assert!(fixture.records.create_endpoint(&corrupted).await.expect("created"));
    let intact = fixture.corrupt_since(&before).await;
    let mut first = test_data::notice(&corrupted);
    *disabled_at(&mut first) = Timestamp::EPOCH;
    fixture.record(&first).await;

    let _notifier = fixture.start(smtp, FAST).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("\"Orders\""), "{text}");
    write(&fixture.store, &intact).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("\"Corrupted\""), "{text}");
    fixture.until_sent().await;
}

#[tokio::test]
async fn a_notice_whose_deferral_cannot_be_recorded_is_delayed_and_the_others_are_sent() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 1);
    let fixture = Fixture::new(&["later@example.com"]).await;
    let before = fixture.rows().await;
    let deferred = test_data::endpoint(&fixture.account, "Deferred");
    assert!(fixture.records.create_endpoint(&deferred).await.expect("created"));
    let clock =
        CorruptsOnRead(fixture.store.clone(), corrupted(&fixture.rows_since(&before).await));
    let mut first = test_data::notice(&deferred);
    *disabled_at(&mut first) = Timestamp::EPOCH;
    fixture.record(&first).await;

    let _notifier = fixture.start_at(smtp, FAST, Arc::new(clock)).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("\"Orders\""), "{text}");
    let only_first = async {
        while fixture.left().await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, only_first).await.expect("the other is sent");
    assert_eq!(fixture.left().await, [first]);
}

#[tokio::test]
async fn notices_without_contacts_or_without_an_endpoint_are_deleted() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let no_contact = Fixture::new(&[]).await;
    let _first = no_contact.start(smtp, FAST).await;
    no_contact.until_sent().await;
    let emails = no_contact.records.emails(no_contact.account.id, no_contact.endpoint.id, 9).await;
    assert!(matches!(&emails.expect("read")[..], [email] if email.to.is_empty()));

    let gone = Fixture::new(&["ops@example.com"]).await;
    let deleted = gone.records.delete_endpoint(gone.account.id, gone.endpoint.id).await;
    assert!(deleted.expect("deleted"));
    gone.record(&gone.notice).await;
    let _second = gone.start(smtp, FAST).await;
    gone.until_sent().await;
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn a_superseded_owner_does_not_delete_the_notice() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let new_owner: BootId = test_data::IDS.id(test_data::AT);
    let claimed = fixture.records.claim(&[fixture.fence().shard], new_owner).await;
    claimed.expect("claims");
    let notifier = fixture.start(smtp, FAST).await;
    next(&mut inbox).await;
    notifier.stop().await;
    assert_eq!(fixture.left().await, std::slice::from_ref(&fixture.notice));
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_hanging_mail_server() {
    // It accepts the connection and sends nothing.
    let (listener, smtp) = listen();
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let notifier = fixture.start(smtp, FAST).await;
    let connected = tokio::task::spawn_blocking(move || listener.accept());
    let _connection = connected.await.expect("joins").expect("connects");
    tokio::time::timeout(TIMEOUT, notifier.stop()).await.expect("stops");
    assert_eq!(fixture.left().await.len(), 1);
}
