//! The engine contract: tests that run on every engine.

mod model;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::future::try_join_all;

use crate::lmdb::Lmdb;
use crate::memory::Memory;
use crate::{
    Engine, Error, MAX_KEY, MAX_TRANSACTION, MAX_VALUE, Pair, Range, Store, Transaction, Tx,
    counter,
};

/// Runs the tests on the engines that validate reads by value, in the order of submission.
macro_rules! on_engines_that_compare_values {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> Result<(), super::Error> {
                super::$test(super::Arc::new(super::Memory::new())).await
            })*
        }
        mod lmdb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> Result<(), super::Error> {
                let dir = tempfile::tempdir().expect("a directory for the test");
                let engine = super::Lmdb::open(dir.path()).expect("an empty directory opens");
                super::$test(super::Arc::new(engine)).await
            })*
        }
    };
}

/// Runs every test on every engine, each time on a new store.
macro_rules! on_every_engine {
    ($($test:ident)*) => {
        on_engines_that_compare_values! {
            $($test)*
            a_value_that_was_restored_does_not_conflict
            an_add_in_the_same_group_is_seen
        }
        #[cfg(feature = "foundationdb")]
        mod foundationdb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() -> Result<(), super::Error> {
                let engine = crate::foundationdb::tests::open().await;
                super::$test(engine.clone()).await?;
                crate::foundationdb::tests::empty(&engine).await
            })*
        }
    };
}

on_every_engine! {
    writes_are_read_back
    ranges_are_ordered_and_limited
    a_transaction_sees_its_own_writes
    a_limited_range_counts_the_transactions_own_writes
    a_snapshot_does_not_move
    a_changed_read_conflicts
    write_skew_is_prevented
    a_phantom_is_prevented
    a_removed_row_in_a_range_conflicts
    changes_beyond_the_limit_do_not_conflict
    snapshot_reads_are_not_checked
    a_transaction_without_writes_never_conflicts
    adds_are_atomic
    a_counter_keeps_its_bytes
    adds_do_not_conflict_with_each_other
    a_checked_read_of_a_counter_conflicts_with_an_add
    adds_and_other_writes_of_one_key_combine
    a_cleared_range_is_empty
    prefetched_reads_are_still_checked
    only_the_conflicting_transactions_of_a_group_are_rejected
    a_transaction_that_read_the_change_does_not_conflict
    transact_retries_until_it_commits
    increments_by_get_and_set_are_never_lost
    an_error_of_the_closure_aborts
    a_read_writes_nothing
    size_limits_are_enforced
}

type SharedEngine = Arc<dyn Engine>;

fn store(engine: &SharedEngine) -> Store {
    Store::new(engine.clone(), 1)
}

async fn put(engine: &SharedEngine, rows: &[(&str, &str)]) -> Result<(), Error> {
    let tx = engine.begin().await?;
    for (key, value) in rows {
        set(&*tx, key, value);
    }
    tx.commit().await
}

fn set(tx: &dyn Transaction, key: &str, value: &str) {
    tx.set(key.into(), Bytes::copy_from_slice(value.as_bytes()));
}

async fn get(engine: &SharedEngine, key: &str) -> Result<Option<Bytes>, Error> {
    engine.begin().await?.get(key.as_bytes()).await
}

fn text(rows: Vec<Pair>) -> String {
    let show = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let rows: Vec<_> = rows.iter().map(|(key, value)| show(key) + "=" + &show(value)).collect();
    rows.join(" ")
}

async fn writes_are_read_back(engine: SharedEngine) -> Result<(), Error> {
    assert_eq!(get(&engine, "a").await?, None);
    put(&engine, &[("a", "1"), ("b", ""), ("ab", "2")]).await?;
    assert_eq!(get(&engine, "a").await?.as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&engine, "b").await?.as_deref(), Some(&b""[..]));

    let tx = engine.begin().await?;
    tx.clear("a".into());
    tx.clear("never there".into());
    set(&*tx, "b", "3");
    tx.commit().await?;
    let rows = engine.begin().await?.range(Range::new("", "z")).await?;
    assert_eq!(text(rows), "ab=2 b=3");
    Ok(())
}

