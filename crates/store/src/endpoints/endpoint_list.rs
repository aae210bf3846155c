//! Listing and searching an account's endpoints.
//!
//! A search reads the configurations in batches, then the dispatch states of those that match the
//! text. Health and backlog are only read for the endpoints on the page.

use futures::future::try_join_all;
use postrider_domain::endpoint::{Endpoint, State};
use postrider_domain::ids::{AccountId, EndpointId};

use crate::codec::{Record, RecordTx};
use crate::endpoints::{EndpointView, view};
use crate::keys::dispatch_state::{self, DispatchState};
use crate::keys::{endpoint, health, pending};
use crate::kv::{Error, Range, Tx};
use crate::records::{ListPage, PageRequest, Records};

/// Filters for endpoints. Omitted filters match everything.
#[derive(Clone, Debug, Default)]
pub struct EndpointFilter {
    /// Only endpoints whose name or URL contains this text, ignoring case.
    pub text: Option<String>,
    /// Only enabled endpoints, or only disabled ones.
    pub enabled: Option<bool>,
}

/// The maximum number of endpoints that a search scans before it returns a partial page.
const MAX_SCANNED: usize = 2_000;
/// The number of endpoints that a search reads in one batch.
const SCAN_BATCH_SIZE: usize = 200;

impl Records {
    /// Lists an account's endpoints, newest first.
    pub async fn endpoints(
        &self,
        account: AccountId,
        request: PageRequest<EndpointId>,
    ) -> Result<ListPage<EndpointView>, Error> {
        self.find_endpoints(account, EndpointFilter::default(), request).await
    }

    /// Lists an account's endpoints that match a filter, newest first. A page with fewer items than
    /// the limit may still have a next one, because a call scans a bounded number of endpoints.
    pub async fn find_endpoints(
        &self,
        account: AccountId,
        filter: EndpointFilter,
        request: PageRequest<EndpointId>,
    ) -> Result<ListPage<EndpointView>, Error> {
        let (search, request) = (&Search::new(account, filter), &request);
        self.store
            .read(|tx| async move {
                let ListPage { items, next } = search.page(&tx, request).await?;
                Ok::<_, Error>(ListPage { items: views(&tx, items).await?, next })
            })
            .await
    }
}

/// A prepared filter.
struct Search {
    account: AccountId,
    /// In lower case.
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
    ) -> Result<ListPage<Endpoint>, Error> {
        let (mut items, mut after) = (Vec::new(), request.after);
        let mut scanned = 0;
        loop {
            let step = self.step(request.limit).min(MAX_SCANNED - scanned);
            let mut read = self.read(tx, after, step + 1).await?;
            let more = read.len() > step;
            read.truncate(step);
            after = read.last().map(|endpoint| endpoint.id);
            scanned += read.len();
            let mut matching = self.matching(tx, read).await?;
            let remaining = request.limit - items.len();
            if matching.len() > remaining || (matching.len() == remaining && more) {
                matching.truncate(remaining);
                let next = matching.last().map(|endpoint| endpoint.id.to_string());
                items.extend(matching);
                return Ok(ListPage { items, next });
            }
            items.extend(matching);
            if !more {
                return Ok(ListPage { items, next: None });
            }
            if scanned == MAX_SCANNED {
                return Ok(ListPage { items, next: after.map(|id| id.to_string()) });
            }
        }
    }

    /// Without a filter, a page is read in one batch.
    fn step(&self, limit: usize) -> usize {
        match (&self.text, self.enabled) {
            (None, None) => limit,
            _ => SCAN_BATCH_SIZE,
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

    /// The endpoints that match the filter.
    async fn matching(&self, tx: &Tx, read: Vec<Endpoint>) -> Result<Vec<Endpoint>, Error> {
        let with_text: Vec<_> =
            read.into_iter().filter(|endpoint| self.matches_text(endpoint)).collect();
        let Some(enabled) = self.enabled else {
            return Ok(with_text);
        };
        let keys = with_text.iter().map(|endpoint| dispatch_state::key(self.account, endpoint.id));
        tx.prefetch(keys).await?;
        let mut matching = Vec::new();
        for endpoint in with_text {
            let dispatch: Option<DispatchState> =
                tx.snap_load(&dispatch_state::key(self.account, endpoint.id)).await?;
            if dispatch.is_some_and(|dispatch| (dispatch.state == State::Enabled) == enabled) {
                matching.push(endpoint);
            }
        }
        Ok(matching)
    }

    fn matches_text(&self, endpoint: &Endpoint) -> bool {
        let Some(text) = &self.text else {
            return true;
        };
        let has = |whole: &str| whole.to_lowercase().contains(text);
        has(endpoint.name.as_str()) || has(endpoint.url.as_str())
    }
}

/// Loads the views of a page's endpoints in one batch.
async fn views(tx: &Tx, endpoints: Vec<Endpoint>) -> Result<Vec<EndpointView>, Error> {
    let keys = endpoints.iter().flat_map(|&Endpoint { account, id, .. }| {
        [dispatch_state::key(account, id), health::key(account, id), pending::count(account, id)]
    });
    tx.prefetch(keys).await?;
    let views = try_join_all(endpoints.into_iter().map(|endpoint| view(tx, endpoint))).await?;
    Ok(views.into_iter().flatten().collect())
}
