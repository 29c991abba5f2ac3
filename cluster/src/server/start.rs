//! Starting: what a service is made of, and why it may not start.

use std::io;
use std::sync::Arc;

use enfilade_placement::{ClusterId, EnclosureId, Incarnation};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::beats::Beats;
use super::view::Views;
use super::{Inner, MetadataService, keeper};
use crate::env::Env;
use crate::raft::groups::{Groups, Parts};
use crate::raft::rocks::Rocks;
use crate::raft::store::{LogStore, StateStore};
use crate::settings::{Settings, SettingsError};
use crate::wire::Peers;

/// Who a process is among the replicas.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its enclosure.
    pub id: EnclosureId,
    /// Where the other replicas reach it, `host:port`; empty when there are none.
    pub address: String,
}

/// The metadata service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot work.
    #[error("the settings of the metadata service cannot work")]
    Settings(#[source] SettingsError),
    /// Its folder holds the metadata of another cluster, or of another life of this one.
    #[error("the metadata folder {dir} is of cluster {cluster}, incarnation {incarnation}")]
    Foreign {
        /// The folder.
        dir: String,
        /// The cluster that it is of.
        cluster: ClusterId,
        /// The incarnation that it is of.
        incarnation: Incarnation,
    },
    /// Its folder cannot be used: another process has it, the device fails, files are corrupt or
    /// newer than this program.
    #[error("the metadata folder {dir} cannot be used")]
    Storage {
        /// The folder.
        dir: String,
        /// Why.
        source: io::Error,
    },
}

/// Where a service keeps what must survive it.
pub struct Storage {
    /// Logs.
    pub logs: Arc<dyn LogStore>,
    /// Rows.
    pub rows: Arc<dyn StateStore>,
    rocks: Option<Arc<Rocks>>,
}

impl Storage {
    /// Storage other than RocksDB: for tests and simulation.
    pub fn new(logs: Arc<dyn LogStore>, rows: Arc<dyn StateStore>) -> Self {
        Self {
            logs,
            rows,
            rocks: None,
        }
    }

    fn rocks(rocks: Rocks) -> Self {
        let rocks = Arc::new(rocks);
        Self {
            logs: Arc::clone(&rocks) as _,
            rows: Arc::clone(&rocks) as _,
            rocks: Some(rocks),
        }
    }
}

impl MetadataService {
    /// Opens the folder, resumes the groups that it holds replicas of, and runs the loops. Creates
    /// no cluster: see [`MetadataService::bootstrap`] (PROTOCOLS 10).
    ///
    /// # Errors
    /// When the settings cannot work or the folder cannot be used.
    pub async fn start(
        settings: Settings,
        replica: Replica,
        peers: Arc<Peers>,
        env: Env,
    ) -> std::result::Result<Self, StartError> {
        settings.validate().map_err(StartError::Settings)?;
        let dir = settings.dir.display().to_string();
        let failed = |source| StartError::Storage {
            dir: dir.clone(),
            source,
        };
        let (folder, options) = (settings.dir.join("db"), settings.storage.clone());
        let open = move || Rocks::open(&folder, &options);
        let rocks = tokio::task::spawn_blocking(open)
            .await
            .map_err(io::Error::other);
        let rocks = rocks.and_then(|rocks| rocks).map_err(failed)?;
        Self::start_on(Storage::rocks(rocks), settings, replica, peers, env).await
    }

    /// As [`MetadataService::start`], on storage that is open already.
    ///
    /// # Errors
    /// When the settings cannot work or the storage fails.
    pub async fn start_on(
        storage: Storage,
        settings: Settings,
        replica: Replica,
        peers: Arc<Peers>,
        env: Env,
    ) -> std::result::Result<Self, StartError> {
        settings.validate().map_err(StartError::Settings)?;
        let dir = settings.dir.display().to_string();
        let failed = |source| StartError::Storage {
            dir: dir.clone(),
            source,
        };
        let staging = settings.dir.join("snapshots");
        std::fs::create_dir_all(&staging).map_err(failed)?;
        // Its name, and that of the database beside it, before anything depends on them.
        let folder = std::fs::File::open(&settings.dir);
        folder.and_then(|dir| dir.sync_all()).map_err(failed)?;
        let parts = Parts {
            replica: replica.id,
            logs: storage.logs,
            rows: storage.rows,
            staging,
            peers: Arc::clone(&peers),
            settings: settings.raft.clone(),
            env: env.clone(),
        };
        let groups = Groups::open(parts).await.map_err(failed)?;
        let service = Self(Arc::new(Inner {
            replica: replica.id,
            address: replica.address,
            settings,
            env,
            peers,
            groups,
            beats: Beats::default(),
            views: Views::default(),
            rocks: storage.rocks,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }));
        if let Ok(view) = service.local_view() {
            let identity = service.0.peers.identity();
            let (cluster, incarnation) = (view.cluster, view.incarnation);
            let ours = cluster == identity.cluster && incarnation == identity.incarnation;
            if view.revision > 0 && !ours {
                service.shutdown().await;
                return Err(StartError::Foreign {
                    dir,
                    cluster,
                    incarnation,
                });
            }
        }
        service.0.tasks.spawn(keeper::run(service.clone()));
        service.0.tasks.spawn(service.clone().follow());
        Ok(service)
    }
}
