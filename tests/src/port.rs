//! Reserved TCP ports.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use tokio::net::{TcpListener, TcpSocket};

/// Below Linux's ephemeral ports. Otherwise the kernel would eventually pick the port of a killed
/// node as the local port of a connection to that same port, and TCP would connect the client to
/// itself.
const RANGE: std::ops::Range<u16> = 12_000..32_000;
const MAX_TRIES: usize = 100;

/// A port reserved for one test, even while no process listens on it and connections are refused.
///
/// A bound socket that does not listen holds the reservation. Servers that set SO_REUSEADDR can
/// still listen on the port; another [`Port::reserve`] finds it taken.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// Reserves a free port on 127.0.0.1.
    pub fn reserve() -> Result<Self> {
        Self::reserve_at(Ipv4Addr::LOCALHOST)
    }

    /// Reserves a free port on `host`, which must be an address of this machine.
    #[expect(
        clippy::disallowed_methods,
        reason = "any port will do: the choice need not be reproducible"
    )]
    pub fn reserve_at(host: Ipv4Addr) -> Result<Self> {
        for _ in 0..MAX_TRIES {
            let address = SocketAddr::from((host, rand::rng().random_range(RANGE)));
            if TcpSocket::new_v4()?.bind(address).is_ok() {
                return Ok(Self { address, _bound: bind(address)? });
            }
        }
        bail!("no free port on {host} in {RANGE:?} after {MAX_TRIES} tries")
    }

    /// Reserves this port.
    pub fn at(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, _bound: bind(address)? })
    }

    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on the port in this process.
    pub fn listen(&self) -> Result<TcpListener> {
        bind(self.address)?.listen(1024).with_context(|| format!("listen on {}", self.address))
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("bind {address}"))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reserved_port_refuses_connections_until_its_owner_listens() -> Result<()> {
        let port = Port::reserve()?;
        let connect = || tokio::net::TcpStream::connect(port.address());
        assert!(connect().await.is_err());
        assert!(
            TcpSocket::new_v4()?.bind(port.address()).is_err(),
            "the reserved port could be bound"
        );
        for _ in 0..2 {
            let listener = port.listen()?;
            connect().await?;
            drop(listener);
            assert!(connect().await.is_err());
        }
        Ok(())
    }
}
