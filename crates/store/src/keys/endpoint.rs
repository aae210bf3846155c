//! The configuration of an endpoint. [`super::dispatch_state`] and [`super::health`] change more
//! often.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint` | [`Endpoint`] | `endpoints`, when an endpoint is created or changed |

use bytes::Bytes;
use postrider_domain::account::Name;
use postrider_domain::disable::DisableWhen;
use postrider_domain::endpoint::{Endpoint, Ordering, Secrets, Subscription};
use postrider_domain::event::EventTypeName;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::rate_limit::RateLimit;
use postrider_domain::signature::Secret;
use postrider_domain::target::TargetUrl;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::owned;
use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    id: EndpointId,
    account: AccountId,
    name: &'a str,
    url: &'a str,
    #[serde(borrow)]
    event_types: SubscriptionV1<'a>,
    headers: Vec<(&'a str, &'a str)>,
    ordering: OrderingV1,
    secret: [u8; 32],
    replaced_secrets: Vec<([u8; 32], Timestamp)>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Appended to [`V1`].
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct AppendedV1 {
    rate_limit: Option<RateLimitV1>,
    disable_when: Option<DisableWhenV1>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct RateLimitV1 {
    per_1000_seconds: u32,
    burst: u32,
}

#[derive(PartialEq, Serialize, Deserialize)]
enum DisableWhenV1 {
    Exhausted,
    ExhaustedAndNothingDelivered,
}

#[derive(Serialize, Deserialize)]
enum SubscriptionV1<'a> {
    All,
    #[serde(borrow)]
    Only(Vec<&'a str>),
}

#[derive(Serialize, Deserialize)]
enum OrderingV1 {
    Parallel,
    Strict,
}

impl<'a> From<&'a Endpoint> for V1<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        let Secrets { current, replaced } = &endpoint.secrets;
        let replaced = replaced.iter().map(|(secret, until)| (*secret.bytes(), *until));
        Self {
            id: endpoint.id,
            account: endpoint.account,
            name: endpoint.name.as_str(),
            url: endpoint.url.as_str(),
            event_types: match &endpoint.event_types {
                Subscription::All => SubscriptionV1::All,
                Subscription::Only(names) => {
                    SubscriptionV1::Only(names.iter().map(EventTypeName::as_str).collect())
                }
            },
            headers: endpoint.headers.iter().collect(),
            ordering: match endpoint.ordering {
                Ordering::Parallel => OrderingV1::Parallel,
                Ordering::Strict => OrderingV1::Strict,
            },
            secret: *current.bytes(),
            replaced_secrets: replaced.collect(),
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
        }
    }
}

impl From<&Endpoint> for AppendedV1 {
    fn from(endpoint: &Endpoint) -> Self {
        let limit = |limit: RateLimit| RateLimitV1 {
            per_1000_seconds: limit.per_1000_seconds(),
            burst: limit.burst(),
        };
        let when = |when| match when {
            DisableWhen::Exhausted => DisableWhenV1::Exhausted,
            DisableWhen::ExhaustedAndNothingDelivered => {
                DisableWhenV1::ExhaustedAndNothingDelivered
            }
        };
        Self {
            rate_limit: endpoint.rate_limit.map(limit),
            disable_when: endpoint.disable_when.map(when),
        }
    }
}

fn endpoint_of(record: V1<'_>, appended: AppendedV1) -> Result<Endpoint, Error> {
    let limit =
        |RateLimitV1 { per_1000_seconds, burst }| RateLimit::from_stored(per_1000_seconds, burst);
    let when = |when| match when {
        DisableWhenV1::Exhausted => DisableWhen::Exhausted,
        DisableWhenV1::ExhaustedAndNothingDelivered => DisableWhen::ExhaustedAndNothingDelivered,
    };
    let replaced = record.replaced_secrets.into_iter();
    let replaced = replaced.map(|(secret, until)| (Secret::from_bytes(secret), until));
    Ok(Endpoint {
        id: record.id,
        account: record.account,
        name: Name::from_stored(record.name),
        url: TargetUrl::from_stored(record.url).map_err(|error| {
            Error::Corrupt(format!("the URL of the endpoint record {}: {error}", record.id))
        })?,
        event_types: match record.event_types {
            SubscriptionV1::All => Subscription::All,
            SubscriptionV1::Only(names) => {
                Subscription::Only(names.into_iter().map(EventTypeName::from_stored).collect())
            }
        },
        headers: CustomHeaders::from_stored(owned(record.headers)),
        ordering: match record.ordering {
            OrderingV1::Parallel => Ordering::Parallel,
            OrderingV1::Strict => Ordering::Strict,
        },
        rate_limit: appended.rate_limit.map(limit),
        disable_when: appended.disable_when.map(when),
        secrets: Secrets {
            current: Secret::from_bytes(record.secret),
            replaced: replaced.collect(),
        },
        created_at: record.created_at,
        updated_at: record.updated_at,
    })
}

