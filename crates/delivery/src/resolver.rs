//! Name resolution that returns only allowed addresses. It runs for every new connection, so that a
//! name that resolves to an internal address is blocked even if it was public when configured.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use postrider_domain::target::{AddressPolicy, ForbiddenAddress, TargetUrl};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::failure::Destination;

#[derive(Debug, thiserror::Error)]
#[error("cannot use the system's DNS configuration (/etc/resolv.conf): {0}")]
pub struct ResolverError(#[from] hickory_resolver::net::NetError);

/// The HTTP client's resolver. It is fully asynchronous, so that slow lookups block no thread.
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

    /// What kind of address a request to this target goes to, considering only allowed addresses.
    /// If the name can no longer be resolved, IPv4 is assumed.
    pub(crate) async fn destination(&self, target: &TargetUrl) -> Destination {
        let url = target.url();
        let has_ipv4 = match url.domain() {
            Some(name) => match self.resolver.lookup_ip(name).await {
                Ok(found) => found.iter().any(|ip| ip.is_ipv4() && self.policy.check(ip).is_ok()),
                Err(_) => true,
            },
            None => url.host_str().is_some_and(|host| !host.starts_with('[')),
        };
        if has_ipv4 { Destination::Ipv4 } else { Destination::Ipv6Only }
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
