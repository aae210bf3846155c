//! Any history leads to the same answers on the embedded engine as on the model in memory.

use proptest::prelude::*;

use super::{Bytes, Embedded, Engine, Error, Memory, Pair, Range};

#[derive(Debug, Clone)]
enum Op {
    Get(Vec<u8>),
    Range(Range),
    Set(Vec<u8>, Vec<u8>),
    Clear(Vec<u8>),
    ClearRange(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, i64),
}

/// Two transactions that run at the same time, an operation of each in turn.
type Duel = (Vec<Op>, Vec<Op>);

/// Everything that an engine answered.
#[derive(Debug, PartialEq)]
enum Answer {
    Value(Option<Bytes>),
    Rows(Vec<Pair>),
    Committed(Result<(), Error>),
}

/// Short keys of few letters, so that they meet.
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

fn duels() -> impl Strategy<Value = Vec<Duel>> {
    let side = || proptest::collection::vec(op(), 0..8);
    proptest::collection::vec((side(), side()), 1..12)
}

async fn play(engine: &dyn Engine, duels: &[Duel]) -> Result<Vec<Answer>, Error> {
    let mut answers = Vec::new();
    for (ours, theirs) in duels {
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
        answers.push(Answer::Committed(one.commit().await));
        answers.push(Answer::Committed(other.commit().await));
    }
    answers.push(Answer::Rows(engine.begin().await?.range(Range::prefix("")).await?));
    Ok(answers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn embedded_answers_as_memory_does(duels in duels()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime for the test");
        let dir = tempfile::tempdir().expect("a directory for the test");
        let embedded = Embedded::open(dir.path()).expect("an empty directory opens");
        let expected = runtime.block_on(play(&Memory::new(), &duels));
        let actual = runtime.block_on(play(&embedded, &duels));
        prop_assert_eq!(expected, actual);
    }
}
