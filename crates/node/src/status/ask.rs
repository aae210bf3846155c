//! Asking a node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Cluster;
use crate::cli::Status;
use crate::config::Config;
use crate::data_dir::check_operator_key;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer: 16,384 shards have about 1.5 MB.
const MAX_ANSWER: usize = 8 << 20;
/// The variable that holds the operator's key.
const KEY: &str = "POSTRIDER_OPERATOR_KEY";

/// A node to ask, and the key to show it.
pub struct Node {
    /// `host:port`
    address: String,
    key: String,
}

impl Node {
    /// The node and the key that the options and the environment name.
    ///
    /// # Errors
    /// When the configuration is bad or there is no key.
    pub fn of(options: &Status) -> Result<Self> {
        let config = Config::load(options.config.as_deref(), std::env::vars_os())?;
        let address = match &options.url {
            Some(url) => {
                let host = url.host().context("a URL has a host")?;
                format!("{host}:{}", url.port_u16().unwrap_or(80))
            }
            None => reachable(config.http.listen).to_string(),
        };
        let key = match std::env::var(KEY) {
            Ok(key) => key,
            Err(_) => {
                let file = config.node.data_dir.join("operator.key");
                std::fs::read_to_string(&file).with_context(|| {
                    format!(
                        "no operator key: {KEY} is not set, and {} cannot be read",
                        file.display()
                    )
                })?
            }
        };
        let key =
            check_operator_key(&key).map_err(|rule| anyhow::anyhow!("the operator key {rule}"))?;
        Ok(Self { address, key: key.to_owned() })
    }

    /// The cluster as the node sees it now.
    ///
    /// # Errors
    /// When it does not answer, or not with that.
    pub async fn ask(&self) -> Result<Cluster> {
        let asked = tokio::time::timeout(TIMEOUT, self.get());
        let answer = asked.await.map_err(|_| anyhow::anyhow!("no answer within {TIMEOUT:?}"));
        answer.flatten().with_context(|| format!("the node at {} cannot be asked", self.address))
    }

    async fn get(&self) -> Result<Cluster> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer; what is wrong with it shows there.
        tokio::spawn(connection);
        let request = Request::get("/v1/cluster?owners=true")
            .header(HOST, &self.address)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            bail!("it does not know this operator key");
        }
        ensure!(status == StatusCode::OK, "it answered {status}");
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its answer broke off: {error}"))?;
        serde_json::from_slice(&body.to_bytes()).context("its answer is not understood")
    }
}

/// A node that listens on every address is reached on this machine's own.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}