async fn ranges_are_ordered_and_limited(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("q", "0"), ("q/3", "3"), ("q/1", "1"), ("q/2", "2"), ("q0", "4")]).await?;
    let tx = engine.begin().await?;
    let read = async |range| tx.range(range).await.map(text);
    assert_eq!(read(Range::prefix("q/")).await?, "q/1=1 q/2=2 q/3=3");
    assert_eq!(read(Range::prefix("q/").reverse()).await?, "q/3=3 q/2=2 q/1=1");
    assert_eq!(read(Range::prefix("q/").limit(2)).await?, "q/1=1 q/2=2");
    assert_eq!(read(Range::prefix("q/").limit(2).reverse()).await?, "q/3=3 q/2=2");
    assert_eq!(read(Range::new("q/1", "q/3")).await?, "q/1=1 q/2=2");
    assert_eq!(read(Range::new("q/1", "q/3").reverse()).await?, "q/2=2 q/1=1");
    assert_eq!(read(Range::new("q/15", "q/25")).await?, "q/2=2");
    assert_eq!(read(Range::prefix("")).await?, "q=0 q/1=1 q/2=2 q/3=3 q0=4");
    assert_eq!(read(Range::prefix("q/").limit(0)).await?, "");
    assert_eq!(read(Range::new("q/3", "q/1")).await?, "");
    assert_eq!(read(Range::prefix("r")).await?, "");
    Ok(())
}

async fn a_transaction_sees_its_own_writes(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]).await?;
    let tx = engine.begin().await?;
    set(&*tx, "a", "new");
    tx.clear("b".into());
    tx.clear_range("c".into(), "d".into());
    set(&*tx, "e", "5");
    assert_eq!(tx.get(b"a").await?.as_deref(), Some(&b"new"[..]));
    assert_eq!(tx.snap_get(b"b").await?, None);
    assert_eq!(tx.get(b"c").await?, None);
    assert_eq!(text(tx.range(Range::new("a", "z")).await?), "a=new d=4 e=5");
    assert_eq!(text(tx.snap_range(Range::new("a", "z").reverse()).await?), "e=5 d=4 a=new");
    set(&*tx, "c", "again");
    assert_eq!(text(tx.range(Range::new("b", "d")).await?), "c=again");
    assert_eq!(get(&engine, "c").await?.as_deref(), Some(&b"3"[..]), "not yet committed");
    tx.commit().await?;
    let rows = engine.begin().await?.range(Range::new("a", "z")).await?;
    assert_eq!(text(rows), "a=new c=again d=4 e=5");
    Ok(())
}

async fn a_limited_range_counts_the_transactions_own_writes(
    engine: SharedEngine,
) -> Result<(), Error> {
    put(&engine, &[("a", "1"), ("b", "2"), ("d", "4"), ("e", "5")]).await?;
    let tx = engine.begin().await?;
    tx.clear("a".into());
    set(&*tx, "c", "3");
    assert_eq!(text(tx.range(Range::prefix("").limit(2)).await?), "b=2 c=3");
    assert_eq!(text(tx.range(Range::prefix("").limit(3).reverse()).await?), "e=5 d=4 c=3");
    tx.commit().await
}

async fn a_snapshot_does_not_move(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "old"), ("b", "old")]).await?;
    let tx = engine.begin().await?;
    assert_eq!(tx.get(b"a").await?.as_deref(), Some(&b"old"[..]));
    put(&engine, &[("a", "new"), ("b", "new"), ("c", "new")]).await?;
    assert_eq!(tx.get(b"b").await?.as_deref(), Some(&b"old"[..]));
    assert_eq!(text(tx.snap_range(Range::prefix("")).await?), "a=old b=old");
    Ok(())
}

