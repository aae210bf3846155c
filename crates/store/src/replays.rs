//! Replays: durable jobs that make new deliveries of past events, in bounded steps with a
//! durable cursor, by the owner of the replay's shard.
//!
//! A replay takes deliveries whose ids are below its own. The clocks of the nodes differ, so the ids
//! are made to fit: that of a replay is greater than those of all deliveries that are there when it
//! is made, and those of the deliveries that it makes are greater than its own. A delivery that
//! another node makes at the same time may fall on either side.

pub(crate) mod waiting_jobs;

use std::time::Duration;

use postrider_domain::delivery::Delivery;
use postrider_domain::ids::{self, AccountId, DeliveryId, Id, Mint, ReplayId};
use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::replay::{Command, Filter, Replay, ReplayState};
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::deliveries::due::prefetch_deliveries;
use crate::deliveries::query::again;
use crate::endpoints::state_of;
use crate::keys::gate::{self, Gate};
use crate::keys::{delivery, replay};
use crate::kv::{Error, Range, Tx};
use crate::records::{Page, PageRequest, Records, Wake, page};

/// Deliveries that one transaction looks at.
const STEP: usize = 200;
/// How much later than its delivery's `created_at` an id may be, and a replay with `until` still finds
/// the delivery. It is never earlier. It is later when the mint of a node has run ahead of its clock,
/// which follows other nodes' clocks and does not step back. Each replay with `until` looks at the
/// deliveries of so much time beyond it, so this is the skew that is tolerated, and no more. What an
/// earlier version fanned out later than that is not found.
const MAX_ID_LEAD: Duration = Duration::from_secs(5 * 60);
/// Running replays that one read gives.
pub const RUNNING_AT_ONCE: usize = 100;
/// Deliveries that are looked at, in many transactions, to count what a replay would take.
pub const MOST_COUNTED: usize = 100_000;

/// A replay that somebody asked for.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// What it replays.
    pub filter: Filter,
    /// Most new deliveries a second.
    pub rate: u32,
    /// How many deliveries the filter took.
    pub total: u64,
}

/// How many deliveries a replay would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayCount {
    /// So many at least.
    pub total: u64,
    /// And no more: all of them were looked at.
    pub exact: bool,
}

