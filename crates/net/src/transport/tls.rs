//! Mutual TLS between nodes: one CA signs all certificates, and each side verifies the other's. TLS
//! 1.3 and 1.2 with ring, independent of the process's default crypto provider.
//!
//! Every certificate contains the name [`SERVER_NAME`] besides the node's own. A node dials
//! addresses from the store without knowing which node it will reach, so it only verifies that the
//! peer is *a node of this cluster*. The exchange of names that follows identifies the node.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tracing::warn;

/// The DNS name that every node's certificate must contain among its `subjectAltName`s.
pub const SERVER_NAME: &str = "postrider-node";

/// The timeout of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// The certificate and key of this node, and the CA that certificates are verified against. Clones
/// are cheap. The files are read once: a renewed certificate requires a restart.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not valid PEM.
    #[error("cannot read {what} from {}", path.display())]
    Read {
        /// The kind of item that was expected.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// Certificate and key do not match, or their type is not supported.
    #[error("cannot use the certificates")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Tls {
    /// Reads PEM files: the certificates of the CA (several while one replaces another), this
    /// node's certificate (followed by intermediate certificates, if any) and its key.
    ///
    /// A certificate that peers would reject, such as an expired one, only causes a warning: a node
    /// without peers still works through the store.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let authorities = certificates("the CA's certificate", ca)?;
        let chain = certificates("the node's certificate", cert)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read {
            what: "the node's key",
            path: key.to_owned(),
            source,
        })?;
        Self::new(authorities, chain, key).map_err(TlsError::Unusable)
    }

    fn new(
        authorities: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let provider = provider();
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let roots = Arc::new(roots);
        let servers =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build()?;
        warn_if_refused(&*servers, &chain);

        let mut accepting = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(VERSIONS)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())?;
        // Connections are few and long-lived: resumption would gain nothing.
        accepting.send_tls13_tickets = 0;
        let mut dialling = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(chain, key)?;
        dialling.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(accepting)),
            connector: TlsConnector::from(Arc::new(dialling)),
        })
    }

    /// Performs the handshake on an inbound connection.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<server::TlsStream<TcpStream>> {
        timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream)).await?
    }

    /// Performs the handshake on an outbound connection.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        timeout(HANDSHAKE_TIMEOUT, self.connector.connect(server_name(), stream)).await?
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// An acceptor that fails every handshake, because it has no certificate.
pub(super) fn reject_all() -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .expect("ring supports both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    TlsAcceptor::from(Arc::new(config))
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("the constant is a valid name")
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { what, path: path.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn warn_if_refused(verifier: &dyn ServerCertVerifier, chain: &[CertificateDer<'static>]) {
    let Some((own, between)) = chain.split_first() else { return };
    let now = UnixTime::now();
    if let Err(error) = verifier.verify_server_cert(own, between, &server_name(), &[], now) {
        warn!(%error, "peers will reject this node's certificate");
    }
}