impl Record for Endpoint {
    fn encode(&self) -> Bytes {
        codec::appended(1, &V1::from(self), &AppendedV1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (record, appended) = codec::version_1_appended("endpoint", bytes)?;
        endpoint_of(record, appended)
    }
}

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Endpoint).id(endpoint).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Endpoint).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;
    use postrider_domain::target::{AddressPolicy, TargetUrl};

    use super::*;
    use crate::codec::golden;

    #[test]
    fn endpoints_sort_by_age() {
        let key = |id| key(AccountId::MIN, id);
        assert!(key(EndpointId::MIN) < key(EndpointId::MAX));
        assert!(key(EndpointId::MAX).starts_with(&of_account(AccountId::MIN)));
    }

    fn endpoint() -> Endpoint {
        let header = ("X-Tenant".to_owned(), "7".to_owned());
        Endpoint {
            id: EndpointId::from_bytes([1; 16]),
            account: AccountId::from_bytes([2; 16]),
            name: Name::parse("Orders").expect("a name"),
            url: TargetUrl::parse("https://hooks.example/in?a=1", &AddressPolicy::default())
                .expect("a URL"),
            event_types: Subscription::All,
            headers: CustomHeaders::parse([header]).expect("a header"),
            ordering: Ordering::Parallel,
            rate_limit: None,
            disable_when: None,
            secrets: Secrets::new(Secret::from_bytes([3; 32])),
            created_at: Timestamp::from_millis(1_700_000_000_000),
            updated_at: Timestamp::from_millis(1_700_000_000_001),
        }
    }

    #[test]
    fn golden() {
        golden::check(
            &endpoint(),
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02064f72646572731c68747470733a2f2f686f6f6b732e6578616d706c652f69\
             6e3f613d31000108582d54656e616e7401370003030303030303030303030303\
             030303030303030303030303030303030303030080d095ffbc3181d095ffbc31",
        );
        let limited = Endpoint {
            rate_limit: Some(RateLimit::new(2.5, 7).expect("a rate limit")),
            disable_when: Some(DisableWhen::ExhaustedAndNothingDelivered),
            ..endpoint()
        };
        golden::check(
            &limited,
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02064f72646572731c68747470733a2f2f686f6f6b732e6578616d706c652f69\
             6e3f613d31000108582d54656e616e7401370003030303030303030303030303\
             030303030303030303030303030303030303030080d095ffbc3181d095ffbc31\
             01c413070101",
        );
        let names = ["order.paid", "order.shipped"];
        let names = names.map(|name| EventTypeName::parse(name).expect("a name"));
        let until = Timestamp::from_millis(1_700_000_000_002);
        let other = Endpoint {
            event_types: Subscription::Only(names.into()),
            headers: CustomHeaders::default(),
            ordering: Ordering::Strict,
            secrets: Secrets {
                current: Secret::from_bytes([4; 32]),
                replaced: vec![(Secret::from_bytes([3; 32]), until)],
            },
            ..endpoint()
        };
        golden::check(
            &other,
            "\
             0101010101010101010101010101010101020202020202020202020202020202\
             02064f72646572731c68747470733a2f2f686f6f6b732e6578616d706c652f69\
             6e3f613d3101020a6f726465722e706169640d6f726465722e73686970706564\
             0001040404040404040404040404040404040404040404040404040404040404\
             0404010303030303030303030303030303030303030303030303030303030303\
             03030382d095ffbc3180d095ffbc3181d095ffbc31",
        );
    }
}
