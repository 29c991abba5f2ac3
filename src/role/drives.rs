//! The role `node`: drives, served to gateways and to other nodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::heartbeat::{DriveBeat, Heartbeat, ShardBeat};
use enfilade_cluster::api::root::{RootCommand, RootReply};
use enfilade_cluster::env::Env;
use enfilade_placement::units::ByteSize;
use enfilade_placement::{
    ClusterId, DriveId, DriveState, EnclosureId, Generation, Incarnation, RequestId,
};
use enfilade_storage_node::api::Nodes;
use enfilade_storage_node::drive::file::FileDrive;
use enfilade_storage_node::drive::superblock::{self, Superblock};
use enfilade_storage_node::engine::Engine;
use enfilade_storage_node::host::Host;
use enfilade_storage_node::server::{Identity, StorageNode};
use enfilade_storage_node::settings::Settings;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::DriveAddArgs;
use crate::credentials::Token;
use crate::os;
use crate::role::meta::INCARNATION;
use crate::settings::DriveConfig;

/// A drive that a node is to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriveSpec {
    pub(crate) folder: PathBuf,
    pub(crate) id: DriveId,
    pub(crate) slot: u32,
    pub(crate) capacity: Option<ByteSize>,
}

/// A node that runs.
pub(crate) struct Node {
    service: Arc<StorageNode>,
    drives: usize,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What the drives of a process share, with their metrics entered.
///
/// # Errors
/// When the registry has such metrics already.
pub(crate) fn host(env: &Env, registry: &Registry) -> Result<Host> {
    let host = Host::new(env.clone(), Settings::default());
    host.metrics()
        .register(registry)
        .context("metrics of the drives")?;
    Ok(host)
}

pub(crate) fn identity(cluster: ClusterId, enclosure: EnclosureId) -> Identity {
    Identity {
        cluster,
        incarnation: INCARNATION,
        enclosure,
    }
}

pub(crate) fn specs(drives: &[DriveConfig]) -> Vec<DriveSpec> {
    (0..)
        .zip(drives)
        .map(|(slot, drive)| DriveSpec {
            folder: drive.folder.clone(),
            id: drive.uuid,
            slot,
            capacity: drive.capacity.map(|capacity| capacity.0),
        })
        .collect()
}

/// Makes a drive of an empty folder; nothing when it is that drive already.
///
/// # Errors
/// When the folder holds something else.
pub(crate) fn format(
    folder: &Path,
    id: DriveId,
    cluster: ClusterId,
    incarnation: Incarnation,
) -> Result<()> {
    if let Ok((_, found)) = FileDrive::open(folder, id)
        && found.cluster == cluster
    {
        return Ok(());
    }
    let superblock = Superblock {
        revision: 1,
        cluster,
        incarnation,
        drive: id,
        file_system: 0,
        generation: Generation::default(),
        pending: None,
    };
    FileDrive::format(folder, &superblock)?;
    Ok(())
}

pub(crate) fn total_space(folder: &Path) -> Option<u64> {
    os::file_system_size(folder).ok()
}

impl Node {
    pub(crate) fn start(
        host: &Host,
        identity: Identity,
        metadata: &Arc<dyn MetadataClient>,
        drives: Vec<DriveSpec>,
    ) -> Self {
        let service = StorageNode::new(host.clone(), identity, Arc::clone(metadata));
        let stop = CancellationToken::new();
        let count = drives.len();
        let task = tokio::spawn(serve(
            host.clone(),
            Arc::clone(&service),
            Arc::clone(metadata),
            drives,
            stop.clone(),
        ));
        Self {
            service,
            drives: count,
            stop,
            task,
        }
    }

    pub(crate) fn service(&self) -> &Arc<StorageNode> {
        &self.service
    }

    pub(crate) fn drive_count(&self) -> usize {
        self.drives
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
        for engine in self.service.engines() {
            let _ = engine.close().await;
        }
    }
}

async fn serve(
    host: Host,
    node: Arc<StorageNode>,
    metadata: Arc<dyn MetadataClient>,
    drives: Vec<DriveSpec>,
    stop: CancellationToken,
) {
    for spec in &drives {
        if let Err(error) = attach(&host, &node, metadata.as_ref(), spec).await {
            tracing::error!(drive = %spec.id, error = format!("{error:#}"), "no drive");
        }
    }
    loop {
        let beat = beat(&node);
        if let Err(error) = metadata.heartbeat(beat).await {
            tracing::warn!(%error, "heartbeat");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
        }
    }
}

async fn attach(
    host: &Host,
    node: &StorageNode,
    metadata: &dyn MetadataClient,
    spec: &DriveSpec,
) -> Result<()> {
    let (drive, mut block) = FileDrive::open(&spec.folder, spec.id)?;
    let command = RootCommand::AttachDrive {
        drive: spec.id,
        enclosure: node.identity().enclosure,
        slot: spec.slot,
        capacity: spec.capacity.map_or(1 << 40, |size| size.get()),
        generation: block.generation,
    };
    let request = RequestId::new(u128::from(Env::real().random.next_u64()));
    let generation = match metadata.root(request, command).await?? {
        RootReply::Attached(generation) => generation,
        other => bail!("{other:?}"),
    };
    block.generation = generation;
    block.revision += 1;
    superblock::store(&drive, &block)?;
    let (host, capacity, id) = (host.clone(), spec.capacity.map(|size| size.get()), spec.id);
    let open = move || Engine::open(&host, Arc::new(drive), id, capacity);
    let engine = tokio::task::spawn_blocking(open).await??;
    node.serve(engine, generation);
    Ok(())
}

fn beat(node: &StorageNode) -> Heartbeat {
    let identity = node.identity();
    let engines = node.engines();
    Heartbeat {
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        enclosure: identity.enclosure,
        drives: engines
            .iter()
            .map(|engine| DriveBeat {
                drive: engine.id(),
                state: DriveState::Healthy,
                capacity: 1 << 40,
                used: 0,
            })
            .collect(),
        shards: Vec::<ShardBeat>::new(),
    }
}

/// The fragments of a node, served to other processes.
pub(crate) struct ShardServer;

impl ShardServer {
    pub(crate) fn start(_: &Node, _: TcpListener, _: &Token) -> Result<Self> {
        bail!("not yet")
    }

    pub(crate) async fn stop(self) {}
}

pub(crate) fn remote_nodes(
    _: &Token,
    _: &Arc<dyn MetadataClient>,
    _: &Env,
) -> Result<Arc<dyn Nodes>> {
    bail!("not yet")
}

pub(crate) fn add(_: &DriveAddArgs) -> Result<()> {
    bail!("not yet")
}
