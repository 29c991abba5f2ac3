//! Commands of a partition as its log holds them, and their results as its rows hold them.

use enfilade_placement::{BucketId, Epoch, IntentId, RequestId, Stamp, VolumeId};

use crate::api::command::{
    Conditions, GroupTime, KeyOp, KeyReply, Outcome, PartitionCommand, PartitionEnvelope, Refusal,
    Versioning, WriteRequest,
};
use crate::api::garbage::GarbageAck;

use super::Lines;
use super::samples::{
    BLOB, UPLOAD, attributes, checksum, chosen, conditions, extent, new_object, part,
};

fn envelope(command: PartitionCommand) -> PartitionEnvelope {
    PartitionEnvelope {
        request: RequestId::new(9),
        deadline: GroupTime(600_000),
        epoch: Epoch::new(3),
        command,
    }
}

fn ops() -> Vec<KeyOp> {
    vec![
        KeyOp::Put {
            object: new_object(),
            conditions: conditions(),
        },
        KeyOp::Delete {
            version: Some(Stamp::new(77).into()),
            conditions: Conditions::default(),
            modified_ms: 1,
        },
        KeyOp::CreateUpload {
            upload: UPLOAD,
            created_ms: 2,
            attributes: attributes(),
            checksum: Some((checksum().algorithm, checksum().scope)),
        },
        KeyOp::PutPart {
            upload: UPLOAD,
            part: part(),
            inline: bytes::Bytes::from_static(b"part"),
        },
        KeyOp::CompleteUpload {
            upload: UPLOAD,
            parts: vec![chosen()],
            etag: "whole".to_owned(),
            checksum: Some(checksum()),
            modified_ms: 3,
            conditions: conditions(),
        },
        KeyOp::AbortUpload { upload: UPLOAD },
        KeyOp::Condemn { blob: BLOB },
    ]
}

/// Fails to compile when a kind is added: it needs a sample above.
const fn op_name(op: &KeyOp) -> &'static str {
    match op {
        KeyOp::Put { .. } => "put",
        KeyOp::Delete { .. } => "delete",
        KeyOp::CreateUpload { .. } => "create-upload",
        KeyOp::PutPart { .. } => "put-part",
        KeyOp::CompleteUpload { .. } => "complete-upload",
        KeyOp::AbortUpload { .. } => "abort-upload",
        KeyOp::Condemn { .. } => "condemn",
    }
}

fn replies() -> Vec<KeyReply> {
    let stamp = Stamp::new(300);
    vec![
        KeyReply::Put {
            stamp,
            versioned: true,
        },
        KeyReply::Deleted {
            marker: Some(stamp),
            existed: true,
        },
        KeyReply::UploadCreated,
        KeyReply::PartPut,
        KeyReply::Completed {
            stamp,
            versioned: false,
            etag: "whole".to_owned(),
            checksum: Some(checksum()),
            len: 9,
        },
        KeyReply::UploadAborted,
        KeyReply::Referenced(vec![extent()]),
        KeyReply::Condemned,
        KeyReply::Done,
    ]
}

const fn reply_name(reply: &KeyReply) -> &'static str {
    match reply {
        KeyReply::Put { .. } => "put",
        KeyReply::Deleted { .. } => "deleted",
        KeyReply::UploadCreated => "upload-created",
        KeyReply::PartPut => "part-put",
        KeyReply::Completed { .. } => "completed",
        KeyReply::UploadAborted => "upload-aborted",
        KeyReply::Referenced(_) => "referenced",
        KeyReply::Condemned => "condemned",
        KeyReply::Done => "done",
    }
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::PreconditionFailed,
        Refusal::NoSuchKey,
        Refusal::NoSuchUpload,
        Refusal::InvalidPart(300),
        Refusal::InvalidPartOrder,
        Refusal::PartTooSmall(300),
        Refusal::Locked,
        Refusal::BlobCondemned,
        Refusal::BlobReferenced,
        Refusal::Expired,
        Refusal::BucketFenced,
        Refusal::StaleRevision(300),
        Refusal::StaleRoute(Epoch::new(300)),
    ]
}

const fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::PreconditionFailed => "precondition-failed",
        Refusal::NoSuchKey => "no-such-key",
        Refusal::NoSuchUpload => "no-such-upload",
        Refusal::InvalidPart(_) => "invalid-part",
        Refusal::InvalidPartOrder => "invalid-part-order",
        Refusal::PartTooSmall(_) => "part-too-small",
        Refusal::Locked => "locked",
        Refusal::BlobCondemned => "blob-condemned",
        Refusal::BlobReferenced => "blob-referenced",
        Refusal::Expired => "expired",
        Refusal::BucketFenced => "bucket-fenced",
        Refusal::StaleRevision(_) => "stale-revision",
        Refusal::StaleRoute(_) => "stale-route",
    }
}

const fn command_name(command: &PartitionCommand) -> &'static str {
    match command {
        PartitionCommand::Key { op, .. } => op_name(op),
        PartitionCommand::Bucket { .. } => "bucket",
        PartitionCommand::Replicas { .. } => "replicas",
        PartitionCommand::Divide { .. } => "divide",
        PartitionCommand::CopyForChild { .. } => "copy-for-child",
        PartitionCommand::Split { .. } => "split",
        PartitionCommand::AckGarbage(_) => "ack-garbage",
        PartitionCommand::Tick { .. } => "tick",
    }
}

#[test]
fn commands_of_a_partition_are_kept_as_they_were() {
    let mut lines = Lines::default();
    let bucket = BucketId::new(3);
    let key = |op| PartitionCommand::Key {
        bucket,
        revision: 4,
        key: "k/\u{e9}\0".to_owned(),
        op,
    };
    let mut commands: Vec<PartitionCommand> = ops().into_iter().map(key).collect();
    commands.push(PartitionCommand::Bucket {
        bucket,
        revision: 5,
        versioning: Versioning::Suspended,
        fenced: true,
        abort_uploads: true,
    });
    commands.push(PartitionCommand::AckGarbage(vec![GarbageAck {
        sequence: 300,
        volume: VolumeId::new(2),
        epoch: Epoch::new(4),
        members: vec![0, 5],
    }]));
    commands.push(PartitionCommand::Tick { elapsed_ms: 1000 });
    let change = IntentId::new(300);
    commands.push(PartitionCommand::Replicas { change });
    let split = change;
    commands.push(PartitionCommand::Divide {
        split,
        child: enfilade_placement::PartitionId::new(2),
        at: crate::api::key::RowPrefix::of_keys_from(BucketId::new(3), "m"),
    });
    commands.push(PartitionCommand::CopyForChild { split });
    commands.push(PartitionCommand::Split { split });
    for command in commands {
        lines.add(command_name(&command), &envelope(command.clone()));
    }
    lines.add(
        "versionings",
        &[Versioning::Off, Versioning::Enabled, Versioning::Suspended],
    );
    let op = KeyOp::Condemn { blob: BLOB };
    let write = WriteRequest {
        request: RequestId::new(9),
        bucket,
        revision: 4,
        key: "k".to_owned(),
        op,
    };
    lines.add("write-request", &write);
    lines.compare("commands.txt");
}

#[test]
fn results_of_a_partition_are_kept_as_they_were() {
    let mut lines = Lines::default();
    for reply in replies() {
        let outcome: Outcome = Ok(reply.clone());
        lines.add(reply_name(&reply), &outcome);
    }
    for refusal in refusals() {
        let outcome: Outcome = Err(refusal.clone());
        lines.add(refusal_name(&refusal), &outcome);
    }
    lines.compare("outcomes.txt");
}
