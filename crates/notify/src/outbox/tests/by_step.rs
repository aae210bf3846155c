//! Tests that run the outbox step by step, on clocks that stand still unless the test sets them.

use postrider_cluster::shard_guard::ShardGrant;
use postrider_domain::attempt::{Exchange, RequestHead};
use postrider_domain::event::{Event, EventType, EventTypeName, Payload};
use postrider_domain::notice::REMIND_AFTER;
use postrider_domain::outcome;
use postrider_domain::transition::{AttemptResult, Rules};
use postrider_store::{EndpointWork, FencedAttempt, HeldAction};

use super::*;

const FIRST: Duration = INTERVALS.collect.first;
const NEXT: Duration = INTERVALS.collect.next;
const SECOND: Duration = Duration::from_secs(1);

struct SetClock(Mutex<Timestamp>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
}

/// An outbox that owns every shard.
struct Steps {
    state: State,
    clock: Arc<SetClock>,
    inbox: Inbox,
    _grants: Vec<ShardGrant>,
    /// Tokio's clock does not advance by itself while a blocking task runs.
    _hold_clock: std::sync::mpsc::Sender<()>,
}

impl Steps {
    fn new(fixture: &Fixture) -> Self {
        let (hold_clock, held) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || held.recv());
        let (listener, smtp) = listen();
        let inbox = serve(listener, 0);
        let clock = Arc::new(SetClock(Mutex::new(test_data::AT)));
        let notice_sender = fixture.notice_sender(smtp, clock.clone());
        let state = State::new(notice_sender, 1, INTERVALS);
        let own = |fence: &Fence| {
            let (guard, grant) = ShardGuard::begin(*fence, LeaseValidity::always());
            state.owned.insert(guard);
            grant
        };
        let grants = fixture.fences.iter().map(own).collect();
        Self { state, clock, inbox, _grants: grants, _hold_clock: hold_clock }
    }

    /// Scans every shard, and returns the emails that are sent at once.
    async fn run(&mut self) -> Vec<(Vec<String>, String)> {
        self.state.scan_queue.add(self.state.owned.shards());
        while self.state.has_work() {
            self.state.step().await.expect("a step");
        }
        std::iter::from_fn(|| self.inbox.try_recv().ok()).collect()
    }

    /// The emails that are sent at once or within `duration`.
    async fn run_for(&mut self, duration: Duration) -> Vec<(Vec<String>, String)> {
        let mut emails = self.run().await;
        tokio::time::advance(duration).await;
        emails.extend(self.run().await);
        emails
    }

    fn set_clock(&self, now: Timestamp) {
        *self.clock.0.lock() = now;
    }
}

impl Fixture {
    /// Disables `count` more endpoints of an account.
    async fn disable_more(&self, account: &Account, count: usize) {
        for n in 0..count {
            let endpoint = test_data::endpoint(account, &format!("More {n}"));
            assert!(self.records.create_endpoint(&endpoint).await.expect("created"));
            let fence = self.fences[usize::from(self.records.shard_of(endpoint.id))];
            let notice = test_data::notice(&endpoint);
            self.records.record_notice(fence, &notice).await.expect("recorded");
        }
    }

    async fn publish(&self) {
        let (account, now) = (self.account.id, test_data::AT);
        let name = EventTypeName::parse("order.paid").expect("a name");
        let event_type = EventType {
            name: name.clone(),
            description: String::new(),
            example: "{}".to_owned(),
            schema: None,
            created_at: now,
            updated_at: now,
        };
        self.records.put_event_type(event_type).await.expect("put");
        let event = Event {
            id: test_data::IDS.id(now),
            account,
            event_type: name,
            created_at: now,
            payload: Payload::from_stored("{}".into()),
        };
        let accepted = self.records.accept(account, vec![event], None, &test_data::IDS, now);
        accepted.await.expect("accepted");
    }

    /// An attempt of the endpoint's next delivery fails when it is due. Returns when that was; `None`
    /// if the endpoint has no work.
    async fn fail(&self) -> Option<Timestamp> {
        let (account, endpoint) = (self.account.id, self.endpoint.id);
        let work = self.records.workload(account, endpoint, 1).await.expect("read");
        let EndpointWork::Send(workload) = work else { return None };
        let mut waiting = workload.retries.deliveries.iter().chain(&workload.firsts.deliveries);
        let delivery = waiting.next().expect("a delivery").clone();
        let at = delivery.due().expect("pending");
        let result = AttemptResult {
            id: test_data::IDS.id(at),
            number: delivery.attempt_count + 1,
            at,
            exchange: Exchange {
                request: RequestHead { url: "https://example.com/".to_owned(), headers: vec![] },
                response: None,
                outcome: outcome::of_status(503, None, None),
                duration: Duration::from_millis(20),
            },
            jitter: 0.5,
            disable_when: None,
        };
        let fence = self.fence();
        let attempt = FencedAttempt { fence, account, endpoint, delivery: delivery.id, result };
        self.records.apply(&[attempt], &Rules::default()).await.expect("applied");
        Some(at)
    }

    /// Without the notice with which a fixture begins.
    async fn without_notice(contacts: &[&str]) -> Self {
        let fixture = Self::new(contacts).await;
        let finish = [(&fixture.notice, None)];
        let finished =
            fixture.records.finish_notices(fixture.fence(), &finish, test_data::AT).await;
        finished.expect("finished");
        fixture
    }
}

