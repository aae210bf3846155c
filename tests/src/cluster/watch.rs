//! Looks at a cluster while it runs: who owns what, by any node that answers, what the processes use,
//! and how fast the disk is.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::Roster;
use crate::client::Operator;
use crate::evidence::{Flush, Sighting, Vitals, since};
use crate::wait::{millis, seconds};

/// How long it rests between two looks.
const PAUSE: Duration = millis(300);
/// A disk that takes so long for a few bytes is slow.
const SLOW: Duration = millis(300);
/// How long a node may take to answer before the next one is asked.
const PATIENCE: Duration = seconds(1);

/// Looks until it is told to stop.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
    flushing: JoinHandle<()>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Who owned what.
    pub sightings: Vec<Sighting>,
    /// What the processes used.
    pub vitals: Vec<Vitals>,
    /// When the disk was slow.
    pub slow_flushes: Vec<Flush>,
}

impl Watch {
    /// Looks at the nodes whose APIs are at `bases`, and at the processes of `roster`.
    #[must_use]
    pub fn start(operator: &Operator, bases: &[String], roster: Roster) -> Self {
        let api = operator.api.patient_for(PATIENCE);
        let operators: Vec<_> = bases.iter().map(|base| Operator::new(api.at(base))).collect();
        let seen = Arc::<Mutex<Seen>>::default();
        let looking = tokio::spawn(look(Arc::clone(&seen), operators, roster));
        let flushing = tokio::spawn(flush(Arc::clone(&seen)));
        Self { seen, looking, flushing }
    }

    /// Stops, and gives all that was seen.
    #[must_use]
    pub fn stop(self) -> Seen {
        self.looking.abort();
        self.flushing.abort();
        lock(&self.seen).clone()
    }
}

async fn look(seen: Arc<Mutex<Seen>>, operators: Vec<Operator>, roster: Roster) {
    for operator in operators.iter().cycle() {
        for (name, pid) in roster.running() {
            // It may have ended meanwhile.
            lock(&seen).vitals.extend(Vitals::of(&name, pid).ok());
        }
        if let Ok(cluster) = operator.cluster().await {
            lock(&seen).sightings.push(Sighting { at: Timestamp::now(), cluster });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes to the disk that the nodes write to, and notes when that takes long.
async fn flush(seen: Arc<Mutex<Seen>>) {
    // Without a file nothing is noted, and nothing is excused.
    let Ok(mut file) = tempfile::tempfile() else { return };
    loop {
        let from = Timestamp::now();
        let flushing = tokio::task::spawn_blocking(move || {
            let flushed = file.write_all(b"flushed").and_then(|()| file.sync_data());
            flushed.map(|()| file)
        });
        let Ok(Ok(back)) = flushing.await else { return };
        file = back;
        let flush = Flush { from, to: Timestamp::now() };
        if since(flush.to, flush.from) >= SLOW {
            lock(&seen).slow_flushes.push(flush);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