impl Records {
    /// How many deliveries a replay made now would take. It looks at a bounded number of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count_replay(
        &self,
        account: AccountId,
        filter: &Filter,
    ) -> Result<ReplayCount, Error> {
        self.count_within(account, filter, MOST_COUNTED).await
    }

    /// The same with another bound.
    pub(crate) async fn count_within(
        &self,
        account: AccountId,
        filter: &Filter,
        most_looked_at: usize,
    ) -> Result<ReplayCount, Error> {
        let (mut total, mut looked_at, mut cursor) = (0, 0, None);
        while looked_at < most_looked_at {
            let (taken, last) = self
                .store
                .read(|tx| async move {
                    let (taken, last) =
                        look(&tx, account, filter, DeliveryId::MAX, cursor, usize::MAX).await?;
                    Ok::<_, Error>((taken.len(), last))
                })
                .await?;
            total += u64::try_from(taken).expect("bounded");
            looked_at += STEP;
            cursor = last;
            if last.is_none() {
                return Ok(ReplayCount { total, exact: true });
            }
        }
        Ok(ReplayCount { total, exact: false })
    }

    /// Makes a replay, which runs from then on. None when there is no such account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create_replay(
        &self,
        account: AccountId,
        request: ReplayRequest,
        mint: &Mint,
        now: Timestamp,
    ) -> Result<Option<(Replay, Wake)>, Error> {
        self.refuse_if_nearly_full()?;
        let newest = Range::prefix(delivery::of_account(account)).reverse().limit(1);
        let newest = self.store.rows(newest).await?;
        let newest = newest.first().map(|(key, _)| delivery::of_key(key)).transpose()?;
        let ReplayRequest { filter, rate, total } = request;
        let record = &Replay {
            id: match newest {
                Some(newest) => mint.id_no_earlier(now, ids::after(newest)),
                None => mint.id(now),
            },
            account,
            filter,
            rate,
            state: ReplayState::Running,
            total,
            done: 0,
            cursor: None,
            created_at: now,
            finished_at: None,
        };
        let shard = self.shard_of(record.id);
        self.store
            .transact(|tx, _| async move {
                if !account_exists(&tx, account).await? {
                    return Ok(None);
                }
                // It may be there, by a commit whose result was unknown, and have begun.
                if tx.get(replay::key(account, record.id)).await?.is_none() {
                    save(&tx, shard, record);
                }
                Ok(Some((record.clone(), Wake::Jobs { shard })))
            })
            .await
    }

    /// One replay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn replay(&self, account: AccountId, id: ReplayId) -> Result<Option<Replay>, Error> {
        self.store.read(|tx| async move { tx.load(&replay::key(account, id)).await }).await
    }

    /// An account's replays, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn replays(
        &self,
        account: AccountId,
        request: PageRequest<ReplayId>,
    ) -> Result<Page<Replay>, Error> {
        let before = request.after.map(|after| replay::key(account, after));
        let range = Range::newest(replay::of_account(account), before).limit(request.limit + 1);
        let rows = self.store.rows(range).await?;
        let items =
            rows.iter().map(|(_, value)| Record::decode(value)).collect::<Result<_, _>>()?;
        Ok(page(items, request.limit, |replay: &Replay| replay.id.to_string()))
    }

    /// Does to a replay what a person asked: the replay as it is then and the work that it makes,
    /// or the state in which that has no meaning. None when there is no such replay.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn command_replay(
        &self,
        account: AccountId,
        id: ReplayId,
        command: Command,
        now: Timestamp,
    ) -> Result<Option<Result<(Replay, Vec<Wake>), ReplayState>>, Error> {
        let shard = self.shard_of(id);
        self.store
            .transact(|tx, maybe_committed| async move {
                let Some(mut record) = tx.load::<Replay>(&replay::key(account, id)).await? else {
                    return Ok(None);
                };
                let Some(state) = record.state.after(command) else {
                    // An earlier run may have been committed, and the replay have ended since.
                    if maybe_committed {
                        return Ok(Some(Ok((record, Vec::new()))));
                    }
                    return Ok(Some(Err(record.state)));
                };
                if state == ReplayState::Cancelled && record.state != state {
                    record.finished_at = Some(now);
                }
                record.state = state;
                save(&tx, shard, &record);
                let running = state == ReplayState::Running;
                let wakes = if running { vec![Wake::Jobs { shard }] } else { Vec::new() };
                Ok(Some(Ok((record, wakes))))
            })
            .await
    }

    /// Some replays of a shard that run, at most [`RUNNING_AT_ONCE`], in the order of their ids: the
    /// first ones, or those after `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn running_replays(
        &self,
        shard: Shard,
        after: Option<ReplayId>,
    ) -> Result<Vec<(AccountId, ReplayId)>, Error> {
        let mut range = Range::prefix(replay::running_in(shard)).limit(RUNNING_AT_ONCE);
        if let Some(after) = after {
            range.begin = [replay::running(shard, after), vec![0]].concat();
        }
        let read = |key: &[u8], value: &[u8]| Ok((Record::decode(value)?, replay::of_key(key)?));
        self.readable_rows(range, read).await
    }

    /// Takes one step of a replay: at most `most` new deliveries. Gives the replay as it is then
    /// and the work that it made; none when it does not run.
    ///
    /// # Errors
    /// When the shard has a later owner, or the store fails.
    pub async fn step_replay(
        &self,
        fence: Fence,
        account: AccountId,
        id: ReplayId,
        most: usize,
        mint: &Mint,
        now: Timestamp,
    ) -> Result<Option<(Replay, Vec<Wake>)>, OwnerError> {
        self.refuse_if_nearly_full()?;
        self.as_owner(fence, |tx| async move {
            let record: Option<Replay> = tx.load(&replay::key(account, id)).await?;
            let Some(mut record) = record.filter(|record| record.state == ReplayState::Running)
            else {
                tx.clear(replay::running(fence.shard, id));
                return Ok(None);
            };
            let limit = most.min(STEP);
            let (taken, last) = look(
                &tx,
                account,
                &record.filter,
                DeliveryId::from_bytes(record.id.bytes()),
                record.cursor,
                limit,
            )
            .await?;
            let mut wakes = Vec::new();
            for old in &taken {
                let place = self.place(account, old.endpoint);
                let Some(gate) = place.gate(&tx).await?.filter(Gate::takes_new) else { continue };
                let new = gate.new_id_no_earlier(mint, now, ids::after(record.id));
                let (_, wake) = again(&tx, place, gate, old, new, now);
                wakes.extend(wake);
            }
            record.done += u64::try_from(taken.len()).expect("bounded");
            if last.is_some() {
                record.cursor = last;
            } else {
                record.state = ReplayState::Completed;
                record.finished_at = Some(now);
            }
            save(&tx, fence.shard, &record);
            Ok(Some((record, wakes)))
        })
        .await
    }
}

fn save(tx: &Tx, shard: Shard, record: &Replay) {
    tx.save(replay::key(record.account, record.id), record);
    match record.state {
        ReplayState::Running => tx.save(replay::running(shard, record.id), &record.account),
        _ => tx.clear(replay::running(shard, record.id)),
    }
}

/// Looks at some deliveries after `cursor` that were made before `made_before` was, until it has
/// `most` that the filter takes: those, and the last one looked at; none at the end.
async fn look(
    tx: &Tx,
    account: AccountId,
    filter: &Filter,
    made_before: DeliveryId,
    cursor: Option<DeliveryId>,
    most: usize,
) -> Result<(Vec<Delivery>, Option<DeliveryId>), Error> {
    let key = |id| match filter.endpoint {
        Some(endpoint) => delivery::of_endpoint(account, endpoint, id),
        None => delivery::key(account, id),
    };
    let until = filter.until.map(|until| ids::floor(until.plus(MAX_ID_LEAD)));
    let end = until.map_or(made_before, |until| made_before.min(until));
    let begin = match cursor {
        Some(cursor) => [key(cursor), vec![0]].concat(),
        None => key(filter.since.map_or(DeliveryId::MIN, ids::floor)),
    };
    let rows = tx.snap_range(Range::new(begin, key(end)).limit(STEP)).await?;
    prefetch_deliveries(tx, account, &rows).await?;
    let mut seen = Vec::with_capacity(rows.len());
    for (row, _) in &rows {
        let key = delivery::key(account, delivery::of_key(row)?);
        seen.extend(tx.snap_load::<Delivery>(&key).await?);
    }
    tx.prefetch(seen.iter().map(|record| gate::key(account, record.endpoint))).await?;
    let mut taken = Vec::new();
    for record in seen {
        let id = record.id;
        if filter.takes(&record, state_of(tx, &record).await?) {
            taken.push(record);
        }
        if taken.len() >= most {
            return Ok((taken, Some(id)));
        }
    }
    let last = if rows.len() == STEP { rows.last() } else { None };
    Ok((taken, last.map(|(row, _)| delivery::of_key(row)).transpose()?))
}
