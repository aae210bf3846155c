//! Replays: durable jobs that create new deliveries of past events. The owner of the replay's shard
//! runs them in bounded steps with a durable cursor.
//!
//! A replay covers deliveries whose ids are below its own. Because the nodes' clocks differ, the
//! ids are chosen accordingly: a replay's id is greater than those of all deliveries that exist
//! when it is created, and the deliveries that it creates have greater ids than its own. A delivery
//! that another node creates at the same time may fall on either side.

pub(crate) mod waiting_jobs;

use std::time::Duration;

use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::delivery::Delivery;
use postrider_domain::ids::{self, AccountId, DeliveryId, Id, IdGenerator, ReplayId};
use postrider_domain::replay::{Command, Filter, Replay, ReplayState};
use postrider_domain::time::Timestamp;

use crate::accounts::account_exists;
use crate::cluster::owners::OwnerError;
use crate::codec::{Record, RecordTx};
use crate::deliveries::due::prefetch_deliveries;
use crate::deliveries::query::requeue;
use crate::endpoints::state_of;
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::{delivery, replay};
use crate::kv::{Error, Range, Tx};
use crate::records::{ListPage, PageRequest, Records, Wake, page};

/// The maximum number of deliveries scanned per transaction.
const STEP_SIZE: usize = 200;
/// How far a delivery id's time may be ahead of its `created_at` for a replay with `until` to find
/// the delivery. It is never behind, but it is ahead if the node's id generator has run ahead of
/// its clock. A replay with `until` scans this much further, so this is the tolerated skew.
/// Deliveries that an earlier version fanned out later than that are not found.
const MAX_ID_LEAD: Duration = Duration::from_secs(5 * 60);
/// The maximum number of running replays that one read returns.
pub const MAX_RUNNING_REPLAYS_PAGE: usize = 100;
/// The maximum number of deliveries scanned, in many transactions, to count those that a replay
/// would match.
pub const MAX_REPLAY_COUNT: usize = 100_000;

/// A request for a replay.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    pub filter: Filter,
    /// The maximum number of new deliveries per second.
    pub rate: u32,
    /// How many deliveries matched the filter.
    pub total: u64,
}

/// The number of deliveries that a replay would match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayCount {
    /// A lower bound, unless exact.
    pub total: u64,
    /// Whether all deliveries were scanned.
    pub exact: bool,
}

impl Records {
    /// Counts the deliveries that a replay created now would match. It scans a bounded number.
    pub async fn count_replay(
        &self,
        account: AccountId,
        filter: &Filter,
    ) -> Result<ReplayCount, Error> {
        self.count_within(account, filter, MAX_REPLAY_COUNT).await
    }

    /// Like [`Self::count_replay`], with another bound.
    pub(crate) async fn count_within(
        &self,
        account: AccountId,
        filter: &Filter,
        max_scanned: usize,
    ) -> Result<ReplayCount, Error> {
        let (mut total, mut scanned, mut cursor) = (0, 0, None);
        while scanned < max_scanned {
            let (matching, last) = self
                .store
                .read(|tx| async move {
                    let (matching, last) =
                        scan(&tx, account, filter, DeliveryId::MAX, cursor, usize::MAX).await?;
                    Ok::<_, Error>((matching.len(), last))
                })
                .await?;
            total += u64::try_from(matching).expect("bounded");
            scanned += STEP_SIZE;
            cursor = last;
            if last.is_none() {
                return Ok(ReplayCount { total, exact: true });
            }
        }
        Ok(ReplayCount { total, exact: false })
    }

