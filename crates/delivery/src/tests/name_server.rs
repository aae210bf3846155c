//! A name server for tests.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::UdpSocket;

use crate::resolver::Files;

/// The answer to a query. `None`: silence.
pub(crate) type Reply = Option<Vec<IpAddr>>;

/// A name server, and files that name it.
pub(crate) struct NameServer {
    pub(crate) directory: TempDir,
    pub(crate) queries: Arc<Mutex<Vec<(String, RecordType)>>>,
    port: u16,
}

impl NameServer {
    /// Answers queries with `answer`. A name without any address does not exist.
    pub(crate) async fn start(
        ttl: u32,
        answer: impl Fn(&str, RecordType) -> Reply + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let asked = queries.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let request = Message::from_vec(&buffer[..length]).expect("a query");
                let query = request.queries[0].clone();
                let name = query.name().to_string();
                asked.lock().push((name.clone(), query.query_type()));
                let Some(addresses) = answer(&name, query.query_type()) else { continue };
                let mut response = request.into_response();
                if addresses.is_empty() {
                    response.metadata.response_code = ResponseCode::NXDomain;
                }
                for ip in addresses {
                    let data = RData::from(ip);
                    response.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
                }
                let bytes = response.to_vec().expect("encodes");
                socket.send_to(&bytes, client).await.expect("sent");
            }
        });
        let directory = TempDir::new().expect("a directory");
        let server = Self { directory, queries, port };
        let files = server.files();
        let resolv_conf = "search wild.test\noptions ndots:5\nnameserver 127.0.0.1\n";
        std::fs::write(&files.resolv_conf, resolv_conf).expect("written");
        std::fs::write(&files.hosts, "127.0.0.9 Local_Host.test alias.test # a comment\n")
            .expect("written");
        server
    }

    pub(crate) fn files(&self) -> Files {
        Files {
            resolv_conf: self.directory.path().join("resolv.conf"),
            hosts: self.directory.path().join("hosts"),
            dns_port: self.port,
        }
    }
}
