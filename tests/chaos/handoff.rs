//! Planned handoffs of shards, as the receiver sees them: when a node joins or leaves, and when all
//! nodes are restarted one after another, no request is duplicated and no endpoint waits for more
//! than a second.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use postrider_tests::config::Config;
use postrider_tests::evidence::Subscriber;
use postrider_tests::fixture::ORDER;
use postrider_tests::receiver::Behaviour;
use postrider_tests::steady_load::{self, SteadyPublisher};
use postrider_tests::wait::seconds;

use crate::cluster_fixture::{ClusterFixture, PARTIAL_SHARE};

/// The longest an endpoint may wait for its next event.
const MAX_GAP: Duration = seconds(1);
/// How long the load runs undisturbed before and after a handoff.
const UNDISTURBED_FOR: Duration = seconds(2);
/// Endpoints, spread over all shards.
const ENDPOINTS: usize = 24;

/// Many healthy endpoints that each receive an event every [`steady_load::PUBLISH_INTERVAL`].
pub(crate) struct SteadyLoad {
    pub(crate) fixture: ClusterFixture,
    pub(crate) steady: SteadyPublisher,
    pub(crate) paths: Vec<String>,
    pub(crate) since: Timestamp,
}

impl SteadyLoad {
    pub(crate) async fn start(fixture: ClusterFixture) -> Result<Self> {
        let mut paths = Vec::new();
        for n in 0..ENDPOINTS {
            let (Subscriber { path, .. }, _) =
                fixture.subscribe(&format!("e{n}"), Behaviour::default()).await?;
            paths.push(path);
        }
        let steady = SteadyPublisher::start(fixture.accounts(), ORDER);
        fixture
            .receiver
            .until("every endpoint has received an event", seconds(20), |received| {
                let served = |path: &String| received.iter().any(|r| r.path == *path);
                paths.iter().all(served).then_some(())
            })
            .await?;
        // The undisturbed load is the baseline.
        tokio::time::sleep(UNDISTURBED_FOR).await;
        Ok(Self { fixture, steady, paths, since: Timestamp::now() })
    }

    /// Lets the load run for `calm`, stops it, and waits for the last deliveries.
    pub(crate) async fn finish(self, calm: Duration) -> Result<SteadyLoadReport> {
        tokio::time::sleep(calm).await;
        let until = Timestamp::now();
        let events = self.steady.stop().await?;
        let Self { mut fixture, paths, since, .. } = self;
        let all = events * paths.len();
        let arrived = fixture
            .receiver
            .until("every event has arrived", seconds(60), |received| {
                (received.len() >= all).then_some(())
            })
            .await;
        let received = fixture.receiver.received();
        let n = received.len();
        arrived.map_err(|error| error.context(format!("received {n} of {all} requests")))?;
        fixture.cluster.stop().await?;
        let gaps = steady_load::gaps(&received, &paths, since, until);
        Ok(SteadyLoadReport {
            events,
            gaps,
            duplicates: steady_load::duplicates(&received),
            received,
        })
    }
}

/// What the receiver saw of a [`SteadyLoad`].
pub(crate) struct SteadyLoadReport {
    pub(crate) events: usize,
    pub(crate) gaps: Vec<steady_load::Gap>,
    pub(crate) duplicates: Vec<(String, String, usize)>,
    pub(crate) received: Vec<postrider_tests::receiver::Received>,
}

impl SteadyLoadReport {
    fn assert_no_gaps(&self, title: &str) -> Result<()> {
        let longest = self.gaps.first().map(|gap| gap.lasted).unwrap_or_default();
        eprintln!(
            "{title}: {} events to {ENDPOINTS} endpoints; longest gap {longest:?}, {} duplicate requests",
            self.events,
            self.duplicates.len(),
        );
        ensure!(
            self.duplicates.is_empty(),
            "requests were sent more than once: {:?}",
            self.duplicates
        );
        ensure!(
            longest <= MAX_GAP,
            "an endpoint waited longer than {MAX_GAP:?}; the longest gaps: {:?}",
            &self.gaps[..self.gaps.len().min(5)]
        );
        Ok(())
    }
}

/// The default configuration except for the number of shards: enough for every node, and few enough
/// to move within the test.
pub(crate) fn config() -> Config {
    Config::new().set("cluster", "shards", 48)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_endpoint_stalls_when_a_node_joins_or_leaves() -> Result<()> {
    let mut load = SteadyLoad::start(ClusterFixture::start(config(), 3, 2).await?).await?;
    load.fixture.cluster.join(2).await?;
    load.fixture.wait_for_balance(3, PARTIAL_SHARE).await?;
    tokio::time::sleep(UNDISTURBED_FOR).await;
    let joined = Timestamp::now();
    load.fixture.cluster.leave(2).await?;
    load.fixture.wait_for_balance(2, PARTIAL_SHARE).await?;
    let (since, paths) = (load.since, load.paths.clone());
    let report = load.finish(UNDISTURBED_FOR).await?;
    let joining = steady_load::gaps(&report.received, &paths, since, joined);
    eprintln!("joining: longest gap {:?}", joining.first().map(|gap| gap.lasted));
    report.assert_no_gaps("joining and leaving")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_endpoint_stalls_during_a_rolling_restart() -> Result<()> {
    let mut load = SteadyLoad::start(ClusterFixture::start(config(), 3, 3).await?).await?;
    for node in 0..3 {
        load.fixture.cluster.restart(node).await?;
        tokio::time::sleep(UNDISTURBED_FOR).await;
    }
    load.finish(UNDISTURBED_FOR).await?.assert_no_gaps("rolling restart")
}
