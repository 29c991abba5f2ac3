//! The role `node`: drives, served to gateways and to other nodes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::RootView;
use enfilade_cluster::env::Env;
use enfilade_placement::units::ByteSize;
use enfilade_placement::{ClusterId, DriveId, EnclosureId, Generation};
use enfilade_storage_node::agent::{Agent, DriveSpec, Shelf};
use enfilade_storage_node::api::{Nodes, ShardClient};
use enfilade_storage_node::client::remote::{RemoteNodes, Transport};
use enfilade_storage_node::drive::file::{FileDrive, file_system_of};
use enfilade_storage_node::drive::superblock::Superblock;
use enfilade_storage_node::host::Host;
use enfilade_storage_node::server::http::HttpServer;
use enfilade_storage_node::server::{Identity, StorageNode};
use enfilade_storage_node::settings::Settings;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::admin::commands::say;
use crate::cli::DriveAddArgs;
use crate::credentials::Token;
use crate::role::meta::INCARNATION;
use crate::settings::{DriveConfig, DrivesConfig, NodeConfig};

/// A node that runs: its service, its agent, and its server when others are to reach it.
pub(crate) struct Node {
    service: Arc<StorageNode>,
    agent: Agent,
    server: Option<HttpServer>,
    drives: usize,
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

/// Who the node of an enclosure is.
pub(crate) const fn identity(cluster: ClusterId, enclosure: EnclosureId) -> Identity {
    Identity {
        cluster,
        incarnation: INCARNATION,
        enclosure,
    }
}

/// Where a node finds its drives.
pub(crate) struct Bays {
    /// Those that are expected.
    pub(crate) specs: Vec<DriveSpec>,
    /// Where others are looked for.
    pub(crate) shelf: Option<Shelf>,
}

/// The drives that a configuration names.
pub(crate) fn bays(config: &DrivesConfig) -> Bays {
    let spec = |(slot, drive): (u32, &DriveConfig)| {
        let capacity = drive.capacity.map(|capacity| capacity.0);
        DriveSpec::folder(drive.uuid, slot, drive.folder.clone(), capacity)
    };
    let shelf = |folder: &PathBuf| Shelf {
        folder: folder.clone(),
        capacity: config.shelf_capacity.map(|capacity| capacity.0),
    };
    Bays {
        specs: (0..).zip(&config.drives).map(spec).collect(),
        shelf: config.shelf.as_ref().map(shelf),
    }
}

/// Makes a drive of an empty folder; nothing when it is that drive of that cluster already.
///
/// # Errors
/// When the folder holds something else, or cannot be written.
pub(crate) fn format(folder: &Path, drive: DriveId, cluster: ClusterId) -> Result<()> {
    // The drives of an embedded cluster may be copied with all the rest of it.
    format_on(folder, drive, cluster, 0)
}

fn format_on(folder: &Path, drive: DriveId, cluster: ClusterId, file_system: u128) -> Result<()> {
    let what = || format!("formatting {} as a drive", folder.display());
    if let Ok((_, found)) = FileDrive::open(folder, drive) {
        ensure!(
            found.cluster == cluster,
            "{} is of another cluster",
            folder.display()
        );
        return Ok(());
    }
    let superblock = Superblock {
        revision: 1,
        cluster,
        incarnation: INCARNATION,
        drive,
        file_system,
        generation: Generation::default(),
        pending: None,
    };
    FileDrive::format(folder, &superblock).with_context(what)?;
    Ok(())
}

impl Node {
    /// Attaches and serves drives, and returns when each is served or was found not to work. With
    /// a socket it serves them to other processes, too.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub(crate) async fn start(
        host: &Host,
        identity: Identity,
        metadata: &Arc<dyn MetadataClient>,
        nodes: Arc<dyn Nodes>,
        bays: Bays,
        remote: Option<(TcpListener, &Token)>,
    ) -> Result<Self> {
        let service = StorageNode::new(host.clone(), identity, Arc::clone(metadata));
        let server = match remote {
            None => None,
            Some((listener, token)) => {
                let server = HttpServer::start(listener, Arc::clone(&service), &token.credential);
                Some(server.context("serving fragments")?)
            }
        };
        let Bays { specs, shelf } = bays;
        let count = specs.len();
        let (node, metadata) = (Arc::clone(&service), Arc::clone(metadata));
        let mut agent = Agent::start_with_shelf(node, metadata, nodes, specs, shelf);
        agent.ready().await;
        for (drive, condition) in agent.conditions() {
            if let Some(reason) = condition.reason {
                tracing::error!(%drive, state = ?condition.state, reason, "a drive is not served");
            }
        }
        Ok(Self {
            service,
            agent,
            server,
            drives: count,
        })
    }

    /// The service itself.
    pub(crate) fn service(&self) -> &Arc<StorageNode> {
        &self.service
    }

    /// The root state as its agent hears of it.
    pub(crate) fn view(&self) -> watch::Receiver<Arc<RootView>> {
        self.agent.view()
    }

