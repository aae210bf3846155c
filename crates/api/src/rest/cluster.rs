//! The cluster status, as seen by the node that handles the request.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use postrider_cluster::view::View;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_domain::node::NodeState;
use postrider_domain::own_outage::Outage;
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;
use crate::web::auth::Operator;
use crate::web::page::Params;
use crate::web::problem::Problem;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Parameters of the cluster status.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ClusterParams {
    /// Whether to include the owner of each shard. Defaults to `false`.
    owners: Option<bool>,
}

impl ClusterParams {
    fn parse(params: &mut Params) -> Self {
        let owners = |text: &str| text.parse::<bool>().map_err(|_| "must be true or false");
        Self { owners: params.take("owners", owners) }
    }
}

/// The cluster, as seen by the node that handled the request.
#[derive(Serialize, ToSchema)]
#[schema(as = Cluster)]
struct ClusterBody {
    /// The number of shards.
    shards: usize,
    /// The nodes, including nodes that died within the last minute.
    nodes: Vec<NodeBody>,
    /// The number of shards without a live owner.
    unowned: usize,
    /// The age of the oldest pending delivery in milliseconds; null if there is none. Only the
    /// first 10,000 endpoints with pending deliveries are considered.
    oldest_pending_age_ms: Option<u64>,
    /// What keeps the node that handled the request from sending webhooks: outages of its own
    /// network, name servers, resources or clock. Deliveries wait meanwhile, and failures do not
    /// count.
    outages: Vec<OutageBody>,
    /// The owners of the shards, ordered by shard. Unowned shards are omitted. Present only with
    /// `owners=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<Vec<OwnerBody>>,
}

/// A node of the cluster.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
struct NodeBody {
    /// The ID of the node's current run. It changes at each start.
    #[schema(value_type = String, example = "boot_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: BootId,
    /// The node's configured name.
    #[schema(example = "node-1")]
    name: String,
    /// The node's state: `alive`, `draining` (handing its shards over, because it is shutting down or
    /// has an outage of its own), `suspect` (missed lease renewals) or `dead` (lease expired).
    #[schema(value_type = String, example = "alive")]
    state: NodeState,
    /// The number of shards that the node owns.
    shards: usize,
    /// The node's Postrider version.
    version: String,
}

/// An outage of a node.
#[derive(Serialize, ToSchema)]
#[schema(as = Outage)]
struct OutageBody {
    /// `dns`, `network`, `ipv6`, `resources` or `clock`.
    #[schema(example = "dns")]
    cause: &'static str,
    /// What is wrong.
    #[schema(example = "its name servers do not resolve names")]
    message: &'static str,
    /// When it was noticed.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// The owner of a shard.
#[derive(Serialize, ToSchema)]
#[schema(as = Owner)]
struct OwnerBody {
    /// The shard number.
    shard: Shard,
    /// The ID of the node that owns the shard.
    #[schema(value_type = String, example = "boot_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    node: BootId,
    /// The shard's epoch, which increases with every change of ownership.
    epoch: u64,
}

/// Get the cluster status
///
/// Returns the nodes, the ownership of shards, and the age of the oldest pending delivery.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "Cluster", params(ClusterParams),
    responses((status = OK, description = "The cluster status", body = ClusterBody))
)]
async fn get(
    _: Operator,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<ClusterBody>, Problem> {
    let ClusterParams { owners } = ClusterParams::parse(&mut params);
    params.finish()?;
    let view: Arc<View> = app.0.api.view.borrow().clone();
    let oldest = app.records().oldest_pending().await?;
    let age = oldest.map(|at| app.now().since(at).as_millis());
    let counts = view.counts();
    let nodes = view.nodes.iter().map(|node| NodeBody {
        id: node.node,
        name: node.name.clone(),
        state: node.state,
        shards: counts.get(&node.node).copied().unwrap_or(0),
        version: node.version.clone(),
    });
    Ok(Json(ClusterBody {
        shards: view.owners.len(),
        nodes: nodes.collect(),
        unowned: view.unowned(),
        outages: app.0.api.probe.outages().into_iter().map(OutageBody::from).collect(),
        oldest_pending_age_ms: age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
        owners: owners.unwrap_or(false).then(|| owners_of(&view)),
    }))
}

impl From<Outage> for OutageBody {
    fn from(Outage { cause, since }: Outage) -> Self {
        Self { cause: cause.as_str(), message: cause.description(), since }
    }
}

fn owners_of(view: &View) -> Vec<OwnerBody> {
    let shards = (0..).zip(&view.owners);
    let owned = shards.filter_map(|(shard, owner)| Some((shard, (*owner)?)));
    owned.map(|(shard, owner)| OwnerBody { shard, node: owner.node, epoch: owner.epoch }).collect()
}
