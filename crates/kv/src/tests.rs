//! `transact`'s retry loop on a faulty store with a paused clock, and the helper functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{BUDGET, Error, MAX_KEY, Range, Store, Tx, counter, prefix_end};
use crate::memory::{Faults, Memory};

fn store(seed: u64, faults: Faults) -> Store {
    Store::new(Arc::new(Memory::with_faults(seed, faults)), seed)
}

async fn total(store: &Store) -> Result<i64, Error> {
    store.read(|tx| async move { Ok(counter(tx.get("n").await?.as_deref())) }).await
}

#[tokio::test(start_paused = true)]
async fn maybe_committed_is_sticky() -> Result<(), Error> {
    let memory = Memory::with_faults(1, Faults { lost_before_commit: 1.0, ..Faults::default() });
    let store = Store::new(Arc::new(memory.clone()), 1);
    let (runs, memory) = (AtomicU32::new(0), &memory);
    let body = |tx: Tx, maybe_committed: bool| {
        let run = runs.fetch_add(1, Ordering::Relaxed);
        assert_eq!(maybe_committed, run > 0, "in run {run}");
        match run {
            0 => {}
            // A plain conflict in between does not clear the flag.
            1 => memory.set_faults(Faults { conflict: 1.0, ..Faults::default() }),
            _ => memory.set_faults(Faults::default()),
        }
        async move {
            tx.set("a", "1");
            Ok::<_, Error>(())
        }
    };
    store.transact(body).await?;
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn maybe_committed_survives_a_later_failure() {
    let memory = Memory::with_faults(1, Faults { lost_after_commit: 1.0, ..Faults::default() });
    let store = Store::new(Arc::new(memory), 1);
    let body = |tx: Tx, maybe_committed: bool| async move {
        tx.set("a", "1");
        if maybe_committed {
            // A permanent store error, returned unchanged by the closure.
            tx.get(vec![0; MAX_KEY + 1]).await?;
        }
        Ok::<_, Error>(())
    };
    assert_eq!(store.transact(body).await, Err(Error::MaybeCommitted));
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_closure_takes_effect_exactly_once() -> Result<(), Error> {
    for seed in 0..20 {
        let delay = Duration::from_millis(20);
        let faults =
            Faults { conflict: 0.2, lost_before_commit: 0.2, lost_after_commit: 0.2, delay };
        let store = store(seed, faults);
        for number in 0..50 {
            let body = |tx: Tx, _| async move {
                let done = format!("done/{number}");
                if tx.get(&done).await?.is_none() {
                    tx.set(done, "");
                    tx.add("n", 1);
                }
                Ok::<_, Error>(())
            };
            store.transact(body).await?;
        }
        assert_eq!(total(&store).await?, 50, "seed {seed}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn gives_up_when_the_budget_is_spent() {
    let store = store(1, Faults { conflict: 1.0, ..Faults::default() });
    let begun = tokio::time::Instant::now();
    let body = |tx: Tx, _| async move {
        tx.set("a", "1");
        Ok::<_, Error>(())
    };
    let result = store.transact(body).await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    assert!(begun.elapsed() >= BUDGET);
    assert!(begun.elapsed() < BUDGET + Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_closure_that_hangs_is_cut_off() {
    let store = store(1, Faults::default());
    let result: Result<(), Error> = store.read(|_| std::future::pending()).await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
}

#[tokio::test]
async fn a_failure_counts_even_if_the_closure_swallows_it() {
    let store = store(1, Faults::default());
    let body = |tx: Tx, _| async move {
        // The result is ignored on purpose.
        let _ = tx.get(vec![0; MAX_KEY + 1]).await;
        tx.set("a", "1");
        Ok::<_, Error>(())
    };
    let result = store.transact(body).await;
    assert!(matches!(result, Err(Error::TooLarge { what: "key", .. })), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn equal_seeds_give_equal_faults() -> Result<(), Error> {
    let faults = Faults { conflict: 0.3, lost_after_commit: 0.3, ..Faults::default() };
    let mut seen = Vec::new();
    for seed in [7, 7, 8] {
        let store = store(seed, faults);
        let mut runs = Vec::new();
        for _ in 0..50 {
            let run = AtomicU32::new(0);
            let body = |tx: Tx, _| {
                run.fetch_add(1, Ordering::Relaxed);
                async move {
                    tx.add("n", 1);
                    Ok::<_, Error>(())
                }
            };
            store.transact(body).await?;
            runs.push(run.into_inner());
        }
        seen.push(runs);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    Ok(())
}

#[test]
fn a_prefix_ends_before_the_next_one() {
    assert_eq!(prefix_end(b"a"), b"b");
    assert_eq!(prefix_end(&[1, 2, 255, 255]), [1, 3]);
    assert!(prefix_end(&[255]) > vec![255; MAX_KEY]);
    assert!(prefix_end(b"") > vec![255; MAX_KEY]);
    assert_eq!(Range::prefix("a/"), Range::new("a/", "a0"));
}

#[test]
fn a_counter_is_read_at_any_length() {
    assert_eq!(counter(None), 0);
    assert_eq!(counter(Some(&[2, 1])), 258);
    assert_eq!(counter(Some(&(-1_i64).to_le_bytes())), -1);
    assert_eq!(counter(Some(&[1, 0, 0, 0, 0, 0, 0, 0, 9])), 1);
}
