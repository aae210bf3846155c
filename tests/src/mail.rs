//! A real SMTP server in this process, whose messages can be awaited, and which can be away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use mail_parser::MessageParser;
use mailin::{Action, Handler, Response, SessionBuilder, response};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::background::Background;
use crate::port::Port;

/// An SMTP server that takes every message.
#[derive(Debug)]
pub struct MailServer {
    inbox: Inbox,
    port: Port,
    thread: Background,
    running: Option<JoinHandle<io::Result<()>>>,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Mail {
    /// When it was taken.
    pub at: Timestamp,
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// The subject, decoded.
    pub subject: String,
    /// The plain text, decoded.
    pub text: String,
    /// The message as it came.
    pub raw: String,
}

#[derive(Clone, Debug)]
struct Inbox {
    mails: Arc<Mutex<Vec<Mail>>>,
    changes: watch::Sender<usize>,
    /// Whether clients are left without an answer, and how many of them wait for one.
    silence: watch::Sender<Silence>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Silence {
    kept: bool,
    waiting: usize,
}

impl MailServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start() -> Result<Self> {
        let mut server = Self::away()?;
        server.come_back()?;
        Ok(server)
    }

    /// Starts a server on a free port of `host`.
    pub async fn start_at(host: Ipv4Addr) -> Result<Self> {
        let mut server = Self::away_at(host)?;
        server.come_back()?;
        Ok(server)
    }

    /// A server whose port is known and which is not there yet.
    pub fn away() -> Result<Self> {
        Self::away_at(Ipv4Addr::LOCALHOST)
    }

    fn away_at(host: Ipv4Addr) -> Result<Self> {
        Ok(Self {
            inbox: Inbox {
                mails: Arc::default(),
                changes: watch::Sender::new(0),
                silence: watch::Sender::default(),
            },
            port: Port::reserve_at(host)?,
            thread: Background::start("mail server")?,
            running: None,
        })
    }

    /// Listens again, on the same port.
    pub fn come_back(&mut self) -> Result<()> {
        let listener = self.port.listen().context("listen for email")?.into_std()?;
        self.running = Some(self.thread.spawn(accept(listener, self.inbox.clone())));
        Ok(())
    }

    /// Refuses connections and breaks those that are open.
    pub async fn go_away(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            // Ends with the abort; the listener is closed then.
            let _ = running.await;
        }
    }

    /// Takes connections, and answers nobody until it is told to speak.
    pub fn fall_silent(&self) {
        self.inbox.silence.send_modify(|silence| silence.kept = true);
    }

    /// Answers again, those who wait as well.
    pub fn speak(&self) {
        self.inbox.silence.send_modify(|silence| silence.kept = false);
    }

    /// Waits until a client is left without an answer.
    pub async fn until_somebody_waits(&self, within: Duration) -> Result<()> {
        let mut silence = self.inbox.silence.subscribe();
        let waits = silence.wait_for(|silence| silence.waiting > 0);
        match tokio::time::timeout(within, waits).await {
            Ok(waits) => waits.map(|_| ()).context("the mail server is gone"),
            Err(_) => bail!("no client of the mail server waited within {within:?}"),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Every message so far.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.inbox.mails().clone()
    }

    /// Waits until `n` messages were taken, and gives all.
    pub async fn wait_for(&self, n: usize, within: Duration) -> Result<Vec<Mail>> {
        let mut changes = self.inbox.changes.subscribe();
        let arrived = tokio::time::timeout(within, changes.wait_for(|&mails| mails >= n)).await;
        match arrived {
            Ok(changed) => changed.map(|_| ()).context("the mail server is gone")?,
            Err(_) => {
                let so_far = self.mails().len();
                bail!("waited {within:?} in vain for {n} emails; {so_far} came")
            }
        }
        Ok(self.mails())
    }
}

async fn accept(listener: std::net::TcpListener, inbox: Inbox) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    // Ends its sessions when it is dropped.
    let mut sessions = JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await?;
        sessions.spawn(serve(stream, peer.ip(), inbox.clone()));
        while sessions.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, peer: IpAddr, inbox: Inbox) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let letter =
        Letter { inbox: inbox.clone(), from: String::new(), to: Vec::new(), raw: Vec::new() };
    let mut session = SessionBuilder::new("mail.test").build(peer, letter);
    let mut response = session.greeting();
    loop {
        if response.action != Action::NoReply {
            if !inbox.until_spoken(&mut stream).await? {
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

/// The message of a session, while it comes in.
struct Letter {
    inbox: Inbox,
    from: String,
    to: Vec<String>,
    raw: Vec<u8>,
}

impl Handler for Letter {
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
        self.inbox.take(Mail {
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
    fn mails(&self) -> MutexGuard<'_, Vec<Mail>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, mail: Mail) {
        self.mails().push(mail);
        self.changes.send_modify(|mails| *mails += 1);
    }

    /// Keeps silent, if so it was told, and tells whether the client waited for the answer.
    async fn until_spoken(&self, stream: &mut BufStream<TcpStream>) -> io::Result<bool> {
        let mut silence = self.silence.subscribe();
        if !silence.borrow().kept {
            return Ok(true);
        }
        self.silence.send_modify(|silence| silence.waiting += 1);
        let waited = tokio::select! {
            // Fails when the server is gone, and the session with it.
            _ = silence.wait_for(|silence| !silence.kept) => Ok(true),
            // A client that waits for its turn says nothing: it has closed the connection.
            said = stream.fill_buf() => said.map(|said| !said.is_empty()),
        };
        self.silence.send_modify(|silence| silence.waiting -= 1);
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
    async fn takes_and_decodes_a_message() -> Result<()> {
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
    async fn can_fall_silent_and_speak() -> Result<()> {
        let server = MailServer::start().await?;
        server.fall_silent();
        let address = server.address();
        let sending = tokio::spawn(async move { send(address).await });
        server.until_somebody_waits(seconds(2)).await?;
        assert!(server.mails().is_empty());
        server.speak();
        sending.await??;
        server.wait_for(1, seconds(2)).await?;
        Ok(())
    }

    #[tokio::test]
    async fn can_be_away_and_come_back() -> Result<()> {
        let mut server = MailServer::start().await?;
        server.go_away().await;
        assert!(send(server.address()).await.is_err());
        server.come_back()?;
        send(server.address()).await?;
        server.wait_for(1, seconds(2)).await?;
        Ok(())
    }
}
