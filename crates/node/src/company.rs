//! The other nodes of the cluster: what a node that is one of several starts beside the rest.

use std::sync::Arc;

use anyhow::{Context, Result};
use postrider_api::ActorApi;
use postrider_cluster::keeper::{Company, Identity, Keeper, Neighbours};
use postrider_cluster::local_node::LocalNode;
use postrider_cluster::mesh::Mesh;
use postrider_cluster::post::Post;
use postrider_cluster::route::Router;
use postrider_domain::ownership::Fence;
use postrider_net::gateway::Gateway;
use postrider_net::tasks::Tasks;
use postrider_net::transport::{self, Cookie, Link, PeerName, Tls};
use postrider_service::Service;

use crate::config;
use crate::data_dir::DataDir;

/// The link to the other nodes, and what is reached over it.
pub struct Others {
    link: Link,
    mesh: Mesh,
    seeds: Vec<String>,
    gateway: Option<Gateway>,
    tasks: Tasks,
}

/// Whether there are other nodes, for the keeper. The locks of an embedded store keep others away
/// from a node that has no link; in FoundationDB anybody may be at work, and shares the work by
/// leases.
pub fn of(others: Option<&Others>, store: &config::Store) -> Company {
    match (others, store) {
        (Some(others), _) => Company::Others(Arc::new(others.mesh.clone())),
        (None, config::Store::FoundationDb(_)) => Company::Others(Arc::new(Unlinked)),
        (None, config::Store::Embedded) => Company::Alone,
    }
}

/// Nodes that may be there, and are told nothing.
struct Unlinked;

impl Neighbours for Unlinked {
    fn handed_over(&self, _: Fence) {}
}

impl Others {
    /// Opens the link.
    ///
    /// # Errors
    /// When the cookie or the certificates cannot be had, or the address cannot be listened on.
    pub async fn start(
        company: &config::Company,
        dir: &DataDir,
        me: &Identity,
        tasks: Tasks,
    ) -> Result<Self> {
        let options = transport::Options {
            name: PeerName { name: me.name.clone(), boot: me.node },
            listen: Some(company.listen),
            cookie: cookie(company, dir)?,
            tls: tls(company)?,
            tasks: tasks.clone(),
        };
        let link = Link::start(options).await.context("cannot link to other nodes")?;
        let mesh = Mesh::new(me.node, link.clone());
        Ok(Self { link, mesh, seeds: company.seeds.clone(), gateway: None, tasks })
    }

    /// Lets other nodes and clients in, and reaches out to them.
    ///
    /// # Errors
    /// When the gateway cannot start.
    pub async fn join(&mut self, service: Service, keeper: &Keeper) -> Result<()> {
        let router = service.router().clone();
        let node = LocalNode::new(router.clone(), keeper.view(), keeper.nudge());
        let gateway = Gateway::start(ActorApi::new(service, Arc::new(node)), &self.tasks).await;
        self.gateway = Some(gateway.context("no gateway")?);
        router.attach_post(self.post(&router, keeper));
        self.mesh.tend(keeper.clone(), router, self.seeds.clone(), &self.tasks);
        Ok(())
    }

    fn post(&self, router: &Router, keeper: &Keeper) -> Post {
        let (router, carrier) = (router.clone(), Arc::new(self.mesh.clone()));
        let route = move |wakes| router.wake_here(wakes);
        Post::open(self.mesh.me(), keeper.view(), carrier, keeper.nudge(), route, &self.tasks)
    }

    /// Ends what is under way over the link, and closes it.
    pub async fn leave(self) {
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
        self.link.stop().await;
    }
}

fn cookie(company: &config::Company, dir: &DataDir) -> Result<Cookie> {
    match &company.cookie_file {
        Some(path) => Cookie::read(path).context("[cluster] cookie_file"),
        None => Ok(Cookie::read(&dir.cookie()?.path)?),
    }
}

fn tls(company: &config::Company) -> Result<Option<Tls>> {
    let Some(files) = &company.tls else { return Ok(None) };
    let tls = Tls::load(&files.ca, &files.cert, &files.key)
        .context("[cluster] tls_ca, tls_cert, tls_key")?;
    Ok(Some(tls))
}
