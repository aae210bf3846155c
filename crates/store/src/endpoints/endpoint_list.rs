//! The list of an account's endpoints, whole or searched.
//!
//! A search looks at what owners set, which is read in steps, then at the gates of those that fit,
//! and gathers what else people see only of those that are on the page.

use futures::future::try_join_all;
use postrider_domain::endpoint::{Endpoint, State};
use postrider_domain::ids::{AccountId, EndpointId};

use crate::codec::{Record, RecordTx};
use crate::endpoints::{EndpointView, view};
use crate::keys::gate::{self, Gate};
use crate::keys::{endpoint, health, pending};
use crate::kv::{Error, Range, Tx};
use crate::records::{Page, PageRequest, Records};

/// Filters for endpoints. Omitted filters match everything.
#[derive(Clone, Debug, Default)]
pub struct EndpointFilter {
    /// Those whose name or URL has this in it, in capitals or not.
    pub text: Option<String>,
    /// Those that are sent to, or those that are not.
    pub enabled: Option<bool>,
}

/// Endpoints that a search looks at before it answers with what it has.
const MOST_LOOKED_AT: usize = 2_000;
/// Endpoints of a search that are read together.
const LOOKED_AT_ONCE: usize = 200;

impl Records {
    /// An account's endpoints, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn endpoints(
        &self,
        account: AccountId,
        request: PageRequest<EndpointId>,
    ) -> Result<Page<EndpointView>, Error> {
        self.find_endpoints(account, EndpointFilter::default(), request).await
    }

    /// Those of an account's endpoints that a filter takes, newest first. A page may have fewer
    /// items than asked for and still a next one: a call looks at a bounded number of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn find_endpoints(
        &self,
        account: AccountId,
        filter: EndpointFilter,
        request: PageRequest<EndpointId>,
    ) -> Result<Page<EndpointView>, Error> {
        let (search, request) = (&Search::new(account, filter), &request);
        self.store
            .read(|tx| async move {
                let Page { items, next } = search.page(&tx, request).await?;
                Ok::<_, Error>(Page { items: views(&tx, items).await?, next })
            })
            .await
    }
}

/// A filter, made ready.
struct Search {
    account: AccountId,
    /// In small letters.
    text: Option<String>,
    enabled: Option<bool>,
}

impl Search {
    fn new(account: AccountId, filter: EndpointFilter) -> Self {
        let EndpointFilter { text, enabled } = filter;
        Self { account, text: text.map(|text| text.to_lowercase()), enabled }
    }

    async fn page(
        &self,
        tx: &Tx,
        request: &PageRequest<EndpointId>,
    ) -> Result<Page<Endpoint>, Error> {
        let (mut items, mut after) = (Vec::new(), request.after);
        let mut looked_at = 0;
        loop {
            let step = self.step(request.limit).min(MOST_LOOKED_AT - looked_at);
            let mut read = self.read(tx, after, step + 1).await?;
            let more = read.len() > step;
            read.truncate(step);
            after = read.last().map(|endpoint| endpoint.id);
            looked_at += read.len();
            let mut fitting = self.fitting(tx, read).await?;
            let room = request.limit - items.len();
            if fitting.len() > room || (fitting.len() == room && more) {
                fitting.truncate(room);
                let next = fitting.last().map(|endpoint| endpoint.id.to_string());
                items.extend(fitting);
                return Ok(Page { items, next });
            }
            items.extend(fitting);
            if !more {
                return Ok(Page { items, next: None });
            }
            if looked_at == MOST_LOOKED_AT {
                return Ok(Page { items, next: after.map(|id| id.to_string()) });
            }
        }
    }

    /// Without a filter, a page is read at once.
    fn step(&self, limit: usize) -> usize {
        match (&self.text, self.enabled) {
            (None, None) => limit,
            _ => LOOKED_AT_ONCE,
        }
    }

    async fn read(
        &self,
        tx: &Tx,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<Endpoint>, Error> {
        let before = after.map(|id| endpoint::key(self.account, id));
        let range = Range::newest(endpoint::of_account(self.account), before).limit(limit);
        let rows = tx.snap_range(range).await?;
        rows.iter().map(|(_, value)| Record::decode(value)).collect()
    }

    /// Those of the endpoints that it takes.
    async fn fitting(&self, tx: &Tx, read: Vec<Endpoint>) -> Result<Vec<Endpoint>, Error> {
        let named: Vec<_> = read.into_iter().filter(|endpoint| self.is_named(endpoint)).collect();
        let Some(enabled) = self.enabled else {
            return Ok(named);
        };
        let keys = named.iter().map(|endpoint| gate::key(self.account, endpoint.id));
        tx.prefetch(keys).await?;
        let mut fitting = Vec::new();
        for endpoint in named {
            let gate: Option<Gate> = tx.snap_load(&gate::key(self.account, endpoint.id)).await?;
            if gate.is_some_and(|gate| (gate.state == State::Enabled) == enabled) {
                fitting.push(endpoint);
            }
        }
        Ok(fitting)
    }

    fn is_named(&self, endpoint: &Endpoint) -> bool {
        let Some(text) = &self.text else {
            return true;
        };
        let has = |whole: &str| whole.to_lowercase().contains(text);
        has(endpoint.name.as_str()) || has(endpoint.url.as_str())
    }
}

/// The endpoints of a page as people see them, read together.
async fn views(tx: &Tx, endpoints: Vec<Endpoint>) -> Result<Vec<EndpointView>, Error> {
    let keys = endpoints.iter().flat_map(|&Endpoint { account, id, .. }| {
        [gate::key(account, id), health::key(account, id), pending::count(account, id)]
    });
    tx.prefetch(keys).await?;
    let views = try_join_all(endpoints.into_iter().map(|endpoint| view(tx, endpoint))).await?;
    Ok(views.into_iter().flatten().collect())
}
