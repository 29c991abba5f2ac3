//! The commands: one file each.

mod attach_drive;
mod begin_delete_bucket;
mod begin_moves;
mod cancel_moves;
mod close_faults;
mod create_bucket;
mod drain;
mod end_delete_bucket;
mod flip_member;
pub(super) mod init;
mod join_enclosure;
pub(super) mod ledger;
mod maintain;
mod members;
mod open_volume;
mod reconcile_drive;
mod refine_faults;
mod remove;
mod replace_drive;
mod replicas;
mod report_faults;
mod resume_volume;
mod retire_volume;
mod seal_volume;
mod set_drive;
mod set_enclosure;
mod set_etag;
mod set_versioning;
mod suspend_volume;
pub(super) mod tick;
mod tune;
mod volume_fenced;

use crate::api::moves::Stage;
use crate::api::root::{RootCommand, RootEnvelope, RootRefusal, RootReply};

use super::state::{State, Stop};

/// Acts. After a refusal the caller throws all writes away.
#[expect(clippy::too_many_lines, reason = "an arm a command")]
pub(super) fn command(
    state: &mut State<'_, '_>,
    envelope: &RootEnvelope,
) -> Result<RootReply, Stop> {
    match &envelope.command {
        RootCommand::Init(_) => Err(RootRefusal::Born(state.head.cluster).into()),
        RootCommand::Tick { .. } => Ok(RootReply::Done),
        RootCommand::JoinEnclosure {
            id,
            chain,
            addresses,
        } => join_enclosure::apply(state, *id, *chain, addresses),
        RootCommand::SetEnclosure { id, state: new } => set_enclosure::apply(state, *id, *new),
        RootCommand::AttachDrive {
            drive,
            enclosure,
            slot,
            capacity,
            generation,
        } => {
            let offer = attach_drive::Offer {
                drive: *drive,
                enclosure: *enclosure,
                slot: *slot,
                capacity: *capacity,
                generation: *generation,
            };
            attach_drive::apply(state, &offer, envelope.request)
        }
        RootCommand::SetDrive { drive, state: new } => set_drive::apply(state, *drive, *new),
        RootCommand::ReconcileDrive { drive, generation } => {
            reconcile_drive::apply(state, *drive, *generation)
        }
        RootCommand::ReplaceDrive { old, new } => replace_drive::apply(state, *old, *new),
        RootCommand::BeginMoves(orders) => begin_moves::apply(state, orders),
        RootCommand::FlipMember(flip) => flip_member::apply(state, flip),
        RootCommand::EndMoves(intents) => cancel_moves::apply(state, intents, Stage::Check),
        RootCommand::CancelMoves(intents) => cancel_moves::apply(state, intents, Stage::Make),
        RootCommand::PauseMoves(paused) => Ok(state.pause_moves(*paused)),
        RootCommand::NotePlan(note) => Ok(state.note_plan(*note)),
        RootCommand::Drain { subject, on } => drain::apply(state, *subject, *on),
        RootCommand::Maintain { id, for_ms } => maintain::apply(state, *id, *for_ms),
        RootCommand::Remove(subject) => remove::apply(state, *subject),
        RootCommand::Tune(tuning) => tune::apply(state, tuning),
        RootCommand::BeginReplicas {
            group,
            from,
            to,
            replaces,
        } => replicas::begin(state, *group, from, to, *replaces),
        RootCommand::EndReplicas { group, change } => replicas::end(state, *group, *change),
        RootCommand::ReplicaCleared {
            group,
            enclosure,
            change,
        } => replicas::cleared(state, *group, *enclosure, *change),
        RootCommand::SetReplicas { most } => Ok(state.set_replicas_most(*most)),
        RootCommand::JudgeEnclosure { id, from, to } => {
            set_enclosure::judged(state, *id, *from, *to)
        }
        RootCommand::EndMaintenance { id, until } => maintain::end(state, *id, *until),
        RootCommand::OpenVolume {
            profile,
            members,
            violation,
        } => open_volume::apply(state, *profile, members, *violation),
        RootCommand::SuspendVolume { volume, epoch } => {
            suspend_volume::apply(state, *volume, *epoch)
        }
        RootCommand::ResumeVolume { volume, epoch } => resume_volume::apply(state, *volume, *epoch),
        RootCommand::SealVolume { volume, epoch } => seal_volume::apply(state, *volume, *epoch),
        RootCommand::VolumeFenced {
            volume,
            epoch,
            member,
            bytes,
        } => volume_fenced::apply(state, *volume, *epoch, *member, *bytes),
        RootCommand::RetireVolume { volume, epoch } => retire_volume::apply(state, *volume, *epoch),
        RootCommand::CreateBucket {
            name,
            owner,
            created_ms,
        } => create_bucket::apply(state, name, owner, *created_ms),
        RootCommand::BeginDeleteBucket { name } => begin_delete_bucket::apply(state, name),
        RootCommand::EndDeleteBucket {
            bucket,
            revision,
            empty,
        } => end_delete_bucket::apply(state, *bucket, *revision, *empty),
        RootCommand::ReportFaults(faults) => report_faults::apply(state, faults),
        RootCommand::CloseFaults { rows, drives } => close_faults::apply(state, rows, drives),
        RootCommand::RefineFaults {
            volume,
            member,
            drive,
            ranges,
        } => refine_faults::apply(state, (*volume, *member), *drive, ranges),
        RootCommand::SetEtag { name, etag } => set_etag::apply(state, name, *etag),
        RootCommand::SetVersioning { name, versioning } => {
            set_versioning::begin(state, name, *versioning)
        }
        RootCommand::EndSetVersioning { bucket, revision } => {
            set_versioning::end(state, *bucket, *revision)
        }
    }
}
