//! The notifier against a real SMTP server and the memory engine.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mailin::{Action, Handler, Response, SessionBuilder, response};
use postrider_cluster::pulse::Pulse;
use postrider_domain::account::Account;
use postrider_domain::email::Verdict;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::ids::{BootId, Mint};
use postrider_domain::time::Timestamp;
use postrider_net::tasks::Tasks;
use postrider_store::kv::memory::Memory;
use postrider_store::kv::{Pair, Range, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::smtp::{Sender, Server};

/// Fast enough for a test; the order of the three is that of the real ones.
const FAST: Intervals = Intervals {
    rescan: Duration::from_millis(50),
    away: Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(50) },
    deferred: Backoff { first: Duration::from_millis(50), longest: Duration::from_millis(100) },
};
/// Never looks again by itself.
const ON_NUDGE: Intervals = Intervals { rescan: Duration::from_secs(3600), ..FAST };
/// What fails does so after this long; nothing waits so long otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        samples::AT
    }
}

/// So late that whatever was put off often enough is given up.
struct DaysLater;

impl Clock for DaysLater {
    fn now(&self) -> Timestamp {
        samples::AT.plus(Duration::from_secs(3 * 24 * 3600))
    }
}

/// Panics when it is first asked, as a bug in the errand of one notice would.
#[derive(Default)]
struct PanicsOnce(AtomicBool);

impl Clock for PanicsOnce {
    fn now(&self) -> Timestamp {
        assert!(self.0.swap(true, Ordering::SeqCst), "as it was asked to");
        samples::AT
    }
}

/// Damages records when it is asked: between the reading of what an email says and its sending.
struct Damages(Store, Vec<Pair>);

impl Clock for Damages {
    fn now(&self) -> Timestamp {
        write(&self.0, &self.1).now_or_never().expect("memory does not wait");
        samples::AT
    }
}

/// An SMTP server that passes on what it takes: recipients and text.
#[derive(Clone)]
struct Postbox {
    taken: UnboundedSender<(Vec<String>, String)>,
    recipients: Vec<String>,
    text: Vec<u8>,
    /// Conversations in which the recipient `later@…` is still put off.
    put_off: Arc<AtomicUsize>,
}

impl Handler for Postbox {
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
            && self.put_off.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok()
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
        let _ = self.taken.send((self.recipients.clone(), text));
        response::OK
    }
}

type Taken = UnboundedReceiver<(Vec<String>, String)>;

/// Serves until the process ends.
fn serve(listener: TcpListener, put_off: usize) -> Taken {
    let (taken, inbox) = unbounded_channel();
    let postbox = Postbox {
        taken,
        recipients: Vec::new(),
        text: Vec::new(),
        put_off: Arc::new(AtomicUsize::new(put_off)),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, postbox) = (stream.expect("a connection"), postbox.clone());
            // A client that breaks off ends its own conversation.
            std::thread::spawn(move || converse(&stream, postbox));
        }
    });
    inbox
}

fn converse(mut stream: &TcpStream, postbox: Postbox) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut session = SessionBuilder::new("mail.test").build(stream.peer_addr()?.ip(), postbox);
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

/// Takes so many connections and drops them without a word.
async fn hang_up(listener: TcpListener, times: usize) -> TcpListener {
    let hanging_up = tokio::task::spawn_blocking(move || {
        for _ in 0..times {
            listener.accept().expect("a connection");
        }
        listener
    });
    hanging_up.await.expect("joins")
}

struct Scene {
    store: Store,
    records: Records,
    fences: Vec<Fence>,
    account: Account,
    endpoint: Endpoint,
    notice: Notice,
}

impl Scene {
    /// An account with these contacts, and a notice of its endpoint.
    async fn new(contacts: &[&str]) -> Self {
        let store = Store::new(Arc::new(Memory::new()), 1);
        let records = Records::open(store.clone(), 8).await.expect("opens");
        let boot: BootId = Mint::new().id(samples::AT);
        let shards: Vec<Shard> = (0..8).collect();
        let fences = records.claim(&shards, boot).await.expect("claims");
        let account = samples::account(contacts);
        let endpoint = samples::endpoint(&account, "Orders");
        let notice = samples::notice(&endpoint);
        let scene = Self { store, records, fences, account, endpoint, notice };
        scene.records.create_account(&scene.account).await.expect("created");
        assert!(scene.records.create_endpoint(&scene.endpoint).await.expect("created"));
        scene.record(&scene.notice).await;
        scene
    }

