//! Commit marks: which blobs the nodes need not ask about (PROTOCOLS 19).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use enfilade_cluster::api::record::{Blob, Place};
use enfilade_cluster::api::root::RootView;
use enfilade_placement::{BlobId, VolumeId};
use enfilade_storage_node::api::CommitMarks;

/// Marks that one append takes along: 16 KiB of header.
const MARKS_PER_APPEND_MAX: usize = 1024;

/// Volumes that marks wait for; with all marks this is at most 16 MiB.
const VOLUMES_MAX: usize = 1024;

/// Marks that wait for an append to their volume. Those that find no room, or whose append fails,
/// are lost: the nodes ask for these blobs when they are old enough.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<VolumeId, CommitMarks>>);

impl Marks {
    /// Queues a mark for each volume of the blob that still takes appends.
    pub(super) fn add(&self, blob: &Blob, view: &RootView) {
        let Place::Striped { extents, .. } = &blob.place else {
            return;
        };
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for extent in extents {
            if !view.volumes.contains_key(&extent.volume) {
                continue;
            }
            if queues.len() >= VOLUMES_MAX {
                queues.retain(|volume, _| view.volumes.contains_key(volume));
            }
            if queues.len() >= VOLUMES_MAX && !queues.contains_key(&extent.volume) {
                continue;
            }
            push(queues.entry(extent.volume).or_default(), blob.id);
        }
    }

    /// Takes the marks of a volume, for an append to all its members.
    pub(super) fn take(&self, volume: VolumeId) -> CommitMarks {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.remove(&volume).unwrap_or_default()
    }
}

fn push(queue: &mut CommitMarks, blob: BlobId) {
    if queue.len() < MARKS_PER_APPEND_MAX && queue.last() != Some(&blob) {
        queue.push(blob);
    }
}