    /// The drives that it was told to serve.
    pub(crate) fn drive_count(&self) -> usize {
        self.drives
    }

    /// Takes no more requests, and lets go of the drives.
    pub(crate) async fn stop(self) {
        if let Some(server) = self.server {
            server.shutdown().await;
        }
        self.agent.shutdown().await;
    }
}

/// Nodes in other processes, found through the view of a gateway or an agent, made of them:
/// they are told of it afterwards.
#[derive(Default)]
pub(crate) struct DistantNodes(OnceLock<RemoteNodes>);

impl DistantNodes {
    /// Makes nodes reachable at the addresses that a view holds.
    ///
    /// # Errors
    /// When the credential cannot be sent.
    pub(crate) fn follow(&self, view: watch::Receiver<Arc<RootView>>, token: &Token) -> Result<()> {
        let transport = Transport::new(&token.credential, &Settings::default());
        let transport = transport.context("the token's credential")?;
        let _ = self.0.set(RemoteNodes::new(transport, view));
        Ok(())
    }
}

impl Nodes for DistantNodes {
    fn node(&self, enclosure: EnclosureId) -> Option<Arc<dyn ShardClient>> {
        self.0.get()?.node(enclosure)
    }
}

/// `enfilade drive add`: formats an empty folder for the cluster of a configuration, and says what
/// to enter there.
///
/// # Errors
/// When the folder is not empty, or the configuration or its token cannot be read.
pub(crate) fn add(args: &DriveAddArgs) -> Result<()> {
    let config = NodeConfig::load(&args.config)?;
    let token = config.read_token()?;
    if let Some(old) = args.wipe {
        let what = || format!("wiping {}", args.folder.display());
        FileDrive::wipe(&args.folder, old).with_context(what)?;
    }
    let drive = format_new(&args.folder, token.cluster)?;
    let shelf = config.node.as_ref().and_then(|node| node.shelf.as_ref());
    let shelved = shelf.is_some() && args.folder.parent() == shelf.map(PathBuf::as_path);
    let folder = std::path::absolute(&args.folder).unwrap_or_else(|_| args.folder.clone());
    let folder = folder.display().to_string();
    if args.json {
        let made = serde_json::json!({ "drive": drive.to_string(), "folder": folder });
        return say(&format!("{}\n", serde_json::to_string_pretty(&made)?));
    }
    if shelved {
        return say(&format!("drive {drive}: its node finds it on the shelf\n"));
    }
    say(&format!(
        "enter into drives of [node]:\n{{ folder = \"{folder}\", uuid = \"{drive}\" }}\n"
    ))
}

/// Formats an empty folder as a new drive, bound to the file system that it is on.
///
/// # Errors
/// When the folder is not empty, or cannot be written.
pub(crate) fn format_new(folder: &Path, cluster: ClusterId) -> Result<DriveId> {
    let drive = DriveId::new(Env::real().random.next_u128());
    // The file system of what will hold it, when it is not there yet.
    let there = folder.ancestors().find(|folder| folder.exists());
    let file_system = there.map_or(0, file_system_of);
    format_on(folder, drive, cluster, file_system)?;
    Ok(drive)
}

/// A drive of an embedded cluster, as its node opens it.
pub(crate) struct EmbeddedDrive {
    /// Its place in the enclosure.
    pub(crate) slot: u32,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Its UUID.
    pub(crate) id: DriveId,
    /// What it may hold.
    pub(crate) capacity: Option<ByteSize>,
}

impl EmbeddedDrive {
    /// What its node is told.
    pub(crate) fn spec(self) -> DriveSpec {
        DriveSpec::folder(self.id, self.slot, self.folder, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_formatted_once_and_never_over_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drive");
        let (drive, cluster) = (DriveId::new(1), ClusterId::new(1));
        format(&path, drive, cluster).unwrap();
        format(&path, drive, cluster).unwrap();
        assert!(format(&path, drive, ClusterId::new(2)).is_err());
        assert!(format(&path, DriveId::new(2), cluster).is_err());
        let (_, superblock) = FileDrive::open(&path, drive).unwrap();
        assert_eq!(
            (superblock.cluster, superblock.incarnation),
            (cluster, INCARNATION)
        );
        std::fs::write(folder.path().join("photo"), b"mine").unwrap();
        let error = format(folder.path(), drive, cluster).unwrap_err();
        assert!(format!("{error:#}").contains("formatting"), "{error:#}");
    }

    #[test]
    fn a_drive_is_formatted_anew_only_when_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drive");
        let cluster = ClusterId::new(1);
        let first = format_new(&path, cluster).unwrap();
        assert!(format_new(&path, cluster).is_err());
        assert!(FileDrive::wipe(&path, DriveId::new(1)).is_err());
        FileDrive::wipe(&path, first).unwrap();
        let second = format_new(&path, cluster).unwrap();
        assert_eq!(FileDrive::look(&path).unwrap().drive, second);
    }
}