fn subjects(emails: &[(Vec<String>, String)]) -> Vec<&str> {
    fn subject(text: &str) -> Option<&str> {
        text.lines().find_map(|line| line.strip_prefix("Subject: "))
    }
    emails.iter().map(|(_, text)| subject(text).expect("a subject")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_an_account_loses_within_a_minute_is_one_email() {
    let fixture = Fixture::new(&["ops@example.com"]).await;
    let mut outbox = Steps::new(&fixture);
    assert_eq!(outbox.run().await, []);
    fixture.disable_more(&fixture.account, 2).await;
    assert_eq!(outbox.run_for(FIRST - SECOND).await, []);
    let emails = outbox.run_for(SECOND).await;
    assert_eq!(subjects(&emails), ["3 webhook endpoints of Acme were disabled"]);
    assert_eq!(fixture.left().await, []);

    fixture.disable_more(&fixture.account, 4).await;
    assert_eq!(outbox.run_for(NEXT - SECOND).await, []);
    fixture.disable_more(&fixture.account, 1).await;
    let emails = outbox.run_for(SECOND).await;
    assert_eq!(subjects(&emails), ["5 webhook endpoints of Acme were disabled"]);
    assert_eq!(outbox.run_for(NEXT).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_email_lists_the_notices_of_all_shards() {
    let fixture = Fixture::with_shards(&["ops@example.com"], 256).await;
    let mut outbox = Steps::new(&fixture);
    fixture.disable_more(&fixture.account, 199).await;
    let emails = outbox.run_for(FIRST).await;
    assert_eq!(subjects(&emails), ["200 webhook endpoints of Acme were disabled"]);
}

#[tokio::test(start_paused = true)]
async fn an_account_does_not_wait_for_one_with_many_notices() {
    let fixture = Fixture::new(&["ops@example.com"]).await;
    fixture.disable_more(&fixture.account, 300).await;
    let other = test_data::account(&["other@example.com"]);
    fixture.add(&other, "Others", 3600).await;
    let mut outbox = Steps::new(&fixture);
    let emails = outbox.run_for(FIRST).await;
    let mut recipients: Vec<_> = emails.iter().flat_map(|(to, _)| to).collect();
    recipients.sort();
    assert_eq!(recipients, ["ops@example.com", "other@example.com"]);
    fixture.disable_more(&other, 1).await;
    fixture.disable_more(&fixture.account, 300).await;
    assert_eq!(outbox.run_for(NEXT - SECOND).await, []);
    assert_eq!(outbox.run_for(SECOND).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_warning_one_email_when_disabled_one_reminder_and_none_between() {
    let fixture = Fixture::without_notice(&["ops@example.com"]).await;
    let mut outbox = Steps::new(&fixture);
    fixture.publish().await;
    fixture.publish().await;
    let (mut emails, mut last) = (Vec::new(), test_data::AT);
    while let Some(at) = fixture.fail().await {
        assert!(at >= last);
        last = at.plus(SECOND);
        outbox.set_clock(last);
        emails.extend(outbox.run_for(NEXT).await);
    }
    let expected =
        ["Webhook endpoint \"Orders\" keeps failing", "Webhook endpoint \"Orders\" was disabled"];
    assert_eq!(subjects(&emails), expected);
    assert!(emails[0].1.contains("will be disabled about 2023-11-15 "), "{}", emails[0].1);

    outbox.set_clock(last.plus(REMIND_AFTER - SECOND));
    assert_eq!(outbox.run_for(NEXT).await, []);
    outbox.set_clock(last.plus(REMIND_AFTER));
    let reminder = outbox.run_for(NEXT).await;
    assert_eq!(subjects(&reminder), ["Reminder: webhook endpoint \"Orders\" is still disabled"]);
    assert!(reminder[0].1.contains("1 delivery is held, since 2023-11-14T"), "{}", reminder[0].1);
    outbox.set_clock(last.plus(REMIND_AFTER * 30));
    assert_eq!(outbox.run_for(NEXT).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_enabled_again_needs_no_reminder() {
    let fixture = Fixture::without_notice(&["ops@example.com"]).await;
    let mut outbox = Steps::new(&fixture);
    fixture.publish().await;
    let (mut emails, mut last) = (Vec::new(), test_data::AT);
    while let Some(at) = fixture.fail().await {
        last = at.plus(SECOND);
        outbox.set_clock(last);
        emails.extend(outbox.run_for(NEXT).await);
    }
    assert_eq!(emails.len(), 2);
    let (account, endpoint) = (fixture.account.id, fixture.endpoint.id);
    let enabled = fixture.records.enable_endpoint(account, endpoint, HeldAction::Resume).await;
    enabled.expect("enabled");
    outbox.set_clock(last.plus(REMIND_AFTER * 30));
    assert_eq!(outbox.run_for(NEXT).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_warning_is_not_sent_late() {
    let fixture = Fixture::without_notice(&["ops@example.com"]).await;
    let mut outbox = Steps::new(&fixture);
    fixture.publish().await;
    // The outbox does not run until the endpoint is disabled.
    while let Some(at) = fixture.fail().await {
        outbox.set_clock(at.plus(SECOND));
    }
    let emails = outbox.run_for(NEXT).await;
    assert_eq!(subjects(&emails), ["Webhook endpoint \"Orders\" was disabled"]);
}
