//! Queries a node for the status of its cluster.

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
use crate::data_dir::check_secret;

/// How long a node may take to respond.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The response for 16,384 shards has about 1.5 MB.
const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// The environment variable with the operator key.
const KEY_VARIABLE: &str = "POSTRIDER_OPERATOR_KEY";

/// The address of a node, and the operator key.
pub struct StatusClient {
    /// `host:port`
    address: String,
    key: String,
}

impl StatusClient {
    /// Takes the address and the key from the options, the configuration and the environment.
    ///
    /// # Errors
    /// If the configuration is invalid or there is no key.
    pub fn new(options: &Status) -> Result<Self> {
        let config = Config::load(options.config.as_deref(), std::env::vars_os())?;
        let address = match &options.url {
            Some(url) => {
                let host = url.host().context("the URL has no host")?;
                format!("{host}:{}", url.port_u16().unwrap_or(80))
            }
            None => local_address(config.http.listen).to_string(),
        };
        let key = match std::env::var(KEY_VARIABLE) {
            Ok(key) => key,
            Err(_) => {
                let file = config.node.data_dir.join("operator.key");
                std::fs::read_to_string(&file).with_context(|| {
                    format!(
                        "no operator key: {KEY_VARIABLE} is not set, and {} cannot be read",
                        file.display()
                    )
                })?
            }
        };
        let key = check_secret(&key).map_err(|rule| anyhow::anyhow!("the operator key {rule}"))?;
        Ok(Self { address, key: key.to_owned() })
    }

    /// Fetches the node's view of the cluster.
    ///
    /// # Errors
    /// If the node does not respond, or responds with an error.
    pub async fn fetch(&self) -> Result<Cluster> {
        let response = tokio::time::timeout(TIMEOUT, self.get());
        let response =
            response.await.map_err(|_| anyhow::anyhow!("no response within {TIMEOUT:?}"));
        response.flatten().with_context(|| format!("cannot query the node at {}", self.address))
    }

    async fn get(&self) -> Result<Cluster> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the response, which also reports its errors.
        tokio::spawn(connection);
        let request = Request::get("/v1/cluster?owners=true")
            .header(HOST, &self.address)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            bail!("the node rejected the operator key");
        }
        ensure!(status == StatusCode::OK, "the node responded with {status}");
        let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the response was incomplete: {error}"))?;
        serde_json::from_slice(&body.to_bytes()).context("cannot parse the response")
    }
}

/// Replaces an unspecified listen address by loopback.
fn local_address(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}