async fn a_changed_read_conflicts(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "1")]).await?;
    for (read, change) in [("a", "a"), ("absent", "absent")] {
        let tx = engine.begin().await?;
        tx.get(read.as_bytes()).await?;
        set(&*tx, "result", "wrong");
        put(&engine, &[(change, "changed")]).await?;
        assert_eq!(tx.commit().await, Err(Error::Conflict));
    }
    assert_eq!(get(&engine, "result").await?, None, "a conflict leaves nothing behind");
    Ok(())
}

/// Only with validation by value: an engine that validates by version reports a conflict.
async fn a_value_that_was_restored_does_not_conflict(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "1")]).await?;
    let tx = engine.begin().await?;
    tx.get(b"a").await?;
    set(&*tx, "b", "1");
    put(&engine, &[("a", "2")]).await?;
    put(&engine, &[("a", "1")]).await?;
    tx.commit().await
}

async fn write_skew_is_prevented(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "on"), ("b", "on")]).await?;
    let (one, other) = (engine.begin().await?, engine.begin().await?);
    one.get(b"b").await?;
    set(&*one, "a", "off");
    other.get(b"a").await?;
    set(&*other, "b", "off");
    let (one, other) = futures::join!(one.commit(), other.commit());
    let conflicts = [one, other].iter().filter(|result| **result == Err(Error::Conflict)).count();
    assert_eq!(conflicts, 1);
    Ok(())
}

async fn a_phantom_is_prevented(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("q/1", "1"), ("q/3", "3")]).await?;
    for (range, new) in [
        (Range::prefix("q/"), "q/2"),
        (Range::prefix("q/").reverse(), "q/0"),
        (Range::prefix("q/").limit(9), "q/9"),
        (Range::prefix("empty/"), "empty/1"),
    ] {
        let tx = engine.begin().await?;
        tx.range(range).await?;
        set(&*tx, "result", "wrong");
        put(&engine, &[(new, "new")]).await?;
        assert_eq!(tx.commit().await, Err(Error::Conflict), "after {new}");
    }
    Ok(())
}

async fn a_removed_row_in_a_range_conflicts(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("q/1", "1"), ("q/2", "2")]).await?;
    let tx = engine.begin().await?;
    tx.range(Range::prefix("q/").limit(2)).await?;
    set(&*tx, "result", "wrong");
    let other = engine.begin().await?;
    other.clear("q/2".into());
    other.commit().await?;
    assert_eq!(tx.commit().await, Err(Error::Conflict));
    Ok(())
}

async fn changes_beyond_the_limit_do_not_conflict(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("q/1", "1"), ("q/3", "3"), ("q/5", "5")]).await?;
    let tx = engine.begin().await?;
    tx.range(Range::prefix("q/").limit(1)).await?;
    tx.range(Range::prefix("q/").limit(1).reverse()).await?;
    set(&*tx, "result", "right");
    put(&engine, &[("q/2", "2"), ("q/3", "changed")]).await?;
    tx.commit().await
}

async fn snapshot_reads_are_not_checked(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "1")]).await?;
    let tx = engine.begin().await?;
    tx.snap_get(b"a").await?;
    tx.snap_range(Range::prefix("")).await?;
    set(&*tx, "result", "right");
    put(&engine, &[("a", "2"), ("b", "2")]).await?;
    tx.commit().await
}

async fn a_transaction_without_writes_never_conflicts(engine: SharedEngine) -> Result<(), Error> {
    let tx = engine.begin().await?;
    tx.get(b"a").await?;
    put(&engine, &[("a", "1")]).await?;
    tx.commit().await
}

async fn adds_are_atomic(engine: SharedEngine) -> Result<(), Error> {
    let store = store(&engine);
    let task = |task: usize| {
        let store = store.clone();
        let body = move |tx: Tx, _| async move {
            tx.add("total", 1);
            tx.add(format!("part/{}", task % 4), -2);
            Ok::<_, Error>(())
        };
        tokio::spawn(async move {
            for _ in 0..100 {
                store.transact(body).await?;
            }
            Ok(())
        })
    };
    for done in futures::future::join_all((0..64).map(task)).await {
        done.expect("no panic in a task")?;
    }
    assert_eq!(counter(get(&engine, "total").await?.as_deref()), 6400);
    assert_eq!(counter(get(&engine, "part/3").await?.as_deref()), -3200);
    Ok(())
}

