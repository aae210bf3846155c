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

/// A port of one address, mostly 127.0.0.1, that is kept for one test, also while nobody listens on it: connections
/// are refused then.
///
/// It is kept by a socket that is bound and does not listen. Whoever sets SO_REUSEADDR, as
/// servers do, can listen beside it; another [`Port::reserve`] finds it taken.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// Keeps a free port of 127.0.0.1.
    pub fn reserve() -> Result<Self> {
        Self::reserve_at(Ipv4Addr::LOCALHOST)
    }

    /// Keeps a free port of `host`, which must be an address of this machine.
    #[expect(clippy::disallowed_methods, reason = "any port does: there is nothing to repeat")]
    pub fn reserve_at(host: Ipv4Addr) -> Result<Self> {
        for _ in 0..TRIES {
            let address = SocketAddr::from((host, rand::rng().random_range(RANGE)));
            if TcpSocket::new_v4()?.bind(address).is_ok() {
                return Ok(Self { address, _bound: bind(address)? });
            }
        }
        bail!("no free port of {host} among {TRIES} of {RANGE:?}")
    }

    /// Keeps this one.
    pub fn at(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, _bound: bind(address)? })
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it, in this process.
    pub fn listen(&self) -> Result<TcpListener> {
        bind(self.address)?.listen(1024).with_context(|| format!("listen on {}", self.address))
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("take {address}"))?;
    Ok(socket)
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
