//! The client of a node in the same process: no copy of bytes, and one verification.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use enfilade_placement::EnclosureId;

use crate::api::append::{AppendAck, AppendRequest};
use crate::api::error::ShardError;
use crate::api::read::{FragmentRead, InventoryPage, InventoryRequest, ReadRequest};
use crate::api::{Nodes, ShardClient};
use crate::server::StorageNode;

/// A client of a node in this process.
pub struct InProcess {
    node: Arc<StorageNode>,
}

impl InProcess {
    /// A client of this node.
    pub fn new(node: Arc<StorageNode>) -> Self {
        Self { node }
    }
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, ShardError>>,
) -> Result<T, ShardError> {
    // A drive that hangs must not hang its callers.
    let late = |_| ShardError::Unreachable(format!("no answer within {deadline:?}"));
    tokio::time::timeout(deadline, call).await.map_err(late)?
}

#[async_trait]
impl ShardClient for InProcess {
    async fn append(&self, request: AppendRequest) -> Result<AppendAck, ShardError> {
        within(
            self.node.host().settings().append_deadline,
            self.node.append(request),
        )
        .await
    }

    async fn read(&self, request: ReadRequest) -> Result<Vec<FragmentRead>, ShardError> {
        within(
            self.node.host().settings().read_deadline,
            self.node.read(request),
        )
        .await
    }

    async fn inventory(&self, request: InventoryRequest) -> Result<InventoryPage, ShardError> {
        within(
            self.node.host().settings().read_deadline,
            self.node.inventory(request),
        )
        .await
    }
}

/// The nodes of a cluster in one process; enclosures may be added and taken away. Clones are the
/// same.
#[derive(Clone, Default)]
pub struct LocalNodes {
    nodes: Arc<RwLock<BTreeMap<EnclosureId, Arc<dyn ShardClient>>>>,
}

impl LocalNodes {
    /// Adds the node of its enclosure, in the place of what was there.
    pub fn insert(&self, node: &Arc<StorageNode>) {
        let client = InProcess::new(Arc::clone(node));
        self.insert_client(node.identity().enclosure, Arc::new(client));
    }

    /// Adds any client.
    pub fn insert_client(&self, enclosure: EnclosureId, client: Arc<dyn ShardClient>) {
        self.nodes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(enclosure, client);
    }

    /// Takes a node away.
    pub fn remove(&self, enclosure: EnclosureId) {
        self.nodes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&enclosure);
    }
}

impl Nodes for LocalNodes {
    fn node(&self, enclosure: EnclosureId) -> Option<Arc<dyn ShardClient>> {
        self.nodes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&enclosure)
            .cloned()
    }
}
