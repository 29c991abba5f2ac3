//! One run to all members of one volume: acked by all of them, or failed (PROTOCOLS 11).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enfilade_placement::{DriveId, Volume};
use enfilade_storage_node::api::append::{AppendHeader, AppendRequest, FragmentHeader};
use enfilade_storage_node::api::error::{Remedy, ShardError};
use enfilade_storage_node::api::{CommitMarks, Owner};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::run::Run;
use super::{Inner, within};
use crate::volumes::Fault;

/// The first pause before a busy member is asked again; it doubles each time.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Why a run is not acked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("member {member} of the volume: {error}")]
pub(super) struct AppendFailure {
    /// The member that failed first.
    pub(super) member: usize,
    /// Its drive.
    pub(super) drive: Option<DriveId>,
    /// What it said; `Unreachable` when it was late.
    pub(super) error: ShardError,
}

impl AppendFailure {
    /// What it says about the volume and the member.
    pub(super) fn fault(&self) -> Fault {
        match self.error {
            ShardError::StaleEpoch { .. } | ShardError::NotOpen(_) => Fault::Closed,
            ShardError::Busy => Fault::Overloaded,
            _ => Fault::Member,
        }
    }
}

/// Appends a run to all members of a volume that are not vacant. `Ok` means that all have synced
/// it, and that they are enough; the first failure ends it, with some members' appends undone.
pub(super) async fn append_run(
    inner: Arc<Inner>,
    run: Arc<Run>,
    volume: Arc<Volume>,
    owner: Option<Owner>,
) -> Result<(), AppendFailure> {
    let marks = inner.marks.take(volume.id);
    let _load = inner.volumes.begin(&volume, run.member_bytes());
    let mut appends = FuturesUnordered::new();
    for (member, headers, fragments) in run.members() {
        let Some(drive) = volume.members.get(member).copied().flatten() else {
            continue;
        };
        let (inner, volume, run) = (&inner, &volume, &run);
        let (owner, marks) = (owner.clone(), marks.clone());
        appends.push(async move {
            let header = Header {
                run,
                owner,
                marks,
                headers,
            };
            let result = append_member(inner, volume, member, header, fragments).await;
            result.map_err(|error| AppendFailure {
                member,
                drive: Some(drive),
                error,
            })
        });
    }
    let present = appends.len();
    if present < run.shape.ack_floor() {
        let error = ShardError::NotOpen(volume.id);
        return Err(AppendFailure {
            member: 0,
            drive: None,
            error,
        });
    }
    while let Some(result) = appends.next().await {
        result?;
    }
    inner
        .metrics
        .appended(run.member_bytes(), run.shape.stored().count(), present);
    Ok(())
}

/// What goes into the header of a member's append.
struct Header<'a> {
    run: &'a Run,
    owner: Option<Owner>,
    marks: CommitMarks,
    headers: Vec<FragmentHeader>,
}

/// Appends to one member within the deadline; asks a busy one again.
async fn append_member(
    inner: &Inner,
    volume: &Volume,
    member: usize,
    header: Header<'_>,
    fragments: Vec<Bytes>,
) -> Result<(), ShardError> {
    let (client, at) = inner.shard(volume, member)?;
    let header = AppendHeader {
        at,
        blob: header.run.shape.blob,
        first_stripe: header.run.first_stripe(),
        fragments: header.headers,
        owner: header.owner,
        committed: header.marks,
    };
    let request = AppendRequest { header, fragments };
    let clock = &*inner.env.clock;
    let (began, given) = (
        clock.now(),
        inner.appends.append_late_after(&inner.settings),
    );
    let until = began + given;
    let (mut pause, mut resent) = (BUSY_PAUSE, false);
    loop {
        let left = until.saturating_sub(clock.now());
        let append = within(clock, left, client.append(request.clone()));
        let late = || ShardError::Unreachable("late".to_owned());
        let error = match append.await.ok_or_else(late).and_then(|result| result) {
            Ok(_) => {
                inner.appends.observe(clock.now().saturating_sub(began));
                return Ok(());
            }
            Err(error) => error,
        };
        let invalid = matches!(error, ShardError::Invalid(_));
        if invalid && !resent {
            resent = true;
        } else if error.remedy() == Remedy::Wait && clock.now() + pause < until {
            clock.sleep(pause).await;
            pause *= 2;
        } else {
            if clock.now() >= until {
                inner.appends.observe(given);
            }
            return Err(error);
        }
    }
}
