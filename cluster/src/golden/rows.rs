//! Rows of both state machines after a script that makes every kind.

use std::ops::ControlFlow;

use bytes::Bytes;
use enfilade_placement::{
    BlobId, BucketId, ChainId, ClusterId, DriveId, EnclosureId, EnclosureState, Epoch, Generation,
    IntentId, PartitionId, RequestId, UploadId, VolumeId,
};

use crate::api::command::{
    ChosenPart, Conditions, GroupTime, KeyOp, NewObject, PartitionCommand, PartitionEnvelope,
    Versioning,
};
use crate::api::garbage::GarbageAck;
use crate::api::key::RowPrefix;
use crate::api::record::{Attributes, Blob, Extent, Layout, PartRecord, Place};
use crate::api::root::{
    Addresses, Birth, LedgerRange, LedgerRow, Partition, RootCommand, RootEnvelope,
};
use crate::rows::{MemoryRows, Rows, Table, Txn};
use crate::{partition, root};

use super::Lines;
use super::samples::{part, profile};

const GROUP: PartitionId = PartitionId::new(7);
const BUCKET: BucketId = BucketId::new(3);

fn dump(rows: &dyn Rows) -> Lines {
    let mut lines = Lines::default();
    for table in Table::ALL {
        rows.scan(table, &[], None, &mut |key, value| {
            let name = format!("{}:{}", table.name(), hex::encode(key));
            lines.bytes(&name, value);
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    lines
}

/// An inline blob of 5 bytes, or one in so many volumes.
fn blob(id: u128, volumes: u64) -> Blob {
    let extent = |volume| Extent {
        volume: VolumeId::new(volume),
        first_stripe: 0,
        stripes: 1,
    };
    let extents: Vec<Extent> = (1..=volumes).map(extent).collect();
    let (profile, layout) = (profile(), Layout::Full);
    let place = match volumes {
        0 => Place::Inline,
        _ => Place::Striped {
            profile,
            layout,
            extents,
        },
    };
    let (id, len, crc64) = (BlobId::new(id), 5, 9);
    Blob {
        id,
        len,
        crc64,
        place,
    }
}

fn put(blob: Blob) -> KeyOp {
    let inline = match blob.place {
        Place::Inline => Bytes::from_static(b"12345"),
        Place::Striped { .. } => Bytes::new(),
    };
    let object = NewObject {
        etag: "etag".to_owned(),
        modified_ms: 1,
        attributes: Attributes::default(),
        checksum: None,
        blob,
        inline,
    };
    let conditions = Conditions::default();
    KeyOp::Put { object, conditions }
}

fn put_part(upload: UploadId, blob: Blob) -> KeyOp {
    let (number, etag) = (258, "part".to_owned());
    let part = PartRecord {
        number,
        etag,
        blob,
        ..part()
    };
    KeyOp::PutPart {
        upload,
        part,
        inline: Bytes::new(),
    }
}

/// Makes every kind of row of a partition.
fn script() -> Vec<PartitionCommand> {
    let key = |key: &str, op| PartitionCommand::Key {
        bucket: BUCKET,
        revision: 2,
        key: key.to_owned(),
        op,
    };
    let create = |id| KeyOp::CreateUpload {
        upload: UploadId::new(id),
        created_ms: 2,
        attributes: Attributes::default(),
        checksum: None,
    };
    let complete = KeyOp::CompleteUpload {
        upload: UploadId::new(0x31),
        parts: vec![ChosenPart {
            number: 258,
            etag: "part".to_owned(),
            checksum: None,
        }],
        etag: "whole".to_owned(),
        checksum: None,
        modified_ms: 3,
        conditions: Conditions::default(),
    };
    let delete = KeyOp::Delete {
        version: None,
        conditions: Conditions::default(),
        modified_ms: 4,
    };
    vec![
        PartitionCommand::Bucket {
            bucket: BUCKET,
            revision: 2,
            versioning: Versioning::Off,
            fenced: false,
            abort_uploads: false,
        },
        key("a\0", put(blob(0x11, 2))),
        key("a\0", put(blob(0x12, 0))),
        PartitionCommand::Bucket {
            bucket: BUCKET,
            revision: 2,
            versioning: Versioning::Enabled,
            fenced: false,
            abort_uploads: false,
        },
        key("a\0", put(blob(0x13, 1))),
        key("a\0", delete),
        key("heavy", put(blob(0x14, 65))),
        key("m", create(0x31)),
        key("m", put_part(UploadId::new(0x31), blob(0x15, 1))),
        key("m", complete),
        key("m", create(0x32)),
        key("m", put_part(UploadId::new(0x32), blob(0x16, 1))),
        key(
            "m",
            KeyOp::Condemn {
                blob: BlobId::new(0x17),
            },
        ),
        PartitionCommand::AckGarbage(vec![GarbageAck {
            sequence: 1,
            volume: VolumeId::new(1),
            epoch: Epoch::FIRST,
            members: vec![2],
        }]),
        PartitionCommand::Tick { elapsed_ms: 300 },
    ]
}

#[test]
fn rows_of_a_partition_are_kept_as_they_were() {
    let mut rows = MemoryRows::default();
    let mut txn = Txn::new(&rows);
    let whole = Partition {
        id: GROUP,
        epoch: Epoch::FIRST,
        start: RowPrefix::of_bucket(BUCKET),
        end: Some(RowPrefix::of_bucket(BucketId::new(4))),
        replicas: Vec::new(),
        change: enfilade_placement::IntentId::new(0),
    };
    partition::create(&mut txn, &whole).unwrap();
    for (request, command) in (1..).zip(script()) {
        let envelope = PartitionEnvelope {
            request: RequestId::new(request),
            deadline: GroupTime(1000),
            epoch: Epoch::FIRST,
            command,
        };
        let outcome = partition::apply(&mut txn, GROUP, &envelope).unwrap();
        assert!(outcome.is_ok(), "{envelope:?}: {outcome:?}");
    }
    let writes = txn.into_writes();
    rows.commit(writes);
    let empty: Vec<Table> = Table::ALL
        .into_iter()
        .filter(|table| rows.is_empty(*table))
        .collect();
    assert_eq!(empty, [Table::Root]);
    dump(&rows).compare("partition-rows.txt");
}

/// Makes every kind of row of the root group.
fn root_script() -> Vec<RootCommand> {
    let fault = |what| LedgerRow {
        volume: VolumeId::new(1),
        member: 1,
        what,
    };
    let blob = BlobId::new(0x11);
    let mut commands = vec![RootCommand::Init(Birth {
        cluster: ClusterId::new(0xc1),
        profile: profile(),
        volume_target: 1 << 36,
        open_volumes: 4,
        replicas: vec![EnclosureId::new(1)],
    })];
    commands.push(RootCommand::JoinEnclosure {
        id: None,
        chain: ChainId::new(2),
        addresses: Addresses::default(),
    });
    let drives = || (1..=6).map(DriveId::new);
    commands.extend(drives().map(|drive| RootCommand::AttachDrive {
        drive,
        enclosure: EnclosureId::new(1),
        slot: 4,
        capacity: 1 << 40,
        generation: Generation::new(0),
    }));
    commands.push(RootCommand::OpenVolume {
        profile: profile(),
        members: drives().map(Some).collect(),
        violation: true,
    });
    commands.push(RootCommand::CreateBucket {
        name: "name".to_owned(),
        owner: "owner".to_owned(),
        created_ms: 1,
    });
    commands.push(RootCommand::ReportFaults(vec![
        fault(LedgerRange::stripes(blob, 258..=300)),
        LedgerRow {
            member: 2,
            ..fault(LedgerRange::Whole)
        },
    ]));
    commands.push(RootCommand::Tick { elapsed_ms: 300 });
    commands.extend(replica_script());
    commands
}

/// A replica leaves, and an enclosure goes out by itself.
fn replica_script() -> Vec<RootCommand> {
    vec![
        RootCommand::JoinEnclosure {
            id: None,
            chain: ChainId::new(2),
            addresses: Addresses::default(),
        },
        RootCommand::BeginReplicas {
            group: PartitionId::ROOT,
            from: vec![EnclosureId::new(1)],
            to: vec![EnclosureId::new(2)],
            replaces: None,
        },
        RootCommand::EndReplicas {
            group: PartitionId::ROOT,
            change: IntentId::new(1),
        },
        RootCommand::JudgeEnclosure {
            id: EnclosureId::new(1),
            from: EnclosureState::Up,
            to: EnclosureState::Out,
        },
    ]
}

#[test]
fn rows_of_the_root_group_are_kept_as_they_were() {
    let mut rows = MemoryRows::default();
    let mut txn = Txn::new(&rows);
    for (request, command) in (1..).zip(root_script()) {
        let envelope = RootEnvelope {
            request: RequestId::new(request),
            deadline: GroupTime(1000),
            command,
        };
        let outcome = root::apply(&mut txn, &envelope).unwrap();
        assert!(outcome.is_ok(), "{envelope:?}: {outcome:?}");
    }
    let writes = txn.into_writes();
    rows.commit(writes);
    dump(&rows).compare("root-rows.txt");
}
