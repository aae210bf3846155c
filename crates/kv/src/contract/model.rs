//! Property test: every engine answers any history as the in-memory model does.

use proptest::prelude::*;

use super::{Bytes, Engine, Error, Lmdb, Memory, Pair, Range};

#[derive(Debug, Clone)]
enum Op {
    Get(Vec<u8>),
    Range(Range),
    Set(Vec<u8>, Vec<u8>),
    Clear(Vec<u8>),
    ClearRange(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, i64),
}

/// Two concurrent transactions whose operations alternate.
type Interleaving = (Vec<Op>, Vec<Op>);

/// An engine's answer to an operation.
#[derive(Debug, PartialEq)]
enum Answer {
    Value(Option<Bytes>),
    Rows(Vec<Pair>),
    Committed(Result<(), Error>),
}

/// Short keys from a small alphabet, so that they collide.
fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0), Just(b'a'), Just(b'b'), Just(255)], 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    let range = (key(), key(), 0..6_usize, any::<bool>());
    let range = range.prop_map(|(begin, end, limit, reverse)| Range { begin, end, limit, reverse });
    prop_oneof![
        2 => key().prop_map(Op::Get),
        3 => range.prop_map(Op::Range),
        4 => (key(), proptest::collection::vec(any::<u8>(), 0..12)).prop_map(|(k, v)| Op::Set(k, v)),
        2 => key().prop_map(Op::Clear),
        1 => (key(), key()).prop_map(|(begin, end)| Op::ClearRange(begin, end)),
        2 => (key(), any::<i64>()).prop_map(|(key, delta)| Op::Add(key, delta)),
    ]
}

fn interleavings() -> impl Strategy<Value = Vec<Interleaving>> {
    let side = || proptest::collection::vec(op(), 0..8);
    proptest::collection::vec((side(), side()), 1..12)
}

/// Runs the interleavings. `rejected` marks, by position, commits that a stricter engine rejected;
/// they are skipped here.
async fn run(
    engine: &dyn Engine,
    interleavings: &[Interleaving],
    rejected: &[bool],
) -> Result<Vec<Answer>, Error> {
    let mut answers = Vec::new();
    let mut rejected = rejected.iter();
    for (ours, theirs) in interleavings {
        let (one, other) = (engine.begin().await?, engine.begin().await?);
        for turn in 0..ours.len().max(theirs.len()) {
            for (tx, ops) in [(&one, ours), (&other, theirs)] {
                match ops.get(turn).cloned() {
                    Some(Op::Get(key)) => answers.push(Answer::Value(tx.get(&key).await?)),
                    Some(Op::Range(range)) => answers.push(Answer::Rows(tx.range(range).await?)),
                    Some(Op::Set(key, value)) => tx.set(key, value.into()),
                    Some(Op::Clear(key)) => tx.clear(key),
                    Some(Op::ClearRange(begin, end)) => tx.clear_range(begin, end),
                    Some(Op::Add(key, delta)) => tx.add(key, delta),
                    None => {}
                }
            }
        }
        for tx in [one, other] {
            answers.push(Answer::Committed(match rejected.next() {
                Some(true) => Err(Error::Conflict),
                _ => tx.commit().await,
            }));
        }
    }
    answers.push(Answer::Rows(engine.begin().await?.range(Range::prefix("")).await?));
    Ok(answers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lmdb_answers_as_memory_does(interleavings in interleavings()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime for the test");
        let dir = tempfile::tempdir().expect("a directory for the test");
        let lmdb = Lmdb::open(dir.path()).expect("an empty directory opens");
        let expected = runtime.block_on(run(&Memory::new(), &interleavings, &[]));
        let actual = runtime.block_on(run(&lmdb, &interleavings, &[]));
        prop_assert_eq!(expected, actual);
    }
}

/// FoundationDB validates by version, so it may reject the second transaction of a pair where
/// validation by value would not. It is never less strict, and never rejects the first.
#[cfg(feature = "foundationdb")]
#[test]
fn foundationdb_answers_as_memory_does() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the test");
    let engine = runtime.block_on(crate::foundationdb::tests::open());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(64));
    let tried = runner.run(&interleavings(), |interleavings| {
        let actual = runtime.block_on(async {
            crate::foundationdb::tests::empty(&engine).await?;
            run(&*engine, &interleavings, &[]).await
        });
        let actual = actual.expect("FoundationDB answers");
        let commits = actual.iter().filter_map(|answer| match answer {
            Answer::Committed(result) => Some(result.is_err()),
            _ => None,
        });
        let rejected: Vec<_> = commits.collect();
        prop_assert!(
            rejected.iter().step_by(2).all(|rejected| !rejected),
            "the first was rejected"
        );
        let expected = runtime.block_on(run(&Memory::new(), &interleavings, &rejected));
        prop_assert_eq!(expected.as_ref(), Ok(&actual));
        Ok(())
    });
    runtime.block_on(crate::foundationdb::tests::empty(&engine)).expect("emptied");
    tried.expect("the engines agree");
}
