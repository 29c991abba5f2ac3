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
                | OpenError::NotEmpty(_)
                | OpenError::NoDrive { .. }
                | OpenError::Locked(_),
            )
            | Self::Refused(_) => Some(DriveState::Gone),
            Self::Open(OpenError::Other { .. } | OpenError::Copy { .. })
            | Self::Foreign(_)
            | Self::AttachedTwice(_) => Some(DriveState::Foreign),
            Self::Open(OpenError::Superblock { .. } | OpenError::Io { .. })
            | Self::Engine(_)
            | Self::Superblock(_) => Some(DriveState::Failing),
            // Says nothing about the drive.
            Self::Metadata(_) | Self::Stopped => None,
        }
    }

    /// Whether there may be two drives with the same UUID.
    pub(super) const fn is_alarming(&self) -> bool {
        matches!(
            self,
            Self::AttachedTwice(_) | Self::Open(OpenError::Copy { .. })
        )
    }
}

/// Opens a drive, attaches it and serves it.
pub(super) async fn attach(
    context: &Context,
    spec: &DriveSpec,
) -> Result<(Arc<Engine>, Generation), AttachError> {
    // Without the root group there is no generation to serve under: the drive can wait.
    let mut views = context.view.subscribe();
    views
        .wait_for(|view| view.revision > 0)
        .await
        .map_err(|_| AttachError::Stopped)?;
    let (open, place) = (Arc::clone(&spec.open), context.place(spec.id));
    let opened = move || match (open(None), place) {
        // Not where it is expected, but it was seen elsewhere.
        (Err(OpenError::Gone { .. } | OpenError::Other { .. }), Some(place)) => open(Some(&place)),
        (opened, _) => opened,
    };
    let opened = tokio::task::spawn_blocking(opened).await;
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
    Ok((engine, generation))
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
    // Written down first: whether a crash came between the root group's commit and our writing it
    // down, or another attached the drive, can be told apart then, because the root group remembers
    // whose request it granted. A copy that was made earlier does not know that request.
    let request = match superblock.pending {
        Some(request) => request,
        None => {
            let request = context.request();
            superblock.pending = Some(request);
            superblock = store(drive, superblock).await?;
            request
        }
    };
    let command = RootCommand::AttachDrive {
        drive: spec.id,
        enclosure: context.node.identity().enclosure,
        slot: spec.slot,
        capacity: capacity.capacity,
        generation: superblock.generation,
    };
    let outcome = context.metadata.root(request, command).await?;
    superblock.pending = None;
    match outcome {
        Ok(RootReply::Attached(generation)) => {
            superblock.generation = generation;
            store(drive, superblock).await?;
            Ok(generation)
        }
        Ok(other) => {
            let text = format!("an answer to another command: {other:?}");
            Err(MetadataError::Undecodable(text).into())
        }
        Err(refusal) => {
            store(drive, superblock).await?;
            Err(match refusal {
                RootRefusal::StaleGeneration { .. } => AttachError::AttachedTwice(refusal),
                refusal => AttachError::Refused(refusal),
            })
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
