//! The bare loop: a closed loop of requests straight to the receiver, as the baseline.

use anyhow::Result;
use bytes::Bytes;
use tokio::time::Instant;

use crate::Options;
use crate::receiver::Receiver;

pub struct Baseline {
    pub per_s: f64,
}

pub async fn run(options: &Options, receiver: &Receiver) -> Result<Baseline> {
    let client = client(options)?;
    let url = format!("http://{}/", receiver.address);
    let body = Bytes::from(payload(0, options.body));
    let (before, start) = (receiver.count(), Instant::now());
    let end = start + options.duration();
    let loops = (0..options.in_flight).map(|_| {
        let (client, url, body) = (client.clone(), url.clone(), body.clone());
        tokio::spawn(async move {
            while Instant::now() < end {
                let request =
                    client.post(&url).header("content-type", "application/json").body(body.clone());
                request.send().await?.error_for_status()?.bytes().await?;
            }
            anyhow::Ok(())
        })
    });
    for result in futures::future::join_all(loops).await {
        result??;
    }
    let requests = receiver.count() - before;
    Ok(Baseline { per_s: requests as f64 / start.elapsed().as_secs_f64() })
}

/// The HTTP client of all measurements.
pub fn client(options: &Options) -> Result<reqwest::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder =
        reqwest::Client::builder().no_proxy().pool_max_idle_per_host(2 * options.in_flight);
    Ok(builder.build()?)
}

/// A JSON object of `size` bytes with a number.
pub fn payload(number: u64, size: usize) -> String {
    let start = format!("{{\"number\":{number},\"filler\":\"");
    let filler = size.saturating_sub(start.len() + 2);
    format!("{start}{}\"}}", "x".repeat(filler))
}
