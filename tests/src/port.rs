//! Ports that nobody else takes.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use tokio::net::{TcpListener, TcpSocket};

/// Below Linux's ephemeral ports. From among those the kernel would sooner or later pick the
/// port of a killed node as the near end of a connection to that very port, and TCP then
/// connects a client to itself.
const RANGE: std::ops::Range<u16> = 12_000..32_000;
const TRIES: usize = 100;

/// A port of 127.0.0.1 that is kept for one test, also while nobody listens on it: connections
/// are refused then.
///
/// It is kept by a socket that is bound and does not listen. Whoever sets SO_REUSEADDR, as
/// servers do, can listen beside it; another [`Port::reserve`] finds it taken.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _bound: TcpSocket,
}

impl Port {
    /// Keeps a free port.
    #[expect(clippy::disallowed_methods, reason = "any port does: there is nothing to repeat")]
    pub fn reserve() -> Result<Self> {
        for _ in 0..TRIES {
            let number = rand::rng().random_range(RANGE);
            if TcpSocket::new_v4()?.bind(address(number)).is_ok() {
                let bound = bind(number)?;
                return Ok(Self { number, _bound: bound });
            }
        }
        bail!("no free port among {TRIES} of {RANGE:?}")
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        address(self.number)
    }

    /// Listens on it, in this process.
    pub fn listen(&self) -> Result<TcpListener> {
        bind(self.number)?.listen(1024).with_context(|| format!("listen on port {}", self.number))
    }
}

fn bind(number: u16) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address(number)).with_context(|| format!("take port {number}"))?;
    Ok(socket)
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kept_port_refuses_until_its_owner_listens() -> Result<()> {
        let port = Port::reserve()?;
        let connect = || tokio::net::TcpStream::connect(port.address());
        assert!(connect().await.is_err());
        assert!(TcpSocket::new_v4()?.bind(port.address()).is_err(), "somebody else took it");
        for _ in 0..2 {
            let listener = port.listen()?;
            connect().await?;
            drop(listener);
            assert!(connect().await.is_err());
        }
        Ok(())
    }
}
