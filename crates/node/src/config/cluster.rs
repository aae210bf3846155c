//! `[cluster]`: the number of shards, and how nodes connect to each other.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::Reader;
use super::{address, path};

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The number of shards in a new store.
    pub shards: u16,
    /// How to connect to other nodes. `None` for a single node.
    pub peering: Option<Peering>,
}

/// How this node connects to the other nodes of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// The address on which other nodes and clients of the messaging API connect.
    pub listen: SocketAddr,
    /// The address that this node announces to the others.
    pub advertise: SocketAddr,
    /// Addresses of other nodes, as `host:port`.
    pub seeds: Vec<String>,
    /// The file with the shared secret. `None` for the file in the data directory.
    pub cookie_file: Option<PathBuf>,
    /// The file with the secret that `cookie_file` replaces, while the cookie of a running cluster
    /// changes.
    pub previous_cookie_file: Option<PathBuf>,
    /// Certificates for mutual TLS. `None` only on loopback.
    pub tls: Option<TlsFiles>,
}

/// PEM files for mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate authority that signed every node's certificate.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// This node's private key.
    pub key: PathBuf,
}

/// The maximum number of shards. Each costs its owner a few rows and an actor.
const MAX_SHARDS: u16 = 16_384;

impl Cluster {
    pub(super) fn build(reader: &mut Reader) -> Self {
        let shards = reader.option("cluster", "shards", |count: i64| {
            u16::try_from(count)
                .ok()
                .filter(|count| (1..=MAX_SHARDS).contains(count))
                .ok_or(format!("must be from 1 to {MAX_SHARDS}"))
        });
        Self { shards: shards.unwrap_or(256), peering: Peering::build(reader) }
    }
}

impl Peering {
    fn build(reader: &mut Reader) -> Option<Self> {
        let errors_before = reader.error_count();
        let listen = reader.option("cluster", "listen", |text: String| address(&text));
        let advertise = reader.option("cluster", "advertise", |text: String| reachable(&text));
        let seeds = reader.list("cluster", "seeds", seed);
        let cookie_file = reader.option("cluster", "cookie_file", path);
        let previous_cookie_file = reader.option("cluster", "previous_cookie_file", path);
        let tls = TlsFiles::build(reader);
        if reader.error_count() > errors_before {
            return None;
        }
        let Some(listen) = listen else {
            let keys = [
                "advertise",
                "seeds",
                "cookie_file",
                "previous_cookie_file",
                "tls_ca",
                "tls_cert",
                "tls_key",
            ];
            for key in keys {
                if reader.has("cluster", key) {
                    reader.error("cluster", key, NEEDS_LISTEN.to_owned());
                }
            }
            return None;
        };
        if tls.is_none() && !listen.ip().is_loopback() {
            reader.error("cluster", "listen", NEEDS_TLS.to_owned());
        }
        if advertise.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
            reader.error("cluster", "listen", NEEDS_ADVERTISE.to_owned());
        }
        let advertise = advertise.unwrap_or(listen);
        let seeds = seeds.unwrap_or_default();
        Some(Self { listen, advertise, seeds, cookie_file, previous_cookie_file, tls })
    }
}

const NEEDS_LISTEN: &str = "has no effect without [cluster] listen: set that too";
const NEEDS_TLS: &str = "is not a loopback address and therefore needs TLS: set tls_ca, tls_cert and \
                         tls_key (scripts/cluster-certs creates the files)";
const NEEDS_ADVERTISE: &str = "is not an address that other nodes can connect to; set advertise too, \
                               such as \"10.0.0.5:7946\"";

impl TlsFiles {
    fn build(reader: &mut Reader) -> Option<Self> {
        let mut option = |key| reader.option("cluster", key, path);
        let files = (option("tls_ca"), option("tls_cert"), option("tls_key"));
        match files {
            (Some(ca), Some(cert), Some(key)) => Some(Self { ca, cert, key }),
            (None, None, None) => None,
            (ca, cert, key) => {
                let files = [("tls_ca", &ca), ("tls_cert", &cert), ("tls_key", &key)];
                let (key, _) = files.into_iter().find(|(_, file)| file.is_some())?;
                let text = "tls_ca, tls_cert and tls_key must be set together";
                reader.error("cluster", key, text.to_owned());
                None
            }
        }
    }
}

fn reachable(text: &str) -> Result<SocketAddr, &'static str> {
    let address = address(text)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err("must be an address and a port that other nodes can connect to");
    }
    Ok(address)
}

/// A host and a port. The name is not resolved here, but on connecting.
fn seed(text: &str) -> Result<String, String> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("\"{text}\" must be a host and a port, such as node-2:7946"))
}