    /// Creates a running replay. Returns `None` if the account does not exist.
    pub async fn create_replay(
        &self,
        account: AccountId,
        request: ReplayRequest,
        id_generator: &IdGenerator,
        now: Timestamp,
    ) -> Result<Option<(Replay, Wake)>, Error> {
        self.refuse_if_nearly_full()?;
        let newest = Range::prefix(delivery::of_account(account)).reverse().limit(1);
        let newest = self.store.rows(newest).await?;
        let newest = newest.first().map(|(key, _)| delivery::parse_key(key)).transpose()?;
        let ReplayRequest { filter, rate, total } = request;
        let record = &Replay {
            id: match newest {
                Some(newest) => id_generator.id_no_earlier(now, ids::time_after(newest)),
                None => id_generator.id(now),
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
        self.changes
            .transact(|tx, _| async move {
                if !account_exists(&tx, account).await? {
                    return Ok(None);
                }
                // An earlier run may have been committed, and the replay started since.
                if tx.get(replay::key(account, record.id)).await?.is_none() {
                    save(&tx, shard, record);
                }
                Ok(Some((record.clone(), Wake::Jobs { shard })))
            })
            .await
    }

    pub async fn replay(&self, account: AccountId, id: ReplayId) -> Result<Option<Replay>, Error> {
        self.store.read(|tx| async move { tx.load(&replay::key(account, id)).await }).await
    }

    /// Lists an account's replays, newest first.
    pub async fn replays(
        &self,
        account: AccountId,
        request: PageRequest<ReplayId>,
    ) -> Result<ListPage<Replay>, Error> {
        let before = request.after.map(|after| replay::key(account, after));
        let range = Range::newest(replay::of_account(account), before).limit(request.limit + 1);
        let rows = self.store.rows(range).await?;
        let items =
            rows.iter().map(|(_, value)| Record::decode(value)).collect::<Result<_, _>>()?;
        Ok(page(items, request.limit, |replay: &Replay| replay.id.to_string()))
    }

    /// Applies a command to a replay. Returns the changed replay with wake-ups, or the state in
    /// which the command is invalid. `None` if the replay does not exist.
    pub async fn command_replay(
        &self,
        account: AccountId,
        id: ReplayId,
        command: Command,
        now: Timestamp,
    ) -> Result<Option<Result<(Replay, Vec<Wake>), ReplayState>>, Error> {
        let shard = self.shard_of(id);
        self.changes
            .transact(|tx, maybe_committed| async move {
                let Some(mut record) = tx.load::<Replay>(&replay::key(account, id)).await? else {
                    return Ok(None);
                };
                let Some(state) = record.state.after(command) else {
                    // An earlier run may have been committed, and the replay finished since.
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

    /// Lists at most [`MAX_RUNNING_REPLAYS_PAGE`] of a shard's running replays by id, from the
    /// first or after `after`.
    pub async fn running_replays(
        &self,
        shard: Shard,
        after: Option<ReplayId>,
    ) -> Result<Vec<(AccountId, ReplayId)>, Error> {
        let mut range = Range::prefix(replay::running_in(shard)).limit(MAX_RUNNING_REPLAYS_PAGE);
        if let Some(after) = after {
            range.begin = [replay::running(shard, after), vec![0]].concat();
        }
        let read = |key: &[u8], value: &[u8]| Ok((Record::decode(value)?, replay::parse_key(key)?));
        self.readable_rows(range, read).await
    }

    /// Takes one step of a replay, with at most `max` new deliveries. Returns the changed replay
    /// with wake-ups. `None` if it is not running.
    pub async fn step_replay(
        &self,
        fence: Fence,
        account: AccountId,
        id: ReplayId,
        max: usize,
        id_generator: &IdGenerator,
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
            let limit = max.min(STEP_SIZE);
            let (matching, last) = scan(
                &tx,
                account,
                &record.filter,
                DeliveryId::from_bytes(record.id.bytes()),
                record.cursor,
                limit,
            )
            .await?;
            let mut wakes = Vec::new();
            for old in &matching {
                let endpoint_key = self.endpoint_key(account, old.endpoint);
                let Some(dispatch) =
                    endpoint_key.dispatch_state(&tx).await?.filter(DispatchState::accepts_new)
                else {
                    continue;
                };
                let new = dispatch.new_id_no_earlier(id_generator, now, ids::time_after(record.id));
                let (_, wake) = requeue(&tx, endpoint_key, dispatch, old, new, now);
                wakes.extend(wake);
            }
            record.done += u64::try_from(matching.len()).expect("bounded");
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

/// Scans deliveries after `cursor` with ids below `made_before`, until `limit` of them match the
/// filter. Returns the matching ones and the last one scanned, which is `None` at the end.
async fn scan(
    tx: &Tx,
    account: AccountId,
    filter: &Filter,
    made_before: DeliveryId,
    cursor: Option<DeliveryId>,
    limit: usize,
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
    let rows = tx.snap_range(Range::new(begin, key(end)).limit(STEP_SIZE)).await?;
    prefetch_deliveries(tx, account, &rows).await?;
    let mut seen = Vec::with_capacity(rows.len());
    for (row, _) in &rows {
        let key = delivery::key(account, delivery::parse_key(row)?);
        seen.extend(tx.snap_load::<Delivery>(&key).await?);
    }
    tx.prefetch(seen.iter().map(|record| dispatch_state::key(account, record.endpoint))).await?;
    let mut matching = Vec::new();
    for record in seen {
        let id = record.id;
        if filter.matches(&record, state_of(tx, &record).await?) {
            matching.push(record);
        }
        if matching.len() >= limit {
            return Ok((matching, Some(id)));
        }
    }
    let last = if rows.len() == STEP_SIZE { rows.last() } else { None };
    Ok((matching, last.map(|(row, _)| delivery::parse_key(row)).transpose()?))
}
