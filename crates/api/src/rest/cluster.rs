//! The cluster, as the node that answers the request sees it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use postrider_cluster::view::View;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_domain::node::NodeState;
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

/// What to include.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ClusterParams {
    /// Whether to list the owner of each shard; `false` if omitted.
    owners: Option<bool>,
}

impl ClusterParams {
    fn read(params: &mut Params) -> Self {
        let owners = |text: &str| text.parse::<bool>().map_err(|_| "must be true or false");
        Self { owners: params.take("owners", owners) }
    }
}

/// The cluster, as the node that answers sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Cluster)]
struct ClusterBody {
    /// The number of shards.
    shards: usize,
    /// The nodes, including those that died in the last minute.
    nodes: Vec<NodeBody>,
    /// The number of shards without a living owner.
    unowned: usize,
    /// The age of the oldest pending delivery, among the first 10,000 endpoints that have work; null
    /// if there is none.
    oldest_pending_age_ms: Option<u64>,
    /// The owner of each shard that has one, by shard; only with `owners=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<Vec<OwnerBody>>,
}

/// A node.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
struct NodeBody {
    /// The node's id, new at each start.
    #[schema(value_type = String, example = "boot_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    id: BootId,
    /// The node's name, from its configuration.
    #[schema(example = "node-1")]
    name: String,
    /// The node's state.
    #[schema(value_type = String, example = "alive")]
    state: NodeState,
    /// The number of shards that it owns.
    shards: usize,
    /// The node's version of Postrider.
    version: String,
}

/// The owner of a shard.
#[derive(Serialize, ToSchema)]
#[schema(as = Owner)]
struct OwnerBody {
    /// The shard.
    shard: Shard,
    /// The node's id.
    #[schema(value_type = String, example = "boot_06b2k1d5h3vqf8m2c9r7t4w0xg")]
    node: BootId,
    /// The number of owners that the shard has had.
    epoch: u64,
}

/// Get the cluster
///
/// The nodes, the owners of the shards, and the age of the oldest pending delivery.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "Cluster", params(ClusterParams),
    responses((status = OK, description = "The cluster", body = ClusterBody))
)]
async fn get(
    _: Operator,
    State(app): State<App>,
    mut params: Params,
) -> Result<Json<ClusterBody>, Problem> {
    let ClusterParams { owners } = ClusterParams::read(&mut params);
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
        oldest_pending_age_ms: age.map(|age| u64::try_from(age).unwrap_or(u64::MAX)),
        owners: owners.unwrap_or(false).then(|| owners_of(&view)),
    }))
}

fn owners_of(view: &View) -> Vec<OwnerBody> {
    let shards = (0..).zip(&view.owners);
    let owned = shards.filter_map(|(shard, owner)| Some((shard, (*owner)?)));
    owned.map(|(shard, owner)| OwnerBody { shard, node: owner.node, epoch: owner.epoch }).collect()
}
