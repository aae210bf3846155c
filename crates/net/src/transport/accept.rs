//! Taking connections in: nobody waits for anybody else.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Tls;
use super::socket::{Hall, Stream, tune};
use super::table::{Ticket, Way};

/// How long nothing is accepted after the kernel could not give us a connection: when it is out
/// of file descriptors, it says so again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub(super) trait Source: Send + 'static {
    /// The next connection.
    fn next(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Source for TcpListener {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

/// Takes connections in until it is dropped, or the table closes.
pub(super) async fn run(mut source: impl Source, hall: Hall, tls: Option<Tls>) {
    loop {
        let (stream, address) = match source.next().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection from a peer");
                sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(ticket) = hall.table.admit(address) {
            tokio::spawn(welcome(stream, address, ticket, hall.clone(), tls.clone()));
        }
    }
}

/// Brings one connection to the node server, unless it loses its place before.
async fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    ticket: Ticket,
    hall: Hall,
    tls: Option<Tls>,
) {
    let given_up = ticket.given_up.clone();
    let arriving = async move {
        tune(&stream)?;
        Ok(match tls {
            None => Stream::new(stream, ticket),
            Some(tls) => Stream::new(tls.accepted(stream).await?, ticket),
        })
    };
    match given_up.run_until_cancelled(arriving).await {
        None => debug!(%address, "a connection made room before it came in"),
        Some(Err::<_, io::Error>(error)) => {
            debug!(%address, %error, "rejected an incoming connection");
            hall.table.stranger(Way::In, address);
        }
        // The node server ends only together with the link.
        Some(Ok(stream)) => _ = hall.hand_over(stream),
    }
}