    fn fence(&self) -> Fence {
        self.fences[usize::from(self.records.shard_of(self.endpoint.id))]
    }

    /// Records the endpoint's next notice, a second after the first.
    async fn record_another(&self) {
        let mut another = self.notice.clone();
        another.disabled.at = samples::AT.plus(Duration::from_secs(1));
        self.record(&another).await;
    }

    async fn record(&self, notice: &Notice) {
        let recorded = self.records.record_notice(self.fence(), notice).await;
        recorded.expect("recorded");
    }

    /// Adds an account with an endpoint, and its notice so many seconds after the first one.
    async fn add(&self, account: &Account, called: &str, later: u64) {
        self.records.create_account(account).await.expect("created");
        let endpoint = samples::endpoint(account, called);
        assert!(self.records.create_endpoint(&endpoint).await.expect("created"));
        let mut notice = samples::notice(&endpoint);
        notice.disabled.at = samples::AT.plus(Duration::from_secs(later));
        self.record(&notice).await;
    }

    async fn rows(&self) -> Vec<Pair> {
        let everything = |tx: kv::Tx| async move { tx.range(Range::prefix([])).await };
        self.store.read::<_, kv::Error, _, _>(everything).await.expect("read")
    }

    /// Every row that was not there `before`.
    async fn since(&self, before: &[Pair]) -> Vec<Pair> {
        let rows = self.rows().await.into_iter();
        rows.filter(|row| !before.contains(row)).collect()
    }

    /// Damages every row that was not there `before`, and gives what they were.
    async fn damage_since(&self, before: &[Pair]) -> Vec<Pair> {
        let new = self.since(before).await;
        write(&self.store, &damaged(&new)).await;
        new
    }

    async fn start(&self, smtp: SocketAddr, intervals: Intervals) -> NotifierHandle {
        self.start_at(smtp, intervals, Arc::new(Now)).await
    }

    async fn start_at(
        &self,
        smtp: SocketAddr,
        intervals: Intervals,
        clock: Arc<dyn Clock>,
    ) -> NotifierHandle {
        let handle = self.start_idle(smtp, intervals, clock).await;
        for fence in &self.fences {
            let (tenure, tenancy) = Tenure::begin(*fence, Pulse::steady());
            // The shard is this one's for as long as the test runs.
            std::mem::forget(tenancy);
            handle.own(tenure);
        }
        handle
    }

    /// A notifier that owns nothing.
    async fn start_idle(
        &self,
        smtp: SocketAddr,
        intervals: Intervals,
        clock: Arc<dyn Clock>,
    ) -> NotifierHandle {
        let server = Server::parse(&format!("smtp://{smtp}")).expect("a server");
        let sender = Sender::parse("Postrider <webhooks@example.com>").expect("a sender");
        let courier = Courier {
            records: self.records.clone(),
            clock,
            mailer: Mailer::new(server, sender).expect("a mailer"),
            instruments: Instruments::new(),
            page_of: Arc::new(|_, _| None),
        };
        start(courier, 1, intervals, &Tasks::new()).await.expect("starts")
    }

    /// Waits until no notice is left.
    async fn until_told(&self) {
        let told = async {
            while !self.left().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("the notice goes");
    }

    /// Each recipient of the endpoint's newest email with what the mail server said.
    async fn logged(&self) -> Vec<(String, Verdict)> {
        let emails = self.records.emails(self.account.id, self.endpoint.id, 1).await.expect("read");
        let recipients = emails.into_iter().flat_map(|email| email.to);
        recipients.map(|recipient| (recipient.address, recipient.verdict)).collect()
    }

    async fn left(&self) -> Vec<Notice> {
        let shard = self.fence().shard;
        self.records.notices(shard, None, 10).await.expect("read").notices
    }
}

fn damaged(rows: &[Pair]) -> Vec<Pair> {
    assert!(!rows.is_empty());
    rows.iter().map(|(key, _)| (key.clone(), "damaged".into())).collect()
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

async fn next(inbox: &mut Taken) -> (Vec<String>, String) {
    tokio::time::timeout(PATIENCE, inbox.recv())
        .await
        .expect("an email in time")
        .expect("the server runs")
}

#[tokio::test]
async fn what_an_earlier_run_left_is_sent_once_and_removed() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["ops@example.com", "dev@example.com", "ops@example.com"]).await;
    let notifier = scene.start(smtp, FAST).await;

