//! `[cluster]`: whether this node is one of several, and how they reach each other.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::Reader;
use super::{address, path};

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many shards a new store has.
    pub shards: u16,
    /// The other nodes; none for a node that is alone.
    pub company: Option<Company>,
}

/// What a node that is one of several needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// Where other nodes and clients of the messaging API are let in.
    pub listen: SocketAddr,
    /// Where they reach it.
    pub advertise: SocketAddr,
    /// Where others may be found, as `host:port`.
    pub seeds: Vec<String>,
    /// The secret that all of them share; none for one in the data directory.
    pub cookie_file: Option<PathBuf>,
    /// Who they are to each other; none on one machine alone.
    pub tls: Option<TlsFiles>,
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that every node's certificate comes from.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Most shards; each costs its owner some rows and an actor.
const MAX_SHARDS: u16 = 16_384;

impl Cluster {
    pub(super) fn build(reader: &mut Reader) -> Self {
        let shards = reader.option("cluster", "shards", |count: i64| {
            u16::try_from(count)
                .ok()
                .filter(|count| (1..=MAX_SHARDS).contains(count))
                .ok_or(format!("must be from 1 to {MAX_SHARDS}"))
        });
        Self { shards: shards.unwrap_or(256), company: Company::build(reader) }
    }
}

impl Company {
    fn build(reader: &mut Reader) -> Option<Self> {
        let complaints = reader.complaints();
        let listen = reader.option("cluster", "listen", |text: String| address(&text));
        let advertise = reader.option("cluster", "advertise", |text: String| reachable(&text));
        let seeds = reader.list("cluster", "seeds", seed);
        let cookie_file = reader.option("cluster", "cookie_file", path);
        let tls = TlsFiles::build(reader);
        if reader.complaints() > complaints {
            return None;
        }
        let Some(listen) = listen else {
            let given = ["advertise", "seeds", "cookie_file", "tls_ca", "tls_cert", "tls_key"];
            for key in given {
                if reader.has("cluster", key) {
                    reader.complain("cluster", key, NEEDS_LISTEN.to_owned());
                }
            }
            return None;
        };
        if tls.is_none() && !listen.ip().is_loopback() {
            reader.complain("cluster", "listen", NEEDS_TLS.to_owned());
        }
        if advertise.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
            reader.complain("cluster", "listen", NEEDS_ADVERTISE.to_owned());
        }
        let advertise = advertise.unwrap_or(listen);
        Some(Self { listen, advertise, seeds: seeds.unwrap_or_default(), cookie_file, tls })
    }
}

const NEEDS_LISTEN: &str = "makes this node one of several, which needs [cluster] listen, too";
const NEEDS_TLS: &str = "is no loopback address, so other machines could connect: that needs tls_ca, \
                         tls_cert and tls_key (scripts/cluster-certs makes them)";
const NEEDS_ADVERTISE: &str = "does not say where other nodes reach this one; give advertise, too, \
                               such as \"10.0.0.5:7946\"";

impl TlsFiles {
    fn build(reader: &mut Reader) -> Option<Self> {
        let mut option = |key| reader.option("cluster", key, path);
        let files = (option("tls_ca"), option("tls_cert"), option("tls_key"));
        match files {
            (Some(ca), Some(cert), Some(key)) => Some(Self { ca, cert, key }),
            (None, None, None) => None,
            (ca, cert, key) => {
                let given = [("tls_ca", &ca), ("tls_cert", &cert), ("tls_key", &key)];
                let (key, _) = given.into_iter().find(|(_, file)| file.is_some())?;
                let text = "tls_ca, tls_cert and tls_key must be given together";
                reader.complain("cluster", key, text.to_owned());
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

/// A host and a port. Whether the name resolves is seen when it is dialled.
fn seed(text: &str) -> Result<String, String> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(char::is_whitespace)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("\"{text}\" must be a host and a port, such as node-2:7946"))
}
