//! Replays: durable jobs that deliver past events again.

use postrider_domain::ids::{AccountId, ReplayId};
use postrider_domain::replay::{Command, Filter, Replay};
use postrider_store::{ReplayCount, ReplayRequest};

use crate::Service;
use crate::error::{InvalidField, Resource, ServiceError};

/// A replay to start.
#[derive(Clone, Debug)]
pub struct NewReplay {
    /// Which past deliveries it takes.
    pub filter: Filter,
    /// New deliveries a second, at most.
    pub rate: u32,
}

impl Service {
    /// Counts the deliveries that a replay would take, up to a bound.
    ///
    /// # Errors
    /// [`ServiceError::InvalidFields`], or the store's error.
    pub async fn count_replay(
        &self,
        account: AccountId,
        filter: &Filter,
    ) -> Result<ReplayCount, ServiceError> {
        let invalid = self.check_replay(account, filter).await?;
        if !invalid.is_empty() {
            return Err(ServiceError::InvalidFields(invalid));
        }
        Ok(self.records().count_replay(account, filter).await?)
    }

    /// Starts a replay.
    ///
    /// # Errors
    /// [`ServiceError::InvalidFields`], `NotFound` (the account), or the store's error.
    pub async fn start_replay(
        &self,
        account: AccountId,
        new: NewReplay,
    ) -> Result<Replay, ServiceError> {
        let NewReplay { filter, rate } = new;
        let now = self.now();
        let total = self.count_replay(account, &filter).await?.total;
        let request = ReplayRequest { filter, rate, total };
        let made = self.records().create_replay(account, request, self.ids(), now).await?;
        let (replay, wake) = made.ok_or(ServiceError::NotFound(Resource::Account))?;
        self.router().wake(vec![wake]);
        Ok(replay)
    }

    /// What is wrong with a filter.
    ///
    /// # Errors
    /// The store's error.
    pub async fn check_replay(
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

    /// A replay.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn replay(&self, account: AccountId, id: ReplayId) -> Result<Replay, ServiceError> {
        let replay = self.records().replay(account, id).await?;
        replay.ok_or(ServiceError::NotFound(Resource::Replay))
    }

    /// Pauses, resumes or cancels a replay.
    ///
    /// # Errors
    /// [`ServiceError::ReplayEnded`], `NotFound`, or the store's error.
    pub async fn command_replay(
        &self,
        account: AccountId,
        id: ReplayId,
        command: Command,
    ) -> Result<Replay, ServiceError> {
        let done = self.records().command_replay(account, id, command, self.now()).await?;
        match done.ok_or(ServiceError::NotFound(Resource::Replay))? {
            Ok((replay, wakes)) => {
                self.router().wake(wakes);
                Ok(replay)
            }
            Err(state) => Err(ServiceError::ReplayEnded(state)),
        }
    }
}
