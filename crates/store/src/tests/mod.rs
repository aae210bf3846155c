//! Tests of the records: the guarantees of each transaction, also under conflicts and unknown
//! commit results.

mod accepting;
mod answers;
mod bringing_forward;
mod damage;
mod delivering;
mod fan_outs;
mod histories;
mod jobs;
mod nodes;
mod people;
mod resending;
mod statistics;
mod stepping_back;
mod unknown_commits;

use std::sync::Arc;
use std::time::Duration;

use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::assignment::Fence;
use postrider_domain::attempt::{Exchange, RequestHead};
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::{Endpoint, Ordering, Secrets, Subscription};
use postrider_domain::event::{Event, EventType, EventTypeName, Payload};
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, BootId, EndpointId, IdGenerator};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;
use postrider_domain::notice::{Notice, REMIND_AFTER};
use postrider_domain::outcome;
use postrider_domain::signature::Secret;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::Timestamp;
use postrider_domain::transition::{AttemptResult, Rules};

use crate::kv::Store;
use crate::kv::memory::{Faults, Memory};
use crate::{Accepted, Applied, EndpointWork, FencedAttempt, Records, Wake, Workload};

const SHARDS: u16 = 4;
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A store with an account, event types and the fences of all shards.
struct Fixture {
    records: Records,
    memory: Arc<Memory>,
    id_generator: IdGenerator,
    account: AccountId,
    fences: Vec<Fence>,
    rules: Rules,
}

/// `["*"]` is every type.
fn subscription(event_types: &[&str]) -> Subscription {
    match event_types {
        ["*"] => Subscription::All,
        names => Subscription::Only(names.iter().map(|text| name(text)).collect()),
    }
}

fn name(text: &str) -> EventTypeName {
    EventTypeName::parse(text).expect("a name")
}

impl Fixture {
    async fn new() -> Self {
        Self::with_faults(0, Faults::default()).await
    }

    /// Faults are injected once the setup is complete.
    async fn with_faults(seed: u64, faults: Faults) -> Self {
        let memory = Arc::new(Memory::with_faults(seed, Faults::default()));
        let records =
            Records::open(Store::new(memory.clone(), seed), SHARDS).await.expect("opened");
        let id_generator = IdGenerator::new(1);
        let account = Account {
            id: id_generator.id(START),
            name: Name::parse("Acme").expect("a name"),
            contact_emails: vec![EmailAddress::parse("ops@acme.example").expect("an address")],
            created_at: START,
            updated_at: START,
        };
        records.create_account(&account).await.expect("created");
        for event_type in ["a", "b"] {
            let event_type = EventType {
                name: name(event_type),
                description: String::new(),
                example: "{}".to_owned(),
                schema: None,
                created_at: START,
                updated_at: START,
            };
            records.put_event_type(event_type).await.expect("put");
        }
        let shards: Vec<_> = (0..SHARDS).collect();
        let fences = records.claim(&shards, BootId::MIN).await.expect("claimed");
        memory.set_faults(faults);
        Self { records, memory, id_generator, account: account.id, fences, rules: Rules::default() }
    }

    async fn endpoint(&self, event_types: &[&str]) -> EndpointId {
        self.ordered_endpoint(event_types, Ordering::Parallel).await
    }

    async fn ordered_endpoint(&self, event_types: &[&str], ordering: Ordering) -> EndpointId {
        let endpoint =
            Endpoint { ordering, ..self.unsaved(self.id_generator.id(START), event_types) };
        assert!(self.records.create_endpoint(&endpoint).await.expect("created"));
        endpoint.id
    }

    /// An endpoint that has not been saved.
    fn unsaved(&self, id: EndpointId, event_types: &[&str]) -> Endpoint {
        let url = TargetUrl::parse("https://example.com/", &AddressPolicy::default());
        Endpoint {
            id,
            account: self.account,
            name: Name::parse("Hook").expect("a name"),
            url: url.expect("a URL"),
            event_types: subscription(event_types),
            headers: CustomHeaders::default(),
            ordering: Ordering::Parallel,
            rate_limit: None,
            disable_when: None,
            secrets: Secrets::new(Secret::from_bytes([1; 32])),
            created_at: START,
            updated_at: START,
        }
    }

    async fn subscribe(&self, endpoint: EndpointId, event_types: &[&str]) {
        let change = |it: &mut Endpoint| it.event_types = subscription(event_types);
        let updated = self.records.update_endpoint(self.account, endpoint, change).await;
        updated.expect("updated").expect("an endpoint");
    }

