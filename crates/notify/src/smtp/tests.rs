//! Sessions with a mail server that does STARTTLS, TLS and logins, with a certificate made for the
//! test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use lettre::transport::smtp::client::{Certificate, CertificateStore};
use mailin::{Action, AuthMechanism, Handler, Response, Session, SessionBuilder, response};
use parking_lot::Mutex;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

const USER: &str = "me";
const PASSWORD: &str = "pass:word";
const BOTH: [AuthMechanism; 2] = [AuthMechanism::Plain, AuthMechanism::Login];

#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsMode {
    None,
    StartTls,
    Implicit,
}

/// A mail server in this process, which serves until the process exits.
struct TestServer {
    address: SocketAddr,
    /// The certificate of the server.
    certificate: Vec<u8>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// Notes what the client does.
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    fn login(&self, mechanism: &str, user: &str, password: &str) -> Response {
        let accepted = (user, password) == (USER, PASSWORD);
        self.note(format!("{mechanism} {}", if accepted { "accepted" } else { "rejected" }));
        if accepted { response::AUTH_OK } else { response::INVALID_CREDENTIALS }
    }

    fn note(&self, what: impl Into<String>) {
        self.0.lock().push(what.into());
    }
}

impl Handler for Noting {
    fn helo(&mut self, _: IpAddr, domain: &str) -> Response {
        self.note(format!("hello {domain}"));
        response::OK
    }

    fn mail(&mut self, _: IpAddr, _: &str, from: &str) -> Response {
        self.note(format!("from {from}"));
        if from.starts_with("forged@") { response::BAD_HELLO } else { response::OK }
    }

    fn rcpt(&mut self, to: &str) -> Response {
        self.note(format!("to {to}"));
        response::OK
    }

    fn data_end(&mut self) -> Response {
        self.note("email");
        response::OK
    }

    fn auth_plain(&mut self, _: &str, user: &str, password: &str) -> Response {
        self.login("plain", user, password)
    }

    fn auth_login(&mut self, user: &str, password: &str) -> Response {
        self.login("login", user, password)
    }
}

impl TestServer {
    /// A server whose certificate is for `name`, and that requires a login if it offers one.
    fn start(name: &str, mode: TlsMode, logins: &[AuthMechanism]) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key);
        let config = Arc::new(config.expect("a TLS configuration"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::default();
        let mut builder = SessionBuilder::new("mail.test");
        if mode != TlsMode::None {
            builder.enable_start_tls();
        }
        for mechanism in logins {
            builder.enable_auth(mechanism.clone());
        }
        let handler_seen = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let peer = stream.peer_addr().expect("an address").ip();
                let session = builder.build(peer, Noting(Arc::clone(&handler_seen)));
                let config = Arc::clone(&config);
                // A client that disconnects ends only its own session.
                std::thread::spawn(move || serve(stream, session, mode, config));
            }
        });
        Self { address, certificate: cert.der().to_vec(), seen }
    }

    /// A mailer that uses this URL, with `ADDRESS` for the address, and trusts the server.
    fn mailer(&self, url: &str) -> Mailer {
        self.mailer_from(url, "webhooks@example.com")
    }

    fn mailer_from(&self, url: &str, from: &str) -> Mailer {
        let mut mailer = mailer(url, self.address, from);
        let root = Certificate::from_der(self.certificate.clone()).expect("a certificate");
        let tls = TlsParameters::builder(mailer.server.host.clone())
            .certificate_store(CertificateStore::None)
            .add_root_certificate(root);
        mailer.tls = mailer.tls.map(|_| tls.build().expect("TLS parameters"));
        mailer
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}

/// A mailer that trusts the certificates that this machine trusts.
fn mailer(url: &str, address: SocketAddr, from: &str) -> Mailer {
    let server = Server::parse(&url.replace("ADDRESS", &address.to_string())).expect("a server");
    let sender = FromAddress::parse(from).expect("a sender");
    let hello = HelloName::parse("node.example.com").expect("a name");
    Mailer::new(server, sender, hello).expect("a mailer")
}

fn serve(
    mut stream: TcpStream,
    mut session: Session<Noting>,
    mode: TlsMode,
    config: Arc<ServerConfig>,
) -> io::Result<()> {
    if mode != TlsMode::Implicit {
        let greeting = session.greeting();
        if !converse(&mut stream, &mut session, Some(greeting))? {
            return Ok(());
        }
    }
    let connection = ServerConnection::new(config).expect("a connection");
    let mut stream = StreamOwned::new(connection, stream);
    session.tls_active();
    let greeting = (mode == TlsMode::Implicit).then(|| session.greeting());
    converse(&mut stream, &mut session, greeting).map(drop)
}

/// Converses until the client leaves, or until TLS starts: then it returns true.
fn converse(
    stream: &mut (impl Read + Write),
    session: &mut Session<Noting>,
    greeting: Option<Response>,
) -> io::Result<bool> {
    let mut stream = BufReader::new(stream);
    let mut reply = greeting;
    loop {
        if let Some(reply) = reply.take() {
            if reply.action != Action::NoReply {
                stream.get_mut().write_all(&reply.buffer()?)?;
                stream.get_mut().flush()?;
            }
            match reply.action {
                Action::Close => return Ok(false),
                Action::UpgradeTls => return Ok(true),
                Action::NoReply | Action::Reply => {}
            }
        }
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        reply = Some(session.process(&line));
    }
}