/// Stored counters are read by other versions. FoundationDB's atomic add has the same encoding.
async fn a_counter_keeps_its_bytes(engine: SharedEngine) -> Result<(), Error> {
    for (key, delta, bytes) in [
        ("positive", 258, [2_u8, 1, 0, 0, 0, 0, 0, 0]),
        ("negative", -2, [254, 255, 255, 255, 255, 255, 255, 255]),
    ] {
        let tx = engine.begin().await?;
        tx.add(key.into(), delta);
        tx.commit().await?;
        assert_eq!(get(&engine, key).await?.as_deref(), Some(bytes.as_slice()), "{key}");
    }
    Ok(())
}

async fn adds_do_not_conflict_with_each_other(engine: SharedEngine) -> Result<(), Error> {
    let (one, other) = (engine.begin().await?, engine.begin().await?);
    one.add("n".into(), 2);
    other.add("n".into(), 3);
    one.commit().await?;
    other.commit().await?;
    assert_eq!(counter(get(&engine, "n").await?.as_deref()), 5);
    Ok(())
}

async fn a_checked_read_of_a_counter_conflicts_with_an_add(
    engine: SharedEngine,
) -> Result<(), Error> {
    for by_range in [false, true] {
        let (reader, adder) = read_and_add(&engine, by_range).await?;
        adder.commit().await?;
        assert_eq!(reader.commit().await, Err(Error::Conflict), "by range: {by_range}");
    }
    Ok(())
}

/// These engines commit in submission order, even within a group.
async fn an_add_in_the_same_group_is_seen(engine: SharedEngine) -> Result<(), Error> {
    for by_range in [false, true] {
        let (reader, adder) = read_and_add(&engine, by_range).await?;
        let (added, read) = futures::join!(adder.commit(), reader.commit());
        added?;
        assert_eq!(read, Err(Error::Conflict), "by range: {by_range}");
    }
    Ok(())
}

/// One transaction that reads a counter, and another that adds to it.
async fn read_and_add(
    engine: &SharedEngine,
    by_range: bool,
) -> Result<(Box<dyn Transaction>, Box<dyn Transaction>), Error> {
    let (reader, adder) = (engine.begin().await?, engine.begin().await?);
    if by_range {
        reader.range(Range::prefix("n")).await?;
    } else {
        reader.get(b"n").await?;
    }
    set(&*reader, "result", "wrong");
    adder.add("n".into(), 1);
    Ok((reader, adder))
}

async fn adds_and_other_writes_of_one_key_combine(engine: SharedEngine) -> Result<(), Error> {
    let ten = || Bytes::copy_from_slice(&10_i64.to_le_bytes());
    let tx = engine.begin().await?;
    tx.set("set then add".into(), ten());
    tx.add("set then add".into(), 1);
    tx.add("add then set".into(), 1);
    tx.set("add then set".into(), ten());
    tx.add("twice".into(), 1);
    tx.add("twice".into(), 2);
    tx.add("clear then add".into(), 5);
    tx.clear("clear then add".into());
    tx.add("clear then add".into(), 1);
    tx.commit().await?;

    let tx = engine.begin().await?;
    let read =
        async |key: &str| tx.get(key.as_bytes()).await.map(|value| counter(value.as_deref()));
    assert_eq!(read("set then add").await?, 11);
    assert_eq!(read("add then set").await?, 10);
    assert_eq!(read("twice").await?, 3);
    assert_eq!(read("clear then add").await?, 1);
    tx.add("twice".into(), 4);
    assert_eq!(read("twice").await?, 7, "a transaction sees its own adds");
    tx.clear_range("t".into(), "u".into());
    tx.add("twice".into(), 4);
    assert_eq!(read("twice").await?, 4);
    tx.commit().await?;
    assert_eq!(counter(get(&engine, "twice").await?.as_deref()), 4);
    Ok(())
}

