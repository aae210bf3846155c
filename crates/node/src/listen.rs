//! `postrider listen`: a receiver for people who try things out or look for a fault.
//!
//! Each connection is served by a task of its own; a webhook is read whole, judged
//! ([`verify`]), printed ([`report`]) and only then answered, so that what is on the screen is
//! never behind what the sender knows.

mod json;
mod report;
mod seen;
#[cfg(test)]
mod tests;
mod verify;

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use postrider_domain::signature::Secret;
use postrider_domain::time::Clock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::cli;
use crate::logging::colours_wanted;
use report::{Paint, Webhook};
use seen::Seen;

/// Largest body that is read.
const MAX_BODY: usize = 1024 * 1024;
/// Most connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// Longest time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Wait after a connection could not be accepted, for instance for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// It could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No signal can be received.
    #[error("cannot wait for signals: {0}")]
    Signal(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; give another with --port",
        io::ErrorKind::PermissionDenied => "; give a --port of 1024 or more",
        _ => "",
    }
}

/// Receives until Ctrl-C, SIGTERM, or until nobody reads what it prints.
///
/// # Errors
/// When it cannot be started, which is the user's to put right.
pub async fn run(options: cli::Listen, clock: Arc<dyn Clock>) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let address = SocketAddr::new(options.host, options.port);
    let listener =
        TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })?;
    let stdout = io::stdout();
    let paint = Paint::new(stdout.is_terminal() && colours_wanted());
    let receiver = Receiver::new(options, clock, Box::new(stdout), paint);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    receiver.serve(listener, stop).await;
    Ok(())
}

/// What all connections share.
struct Receiver {
    answer: Answer,
    secrets: Vec<Secret>,
    headers: bool,
    clock: Arc<dyn Clock>,
    paint: Paint,
    desk: Mutex<Desk>,
    /// Nobody reads what is printed.
    unheard: Notify,
}

/// What is answered to every webhook.
struct Answer {
    status: StatusCode,
    location: Option<HeaderValue>,
    delay: Option<Duration>,
}

/// Where webhooks are counted and printed, one at a time.
struct Desk {
    out: Box<dyn Write + Send>,
    seen: Seen,
    received: u64,
    rejected: u64,
}

impl Receiver {
    fn new(
        options: cli::Listen,
        clock: Arc<dyn Clock>,
        out: Box<dyn Write + Send>,
        paint: Paint,
    ) -> Arc<Self> {
        let location = options
            .redirect
            .map(|url| HeaderValue::try_from(url).expect("checked with the options"));
        let status = match options.fail {
            Some(status) => StatusCode::from_u16(status).expect("checked with the options"),
            None if location.is_some() => StatusCode::FOUND,
            None => StatusCode::OK,
        };
        let answer = Answer { status, location, delay: options.slow };
        let desk = Desk { out, seen: Seen::default(), received: 0, rejected: 0 };
        Arc::new(Self {
            answer,
            secrets: options.secrets,
            headers: options.headers,
            clock,
            paint,
            desk: Mutex::new(desk),
            unheard: Notify::new(),
        })
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, stop: impl Future<Output = ()>) {
        self.greet(&listener);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let accept = async {
            loop {
                let permit = Arc::clone(&permits).acquire_owned().await;
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_AGAIN).await;
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
            () = self.unheard.notified() => {}
        }
        self.summarize();
    }

    async fn connection(self: Arc<Self>, stream: TokioIo<tokio::net::TcpStream>) {
        let service = service_fn(|request| {
            let receiver = Arc::clone(&self);
            async move { Ok::<_, Infallible>(receiver.receive(request).await) }
        });
        // How a connection ends is the sender's affair; what it sent has been printed.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(stream, service)
            .await;
    }

    async fn receive(&self, request: Request<Incoming>) -> Response<Empty<Bytes>> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST {
            self.note(&head, "not a POST, so no webhook", StatusCode::METHOD_NOT_ALLOWED);
            let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                self.note(&head, "has more than 1 MiB", StatusCode::PAYLOAD_TOO_LARGE);
                return empty(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Err(_) => {
                self.note(&head, "broke off", StatusCode::BAD_REQUEST);
                return empty(StatusCode::BAD_REQUEST);
            }
        };
        self.show(&head, &body);
        if let Some(delay) = self.answer.delay {
            tokio::time::sleep(delay).await;
        }
        self.answer.response()
    }

    /// Prints a webhook.
    fn show(&self, head: &Parts, body: &Bytes) {
        let now = self.clock.wall();
        let judgement = verify::judge(&self.secrets, &head.headers, body, now);
        self.at_desk(|desk| {
            desk.received += 1;
            desk.rejected += u64::from(judgement.is_bad());
            let id = head.headers.get("webhook-id").map(HeaderValue::as_bytes);
            let webhook = Webhook {
                at: now,
                path: head.uri.path_and_query().map_or("/", |path| path.as_str()),
                headers: &head.headers,
                body,
                judgement: &judgement,
                times_seen: id.map_or(1, |id| desk.seen.count(id)),
                answer: &self.answer.to_string(),
            };
            webhook.write(&mut desk.out, self.paint, self.headers)
        });
    }

    /// Prints a request that is no webhook.
    fn note(&self, head: &Parts, what: &str, answer: StatusCode) {
        let (method, path) = (&head.method, report::clean(head.uri.path()));
        let line = format!("{}  {method} {path}: {what}; answered {answer}", self.clock.wall());
        self.at_desk(|desk| writeln!(desk.out, "{}", self.paint.dim(&line)));
    }

    fn greet(&self, listener: &TcpListener) {
        let address = listener
            .local_addr()
            .map_or_else(|error| error.to_string(), |address| format!("http://{address}/"));
        let signatures = match self.secrets.len() {
            0 => "signatures are not checked (give --secret)".to_owned(),
            1 => "signatures are checked".to_owned(),
            many => format!("signatures are checked with {many} secrets"),
        };
        let answer = &self.answer;
        self.at_desk(|desk| {
            writeln!(
                desk.out,
                "Listening on {address}; {signatures}; every webhook gets {answer}. Ctrl-C ends."
            )
        });
    }

    fn summarize(&self) {
        self.at_desk(|desk| {
            let (received, events) = (desk.received, desk.seen.events());
            write!(desk.out, "Webhooks received: {received}; different events: {events}")?;
            match desk.rejected {
                0 => writeln!(desk.out, "."),
                rejected => writeln!(desk.out, "; bad signatures: {rejected}."),
            }
        });
    }

    /// Prints something. When nobody reads it (`postrider listen | head`), it is time to end.
    fn at_desk(&self, print: impl FnOnce(&mut Desk) -> io::Result<()>) {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if print(&mut desk).and_then(|()| desk.out.flush()).is_err() {
            self.unheard.notify_one();
        }
    }
}

impl Answer {
    fn response(&self) -> Response<Empty<Bytes>> {
        let mut response = empty(self.status);
        if let Some(location) = &self.location {
            response.headers_mut().insert(LOCATION, location.clone());
        }
        response
    }
}

impl std::fmt::Display for Answer {
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
