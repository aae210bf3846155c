//! Shards that change hands in good order, as the receiver sees it: when a node joins, when one
//! leaves, and when all are restarted one after another, nothing comes twice, and no endpoint
//! waits for more than a second.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use postrider_tests::config::Config;
use postrider_tests::evidence::Subscriber;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::ORDER;
use postrider_tests::steady::{self, Steady};
use postrider_tests::wait::seconds;

use crate::stage::Stage;

/// The longest that an endpoint may wait for its next event.
const LONGEST_GAP: Duration = seconds(1);
/// How long the load runs by itself before and after.
const CALM: Duration = seconds(2);
/// Endpoints, over all shards.
const ENDPOINTS: usize = 24;

/// Many healthy endpoints that get an event each [`steady::PACE`].
pub(crate) struct Flow {
    pub(crate) stage: Stage,
    pub(crate) steady: Steady,
    pub(crate) paths: Vec<String>,
    pub(crate) since: Timestamp,
}

impl Flow {
    pub(crate) async fn begin(stage: Stage) -> Result<Self> {
        let mut paths = Vec::new();
        for n in 0..ENDPOINTS {
            let (Subscriber { path, .. }, _) =
                stage.subscribe(&format!("e{n}"), Behaviour::default()).await?;
            paths.push(path);
        }
        let steady = Steady::start(stage.accounts(), ORDER);
        stage
            .receiver
            .until("every endpoint is served", seconds(20), |received| {
                let served = |path: &String| received.iter().any(|r| r.path == *path);
                paths.iter().all(served).then_some(())
            })
            .await?;
        // Its usual course is the measure.
        tokio::time::sleep(CALM).await;
        Ok(Self { stage, steady, paths, since: Timestamp::now() })
    }

    /// Lets it run on for a while, and waits for the last deliveries.
    pub(crate) async fn end(self, calm: Duration) -> Result<Ended> {
        tokio::time::sleep(calm).await;
        let until = Timestamp::now();
        let events = self.steady.stop().await?;
        let Self { mut stage, paths, since, .. } = self;
        let all = events * paths.len();
        let arrived = stage
            .receiver
            .until("everything arrives", seconds(60), |received| {
                (received.len() >= all).then_some(())
            })
            .await;
        let received = stage.receiver.received();
        let n = received.len();
        arrived.map_err(|error| error.context(format!("{n} requests of {all}")))?;
        stage.cluster.stop().await?;
        let gaps = steady::gaps(&received, &paths, since, until);
        Ok(Ended { events, gaps, twice: steady::duplicates(&received), received })
    }
}

/// What came of it.
pub(crate) struct Ended {
    pub(crate) events: usize,
    pub(crate) gaps: Vec<steady::Gap>,
    pub(crate) twice: Vec<(String, String, usize)>,
    pub(crate) received: Vec<postrider_tests::receiver::Received>,
}

impl Ended {
    fn is_seamless(&self, title: &str) -> Result<()> {
        let longest = self.gaps.first().map(|gap| gap.lasted).unwrap_or_default();
        eprintln!(
            "{title}: {} events to {ENDPOINTS} endpoints; the longest gap {longest:?}, {} twice",
            self.events,
            self.twice.len(),
        );
        ensure!(self.twice.is_empty(), "sent twice: {:?}", self.twice);
        ensure!(longest <= LONGEST_GAP, "gaps: {:?}", &self.gaps[..self.gaps.len().min(5)]);
        Ok(())
    }
}

/// As the product is, but for the shards: enough of them for every node, and few enough to move
/// within the test.
pub(crate) fn config() -> Config {
    Config::new().set("cluster", "shards", 48)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_node_that_joins_or_leaves() -> Result<()> {
    let mut flow = Flow::begin(Stage::start(config(), 3, 2).await?).await?;
    flow.stage.cluster.join(2).await?;
    flow.stage.balanced(3).await?;
    tokio::time::sleep(CALM).await;
    let joined = Timestamp::now();
    flow.stage.cluster.leave(2).await?;
    flow.stage.balanced(2).await?;
    let (since, paths) = (flow.since, flow.paths.clone());
    let ended = flow.end(CALM).await?;
    let joining = steady::gaps(&ended.received, &paths, since, joined);
    eprintln!("joining: the longest gap {:?}", joining.first().map(|gap| gap.lasted));
    ended.is_seamless("joining and leaving")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_rolling_restart() -> Result<()> {
    let mut flow = Flow::begin(Stage::start(config(), 3, 3).await?).await?;
    for node in 0..3 {
        flow.stage.cluster.restart(node).await?;
        tokio::time::sleep(CALM).await;
    }
    flow.end(CALM).await?.is_seamless("rolling restart")
}