const STARTTLS: &str = "smtp://me:pass%3Aword@ADDRESS?tls=required";
const IMPLICIT: &str = "smtps://me:pass%3Aword@ADDRESS";

async fn send(mailer: &Mailer) -> Result<SessionResult, Unavailable> {
    let to = "ops@example.com".parse().expect("an address");
    mailer.send(&[to], b"Subject: Hello\r\n\r\nHello\r\n").await
}

/// Sends an email, and returns what the server saw.
async fn sent(server: &TestServer, url: &str) -> Vec<String> {
    let result = send(&server.mailer(url)).await.expect("sent");
    assert_eq!(result.statuses, [RecipientStatus::Accepted]);
    server.seen()
}

const EMAIL: [&str; 3] = ["from webhooks@example.com", "to ops@example.com", "email"];
const HELLO: &str = "hello node.example.com";

#[tokio::test]
async fn starttls_precedes_the_login() {
    let server = TestServer::start("127.0.0.1", TlsMode::StartTls, &BOTH);
    let expected = [&[HELLO, HELLO, "plain accepted"][..], &EMAIL].concat();
    assert_eq!(sent(&server, STARTTLS).await, expected);
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let server = TestServer::start("127.0.0.1", TlsMode::Implicit, &BOTH);
    let expected = [&[HELLO, "plain accepted"][..], &EMAIL].concat();
    assert_eq!(sent(&server, IMPLICIT).await, expected);
}

#[tokio::test]
async fn a_server_may_offer_only_the_login_mechanism() {
    let server = TestServer::start("127.0.0.1", TlsMode::Implicit, &[AuthMechanism::Login]);
    let expected = [&[HELLO, "login accepted"][..], &EMAIL].concat();
    assert_eq!(sent(&server, IMPLICIT).await, expected);
}

#[tokio::test]
async fn tls_does_not_require_a_login() {
    let server = TestServer::start("127.0.0.1", TlsMode::Implicit, &[]);
    assert_eq!(sent(&server, "smtps://ADDRESS").await, [&[HELLO][..], &EMAIL].concat());
    let server = TestServer::start("127.0.0.1", TlsMode::StartTls, &[]);
    let expected = [&[HELLO, HELLO][..], &EMAIL].concat();
    assert_eq!(sent(&server, "smtp://ADDRESS?tls=required").await, expected);
}

async fn failure(mailer: &Mailer) -> String {
    let Unavailable(sending) = send(mailer).await.expect_err("unavailable");
    let Unavailable(checking) = mailer.check().await.expect_err("unavailable");
    assert_eq!(sending, checking, "the check finds what sending finds");
    checking
}

#[tokio::test]
async fn a_rejected_login_is_reported() {
    let server = TestServer::start("127.0.0.1", TlsMode::StartTls, &BOTH);
    let error = failure(&server.mailer("smtp://me:wrong@ADDRESS?tls=required")).await;
    assert!(error.contains("rejected the login") && error.contains("535"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
    assert!(!server.seen().iter().any(|seen| seen.starts_with("from")));
}

#[tokio::test]
async fn a_login_that_the_server_does_not_offer_is_reported() {
    let server = TestServer::start("127.0.0.1", TlsMode::Implicit, &[]);
    let error = failure(&server.mailer(IMPLICIT)).await;
    assert!(error.contains("rejected the login"), "{error}");
}

#[tokio::test]
async fn no_password_is_sent_to_a_server_without_starttls() {
    let server = TestServer::start("127.0.0.1", TlsMode::None, &BOTH);
    let error = failure(&server.mailer(STARTTLS)).await;
    assert!(error.contains("failed to start TLS"), "{error}");
    assert_eq!(server.seen(), [HELLO, HELLO], "one for each session");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_rejected() {
    for (mode, url) in [(TlsMode::StartTls, STARTTLS), (TlsMode::Implicit, IMPLICIT)] {
        let server = TestServer::start("127.0.0.1", mode, &BOTH);
        let error = failure(&mailer(url, server.address, "webhooks@example.com")).await;
        assert!(error.contains("certificate"), "{error}");
        assert!(!server.seen().iter().any(|seen| seen.contains("plain")));
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_rejected() {
    let server = TestServer::start("mail.example.com", TlsMode::Implicit, &BOTH);
    let error = failure(&server.mailer(IMPLICIT)).await;
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_check_sends_nothing() {
    let server = TestServer::start("127.0.0.1", TlsMode::StartTls, &BOTH);
    server.mailer(STARTTLS).check().await.expect("works");
    assert_eq!(server.seen(), [HELLO, HELLO, "plain accepted", "from webhooks@example.com"]);
}

#[tokio::test]
async fn a_rejected_sender_is_reported() {
    let server = TestServer::start("127.0.0.1", TlsMode::None, &[]);
    let error = failure(&server.mailer_from("smtp://ADDRESS", "forged@example.com")).await;
    assert!(error.contains("rejected the sender"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_reported() {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let address = unused.expect("an address");
    let error = failure(&mailer("smtp://ADDRESS", address, "webhooks@example.com")).await;
    let expected = format!("{address} cannot be reached");
    assert!(error.starts_with(&expected) && error.contains("refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_reported() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address");
    let error = failure(&mailer("smtp://ADDRESS", address, "webhooks@example.com")).await;
    assert_eq!(error, format!("{address} did not respond in time"));
}
