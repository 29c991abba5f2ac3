//! Telling the ledger of fragments that a member should hold and does not (PROTOCOLS 22).
//!
//! A node enters what it finds corrupt by itself; of a fragment that it has not got it knows
//! nothing. Readers know: they ask only for fragments inside committed extents. Before anything is
//! entered the owner is asked whether the blob is still referenced: it may have been deleted while
//! it was read (PROTOCOLS 20).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::root::{LedgerRange, LedgerRow, RootCommand};
use enfilade_cluster::env::Env;
use enfilade_placement::{BlobId, RequestId, VolumeId};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Reports that wait; those beyond are left to the next reader.
const WAITING_MAX: usize = 256;
/// The same fragment is not reported again before this.
const AGAIN: Duration = Duration::from_secs(60);
/// Fragments that are remembered as reported.
const REMEMBERED_MAX: usize = 4096;

/// Fragments of one blob that members did not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) at: ObjectKey,
    pub(super) volume: VolumeId,
    pub(super) blob: BlobId,
    /// Member and stripe of each.
    pub(super) fragments: Vec<(u8, u32)>,
}

/// Takes reports, and enters them by and by.
pub(super) struct Reporter {
    reports: mpsc::Sender<Missing>,
    _task: AbortOnDropHandle<()>,
}

impl Reporter {
    /// Must be called within a tokio runtime.
    pub(super) fn start(env: Env, metadata: Arc<dyn MetadataClient>) -> Self {
        let (reports, waiting) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(run(env, metadata, waiting));
        Self {
            reports,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Hands in a report; never waits.
    pub(super) fn report(&self, missing: Missing) {
        if !missing.fragments.is_empty() && self.reports.try_send(missing).is_err() {
            tracing::debug!("too many fragments are missing to report all at once");
        }
    }
}

async fn run(env: Env, metadata: Arc<dyn MetadataClient>, mut waiting: mpsc::Receiver<Missing>) {
    let mut reported: BTreeMap<(VolumeId, BlobId, u8, u32), Duration> = BTreeMap::new();
    while let Some(missing) = waiting.recv().await {
        let now = env.clock.now();
        reported.retain(|_, at| now.saturating_sub(*at) < AGAIN);
        let Missing {
            at,
            volume,
            blob,
            mut fragments,
        } = missing;
        fragments
            .retain(|(member, stripe)| !reported.contains_key(&(volume, blob, *member, *stripe)));
        if fragments.is_empty() || !matches!(metadata.blob(&at, blob).await, Ok(Some(_))) {
            continue;
        }
        let row = |(member, stripe): &(u8, u32)| LedgerRow {
            volume,
            member: *member,
            what: LedgerRange::stripes(blob, *stripe..=*stripe),
        };
        let rows = fragments.iter().map(row).collect();
        let request = RequestId::new(env.random.next_u128());
        match metadata
            .root(request, RootCommand::ReportFaults(rows))
            .await
        {
            Ok(Ok(_)) => {
                let count = fragments.len();
                tracing::warn!(%volume, %blob, fragments = count, "fragments are missing");
                if reported.len() < REMEMBERED_MAX {
                    let keys = fragments.iter().map(|(m, s)| ((volume, blob, *m, *s), now));
                    reported.extend(keys);
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the ledger refuses missing fragments"),
            Err(error) => tracing::debug!(%error, "missing fragments are not reported"),
        }
    }
}
