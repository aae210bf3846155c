//! The summary of a finished run, and its check against the invariants.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use postrider_tests::checker::{self, bounds, duplicates};
use postrider_tests::evidence::{Evidence, Subscriber, since};
use postrider_tests::fault::Kind;
use postrider_tests::load::Publication;

use crate::run::RunOutcome;

/// Prints a summary of the run and checks the invariants.
pub(crate) fn print_and_check(title: &str, seed: u64, outcome: &RunOutcome) -> Result<()> {
    let RunOutcome { evidence, fan_out } = outcome;
    let mut made = BTreeMap::<Kind, usize>::new();
    for fault in &evidence.faults {
        *made.entry(fault.kind).or_default() += 1;
    }
    eprintln!("{title}: faults made: {made:?}");
    let (kib, descriptors, threads) = bounds::peaks(evidence);
    eprintln!(
        "{title}: at most {} MiB, {descriptors} descriptors, {threads} threads per node, {} views \
         of the cluster",
        kib / 1024,
        evidence.cluster_samples.len(),
    );
    if !evidence.slow_flushes.is_empty() {
        let took = evidence.slow_flushes.iter().map(|flush| since(flush.to, flush.from));
        let longest = took.max().unwrap_or_default();
        eprintln!(
            "{title}: {} slow disk flushes, the longest took {longest:?}",
            evidence.slow_flushes.len(),
        );
    }
    for name in checker::skipped(evidence) {
        eprintln!("{title}: invariant not checked because the clocks differed: {name}");
    }
    print_summary(title, evidence, &made);
    let mut found = checker::check(evidence);
    if let Some(fan_out) = fan_out {
        let title = format!("{title}, fan-out");
        print_summary(&title, fan_out, &made);
        if let Err(error) = checker::check(fan_out) {
            let before = found.err().map(|before| format!("{before}\n")).unwrap_or_default();
            found = Err(anyhow::anyhow!("{before}{title}:\n{error}"));
        }
    }
    found.with_context(|| format!("POSTRIDER_SEED={seed}"))
}

fn print_summary(title: &str, evidence: &Evidence, made: &BTreeMap<Kind, usize>) {
    let attempts: usize = evidence.store.deliveries.iter().map(|d| d.attempts.len()).sum();
    let is_repeated = |publication: &&Publication| publication.calls.len() > 1;
    eprintln!(
        "{title}: {} events, {} of them published more than once; {} deliveries, {attempts} \
         attempts recorded, {} requests received, {} emails",
        evidence.store.events.len(),
        evidence.publications.iter().filter(is_repeated).count(),
        evidence.store.deliveries.len(),
        evidence.received.len(),
        evidence.emails.len(),
    );
    if !evidence.replays.is_empty() {
        let changes: usize = evidence.subscribers.iter().map(Subscriber::changes).sum();
        let replays = evidence.replays.iter().filter_map(|run| run.replay.as_ref());
        let done: Vec<_> = replays.map(|replay| replay.done).collect();
        eprintln!(
            "{title}: {} endpoints, {changes} subscription changes, {done:?} deliveries \
             replayed",
            evidence.subscribers.len(),
        );
    }
    eprintln!("{title}: duplicate requests by reason: {}", duplicates_by_reason(evidence, made));
}

fn duplicates_by_reason(evidence: &Evidence, made: &BTreeMap<Kind, usize>) -> String {
    let reasons = duplicates::reasons(evidence);
    let mut text = format!("{reasons:?}");
    if let (Some(&again), Some(&kills)) =
        (reasons.get(&duplicates::Reason::Crash), made.get(&Kind::Kill))
    {
        let (again, kills) = (again as f64, kills as f64);
        let _ = write!(text, ", {:.2} per kill", again / kills);
    }
    text
}
