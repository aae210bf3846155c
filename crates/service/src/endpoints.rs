//! Use cases of endpoints.

use std::collections::BTreeSet;

use postrider_domain::account::Name;
use postrider_domain::backlog::Backlog;
use postrider_domain::disable::DisableWhen;
use postrider_domain::endpoint::{Endpoint, Health, Ordering, Secrets, State, Subscription};
use postrider_domain::event::EventTypeName;
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::rate_limit::RateLimit;
use postrider_domain::signature::Secret;
use postrider_domain::target::TargetUrl;
use postrider_domain::time::Timestamp;
use postrider_store::{EndpointView, HeldAction, SendNow};

use crate::error::{InvalidField, Resource, ServiceError};
use crate::{Once, Service, random_bytes};

/// An endpoint to create.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// The endpoint's name.
    pub name: Name,
    /// The URL that receives webhooks.
    pub url: TargetUrl,
    /// The event types that it subscribes to.
    pub event_types: EventTypes,
    /// Custom headers of each request.
    pub headers: CustomHeaders,
    /// Whether deliveries are ordered.
    pub ordering: Ordering,
    /// How many requests it gets. `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// When it is disabled. `None` is the installation's setting.
    pub disable_when: Option<DisableWhen>,
}

/// An update of an endpoint. `None` leaves a field unchanged.
#[derive(Clone, Debug, Default)]
pub struct EndpointUpdate {
    /// The endpoint's name.
    pub name: Option<Name>,
    /// The URL that receives webhooks.
    pub url: Option<TargetUrl>,
    /// The event types that it subscribes to.
    pub event_types: Option<EventTypes>,
    /// Custom headers of each request. They replace all previous ones.
    pub headers: Option<CustomHeaders>,
    /// Whether deliveries are ordered.
    pub ordering: Option<Ordering>,
    /// How many requests it gets.
    pub rate_limit: Option<Option<RateLimit>>,
    /// When it is disabled.
    pub disable_when: Option<Option<DisableWhen>>,
}

/// The requested event types of an endpoint, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTypes {
    /// Every type.
    All,
    /// Only these types.
    Only(Vec<EventTypeName>),
}

impl EventTypes {
    fn subscription(&self) -> Subscription {
        match self {
            Self::All => Subscription::All,
            Self::Only(names) => Subscription::Only(names.iter().cloned().collect::<BTreeSet<_>>()),
        }
    }
}

impl EndpointUpdate {
    fn apply(&self, endpoint: &mut Endpoint, now: Timestamp) {
        let Self { name, url, event_types, headers, ordering, rate_limit, disable_when } = self;
        if let Some(name) = name {
            endpoint.name.clone_from(name);
        }
        if let Some(url) = url {
            endpoint.url.clone_from(url);
        }
        if let Some(event_types) = event_types {
            endpoint.event_types = event_types.subscription();
        }
        if let Some(headers) = headers {
            endpoint.headers.clone_from(headers);
        }
        if let Some(ordering) = ordering {
            endpoint.ordering = *ordering;
        }
        if let Some(rate_limit) = rate_limit {
            endpoint.rate_limit = *rate_limit;
        }
        if let Some(disable_when) = disable_when {
            endpoint.disable_when = *disable_when;
        }
        endpoint.updated_at = now;
    }
}

impl Service {
    /// Returns an endpoint.
    pub async fn endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<EndpointView, ServiceError> {
        let view = self.records().endpoint(account, id).await?;
        view.ok_or(ServiceError::NotFound(Resource::Endpoint))
    }

    /// Creates an enabled endpoint. Event types that are not in the catalogue are
    /// [`ServiceError::InvalidFields`].
    pub async fn create_endpoint(
        &self,
        account: AccountId,
        new: NewEndpoint,
        once: Option<Once<EndpointView>>,
    ) -> Result<EndpointView, ServiceError> {
        self.ensure_known(&new.event_types, None).await?;
        let now = self.now();
        let endpoint = Endpoint {
            id: self.ids().id(now),
            account,
            name: new.name,
            url: new.url,
            event_types: new.event_types.subscription(),
            headers: new.headers,
            ordering: new.ordering,
            rate_limit: new.rate_limit,
            disable_when: new.disable_when,
            secrets: Secrets::new(Secret::from_bytes(random_bytes()?)),
            created_at: now,
            updated_at: now,
        };
        let view = EndpointView {
            endpoint,
            state: State::Enabled,
            health: Health::default(),
            backlog: Backlog::Pending(0),
            oldest_pending_at: None,
        };
        let created = view.clone();
        let records = self.records_once(once, move |made: &bool| made.then(|| created.clone()));
        match records.create_endpoint(&view.endpoint).await? {
            true => Ok(view),
            false => Err(ServiceError::NotFound(Resource::Account)),
        }
    }

