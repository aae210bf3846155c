//! Use cases of replays, which are durable jobs that redeliver past events.

use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::replay::{Command, Filter, Replay, ReplayState};
use postrider_store::{ReplayCount, ReplayRequest, Wake};

use crate::error::{InvalidField, Resource, ServiceError};
use crate::{Once, Service};

/// A replay to start.
#[derive(Clone, Debug)]
pub struct NewReplay {
    /// Selects the past deliveries to repeat.
    pub filter: Filter,
    /// The maximum number of new deliveries per second.
    pub rate: u32,
}

/// The changed replay, or the state in which the command is invalid.
type CommandResult = Result<(Replay, Vec<Wake>), ReplayState>;

impl Service {
    /// Counts the deliveries that a replay would repeat, up to a limit.
    pub async fn count_replay(
        &self,
        account: AccountId,
        filter: &Filter,
    ) -> Result<ReplayCount, ServiceError> {
        let invalid = self.validate_replay_filter(account, filter).await?;
        if !invalid.is_empty() {
            return Err(ServiceError::InvalidFields(invalid));
        }
        Ok(self.records().count_replay(account, filter).await?)
    }

    /// Starts a replay.
    pub async fn start_replay(
        &self,
        account: AccountId,
        new: NewReplay,
        once: Option<Once<Replay>>,
    ) -> Result<Replay, ServiceError> {
        let NewReplay { filter, rate } = new;
        let now = self.now();
        let total = self.count_replay(account, &filter).await?.total;
        let request = ReplayRequest { filter, rate, total };
        let records = self.records_once(once, |created: &Option<(Replay, Wake)>| {
            created.as_ref().map(|(replay, _)| replay.clone())
        });
        let created = records.create_replay(account, request, self.ids(), now).await?;
        let (replay, wake) = created.ok_or(ServiceError::NotFound(Resource::Account))?;
        self.router().wake(vec![wake]);
        Ok(replay)
    }

    /// Returns the invalid fields of a filter.
    pub async fn validate_replay_filter(
        &self,
        account: AccountId,
        filter: &Filter,
    ) -> Result<Vec<InvalidField>, ServiceError> {
        let mut invalid = Vec::new();
        let mut reject = |pointer: &str, detail: &str| {
            let (pointer, detail) = (pointer.to_owned(), detail.to_owned());
            invalid.push(InvalidField { pointer, detail });
        };
        if let (Some(since), Some(until)) = (filter.since, filter.until)
            && since >= until
        {
            reject("/until", "must be later than since");
        }
        if let Some(endpoint) = filter.endpoint
            && self.records().endpoint(account, endpoint).await?.is_none()
        {
            reject("/endpoint", "is not an endpoint of this account");
        }
        Ok(invalid)
    }

    /// Returns a replay.
    pub async fn replay(&self, account: AccountId, id: ReplayId) -> Result<Replay, ServiceError> {
        let replay = self.records().replay(account, id).await?;
        replay.ok_or(ServiceError::NotFound(Resource::Replay))
    }

    /// Pauses, resumes or cancels a replay.
    pub async fn command_replay(
        &self,
        account: AccountId,
        id: ReplayId,
        command: Command,
        once: Option<Once<Replay>>,
    ) -> Result<Replay, ServiceError> {
        let records = self.records_once(once, |result: &Option<CommandResult>| match result {
            Some(Ok((replay, _))) => Some(replay.clone()),
            None | Some(Err(_)) => None,
        });
        let result = records.command_replay(account, id, command, self.now()).await?;
        match result.ok_or(ServiceError::NotFound(Resource::Replay))? {
            Ok((replay, wakes)) => {
                self.router().wake(wakes);
                Ok(replay)
            }
            Err(state) => Err(ServiceError::ReplayEnded(state)),
        }
    }
}
