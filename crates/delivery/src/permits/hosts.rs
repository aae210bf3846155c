//! Limits of the requests to one host, and with them of its connections.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Lane;

/// How many hosts are kept at least before those without requests are forgotten.
const MIN_KEPT: usize = 1024;

/// The limits of one host.
pub(crate) struct Host {
    all: Arc<Lane>,
    /// Of failing endpoints, so that they leave a part to the healthy ones of the same host.
    failing: Arc<Lane>,
}

impl Host {
    /// The lanes of a request, in the order in which they are waited for.
    pub(super) fn lanes(&self, failing: bool) -> [Option<&Arc<Lane>>; 2] {
        [failing.then_some(&self.failing), Some(&self.all)]
    }
}

/// The hosts that have requests in flight or waiting.
pub(super) struct Hosts {
    per_host: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    hosts: HashMap<(String, u16), Weak<Host>>,
    /// Hosts without requests are forgotten when there are more than this.
    forget_above: usize,
}

impl Hosts {
    pub(super) fn new(per_host: usize) -> Self {
        Self { per_host, known: Mutex::default() }
    }

    pub(super) fn get(&self, name: &str, port: u16) -> Arc<Host> {
        let mut known = self.known.lock();
        let key = (name.to_owned(), port);
        if let Some(host) = known.hosts.get(&key).and_then(Weak::upgrade) {
            return host;
        }
        let host = Arc::new(Host {
            all: Lane::new(self.per_host),
            failing: Lane::new(self.per_host.div_ceil(2)),
        });
        known.hosts.insert(key, Arc::downgrade(&host));
        if known.hosts.len() > known.forget_above {
            known.hosts.retain(|_, host| host.strong_count() > 0);
            known.forget_above = MIN_KEPT.max(2 * known.hosts.len());
        }
        host
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> usize {
        self.known.lock().hosts.len()
    }
}
