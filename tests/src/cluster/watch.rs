//! Looks at a cluster while it runs: who owns what, by any node that answers, and what the
//! processes use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::Roster;
use crate::client::Operator;
use crate::evidence::{Sighting, Vitals};
use crate::wait::{millis, seconds};

/// How long it rests between two looks.
const PAUSE: Duration = millis(300);
/// How long a node may take to answer before the next one is asked.
const PATIENCE: Duration = seconds(1);

/// Looks until it is told to stop.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    looking: JoinHandle<()>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Who owned what.
    pub sightings: Vec<Sighting>,
    /// What the processes used.
    pub vitals: Vec<Vitals>,
}

impl Watch {
    /// Looks at the nodes whose APIs are at `bases`, and at the processes of `roster`.
    #[must_use]
    pub fn start(operator: &Operator, bases: &[String], roster: Roster) -> Self {
        let api = operator.api.patient_for(PATIENCE);
        let operators: Vec<_> = bases.iter().map(|base| Operator::new(api.at(base))).collect();
        let seen = Arc::<Mutex<Seen>>::default();
        let looking = tokio::spawn(look(Arc::clone(&seen), operators, roster));
        Self { seen, looking }
    }

    /// Stops, and gives all that was seen.
    #[must_use]
    pub fn stop(self) -> Seen {
        self.looking.abort();
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

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