    let (recipients, text) = next(&mut inbox).await;
    assert_eq!(recipients, ["ops@example.com", "dev@example.com"]);
    for part in [
        "Subject: Webhook endpoint \"Orders\" was disabled",
        "https://example.com/hooks",
        "no answer within 5s",
        "Auto-Submitted: auto-generated",
        &format!("<{}.1700000000000@example.com>", scene.endpoint.id),
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    scene.until_told().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a second email");
}

#[tokio::test]
async fn an_email_under_way_holds_no_other_shard() {
    let (listener, smtp) = listen();
    let scene = Scene::new(&["ops@example.com"]).await;
    let notifier = scene.start_idle(smtp, ON_NUDGE, Arc::new(Now)).await;
    let begin = |fence: &Fence| {
        let (tenure, tenancy) = Tenure::begin(*fence, Pulse::steady());
        notifier.own(tenure);
        tenancy
    };
    let tenancies: Vec<_> = scene.fences.iter().map(begin).collect();
    let accept = tokio::task::spawn_blocking(move || listener.accept().expect("a connection"));
    let _silent = accept.await.expect("joins");

    for mut tenancy in tenancies {
        tenancy.end();
        if tenancy.fence() == scene.fence() {
            assert!(!tenancy.is_released(), "its email is under way");
        } else {
            let released = tokio::time::timeout(PATIENCE, tenancy.released());
            released.await.expect("it waits for another shard's email");
        }
    }
}

#[tokio::test]
async fn a_nudge_is_enough() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["ops@example.com"]).await;
    let notifier = scene.start(smtp, ON_NUDGE).await;
    next(&mut inbox).await;
    scene.until_told().await;

    scene.record_another().await;
    for _ in 0..100 {
        notifier.nudge(scene.fence());
    }
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("1700000001000@example.com"), "{text}");
    scene.until_told().await;
}

#[tokio::test]
async fn a_mail_server_that_was_away_gets_the_email_when_it_is_back() {
    let (listener, smtp) = listen();
    let scene = Scene::new(&["ops@example.com"]).await;
    let notifier = scene.start(smtp, FAST).await;
    let listener = hang_up(listener, 3).await;
    assert_eq!(scene.left().await, std::slice::from_ref(&scene.notice));

    let mut inbox = serve(listener, 0);
    next(&mut inbox).await;
    scene.until_told().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a second email");
}

#[tokio::test]
async fn a_refused_contact_costs_the_others_nothing() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["never@example.com", "ops@example.com"]).await;
    let _notifier = scene.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    scene.until_told().await;
    let logged = scene.logged().await;
    assert!(matches!(&logged[0], (to, Verdict::Refused(_)) if to == "never@example.com"));
    assert_eq!(logged[1], ("ops@example.com".to_owned(), Verdict::Accepted));
}

#[tokio::test]
async fn a_notice_that_nobody_takes_is_given_up() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["never@example.com"]).await;
    let _notifier = scene.start(smtp, FAST).await;
    scene.until_told().await;
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn a_contact_that_is_put_off_is_tried_again_alone() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 3);
    let scene = Scene::new(&["ops@example.com", "later@example.com"]).await;
    let notifier = scene.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    assert_eq!(next(&mut inbox).await.0, ["later@example.com"]);
    scene.until_told().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a third email");
}

