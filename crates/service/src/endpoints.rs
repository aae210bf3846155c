//! Endpoints: created, changed, enabled, disabled and deleted.

use std::collections::BTreeSet;

use postrider_domain::account::Name;
use postrider_domain::endpoint::{Endpoint, Health, Ordering, Secrets, State, Subscription};
use postrider_domain::event::EventTypeName;
use postrider_domain::findings::UNKNOWN_TYPE;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::signature::Secret;
use postrider_domain::target::TargetUrl;
use postrider_domain::time::Timestamp;
use postrider_store::{EndpointView, HeldAction};

use crate::error::{InvalidField, Resource, ServiceError};
use crate::{Service, random_bytes};

/// An endpoint to create.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// What people call it.
    pub name: Name,
    /// Where webhooks go.
    pub url: TargetUrl,
    /// The events that it wants.
    pub event_types: EventTypes,
    /// Headers of each request.
    pub headers: CustomHeaders,
    /// Whether deliveries may overtake each other.
    pub ordering: Ordering,
}

/// A change of an endpoint. An absent field stays as it is.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// What people call it.
    pub name: Option<Name>,
    /// Where webhooks go.
    pub url: Option<TargetUrl>,
    /// The events that it wants.
    pub event_types: Option<EventTypes>,
    /// Headers of each request, all of them.
    pub headers: Option<CustomHeaders>,
    /// Whether deliveries may overtake each other.
    pub ordering: Option<Ordering>,
}

/// The event types that an endpoint is to want, as they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventTypes {
    /// Every type.
    All,
    /// The types of these names, in the order of the request.
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

impl EndpointChange {
    fn apply(&self, endpoint: &mut Endpoint, now: Timestamp) {
        let Self { name, url, event_types, headers, ordering } = self;
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
        endpoint.updated_at = now;
    }
}

impl Service {
    /// An endpoint.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<EndpointView, ServiceError> {
        let view = self.records().endpoint(account, id).await?;
        view.ok_or(ServiceError::NotFound(Resource::Endpoint))
    }

    /// Creates an endpoint, which is enabled.
    ///
    /// # Errors
    /// [`ServiceError::InvalidFields`] for types that the catalogue does not have, `NotFound` (the
    /// account), or the store's error.
    pub async fn create_endpoint(
        &self,
        account: AccountId,
        new: NewEndpoint,
    ) -> Result<EndpointView, ServiceError> {
        self.check_event_types(&new.event_types, None).await?;
        let now = self.now();
        let endpoint = Endpoint {
            id: self.ids().id(now),
            account,
            name: new.name,
            url: new.url,
            event_types: new.event_types.subscription(),
            headers: new.headers,
            ordering: new.ordering,
            secrets: Secrets::new(Secret::from_bytes(random_bytes()?)),
            created_at: now,
            updated_at: now,
        };
        if !self.records().create_endpoint(&endpoint).await? {
            return Err(ServiceError::NotFound(Resource::Account));
        }
        Ok(EndpointView {
            endpoint,
            state: State::Enabled,
            health: Health::default(),
            backlog: 0,
            oldest_pending_at: None,
        })
    }

    /// Changes an endpoint, unless it was changed since the state that was last `seen`.
    ///
    /// # Errors
    /// [`ServiceError::InvalidFields`] for types that the catalogue does not have,
    /// [`ServiceError::ChangedMeanwhile`], `NotFound`, or the store's error.
    pub async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        change: EndpointChange,
        seen: Option<Timestamp>,
    ) -> Result<EndpointView, ServiceError> {
        let before = self.endpoint(account, id).await?.endpoint;
        if let Some(event_types) = &change.event_types {
            self.check_event_types(event_types, Some(&before.event_types)).await?;
        }
        let now = self.now();
        let unless_changed = |endpoint: &mut Endpoint| {
            if seen.is_none_or(|seen| endpoint.updated_at == seen) {
                change.apply(endpoint, now);
            }
        };
        let view = self.records().update_endpoint(account, id, unless_changed).await?;
        let view = self.changed(view)?;
        // A transaction whose commit was in doubt may have made the change before.
        let mut changed = view.endpoint.clone();
        change.apply(&mut changed, now);
        if view.endpoint == changed { Ok(view) } else { Err(ServiceError::ChangedMeanwhile) }
    }

    /// The positions of the names that the catalogue does not have. A name that the endpoint `had`
    /// stays valid when its type leaves the catalogue.
    ///
    /// # Errors
    /// The store's error.
    pub async fn unknown_event_types(
        &self,
        names: impl Iterator<Item = &EventTypeName>,
        had: Option<&Subscription>,
    ) -> Result<Vec<usize>, ServiceError> {
        let mut unknown = Vec::new();
        for (index, name) in names.enumerate() {
            let kept = matches!(had, Some(Subscription::Only(names)) if names.contains(name));
            if !kept && self.records().event_type(name).await?.is_none() {
                unknown.push(index);
            }
        }
        Ok(unknown)
    }

    async fn check_event_types(
        &self,
        event_types: &EventTypes,
        had: Option<&Subscription>,
    ) -> Result<(), ServiceError> {
        let EventTypes::Only(names) = event_types else { return Ok(()) };
        let unknown = self.unknown_event_types(names.iter(), had).await?;
        let invalid = unknown.iter().map(|index| InvalidField {
            pointer: format!("/event_types/{index}"),
            detail: UNKNOWN_TYPE.to_owned(),
        });
        let invalid: Vec<_> = invalid.collect();
        if invalid.is_empty() { Ok(()) } else { Err(ServiceError::InvalidFields(invalid)) }
    }

    /// Enables an endpoint: its held deliveries are sent or discarded. An enabled endpoint stays as
    /// it is.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn enable(
        &self,
        account: AccountId,
        id: EndpointId,
        held: HeldAction,
    ) -> Result<EndpointView, ServiceError> {
        self.changed(self.records().enable_endpoint(account, id, held).await?)
    }

    /// Disables an endpoint at a person's request. A disabled endpoint stays as it is.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
    pub async fn disable(
        &self,
        account: AccountId,
        id: EndpointId,
    ) -> Result<EndpointView, ServiceError> {
        self.changed(self.records().disable_endpoint(account, id, self.now()).await?)
    }

    /// Deletes an endpoint. Its backlog deliveries are discarded.
    ///
    /// # Errors
    /// `NotFound`, or the store's error.
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

    /// Tells the owner of an endpoint that it changed. Nobody is told of an endpoint that the
    /// account does not have: it may be another account's.
    pub(crate) fn changed(&self, view: Option<EndpointView>) -> Result<EndpointView, ServiceError> {
        let view = view.ok_or(ServiceError::NotFound(Resource::Endpoint))?;
        self.router().changed(view.endpoint.account, view.endpoint.id);
        Ok(view)
    }
}
