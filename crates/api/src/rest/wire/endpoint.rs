//! Endpoints and their signing secrets.

use std::collections::BTreeMap;

use postrider_domain::disable::DisableWhen;
use postrider_domain::endpoint::{
    Disabled, DisabledReason, LastError, Ordering, Secrets, State, Subscription,
};
use postrider_domain::ids::{DeliveryId, EndpointId};
use postrider_domain::outcome::ErrorKind;
use postrider_domain::rate_limit::RateLimit;
use postrider_domain::time::Timestamp;
use postrider_store::EndpointView;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::exchange::error_kind;
use super::string_enum;

/// The orderings of deliveries.
pub(crate) const ORDERINGS: [Ordering; 2] = [Ordering::Parallel, Ordering::Strict];
/// The notation for all event types.
pub(crate) const ALL_TYPES: &str = "*";

/// The states of an endpoint.
pub(crate) const STATES: [&str; 2] = [ENABLED, DISABLED];
pub(crate) const ENABLED: &str = "enabled";
pub(crate) const DISABLED: &str = "disabled";

const REASONS: [DisabledReason; 3] =
    [DisabledReason::Exhausted, DisabledReason::Manual, DisabledReason::Gone];

/// An endpoint: its settings, its state and its health.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(crate) struct EndpointBody {
    /// The endpoint's ID.
    #[schema(value_type = String, example = "ep_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: EndpointId,
    /// The endpoint's name.
    name: String,
    /// The URL that webhooks are sent to, as it was given.
    #[schema(example = "https://example.com/webhooks")]
    url: String,
    /// The event types that the endpoint subscribes to: `["*"]` means all types, `[]` means none.
    #[schema(example = json!(["application.created"]))]
    event_types: Vec<String>,
    /// Custom headers that are added to each request, as a map of names to values.
    headers: BTreeMap<String, String>,
    /// The ordering of deliveries. `parallel`: several deliveries at a time; later ones may
    /// overtake a failing one. `strict`: one delivery at a time, in the order of acceptance; a
    /// failing delivery blocks later ones.
    #[schema(schema_with = ordering)]
    ordering: Ordering,
    /// The maximum rate of requests; null is unlimited.
    rate_limit: Option<RateLimitBody>,
    /// When the endpoint is disabled: `exhausted` (when a delivery has used up its attempts) or
    /// `exhausted_and_nothing_delivered` (only if no other delivery has succeeded since that
    /// delivery's first attempt). Null is the installation's setting.
    #[schema(schema_with = disable_when)]
    disable_when: Option<DisableWhen>,
    /// The endpoint's state. Deliveries to a disabled endpoint are held.
    #[schema(schema_with = endpoint_state)]
    state: &'static str,
    /// Why and when the endpoint was disabled; null if it is enabled.
    disabled: Option<DisabledBody>,
    /// The number of consecutive failed attempts. A success resets it to 0.
    failure_count: u32,
    /// The latest failed attempt, even if later attempts succeeded; null if none has failed.
    last_error: Option<LastErrorBody>,
    /// The number of pending deliveries.
    pending: u64,
    /// The number of deliveries held while the endpoint is disabled.
    held: u64,
    /// When the oldest pending or held delivery was created; null if there is none.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending_at: Option<Timestamp>,
    /// When the endpoint was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the endpoint's settings were last updated.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// The maximum rate of requests to an endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = RateLimit)]
pub(crate) struct RateLimitBody {
    /// The average number of requests per second, from 0.01 to 1000.
    per_second: f64,
    /// The number of requests that may be sent at once after a pause, from 1 to 1000. Defaults to 1.
    burst: u32,
}

/// Why and when an endpoint was disabled.
#[derive(Serialize, ToSchema)]
#[schema(as = Disabled)]
struct DisabledBody {
    /// The reason: `exhausted` (a delivery used up its attempts), `manual` (disabled by a user or
    /// through the API) or `gone` (the endpoint returned 410 Gone).
    #[schema(schema_with = disabled_reason)]
    reason: DisabledReason,
    /// When the endpoint was disabled.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The ID of the delivery that caused it; null if the endpoint was disabled manually.
    #[schema(value_type = Option<String>)]
    delivery_id: Option<DeliveryId>,
}

/// The latest failed attempt.
#[derive(Serialize, ToSchema)]
#[schema(as = LastError)]
struct LastErrorBody {
    /// When the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The kind of failure.
    #[schema(schema_with = error_kind)]
    kind: ErrorKind,
    /// The HTTP status code; null if there was no response.
    status: Option<u16>,
    /// A description of the failure.
    message: String,
    /// The ID of the delivery that the attempt belongs to.
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
            rate_limit: endpoint.rate_limit.map(Into::into),
            disable_when: endpoint.disable_when,
            state: if enabled { ENABLED } else { DISABLED },
            disabled: match state {
                State::Disabled(disabled) => Some(disabled.into()),
                State::Enabled | State::Deleted => None,
            },
            failure_count: health.failure_count,
            last_error: health.last_error.map(Into::into),
            pending: backlog.pending(),
            held: backlog.held(),
            oldest_pending_at,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl From<RateLimit> for RateLimitBody {
    fn from(limit: RateLimit) -> Self {
        Self { per_second: limit.per_second(), burst: limit.burst() }
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

/// A created endpoint with its signing secret.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointWithSecret)]
pub(crate) struct NewEndpointBody {
    #[serde(flatten)]
    pub endpoint: EndpointBody,
    /// The secret that signs the endpoint's requests (Standard Webhooks).
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")]
    pub signing_secret: String,
}

/// The secrets that sign an endpoint's requests.
#[derive(Serialize, ToSchema)]
#[schema(as = SigningSecrets)]
pub(crate) struct SecretsBody {
    /// The current secret.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")]
    signing_secret: String,
    /// Replaced secrets that have not expired, newest first. Requests are signed with them too.
    replaced: Vec<ReplacedSecretBody>,
}

/// A replaced signing secret.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplacedSecret)]
struct ReplacedSecretBody {
    /// The secret.
    signing_secret: String,
    /// When the secret expires and stops signing requests.
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
    string_enum(&ORDERINGS)
}

pub(crate) fn disable_when() -> Object {
    string_enum(&DisableWhen::ALL)
}

pub(crate) fn endpoint_state() -> Object {
    string_enum(&STATES)
}

fn disabled_reason() -> Object {
    string_enum(&REASONS)
}