#[tokio::test]
async fn what_is_put_off_is_seen_until_it_is_accepted() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 1);
    let scene = Scene::new(&["ops@example.com", "later@example.com"]).await;
    let slow = Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let notifier = scene.start(smtp, Intervals { deferred: slow, ..FAST }).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    // It is on record before the actor takes its next step.
    notifier.stop().await;
    let logged = scene.logged().await;
    assert_eq!(logged[0], ("ops@example.com".to_owned(), Verdict::Accepted));
    assert!(
        matches!(&logged[1], (to, Verdict::Deferred(why)) if to == "later@example.com"
        && why.contains("452")),
        "{logged:?}"
    );

    let _notifier = scene.start(smtp, FAST).await;
    scene.until_told().await;
    let accepted = |to: &str| (to.to_owned(), Verdict::Accepted);
    assert_eq!(scene.logged().await, ["ops@example.com", "later@example.com"].map(accepted));
}

#[tokio::test]
async fn a_notice_whose_errand_panics_waits_and_the_others_go() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["ops@example.com"]).await;
    scene.record_another().await;
    let notifier = scene.start_at(smtp, FAST, Arc::new(PanicsOnce::default())).await;
    for id in ["1700000001000@example.com", "1700000000000@example.com"] {
        let (_, text) = next(&mut inbox).await;
        assert!(text.contains(id), "no {id} in:\n{text}");
    }
    scene.until_told().await;
    notifier.stop().await;
    assert!(inbox.try_recv().is_err(), "a third email");
}

#[tokio::test]
async fn a_notice_that_cannot_be_read_waits_and_the_others_go() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["ops@example.com"]).await;
    scene.records.finish_notice(scene.fence(), &scene.notice, None).await.expect("finished");
    let before = scene.rows().await;
    scene.record(&scene.notice).await;
    let sound = scene.damage_since(&before).await;
    // In the same shard, and behind it.
    scene.record_another().await;

    let _notifier = scene.start(smtp, FAST).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("1700000001000@example.com"), "{text}");
    write(&scene.store, &sound).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("1700000000000@example.com"), "{text}");
}

#[tokio::test]
async fn an_email_that_is_cut_off_holds_nobody_up() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["cut@example.com"]).await;
    let other = samples::account(&["ops@example.com"]);
    scene.add(&other, "Others", 1).await;

    // Nothing that is put off or away is tried again in this test.
    let slow = Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let _notifier = scene.start(smtp, Intervals { deferred: slow, away: slow, ..FAST }).await;
    let (recipients, text) = next(&mut inbox).await;
    assert_eq!(recipients, ["ops@example.com"]);
    assert!(text.contains("\"Others\""), "{text}");
    let put_off = async {
        while scene.logged().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, put_off).await.expect("people see that it is put off");
    let logged = scene.logged().await;
    assert!(
        matches!(&logged[..], [(_, Verdict::Deferred(why))] if why.contains("closed the connection")),
        "{logged:?}"
    );
}

#[tokio::test]
async fn a_contact_whom_the_server_breaks_off_at_costs_the_others_nothing() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["cut@example.com", "ops@example.com"]).await;
    let _notifier = scene.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
}

/// Some relays take mail for their own people from anybody, and want a login for all others.
#[tokio::test]
async fn a_contact_for_whom_a_login_is_wanted_costs_the_others_nothing() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["foreign@example.com", "ops@example.com"]).await;
    let _notifier = scene.start(smtp, FAST).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    let other = samples::account(&["own@example.com"]);
    scene.add(&other, "Others", 3600).await;
    assert_eq!(next(&mut inbox).await.0, ["own@example.com"]);
}

#[tokio::test]
async fn an_email_that_is_always_cut_off_is_given_up() {
    let (listener, smtp) = listen();
    let _inbox = serve(listener, 0);
    let scene = Scene::new(&["cut@example.com"]).await;
    let _notifier = scene.start_at(smtp, FAST, Arc::new(DaysLater)).await;
    scene.until_told().await;
    let logged = scene.logged().await;
    assert!(matches!(&logged[..], [(_, Verdict::Refused(_))]), "{logged:?}");
}

