//! Room in a full store: pages that were freed take new data, at once and after reopening.

use super::*;

/// The size of a small map, which is full soon. It is more than twice the reserve.
const MAP_SIZE: usize = 48 << 20;
/// A value that takes a page of its own.
const PAGE_VALUE: usize = 3_000;
/// A value that needs a run of pages.
const LARGE_VALUE: usize = 80_000;
/// Rows written in one transaction.
const BATCH: usize = 100;

fn open_small(dir: &Path) -> Store {
    Store::new(Arc::new(Lmdb::open_with(dir, MAP_SIZE).expect("the directory opens")), 1)
}

async fn set_all(store: &Store, rows: std::ops::Range<usize>, bytes: usize) -> Result<(), Error> {
    let body = |tx: Tx, _| {
        for row in rows.clone() {
            tx.set(format!("row/{row:06}"), vec![3; bytes]);
        }
        async { Ok(()) }
    };
    store.transact(body).await
}

async fn clear_all(
    store: &Store,
    rows: impl Iterator<Item = usize> + Clone + Send + Sync,
) -> Result<(), Error> {
    let body = |tx: Tx, _| {
        for row in rows.clone() {
            tx.clear(format!("row/{row:06}"));
        }
        async { Ok(()) }
    };
    store.transact(body).await
}

/// Writes large rows until nothing more fits, and returns how many there are. Nothing fails before
/// the store is nearly full.
async fn fill(store: &Store) -> usize {
    let mut written = 0;
    loop {
        let was_nearly_full = store.is_nearly_full();
        match set_all(store, written..written + 1, LARGE_VALUE).await {
            Ok(()) => written += 1,
            Err(error) => {
                assert_eq!(error, Error::Full);
                assert!(was_nearly_full, "it failed after {written} rows");
                return written;
            }
        }
    }
}

async fn until_there_is_room(store: &Store) -> TestResult {
    let room = async {
        while store.is_nearly_full() {
            tokio::task::yield_now().await;
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(10), room).await?)
}

/// Fills the store, deletes everything, and fills it again, also after reopening it.
async fn deleting_makes_room(open: impl Fn() -> Store) -> TestResult {
    let mut store = open();
    let first = fill(&store).await;
    drop(store);
    store = open();
    assert!(store.is_nearly_full(), "a reopened store knows that it is nearly full");
    for row in 0..first {
        clear_all(&store, std::iter::once(row)).await?;
    }
    until_there_is_room(&store).await?;
    let file = store.stats().file.expect("a file");
    assert!(file.free > file.used * 9 / 10, "{file:?}");
    let second = fill(&store).await;
    assert!(second > first * 9 / 10, "{second} rows after {first}");
    assert!(store.stats().file.expect("a file").used <= file.used.max(MAP_SIZE as u64));

    for row in 0..second {
        clear_all(&store, std::iter::once(row)).await?;
    }
    drop(store);
    let store = open();
    assert!(!store.is_nearly_full(), "there is room immediately after reopening");
    let third = fill(&store).await;
    assert!(third > first * 9 / 10, "{third} rows after {first}");
    Ok(())
}

#[tokio::test]
async fn deleted_rows_make_room_in_a_full_map() -> TestResult {
    let dir = tempfile::tempdir()?;
    deleting_makes_room(|| open_small(dir.path())).await
}

#[test]
fn deleted_rows_make_room_on_a_full_disk() -> TestResult {
    let dir = tempfile::tempdir()?;
    let output = child("lmdb::tests::room::child_that_deletes_on_a_full_disk", dir.path())?
        .wait_with_output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("there was room again"), "{stdout}");
    Ok(())
}

#[tokio::test]
async fn child_that_deletes_on_a_full_disk() -> TestResult {
    let Some(dir) = std::env::var_os(DIR) else {
        return Ok(());
    };
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(40_000_100), ..unlimited })?;
    deleting_makes_room(|| open(Path::new(&dir))).await?;
    println!("there was room again");
    Ok(())
}

#[tokio::test]
async fn a_transaction_too_large_for_the_free_pages_fails_alone() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open_small(dir.path());
    let mut rows = 0;
    while set_all(&store, rows..rows + BATCH, PAGE_VALUE).await.is_ok() {
        rows += BATCH;
    }
    // Every other page is free then.
    for begin in (0..rows).step_by(BATCH) {
        clear_all(&store, (begin..begin + BATCH).step_by(2)).await?;
    }
    until_there_is_room(&store).await?;
    // Use up the runs of pages that there still are.
    let mut runs = 0;
    while set(&store, format!("large/{runs}"), vec![1; LARGE_VALUE]).await.is_ok() {
        runs += 1;
    }
    assert!(!store.is_nearly_full(), "after {runs} large values");
    for round in 0..20 {
        let large = (0..2).map(|n| set(&store, format!("more/{n}"), vec![1; LARGE_VALUE]));
        let small = |from: usize| {
            (from..from + 20).map(|n| set(&store, format!("small/{round}/{n}"), vec![2; 100]))
        };
        let (before, large, after) = tokio::join!(
            futures::future::join_all(small(0)),
            futures::future::join_all(large),
            futures::future::join_all(small(20)),
        );
        for committed in before.into_iter().chain(after) {
            committed?;
        }
        assert_eq!(large, [Err(Error::Full), Err(Error::Full)]);
        assert!(!store.is_nearly_full());
    }
    Ok(())
}

#[tokio::test]
async fn rows_can_be_deleted_when_no_row_fits() -> TestResult {
    let dir = tempfile::tempdir()?;
    let store = open_small(dir.path());
    let mut rows = 0;
    for batch in [BATCH, 10, 1] {
        while set_all(&store, rows..rows + batch, PAGE_VALUE).await.is_ok() {
            rows += batch;
        }
    }
    for row in 0..BATCH {
        clear_all(&store, std::iter::once(row)).await?;
    }
    for begin in (BATCH..rows).step_by(BATCH) {
        clear_all(&store, begin..rows.min(begin + BATCH)).await?;
    }
    until_there_is_room(&store).await?;
    set_all(&store, 0..BATCH, PAGE_VALUE).await.map_err(Into::into)
}
