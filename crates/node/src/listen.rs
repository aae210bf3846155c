//! `postrider listen`: a webhook receiver for testing and debugging.
//!
//! Each connection runs in its own task. A webhook is read completely, verified ([`verify`]) and
//! printed ([`report`]) before the response is sent, so the output is never behind the sender.

mod attempt_counter;
mod report;
#[cfg(test)]
mod tests;
mod verify;

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use postrider_domain::signature::Secret;
use postrider_domain::time::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::cli;
use crate::logging::colours_enabled;
use attempt_counter::AttemptCounter;
use report::{Style, Webhook};

/// Larger bodies get a 413 response.
const MAX_BODY: usize = 1024 * 1024;
/// Further connections wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to send the header of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay after `accept` failed, for example because the process is out of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The receiver could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Bind { address: SocketAddr, source: io::Error },
    #[error("cannot install signal handlers: {0}")]
    Signal(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; choose another port with --port",
        io::ErrorKind::PermissionDenied => "; choose a --port of 1024 or higher",
        _ => "",
    }
}

/// Receives webhooks until Ctrl-C, SIGTERM, or until the reader of its output is gone.
///
/// # Errors
/// If the address cannot be bound or the signal handlers cannot be installed.
pub async fn run(options: cli::Listen, clock: Arc<dyn Clock>) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let address = SocketAddr::new(options.host, options.port);
    let listener =
        TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })?;
    let stdout = io::stdout();
    let style = Style::new(stdout.is_terminal() && colours_enabled());
    let receiver = Receiver::new(options, clock, Box::new(stdout), style);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    receiver.serve(listener, stop).await;
    Ok(())
}

/// State shared by all connections.
struct Receiver {
    response: CannedResponse,
    secrets: Vec<Secret>,
    show_headers: bool,
    clock: Arc<dyn Clock>,
    style: Style,
    printer: Mutex<Printer>,
    /// Notified when writing the output fails.
    output_closed: Notify,
}

/// The response to every webhook.
struct CannedResponse {
    status: StatusCode,
    location: Option<HeaderValue>,
    delay: Option<Duration>,
}

/// Counts webhooks and prints them, one at a time.
struct Printer {
    out: Box<dyn Write + Send>,
    attempts: AttemptCounter,
    received: u64,
    rejected: u64,
}

impl Receiver {
    fn new(
        options: cli::Listen,
        clock: Arc<dyn Clock>,
        out: Box<dyn Write + Send>,
        style: Style,
    ) -> Arc<Self> {
        let location = options
            .redirect
            .map(|url| HeaderValue::try_from(url).expect("checked with the options"));
        let status = match options.fail {
            Some(status) => StatusCode::from_u16(status).expect("checked with the options"),
            None if location.is_some() => StatusCode::FOUND,
            None => StatusCode::OK,
        };
        let response = CannedResponse { status, location, delay: options.slow };
        let printer =
            Printer { out, attempts: AttemptCounter::default(), received: 0, rejected: 0 };
        Arc::new(Self {
            response,
            secrets: options.secrets,
            show_headers: options.headers,
            clock,
            style,
            printer: Mutex::new(printer),
            output_closed: Notify::new(),
        })
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, stop: impl Future<Output = ()>) {
        self.print_greeting(&listener);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let accept = async {
            loop {
                let permit = Arc::clone(&permits).acquire_owned().await;
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                    continue;
                };
                let receiver = Arc::clone(&self);
                connections.spawn(async move {
                    receiver.connection(TokioIo::new(stream)).await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop => {}
            () = self.output_closed.notified() => {}
        }
        self.print_summary();
    }

    async fn connection(self: Arc<Self>, stream: TokioIo<tokio::net::TcpStream>) {
        let service = service_fn(|request| {
            let receiver = Arc::clone(&self);
            async move { Ok::<_, Infallible>(receiver.receive(request).await) }
        });
        // Ignore connection errors: everything received has been printed.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(stream, service)
            .await;
    }

    async fn receive(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            self.print_rejected(&head, "not a POST request", StatusCode::METHOD_NOT_ALLOWED);
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                self.print_rejected(&head, "body exceeds 1 MiB", StatusCode::PAYLOAD_TOO_LARGE);
                return empty(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Err(_) => {
                self.print_rejected(
                    &head,
                    "connection closed before the end of the body",
                    StatusCode::BAD_REQUEST,
                );
                return empty(StatusCode::BAD_REQUEST);
            }
        };
        self.print_webhook(&head, &body);
        if let Some(delay) = self.response.delay {
            tokio::time::sleep(delay).await;
        }
        self.response.build()
    }

    fn print_webhook(&self, head: &Parts, body: &Bytes) {
        let now = self.clock.wall();
        let verification = verify::verify(&self.secrets, &head.headers, body, now);
        self.with_printer(|printer| {
            printer.received += 1;
            printer.rejected += u64::from(verification.is_rejected());
            let id = head.headers.get("webhook-id").map(HeaderValue::as_bytes);
            let webhook = Webhook {
                at: now,
                path: head.uri.path_and_query().map_or("/", |path| path.as_str()),
                headers: &head.headers,
                body,
                verification: &verification,
                attempt: id.map_or(1, |id| printer.attempts.count(id)),
                response: &self.response.to_string(),
            };
            webhook.write(&mut printer.out, self.style, self.show_headers)
        });
    }

    /// Prints a request that is not a webhook.
    fn print_rejected(&self, head: &Parts, what: &str, response: StatusCode) {
        let (method, path) = (&head.method, report::sanitize(head.uri.path()));
        let line =
            format!("{}  {method} {path}: {what}; responded with {response}", self.clock.wall());
        self.with_printer(|printer| writeln!(printer.out, "{}", self.style.dim(&line)));
    }

    fn print_greeting(&self, listener: &TcpListener) {
        let address = listener
            .local_addr()
            .map_or_else(|error| error.to_string(), |address| format!("http://{address}/"));
        let signatures = match self.secrets.len() {
            0 => "signatures are not verified (set --secret)".to_owned(),
            1 => "signatures are verified".to_owned(),
            many => format!("signatures are verified with {many} secrets"),
        };
        let response = &self.response;
        self.with_printer(|printer| {
            writeln!(
                printer.out,
                "Listening on {address}; {signatures}; responding with {response}. Press Ctrl-C to stop."
            )
        });
    }

    fn print_summary(&self) {
        self.with_printer(|printer| {
            let (received, events) = (printer.received, printer.attempts.events());
            write!(printer.out, "Webhooks received: {received}; distinct events: {events}")?;
            match printer.rejected {
                0 => writeln!(printer.out, "."),
                rejected => writeln!(printer.out, "; rejected: {rejected}."),
            }
        });
    }

    /// Prints something. Stops the receiver if the output is closed (`postrider listen | head`).
    fn with_printer(&self, print: impl FnOnce(&mut Printer) -> io::Result<()>) {
        let mut printer = self.printer.lock();
        if print(&mut printer).and_then(|()| printer.out.flush()).is_err() {
            self.output_closed.notify_one();
        }
    }
}

impl CannedResponse {
    fn build(&self) -> Response<Empty<Bytes>> {
        let mut response = empty(self.status);
        if let Some(location) = &self.location {
            response.headers_mut().insert(LOCATION, location.clone());
        }
        response
    }
}

impl std::fmt::Display for CannedResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        match self.delay {
            Some(delay) => write!(f, " after {}", postrider_domain::duration::format(delay)),
            None => Ok(()),
        }
    }
}

fn empty(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}