#[tokio::test]
async fn notices_that_wait_hide_none_behind_them() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, usize::MAX);
    let scene = Scene::new(&["later@example.com"]).await;
    for second in 1..=LOOK as u64 {
        let mut another = scene.notice.clone();
        another.disabled.at = samples::AT.plus(Duration::from_secs(second));
        scene.record(&another).await;
    }
    let slow = Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let _notifier = scene.start(smtp, Intervals { deferred: slow, ..FAST }).await;
    // In the same shard, behind all of them.
    let other = samples::account(&["ops@example.com"]);
    scene.add(&other, "Others", 3600).await;
    assert_eq!(next(&mut inbox).await.0, ["ops@example.com"]);
    let left = scene.records.notices(scene.fence().shard, None, usize::MAX).await.expect("read");
    assert!(left.notices.len() > LOOK, "those that wait are still there");
}

#[tokio::test]
async fn a_notice_that_needs_a_damaged_record_waits_and_the_others_go() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["ops@example.com"]).await;
    let before = scene.rows().await;
    let damaged = samples::endpoint(&scene.account, "Damaged");
    assert!(scene.records.create_endpoint(&damaged).await.expect("created"));
    let sound = scene.damage_since(&before).await;
    let mut first = samples::notice(&damaged);
    first.disabled.at = Timestamp::EPOCH;
    scene.record(&first).await;

    let _notifier = scene.start(smtp, FAST).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("\"Orders\""), "{text}");
    write(&scene.store, &sound).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("\"Damaged\""), "{text}");
    scene.until_told().await;
}

#[tokio::test]
async fn what_cannot_be_logged_waits_and_the_others_go() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 1);
    let scene = Scene::new(&["later@example.com"]).await;
    let before = scene.rows().await;
    let put_off = samples::endpoint(&scene.account, "Put off");
    assert!(scene.records.create_endpoint(&put_off).await.expect("created"));
    let clock = Damages(scene.store.clone(), damaged(&scene.since(&before).await));
    let mut first = samples::notice(&put_off);
    first.disabled.at = Timestamp::EPOCH;
    scene.record(&first).await;

    let _notifier = scene.start_at(smtp, ON_NUDGE, Arc::new(clock)).await;
    let (_, text) = next(&mut inbox).await;
    assert!(text.contains("\"Orders\""), "{text}");
    let only_first = async {
        while scene.left().await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, only_first).await.expect("the other goes");
    assert_eq!(scene.left().await, [first]);
}

#[tokio::test]
async fn nobody_to_tell_and_nothing_to_tell_of() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let no_contact = Scene::new(&[]).await;
    let _first = no_contact.start(smtp, FAST).await;
    no_contact.until_told().await;
    let emails = no_contact.records.emails(no_contact.account.id, no_contact.endpoint.id, 9).await;
    assert!(matches!(&emails.expect("read")[..], [email] if email.to.is_empty()));

    let gone = Scene::new(&["ops@example.com"]).await;
    let deleted = gone.records.delete_endpoint(gone.account.id, gone.endpoint.id).await;
    assert!(deleted.expect("deleted"));
    gone.record(&gone.notice).await;
    let _second = gone.start(smtp, FAST).await;
    gone.until_told().await;
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn a_later_owner_keeps_the_notice() {
    let (listener, smtp) = listen();
    let mut inbox = serve(listener, 0);
    let scene = Scene::new(&["ops@example.com"]).await;
    let heir: BootId = Mint::new().id(samples::AT);
    let claimed = scene.records.claim(&[scene.fence().shard], heir).await;
    claimed.expect("claims");
    let notifier = scene.start(smtp, FAST).await;
    next(&mut inbox).await;
    notifier.stop().await;
    assert_eq!(scene.left().await, std::slice::from_ref(&scene.notice));
}

#[tokio::test]
async fn stops_although_the_mail_server_hangs() {
    // It takes the connection and says nothing.
    let (listener, smtp) = listen();
    let scene = Scene::new(&["ops@example.com"]).await;
    let notifier = scene.start(smtp, FAST).await;
    let connected = tokio::task::spawn_blocking(move || listener.accept());
    let _connection = connected.await.expect("joins").expect("connects");
    tokio::time::timeout(PATIENCE, notifier.stop()).await.expect("stops");
    assert_eq!(scene.left().await.len(), 1);
}