    async fn backlog(&self, endpoint: EndpointId) -> u64 {
        let view = self.records.endpoint(self.account, endpoint).await.unwrap();
        view.expect("an endpoint").backlog.count()
    }

    /// Takes one step of the first fan-out of any shard. `None` if no shard has one.
    async fn step_fan_out(&self) -> Option<Vec<Wake>> {
        for fence in &self.fences {
            if let Some(wakes) =
                self.records.step_fan_out(*fence, &self.id_generator).await.expect("a step")
            {
                assert!(wakes.len() <= MAX_FAN_OUT_PER_TRANSACTION);
                return Some(wakes);
            }
        }
        None
    }

    /// Takes every step of every fan-out.
    async fn fan_out(&self) -> Vec<Wake> {
        let mut wakes = Vec::new();
        while let Some(step) = self.step_fan_out().await {
            wakes.extend(step);
        }
        wakes
    }

    fn event(&self, event_type: &str, now: Timestamp) -> Event {
        Event {
            id: self.id_generator.id(now),
            account: self.account,
            event_type: name(event_type),
            created_at: now,
            payload: Payload::from_stored("{\"n\":1}".into()),
        }
    }

    async fn accept(&self, event_type: &str, now: Timestamp) -> Accepted {
        let event = self.event(event_type, now);
        self.records
            .accept(self.account, vec![event], None, &self.id_generator, now)
            .await
            .expect("accepted")
    }

    fn fence(&self, endpoint: EndpointId) -> Fence {
        self.fences[usize::from(self.records.shard_of(endpoint))]
    }

    async fn workload(&self, endpoint: EndpointId, limit: usize) -> Workload {
        match self.records.workload(self.account, endpoint, limit).await.expect("read") {
            EndpointWork::Send(workload) => *workload,
            other => panic!("{other:?}"),
        }
    }

    /// Discards like the owner of the endpoint's shard.
    async fn discard(&self, endpoint: EndpointId, now: Timestamp) {
        let fence = self.fence(endpoint);
        while self.records.discard_some(fence, self.account, endpoint, now).await.expect("owner") {}
    }

    /// Brings forward like the owner of the endpoint's shard.
    async fn bring_forward(&self, endpoint: EndpointId, now: Timestamp) {
        let (fence, account) = (self.fence(endpoint), self.account);
        let step = || self.records.bring_forward_some(fence, account, endpoint, now);
        while step().await.expect("owner") {}
    }

    /// Records an attempt of the next delivery, with `status` at `now`.
    async fn attempt(&self, endpoint: EndpointId, status: u16, now: Timestamp) -> Applied {
        let delivery = self.workload(endpoint, 1).await.first().clone();
        let result = self.result(delivery.attempt_count + 1, status, now);
        let attempt = FencedAttempt {
            fence: self.fence(endpoint),
            account: self.account,
            endpoint,
            delivery: delivery.id,
            result,
        };
        self.apply(attempt).await
    }

    fn result(&self, number: u8, status: u16, now: Timestamp) -> AttemptResult {
        AttemptResult {
            id: self.id_generator.id(now),
            number,
            at: now,
            exchange: Exchange {
                request: RequestHead { url: "https://example.com/".to_owned(), headers: vec![] },
                response: None,
                outcome: outcome::of_status(status, None, None),
                duration: Duration::from_millis(20),
            },
            jitter: 0.5,
            disable_when: None,
        }
    }

    async fn apply(&self, attempt: FencedAttempt) -> Applied {
        self.records.apply(&[attempt], &self.rules).await.expect("applied").remove(0)
    }

    /// The notices of the endpoint's shard without reminders, which are due later.
    async fn notices(&self, endpoint: EndpointId) -> Vec<Notice> {
        let (shard, now) = (self.records.shard_of(endpoint), START.plus(REMIND_AFTER));
        self.records.notices(shard, now, None, 10).await.expect("read").notices
    }

    async fn pointers(&self, endpoint: EndpointId) -> Vec<Timestamp> {
        let shard = self.records.shard_of(endpoint);
        let due = self.records.due_endpoints(shard, None, 1000).await.expect("read");
        due.into_iter().filter(|due| due.endpoint == endpoint).map(|due| due.at).collect()
    }
}

impl Workload {
    /// The next delivery.
    fn first(&self) -> &Delivery {
        self.retries.deliveries.first().unwrap_or_else(|| &self.firsts.deliveries[0])
    }
}

fn later(millis: u64) -> Timestamp {
    START.plus(Duration::from_millis(millis))
}
