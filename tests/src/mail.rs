//! A real SMTP server in this process. Tests can wait for messages, stop it, and stall it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use mail_parser::MessageParser;
use mailin::{Action, Handler, Response, SessionBuilder, response};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::background::Background;
use crate::port::Port;

/// An SMTP server that accepts every message.
#[derive(Debug)]
pub struct MailServer {
    inbox: Inbox,
    port: Port,
    thread: Background,
    running: Option<JoinHandle<io::Result<()>>>,
}

/// An accepted message.
#[derive(Clone, Debug)]
pub struct Email {
    pub at: Timestamp,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The subject, decoded.
    pub subject: String,
    /// The plain text, decoded.
    pub text: String,
    /// The undecoded message.
    pub raw: String,
}

#[derive(Clone, Debug)]
struct Inbox {
    emails: Arc<Mutex<Vec<Email>>>,
    changes: watch::Sender<usize>,
    /// Whether responses are withheld, and the number of clients waiting for one.
    stall: watch::Sender<Stall>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stall {
    active: bool,
    waiting: usize,
}

impl MailServer {
    /// Starts a server on a free port on 127.0.0.1.
    pub async fn start() -> Result<Self> {
        let mut server = Self::stopped()?;
        server.start_listening()?;
        Ok(server)
    }

    /// Starts a server on a free port on `host`.
    pub async fn start_at(host: Ipv4Addr) -> Result<Self> {
        let mut server = Self::stopped_at(host)?;
        server.start_listening()?;
        Ok(server)
    }

    /// A server with a reserved port that is not listening yet.
    pub fn stopped() -> Result<Self> {
        Self::stopped_at(Ipv4Addr::LOCALHOST)
    }

    fn stopped_at(host: Ipv4Addr) -> Result<Self> {
        Ok(Self {
            inbox: Inbox {
                emails: Arc::default(),
                changes: watch::Sender::new(0),
                stall: watch::Sender::default(),
            },
            port: Port::reserve_at(host)?,
            thread: Background::start("mail server")?,
            running: None,
        })
    }

    /// Listens, again on the same port.
    pub fn start_listening(&mut self) -> Result<()> {
        let listener = self.port.listen().context("listen for email")?.into_std()?;
        self.running = Some(self.thread.spawn(accept(listener, self.inbox.clone())));
        Ok(())
    }

    /// Stops listening and closes open connections.
    pub async fn stop_listening(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            // Wait for the abort, which closes the listener.
            let _ = running.await;
        }
    }

    /// Accepts connections but withholds all responses.
    pub fn stop_responding(&self) {
        self.inbox.stall.send_modify(|stall| stall.active = true);
    }

    /// Responds again, also to waiting clients.
    pub fn resume_responding(&self) {
        self.inbox.stall.send_modify(|stall| stall.active = false);
    }

    /// Waits until a client is waiting for a withheld response.
    pub async fn until_client_waits(&self, within: Duration) -> Result<()> {
        let mut stall = self.inbox.stall.subscribe();
        let waits = stall.wait_for(|stall| stall.waiting > 0);
        match tokio::time::timeout(within, waits).await {
            Ok(waits) => waits.map(|_| ()).context("the mail server has stopped"),
            Err(_) => bail!("no client waited for the stalled mail server within {within:?}"),
        }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// All messages so far.
    #[must_use]
    pub fn emails(&self) -> Vec<Email> {
        self.inbox.emails().clone()
    }

    /// Waits until `n` messages have arrived, and returns all.
    pub async fn wait_for(&self, n: usize, within: Duration) -> Result<Vec<Email>> {
        self.wait_until(&format!("{n} emails"), within, |emails| emails.len() >= n).await
    }

    /// Waits until each of these ids is mentioned in some message, and returns all messages. One
    /// message may be about several endpoints.
    pub async fn wait_for_mentions(&self, ids: &[String], within: Duration) -> Result<Vec<Email>> {
        let all =
            |emails: &[Email]| ids.iter().all(|id| emails.iter().any(|email| email.mentions(id)));
        self.wait_until(&format!("emails about {ids:?}"), within, all).await
    }

    async fn wait_until(
        &self,
        what: &str,
        within: Duration,
        done: impl Fn(&[Email]) -> bool,
    ) -> Result<Vec<Email>> {
        let mut changes = self.inbox.changes.subscribe();
        let arrived = changes.wait_for(|_| done(&self.emails()));
        match tokio::time::timeout(within, arrived).await {
            Ok(changed) => changed.map(|_| ()).context("the mail server has stopped")?,
            Err(_) => {
                let so_far = self.emails().len();
                bail!("timed out after {within:?} waiting for {what}; {so_far} emails arrived")
            }
        }
        Ok(self.emails())
    }
}

impl Email {
    /// Whether the message is about something with this id.
    #[must_use]
    pub fn mentions(&self, id: &str) -> bool {
        self.text.contains(id)
    }
}

async fn accept(listener: std::net::TcpListener, inbox: Inbox) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    // Aborts the sessions on drop.
    let mut sessions = JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await?;
        sessions.spawn(serve(stream, peer.ip(), inbox.clone()));
        while sessions.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, inbox: Inbox) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let message = IncomingMessage {
        inbox: inbox.clone(),
        from: String::new(),
        to: Vec::new(),
        raw: Vec::new(),
    };
    let mut session = SessionBuilder::new("mail.test").build(peer, message);
    let mut response = session.greeting();
    loop {
        if response.action != Action::NoReply {
            if !inbox.until_not_stalled(&mut stream).await? {
                return Ok(());
            }
            stream.write_all(&response.buffer()?).await?;
            stream.flush().await?;
        }
        let mut line = Vec::new();
        let closed = response.action == Action::Close;
        if closed || stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        response = session.process(&line);
    }
}

