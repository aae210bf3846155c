//! Name resolution that gives only addresses that webhooks may go to. It runs for every new
//! connection, so that a name that resolves inside the house today is refused today.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use postrider_domain::target::{AddressPolicy, ForbiddenAddress};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's resolver configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the system's DNS configuration (/etc/resolv.conf): {0}")]
pub struct ResolverError(#[from] hickory_resolver::net::NetError);

/// The resolver that the HTTP client uses. It is asynchronous all through, so that names which
/// take long to resolve hold no thread.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    resolver: TokioResolver,
    policy: Arc<AddressPolicy>,
}

impl GuardedResolver {
    pub(crate) fn new(policy: Arc<AddressPolicy>) -> Result<Self, ResolverError> {
        let resolver = TokioResolver::builder_tokio()?.build()?;
        Ok(Self { resolver, policy })
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.resolver.lookup_ip(name.as_str()).await?;
            let mut forbidden = None;
            let mut allowed = Vec::new();
            for ip in found.iter() {
                match guard.policy.check(ip) {
                    Ok(()) => allowed.push(SocketAddr::new(ip, 0)),
                    Err(error) => forbidden = Some(error),
                }
            }
            match forbidden {
                Some(ForbiddenAddress { host }) if allowed.is_empty() => Err(ForbiddenAddress {
                    host: format!("{}, which resolves to {host},", name.as_str()),
                }
                .into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
