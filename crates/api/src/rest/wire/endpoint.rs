//! Endpoints and their secrets.

use std::collections::BTreeMap;

use postrider_domain::endpoint::{
    Disabled, DisabledReason, LastError, Ordering, Secrets, State, Subscription,
};
use postrider_domain::ids::{DeliveryId, EndpointId};
use postrider_domain::outcome::ErrorKind;
use postrider_domain::time::Timestamp;
use postrider_store::EndpointView;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::choices;
use super::exchange::error_kind;

/// The orderings that an owner chooses from.
pub(crate) const ORDERINGS: [Ordering; 2] = [Ordering::Parallel, Ordering::Strict];
/// How an owner writes every type.
pub(crate) const ALL_TYPES: &str = "*";

/// Where an endpoint can stand.
pub(crate) const STATES: [&str; 2] = [ENABLED, DISABLED];
pub(crate) const ENABLED: &str = "enabled";
pub(crate) const DISABLED: &str = "disabled";

const REASONS: [DisabledReason; 3] =
    [DisabledReason::Exhausted, DisabledReason::Manual, DisabledReason::Gone];

/// An endpoint: what its owner set, and how it fares.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(crate) struct EndpointBody {
    /// Its id.
    #[schema(value_type = String, example = "ep_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EndpointId,
    /// What people call it.
    name: String,
    /// Where webhooks go.
    #[schema(example = "https://example.com/webhooks")]
    url: String,
    /// Which events it wants: `["*"]` is all types, `[]` none.
    #[schema(example = json!(["application.created"]))]
    event_types: Vec<String>,
    /// What is added to each request, name to value.
    headers: BTreeMap<String, String>,
    /// Whether deliveries may overtake each other (`parallel`) or not (`strict`).
    #[schema(schema_with = ordering)]
    ordering: Ordering,
    /// Whether it is sent to.
    #[schema(schema_with = endpoint_state)]
    state: &'static str,
    /// How it came to be disabled; null while it is enabled.
    disabled: Option<DisabledBody>,
    /// Failed attempts in a row; 0 after a success.
    failure_count: u32,
    /// The newest failure, kept also after a success.
    last_error: Option<LastErrorBody>,
    /// Deliveries that wait to be sent.
    pending: u64,
    /// Deliveries that are kept while it is disabled.
    held: u64,
    /// Since when the oldest of them waits.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its owner last changed it.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How an endpoint came to be disabled.
#[derive(Serialize, ToSchema)]
#[schema(as = Disabled)]
struct DisabledBody {
    /// Why: its attempts were used up, a person asked for it, or it answered 410.
    #[schema(schema_with = disabled_reason)]
    reason: DisabledReason,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The delivery whose failure did it; null when a person did.
    #[schema(value_type = Option<String>)]
    delivery_id: Option<DeliveryId>,
}

/// The newest failed attempt.
#[derive(Serialize, ToSchema)]
#[schema(as = LastError)]
struct LastErrorBody {
    /// When the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What kind of failure it was.
    #[schema(schema_with = error_kind)]
    kind: ErrorKind,
    /// The HTTP status, if there was one.
    status: Option<u16>,
    /// What happened, in words.
    message: String,
    /// The delivery whose attempt it was.
    #[schema(value_type = String)]
    delivery_id: DeliveryId,
}

impl From<EndpointView> for EndpointBody {
    fn from(view: EndpointView) -> Self {
        let EndpointView { endpoint, state, health, backlog, oldest_pending_at } = view;
        let enabled = state == State::Enabled;
        let headers = endpoint.headers.iter();
        Self {
            id: endpoint.id,
            name: endpoint.name.as_str().to_owned(),
            url: endpoint.url.as_str().to_owned(),
            event_types: names(&endpoint.event_types),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ordering: endpoint.ordering,
            state: if enabled { ENABLED } else { DISABLED },
            disabled: match state {
                State::Disabled(disabled) => Some(disabled.into()),
                State::Enabled | State::Deleted => None,
            },
            failure_count: health.failure_count,
            last_error: health.last_error.map(Into::into),
            pending: if enabled { backlog } else { 0 },
            held: if enabled { 0 } else { backlog },
            oldest_pending_at,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl From<Disabled> for DisabledBody {
    fn from(disabled: Disabled) -> Self {
        Self { reason: disabled.reason, at: disabled.at, delivery_id: disabled.delivery }
    }
}

impl From<LastError> for LastErrorBody {
    fn from(error: LastError) -> Self {
        Self {
            at: error.at,
            kind: error.kind,
            status: error.status,
            message: error.message,
            delivery_id: error.delivery,
        }
    }
}

/// A new endpoint with its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointWithSecret)]
pub(crate) struct NewEndpointBody {
    #[serde(flatten)]
    pub endpoint: EndpointBody,
    /// What its requests are signed with (Standard Webhooks).
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")]
    pub signing_secret: String,
}

/// What an endpoint's requests are signed with.
#[derive(Serialize, ToSchema)]
#[schema(as = SigningSecrets)]
pub(crate) struct SecretsBody {
    /// The current secret.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")]
    signing_secret: String,
    /// Secrets that it replaced and that still sign too, newest first.
    replaced: Vec<ReplacedSecretBody>,
}

/// A secret that was replaced.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplacedSecret)]
struct ReplacedSecretBody {
    /// The secret.
    signing_secret: String,
    /// Until when it signs too.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl SecretsBody {
    pub(crate) fn at(secrets: &Secrets, now: Timestamp) -> Self {
        let active = secrets.replaced.iter().filter(|(_, until)| *until > now);
        Self {
            signing_secret: secrets.current.reveal(),
            replaced: active
                .map(|(secret, until)| ReplacedSecretBody {
                    signing_secret: secret.reveal(),
                    expires_at: *until,
                })
                .collect(),
        }
    }
}

fn names(subscription: &Subscription) -> Vec<String> {
    match subscription {
        Subscription::All => vec![ALL_TYPES.to_owned()],
        Subscription::Only(names) => names.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn ordering() -> Object {
    choices(&ORDERINGS)
}

pub(crate) fn endpoint_state() -> Object {
    choices(&STATES)
}

fn disabled_reason() -> Object {
    choices(&REASONS)
}
