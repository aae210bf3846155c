//! Test data: accounts, endpoints and notices.

use std::sync::LazyLock;

use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::endpoint::{
    Disabled, DisabledReason, Endpoint, LastError, Ordering, Secrets, Subscription,
};
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId, Id, IdGenerator};
use postrider_domain::notice::{Notice, Report};
use postrider_domain::outcome::ErrorKind;
use postrider_domain::signature::Secret;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::Timestamp;

/// The time of everything in the test data.
pub(crate) const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// The ids of everything in the test data.
pub(crate) static IDS: LazyLock<IdGenerator> = LazyLock::new(|| IdGenerator::new(1));

pub(crate) fn account(contacts: &[&str]) -> Account {
    let contacts = contacts.iter().map(|contact| EmailAddress::parse(contact).expect("an address"));
    Account {
        id: IDS.id::<AccountId>(AT),
        name: name("Acme"),
        contact_emails: contacts.collect(),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn endpoint(account: &Account, called: &str) -> Endpoint {
    let url = TargetUrl::parse("https://example.com/hooks", &AddressPolicy::default());
    Endpoint {
        id: IDS.id::<EndpointId>(AT),
        account: account.id,
        name: name(called),
        url: url.expect("a URL"),
        event_types: Subscription::All,
        headers: CustomHeaders::default(),
        ordering: Ordering::default(),
        rate_limit: None,
        disable_when: None,
        secrets: Secrets::new(Secret::from_bytes([1; 32])),
        created_at: AT,
        updated_at: AT,
    }
}

pub(crate) fn notice(endpoint: &Endpoint) -> Notice {
    let delivery = DeliveryId::from_bytes([9; 16]);
    Notice {
        account: endpoint.account,
        endpoint: endpoint.id,
        report: Report::Disabled(Disabled {
            reason: DisabledReason::Exhausted,
            at: AT,
            delivery: Some(delivery),
        }),
        failure_count: 11,
        last_error: Some(LastError {
            at: AT,
            kind: ErrorKind::Timeout,
            status: None,
            message: "no response within 5s".to_owned(),
            delivery,
        }),
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}