/// The message being received in a session.
struct IncomingMessage {
    inbox: Inbox,
    from: String,
    to: Vec<String>,
    raw: Vec<u8>,
}

impl Handler for IncomingMessage {
    fn data_start(&mut self, _: &str, from: &str, _: bool, to: &[String]) -> Response {
        self.from = from.to_owned();
        self.to = to.to_vec();
        self.raw.clear();
        response::OK
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw.extend_from_slice(bytes);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let parsed = MessageParser::default().parse(&self.raw);
        let parsed = parsed.as_ref();
        let text = parsed.and_then(|m| m.body_text(0)).unwrap_or_default().into_owned();
        self.inbox.take(Email {
            at: Timestamp::now(),
            from: self.from.clone(),
            to: self.to.clone(),
            subject: parsed.and_then(|m| m.subject()).unwrap_or_default().to_owned(),
            text,
            raw: String::from_utf8_lossy(&self.raw).into_owned(),
        });
        response::OK
    }
}

impl Inbox {
    fn emails(&self) -> MutexGuard<'_, Vec<Email>> {
        self.emails.lock()
    }

    fn take(&self, mail: Email) {
        self.emails().push(mail);
        self.changes.send_modify(|emails| *emails += 1);
    }

    /// Waits while the server is stalled. Returns false if the client disconnects meanwhile.
    async fn until_not_stalled(&self, stream: &mut BufStream<TcpStream>) -> io::Result<bool> {
        let mut stall = self.stall.subscribe();
        if !stall.borrow().active {
            return Ok(true);
        }
        self.stall.send_modify(|stall| stall.waiting += 1);
        let waited = tokio::select! {
            // Fails when the server has stopped, and the session with it.
            _ = stall.wait_for(|stall| !stall.active) => Ok(true),
            // A client waiting for a response sends nothing, so no data means that it disconnected.
            data = stream.fill_buf() => data.map(|data| !data.is_empty()),
        };
        self.stall.send_modify(|stall| stall.waiting -= 1);
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::seconds;

    const LINES: [&str; 6] = [
        "EHLO node.test\r\n",
        "MAIL FROM:<webhooks@example.com>\r\n",
        "RCPT TO:<ops@example.com>\r\n",
        "DATA\r\n",
        "Subject: =?utf-8?q?caf=C3=A9?=\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n1=3D1\r\n.\r\n",
        "QUIT\r\n",
    ];

    async fn send(address: SocketAddr) -> Result<()> {
        let mut stream = BufStream::new(TcpStream::connect(address).await?);
        for line in LINES {
            let mut answer = String::new();
            while answer.lines().last().is_none_or(|last| last.as_bytes().get(3) == Some(&b'-')) {
                stream.read_line(&mut answer).await?;
            }
            stream.write_all(line.as_bytes()).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn accepts_and_decodes_a_message() -> Result<()> {
        let server = MailServer::start().await?;
        send(server.address()).await?;
        let mail = server.wait_for(1, seconds(2)).await?.remove(0);
        assert_eq!(
            (mail.from.as_str(), mail.to),
            ("webhooks@example.com", vec!["ops@example.com".to_owned()])
        );
        assert_eq!((mail.subject.as_str(), mail.text.trim()), ("café", "1=1"));
        Ok(())
    }

    #[tokio::test]
    async fn withholds_responses_while_stalled() -> Result<()> {
        let server = MailServer::start().await?;
        server.stop_responding();
        let address = server.address();
        let sending = tokio::spawn(async move { send(address).await });
        server.until_client_waits(seconds(2)).await?;
        assert!(server.emails().is_empty());
        server.resume_responding();
        sending.await??;
        server.wait_for(1, seconds(2)).await?;
        Ok(())
    }

    #[tokio::test]
    async fn stops_and_listens_again() -> Result<()> {
        let mut server = MailServer::start().await?;
        server.stop_listening().await;
        assert!(send(server.address()).await.is_err());
        server.start_listening()?;
        send(server.address()).await?;
        server.wait_for(1, seconds(2)).await?;
        Ok(())
    }
}
