//! A relay between two nodes that can be made to fail.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Forwards bytes between one connection and an address.
pub struct Relay {
    pub address: SocketAddr,
    frozen: CancellationToken,
    injected: mpsc::Sender<Vec<u8>>,
}

impl Relay {
    pub async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let frozen = CancellationToken::new();
        let freezes = frozen.clone();
        let (injected, injections) = mpsc::channel(1);
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(address).await.unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::spawn(forward(near_read, far_write, freezes.clone(), Some(injections)));
            forward(far_read, near_write, freezes, None).await;
        });
        Self { address: own, frozen, injected }
    }

    /// Stops forwarding, as if a cable had been cut: neither end is notified.
    pub fn freeze(&self) {
        self.frozen.cancel();
    }

    /// Sends bytes to the address, as if the connected node had sent them.
    pub async fn inject(&self, bytes: &[u8]) {
        self.injected.send(bytes.to_vec()).await.unwrap();
    }
}

async fn forward(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    freezes: CancellationToken,
    mut injections: Option<mpsc::Receiver<Vec<u8>>>,
) {
    let mut bytes = [0; 16 * 1_024];
    loop {
        let injected = async {
            match &mut injections {
                Some(injections) => injections.recv().await,
                None => None,
            }
        };
        tokio::select! {
            biased;
            () = freezes.cancelled() => std::future::pending().await,
            Some(bytes) = injected => to.write_all(&bytes).await.unwrap(),
            read = from.read(&mut bytes) => match read {
                Ok(read) if read > 0 && to.write_all(&bytes[..read]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}