async fn a_cleared_range_is_empty(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "1"), ("b/1", "2"), ("b/2", "3"), ("c", "4")]).await?;
    let tx = engine.begin().await?;
    tx.add("b/3".into(), 1);
    tx.clear_range("b/".into(), "b0".into());
    tx.clear_range("z".into(), "a".into());
    tx.commit().await?;
    let rows = engine.begin().await?.range(Range::prefix("")).await?;
    assert_eq!(text(rows), "a=1 c=4");
    let tx = engine.begin().await?;
    tx.clear_range("".into(), "b".into());
    tx.commit().await?;
    assert_eq!(text(engine.begin().await?.range(Range::prefix("")).await?), "c=4");
    Ok(())
}

async fn transact_retries_until_it_commits(engine: SharedEngine) -> Result<(), Error> {
    let runs = Arc::new(AtomicU32::new(0));
    let body = |tx: Tx, maybe_committed: bool| {
        let (engine, runs) = (engine.clone(), runs.clone());
        async move {
            assert!(!maybe_committed, "a conflict leaves no doubt");
            tx.get("a").await?;
            tx.set("result", "right");
            // The first two times, another transaction commits first.
            if runs.fetch_add(1, Ordering::Relaxed) < 2 {
                put(&engine, &[("a", &runs.load(Ordering::Relaxed).to_string())]).await?;
            }
            Ok::<_, Error>(())
        }
    };
    store(&engine).transact(body).await?;
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert!(get(&engine, "result").await?.is_some());
    Ok(())
}

async fn increments_by_get_and_set_are_never_lost(engine: SharedEngine) -> Result<(), Error> {
    let store = store(&engine);
    let increment = async |tx: Tx| {
        let before = counter(tx.get("n").await?.as_deref());
        tx.set("n", (before + 1).to_le_bytes().to_vec());
        Ok::<_, Error>(())
    };
    try_join_all((0..8).map(async |_| {
        for _ in 0..10 {
            store.transact(|tx, _| increment(tx)).await?;
        }
        Ok::<_, Error>(())
    }))
    .await?;
    assert_eq!(counter(get(&engine, "n").await?.as_deref()), 80);
    Ok(())
}

async fn an_error_of_the_closure_aborts(engine: SharedEngine) -> Result<(), Error> {
    #[derive(Debug, PartialEq)]
    enum BodyError {
        Fenced,
        Store(Error),
    }
    impl From<Error> for BodyError {
        fn from(error: Error) -> Self {
            Self::Store(error)
        }
    }
    let body = |tx: Tx, _| async move {
        tx.set("a", "1");
        Err::<(), _>(BodyError::Fenced)
    };
    assert_eq!(store(&engine).transact(body).await, Err(BodyError::Fenced));
    assert_eq!(get(&engine, "a").await?, None);
    let body = |tx: Tx, _| async move {
        tx.get(vec![0; MAX_KEY + 1]).await?;
        Ok(())
    };
    let error = store(&engine).transact(body).await;
    assert!(matches!(error, Err(BodyError::Store(Error::TooLarge { .. }))), "{error:?}");
    Ok(())
}

async fn a_read_writes_nothing(engine: SharedEngine) -> Result<(), Error> {
    let body = |tx: Tx| async move {
        tx.set("a", "1");
        tx.get("a").await
    };
    assert!(store(&engine).read(body).await?.is_some());
    assert_eq!(get(&engine, "a").await?, None);
    Ok(())
}