    /// Updates an endpoint. Newly added event types that are not in the catalogue are
    /// [`ServiceError::InvalidFields`]. If `expected_version` is given, it must be the endpoint's
    /// `updated_at`; otherwise [`ServiceError::ConcurrentUpdate`] is returned.
    pub async fn update_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        update: EndpointUpdate,
        expected_version: Option<Timestamp>,
    ) -> Result<EndpointView, ServiceError> {
        let current = self.endpoint(account, id).await?.endpoint;
        if let Some(event_types) = &update.event_types {
            self.ensure_known(event_types, Some(&current.event_types)).await?;
        }
        let now = self.now();
        let apply_if_current = |endpoint: &mut Endpoint| {
            if expected_version.is_none_or(|version| endpoint.updated_at == version) {
                update.apply(endpoint, now);
            }
        };
        let view = self.records().update_endpoint(account, id, apply_if_current).await?;
        let view = self.notify_changed(view)?;
        // Compare results instead of versions: if a commit's result was unknown, the transaction
        // ran again and may have found its own update.
        let mut updated = view.endpoint.clone();
        update.apply(&mut updated, now);
        if view.endpoint == updated { Ok(view) } else { Err(ServiceError::ConcurrentUpdate) }
    }

    /// Returns the positions of the names that are not in the catalogue. Types in `current`, the
    /// endpoint's current subscription, remain valid after they leave the catalogue.
    pub async fn unknown_event_types(
        &self,
        names: impl Iterator<Item = &EventTypeName>,
        current: Option<&Subscription>,
    ) -> Result<Vec<usize>, ServiceError> {
        let mut unknown = Vec::new();
        for (index, name) in names.enumerate() {
            let kept = matches!(current, Some(Subscription::Only(names)) if names.contains(name));
            if !kept && self.records().event_type(name).await?.is_none() {
                unknown.push(index);
            }
        }
        Ok(unknown)
    }

    async fn ensure_known(
        &self,
        event_types: &EventTypes,
        current: Option<&Subscription>,
    ) -> Result<(), ServiceError> {
        let EventTypes::Only(names) = event_types else { return Ok(()) };
        let unknown = self.unknown_event_types(names.iter(), current).await?;
        let invalid = unknown.iter().map(|index| InvalidField {
            pointer: format!("/event_types/{index}"),
            detail: UNKNOWN_TYPE.to_owned(),
        });
        let invalid: Vec<_> = invalid.collect();
        if invalid.is_empty() { Ok(()) } else { Err(ServiceError::InvalidFields(invalid)) }
    }

    /// Enables an endpoint, and sends or discards its held deliveries. Has no effect on an enabled
    /// endpoint.
    pub async fn enable_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        held: HeldAction,
        once: Option<Once<EndpointView>>,
    ) -> Result<EndpointView, ServiceError> {
        let records = self.records_once(once, Option::<EndpointView>::clone);
        self.notify_changed(records.enable_endpoint(account, id, held).await?)
    }

    /// Disables an endpoint manually. Has no effect on a disabled endpoint.
    pub async fn disable_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        once: Option<Once<EndpointView>>,
    ) -> Result<EndpointView, ServiceError> {
        let records = self.records_once(once, Option::<EndpointView>::clone);
        self.notify_changed(records.disable_endpoint(account, id, self.now()).await?)
    }

    /// Makes all pending deliveries of an endpoint due now, and returns their number. A disabled
    /// endpoint is [`ServiceError::EndpointDisabled`].
    pub async fn send_now(
        &self,
        account: AccountId,
        id: EndpointId,
        once: Option<Once<u64>>,
    ) -> Result<u64, ServiceError> {
        let records = self.records_once(once, |result: &Option<SendNow>| match result {
            Some(SendNow::Pending(count)) => Some(*count),
            None | Some(SendNow::Disabled) => None,
        });
        match records.send_now(account, id).await? {
            None => Err(ServiceError::NotFound(Resource::Endpoint)),
            Some(SendNow::Disabled) => Err(ServiceError::EndpointDisabled),
            Some(SendNow::Pending(count)) => {
                self.router().changed(account, id);
                Ok(count)
            }
        }
    }

    /// Deletes an endpoint and discards its backlog.
    pub async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<(), ServiceError> {
        if !self.records().delete_endpoint(account, id).await? {
            return Err(ServiceError::NotFound(Resource::Endpoint));
        }
        self.router().changed(account, id);
        Ok(())
    }

    /// Notifies the shard owner that an endpoint changed. Without a view the owner is not notified:
    /// the endpoint may belong to another account.
    pub(crate) fn notify_changed(
        &self,
        view: Option<EndpointView>,
    ) -> Result<EndpointView, ServiceError> {
        let view = view.ok_or(ServiceError::NotFound(Resource::Endpoint))?;
        self.router().changed(view.endpoint.account, view.endpoint.id);
        Ok(view)
    }
}
