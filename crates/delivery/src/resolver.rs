//! Name resolution that gives only addresses that webhooks may go to. It runs for every new
//! connection, so that a name that resolves inside the house today is refused today.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use postrider_domain::target::{AddressPolicy, ForbiddenAddress, TargetUrl};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::failure::Towards;

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

    /// Where a request to this target goes: only to the addresses that are allowed. When its name cannot be resolved any more, it may have
    /// had an address of either kind.
    pub(crate) async fn towards(&self, target: &TargetUrl) -> Towards {
        let url = target.url();
        let has_ipv4 = match url.domain() {
            Some(name) => match self.resolver.lookup_ip(name).await {
                Ok(found) => found.iter().any(|ip| ip.is_ipv4() && self.policy.check(ip).is_ok()),
                Err(_) => true,
            },
            None => url.host_str().is_some_and(|host| !host.starts_with('[')),
        };
        if has_ipv4 { Towards::Ipv4 } else { Towards::Ipv6Only }
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