async fn size_limits_are_enforced(engine: SharedEngine) -> Result<(), Error> {
    let store = store(&engine);
    let write = async |rows: usize, key: usize, value: usize| {
        let body = |tx: Tx, _| async move {
            for row in 0..rows {
                tx.set([vec![b'k'; key - 1], vec![row as u8]].concat(), vec![0; value]);
            }
            Ok::<_, Error>(())
        };
        store.transact(body).await
    };
    write(1, MAX_KEY, MAX_VALUE).await?;
    write(10, 1, MAX_VALUE).await?;
    let too_large = |result| match result {
        Err(Error::TooLarge { what, limit, actual }) => Some((what, limit, actual?)),
        _ => None,
    };
    let key = write(1, MAX_KEY + 1, 1).await;
    assert_eq!(too_large(key), Some(("key", MAX_KEY, MAX_KEY + 1)));
    let value = write(1, 1, MAX_VALUE + 1).await;
    assert_eq!(too_large(value), Some(("value", MAX_VALUE, MAX_VALUE + 1)));
    let rows = MAX_TRANSACTION / MAX_VALUE + 1;
    let whole = write(rows, 100, MAX_VALUE).await;
    assert_eq!(too_large(whole), Some(("transaction", MAX_TRANSACTION, rows * (MAX_VALUE + 100))));
    Ok(())
}

async fn prefetched_reads_are_still_checked(engine: SharedEngine) -> Result<(), Error> {
    put(&engine, &[("a", "1"), ("b", "2")]).await?;
    let tx = engine.begin().await?;
    set(&*tx, "b", "mine");
    tx.prefetch(vec!["a".into(), "b".into(), "absent".into()]).await?;
    assert_eq!(tx.get(b"b").await?.as_deref(), Some(&b"mine"[..]));
    assert_eq!(tx.snap_get(b"absent").await?, None);
    put(&engine, &[("a", "3"), ("absent", "4")]).await?;
    assert_eq!(tx.get(b"a").await?.as_deref(), Some(&b"1"[..]), "the snapshot has not moved");
    assert_eq!(tx.commit().await, Err(Error::Conflict));

    let tx = engine.begin().await?;
    tx.prefetch(vec!["a".into()]).await?;
    set(&*tx, "b", "5");
    put(&engine, &[("a", "6")]).await?;
    // A key that was only prefetched does not count as read.
    tx.commit().await
}

/// Of many concurrent commits, only those that read a changed row are rejected.
async fn only_the_conflicting_transactions_of_a_group_are_rejected(
    engine: SharedEngine,
) -> Result<(), Error> {
    let count = 40;
    let mut transactions = Vec::new();
    for number in 0..count {
        let tx = engine.begin().await?;
        tx.get(format!("read/{number}").as_bytes()).await?;
        set(&*tx, &format!("written/{number}"), "1");
        transactions.push(tx);
    }
    put(&engine, &[("read/7", "changed"), ("read/30", "changed")]).await?;
    let results = futures::future::join_all(transactions.into_iter().map(|tx| tx.commit())).await;
    for (number, result) in results.into_iter().enumerate() {
        let expected = if [7, 30].contains(&number) { Err(Error::Conflict) } else { Ok(()) };
        assert_eq!(result, expected, "{number}");
    }
    let written = engine.begin().await?.range(Range::prefix("written/")).await?;
    assert_eq!(written.len(), count - 2);
    Ok(())
}

/// Even if it commits in the same group as a transaction that read before the change.
async fn a_transaction_that_read_the_change_does_not_conflict(
    engine: SharedEngine,
) -> Result<(), Error> {
    put(&engine, &[("a", "1")]).await?;
    let begin = async |number: usize| {
        let tx = engine.begin().await?;
        tx.get(if number < 20 { b"other" } else { b"a" }).await?;
        set(&*tx, &format!("written/{number}"), "1");
        Ok::<_, Error>(tx)
    };
    let mut transactions = Vec::new();
    for number in 0..40 {
        if number == 20 {
            put(&engine, &[("a", "2")]).await?;
        }
        transactions.push(begin(number).await?);
    }
    // Alternate early and late readers.
    let late = transactions.split_off(20);
    let mixed = transactions.into_iter().zip(late).flat_map(|(early, late)| [early, late]);
    let results = futures::future::join_all(mixed.map(|tx| tx.commit())).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    Ok(())
}
