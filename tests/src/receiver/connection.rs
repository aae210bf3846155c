//! Accepts connections, reads requests and responds as configured.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::State;
use super::behaviour::Behaviour;
use super::request::Received;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub(super) async fn accept(listener: std::net::TcpListener, state: Arc<State>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = Connection { stream, number, read: BytesMut::new() };
        tokio::spawn(connection.serve(Arc::clone(&state)));
    }
    Ok(())
}

struct Connection {
    stream: TcpStream,
    number: usize,
    /// Bytes read beyond the last request.
    read: BytesMut,
}

/// The state of the connection after a request.
enum After {
    Open,
    Closed,
    /// The sender has given up. A 200 is still sent after this time.
    Abandoned(Duration),
}

impl Connection {
    /// Serves requests until either side closes. A request that stays incomplete, because its
    /// sender was killed, is not recorded.
    async fn serve(mut self, state: Arc<State>) -> io::Result<()> {
        while let Some(request) = self.next_request().await? {
            let (index, behaviour) = state.record(request);
            let (status, after) = self.respond(behaviour).await;
            state.finish(index, status);
            match after {
                After::Open => {}
                After::Closed => break,
                After::Abandoned(rest) => {
                    tokio::time::sleep(rest).await;
                    // The sender may be gone.
                    let _ = self.write(OK).await;
                    break;
                }
            }
        }
        Ok(())
    }

    async fn next_request(&mut self) -> io::Result<Option<Received>> {
        if self.read.is_empty() && self.read_more().await? == 0 {
            return Ok(None);
        }
        let (arrived, began) = (Timestamp::now(), Instant::now());
        let head_length = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        };
        let head = self.read.split_to(head_length).freeze();
        let Some(body) = self.body(&head).await? else {
            return Ok(None);
        };
        let path = path(&head);
        let connection = self.number;
        Ok(Some(Received {
            index: 0,
            connection,
            path,
            head,
            body,
            arrived,
            began,
            ended: None,
            answered: None,
        }))
    }

    /// The body, by its `Content-Length`. Postrider always sends one: a chunked body would be a bug
    /// and is read as empty.
    async fn body(&mut self, head: &[u8]) -> io::Result<Option<Bytes>> {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let length = text
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0);
        while self.read.len() < length {
            if self.read_more().await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(self.read.split_to(length).freeze()))
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.read).await
    }

    /// Responds, and returns the status if it was sent completely.
    async fn respond(&mut self, behaviour: Behaviour) -> (Option<u16>, After) {
        match behaviour {
            Behaviour::Answer(reply) => match self.write(&reply.bytes()).await {
                Ok(()) => (Some(reply.status), After::Open),
                Err(_) => (None, After::Closed),
            },
            Behaviour::Slow(delay) => self.respond_after(delay).await,
            Behaviour::Hang => self.write_and_hang(b"", None).await,
            Behaviour::Garbage => {
                let _ = self.write(b"220 mail.example ESMTP at your service\r\n\r\n").await;
                (None, After::Closed)
            }
            Behaviour::Reset => {
                let _ = self.stream.set_zero_linger();
                (None, After::Closed)
            }
            Behaviour::Close => {
                let _ = self.stream.shutdown().await;
                (None, After::Closed)
            }
            Behaviour::StalledBody => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbut then";
                self.write_and_hang(head, Some(200)).await
            }
            Behaviour::HugeBody(size) => (self.write_huge(size).await, After::Closed),
            Behaviour::InformationalOnly => {
                let early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n";
                self.write_and_hang(early, None).await
            }
            Behaviour::AtFirst { .. } => unreachable!("resolved when the request was recorded"),
        }
    }

    /// 200 after a delay, even if the sender has given up by then.
    async fn respond_after(&mut self, delay: Duration) -> (Option<u16>, After) {
        let respond_at = Instant::now() + delay;
        while let Ok(read) = tokio::time::timeout_at(respond_at, self.read_more()).await {
            if !matches!(read, Ok(n) if n > 0) {
                return (
                    None,
                    After::Abandoned(respond_at.saturating_duration_since(Instant::now())),
                );
            }
        }
        match self.write(OK).await {
            Ok(()) => (Some(200), After::Open),
            Err(_) => (None, After::Closed),
        }
    }

    /// Writes `start`, then waits until the sender gives up.
    async fn write_and_hang(&mut self, start: &[u8], status: Option<u16>) -> (Option<u16>, After) {
        if self.write(start).await.is_ok() {
            while matches!(self.read_more().await, Ok(n) if n > 0) {}
        }
        (status, After::Closed)
    }

    async fn write_huge(&mut self, size: usize) -> Option<u16> {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        self.write(head.as_bytes()).await.ok()?;
        let chunk = [b'x'; 16 * 1024];
        for _ in 0..size.div_ceil(chunk.len()) {
            // The sender may close before the end.
            if self.write(&chunk).await.is_err() {
                break;
            }
        }
        Some(200)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

fn path(head: &[u8]) -> String {
    let line = head.split(|&b| b == b'\r').next().unwrap_or_default();
    let target = String::from_utf8_lossy(line).split(' ').nth(1).unwrap_or_default().to_owned();
    target.split('?').next().unwrap_or_default().to_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
