//! Attaching a drive: the root group counts it by compare-and-set, the superblock keeps the number,
//! and only then is the drive served (PROTOCOLS 26).

use std::sync::Arc;

use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::root::{RootCommand, RootRefusal, RootReply};
use enfilade_placement::{DriveState, Generation};

use super::{Context, DriveSpec};
use crate::drive::Drive;
use crate::drive::file::OpenError;
use crate::drive::superblock::{self, Superblock, SuperblockError};
use crate::engine::{Engine, EngineOpenError};

/// Why a drive is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("the drive belongs to {0}")]
    Foreign(String),
    #[error(transparent)]
    Engine(#[from] EngineOpenError),
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    /// Another holder of the same superblock was faster, or this is an old copy: an operator has to
    /// look.
    #[error("the drive is attached elsewhere, or this is a copy of it: {0}")]
    AttachedTwice(RootRefusal),
    #[error("the root group refused the drive: {0}")]
    Refused(RootRefusal),
    #[error("the root group does not answer: {0}")]
    Metadata(#[from] MetadataError),
    #[error("a worker stopped")]
    Stopped,
}

impl AttachError {
    /// The state that the drive is in.
    pub(super) fn state(&self) -> Option<DriveState> {
        match self {
            Self::Open(
                OpenError::Gone { .. }
                | OpenError::Other { .. }
                | OpenError::NotEmpty(_)
                | OpenError::Locked(_),
            )
            | Self::Foreign(_)
            | Self::AttachedTwice(_)
            | Self::Refused(_) => Some(DriveState::Gone),
            Self::Open(OpenError::Superblock { .. } | OpenError::Io { .. })
            | Self::Engine(_)
            | Self::Superblock(_) => Some(DriveState::Failing),
            // Says nothing about the drive.
            Self::Metadata(_) | Self::Stopped => None,
        }
    }
}

/// Opens a drive, attaches it and serves it.
pub(super) async fn attach(
    context: &Context,
    spec: &DriveSpec,
) -> Result<Arc<Engine>, AttachError> {
    // Without the root group there is no generation to serve under: the drive can wait.
    let mut views = context.view.subscribe();
    views
        .wait_for(|view| view.revision > 0)
        .await
        .map_err(|_| AttachError::Stopped)?;
    let open = Arc::clone(&spec.open);

    let opened = tokio::task::spawn_blocking(move || open()).await;
    let (drive, superblock) = opened.map_err(|_| AttachError::Stopped)??;
    let identity = context.node.identity();
    if superblock.cluster != identity.cluster {
        return Err(AttachError::Foreign(format!(
            "cluster {}",
            superblock.cluster
        )));
    }
    if superblock.incarnation != identity.incarnation {
        let other = superblock.incarnation;
        return Err(AttachError::Foreign(format!(
            "incarnation {other} of the cluster"
        )));
    }
    let (host, id) = (context.node.host().clone(), spec.id);
    let capacity = spec.capacity.map(enfilade_placement::units::ByteSize::get);
    let held = Arc::clone(&drive);
    let engine = tokio::task::spawn_blocking(move || Engine::open(&host, held, id, capacity));
    let engine = engine.await.map_err(|_| AttachError::Stopped)??;
    let generation = count(context, spec, &drive, superblock, &engine).await?;
    context.node.serve(Arc::clone(&engine), generation);
    tracing::info!(drive = %spec.id, %generation, "serving a drive");
    Ok(engine)
}

/// Has the root group count the attachment, and writes the number down.
async fn count(
    context: &Context,
    spec: &DriveSpec,
    drive: &Arc<dyn Drive>,
    mut superblock: Superblock,
    engine: &Engine,
) -> Result<Generation, AttachError> {
    let capacity = engine
        .fill()
        .map_err(|error| EngineOpenError::Failed(error.to_string()))?;
    let pending = superblock.pending;
    loop {
        // Written down first: whether a crash came between the root group's commit and our writing
        // it down, or another attached the drive, can be told apart then.
        superblock.pending = Some(superblock.generation.next());
        superblock = store(drive, superblock).await?;
        let command = RootCommand::AttachDrive {
            drive: spec.id,
            enclosure: context.node.identity().enclosure,
            slot: spec.slot,
            capacity: capacity.capacity,
            generation: superblock.generation,
        };
        match context.metadata.root(context.request(), command).await? {
            Ok(RootReply::Attached(generation)) => {
                superblock.generation = generation;
                superblock.pending = None;
                store(drive, superblock).await?;
                return Ok(generation);
            }
            Ok(other) => {
                let text = format!("an answer to another command: {other:?}");
                return Err(MetadataError::Undecodable(text).into());
            }
            Err(RootRefusal::StaleGeneration { attached, .. })
                if pending == Some(attached) && superblock.generation < attached =>
            {
                // That commit was ours.
                superblock.generation = attached;
            }
            Err(refusal @ RootRefusal::StaleGeneration { .. }) => {
                return Err(AttachError::AttachedTwice(refusal));
            }
            Err(refusal) => return Err(AttachError::Refused(refusal)),
        }
    }
}

async fn store(
    drive: &Arc<dyn Drive>,
    mut superblock: Superblock,
) -> Result<Superblock, AttachError> {
    superblock.revision += 1;
    let (drive, written) = (Arc::clone(drive), superblock.clone());
    let store = tokio::task::spawn_blocking(move || superblock::store(drive.as_ref(), &written));
    store.await.map_err(|_| AttachError::Stopped)??;
    Ok(superblock)
}
