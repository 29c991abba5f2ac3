//! A partition in memory that is checked after every command.

use std::ops::ControlFlow;

use bytes::Bytes;
use enfilade_placement::{
    BlobId, BucketId, Epoch, PartitionId, Profile, RequestId, UploadId, VolumeId,
};

use crate::api::command::{
    Conditions, GroupTime, KeyOp, KeyReply, NewObject, Outcome, PartitionCommand,
    PartitionEnvelope, Refusal, Versioning,
};
use crate::api::key::{ObjectKey, RowPrefix};
use crate::api::query::Found;
use crate::api::record::{Attributes, Blob, Extent, Layout, PartRecord, Place};
use crate::api::root::Partition;
use crate::partition::{DEADLINE_MS, check, read};
use crate::rows::{MemoryRows, Rows, Table, Txn};

pub(super) const GROUP: PartitionId = PartitionId::new(7);
pub(super) const BUCKET: BucketId = BucketId::new(3);

/// A partition of the whole key space, unless created otherwise.
pub(super) struct Machine {
    pub(super) rows: MemoryRows,
    pub(super) revision: u64,
    requests: u128,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self::over(RowPrefix::default(), None)
    }

    pub(super) fn over(start: RowPrefix, end: Option<RowPrefix>) -> Self {
        let mut rows = MemoryRows::default();
        let mut txn = Txn::new(&rows);
        let partition = Partition {
            id: GROUP,
            epoch: Epoch::FIRST,
            start,
            end,
            replicas: Vec::new(),
            change: enfilade_placement::IntentId::new(0),
        };
        crate::partition::create(&mut txn, &partition).unwrap();
        let writes = txn.into_writes();
        rows.commit(writes);
        Self {
            rows,
            revision: 1,
            requests: 0,
        }
    }

    pub(super) fn now(&self) -> u64 {
        read::info(&self.rows, GROUP).unwrap().unwrap().time.0
    }

    pub(super) fn envelope(&mut self, command: PartitionCommand) -> PartitionEnvelope {
        self.requests += 1;
        PartitionEnvelope {
            request: RequestId::new(self.requests),
            deadline: GroupTime(self.now() + DEADLINE_MS),
            epoch: Epoch::FIRST,
            command,
        }
    }

    /// Applies, commits, and checks what must hold.
    pub(super) fn apply(&mut self, envelope: &PartitionEnvelope) -> Outcome {
        let before = self.rows.clone();
        let mut txn = Txn::new(&self.rows);
        let outcome = crate::partition::apply(&mut txn, GROUP, envelope).unwrap();
        let writes = txn.into_writes();
        if outcome.is_err() {
            let side = writes.iter().all(|write| write.table == Table::Side);
            assert!(side && writes.len() <= 2, "a refusal wrote {writes:?}");
        }
        self.rows.commit(writes);
        let wrong = check::check(&self.rows, GROUP).unwrap();
        assert!(wrong.is_empty(), "after {envelope:?}: {wrong:#?}");
        let back = check::check_progress(&before, &self.rows, GROUP).unwrap();
        assert!(back.is_empty(), "after {envelope:?}: {back:#?}");
        outcome
    }

    pub(super) fn command(&mut self, command: PartitionCommand) -> Outcome {
        let envelope = self.envelope(command);
        self.apply(&envelope)
    }

    pub(super) fn key_command(&self, key: &str, op: KeyOp) -> PartitionCommand {
        PartitionCommand::Key {
            bucket: BUCKET,
            revision: self.revision,
            key: key.to_owned(),
            op,
        }
    }

    pub(super) fn op(&mut self, key: &str, op: KeyOp) -> Outcome {
        let command = self.key_command(key, op);
        self.command(command)
    }

    pub(super) fn settings(&mut self, versioning: Versioning, fenced: bool, abort_uploads: bool) {
        self.revision += 1;
        let command = PartitionCommand::Bucket {
            bucket: BUCKET,
            revision: self.revision,
            versioning,
            fenced,
            abort_uploads,
        };
        assert_eq!(self.command(command), Ok(KeyReply::Done));
    }

    pub(super) fn versioning(&mut self, versioning: Versioning) {
        self.settings(versioning, false, false);
    }

    pub(super) fn tick(&mut self, elapsed_ms: u64) {
        let command = PartitionCommand::Tick { elapsed_ms };
        assert_eq!(self.command(command), Ok(KeyReply::Done));
    }

    /// Puts an object without conditions; returns its stamp.
    pub(super) fn put(&mut self, key: &str, blob: Blob) -> u64 {
        match self.op(key, put(blob)) {
            Ok(KeyReply::Put { stamp, .. }) => stamp.get(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn delete(&mut self, key: &str) -> (Option<u64>, bool) {
        match self.op(key, delete(None)) {
            Ok(KeyReply::Deleted { marker, existed }) => (marker.map(|at| at.get()), existed),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn found(&self, key: &str) -> Option<Found> {
        read::object(&self.rows, &at(key), None).unwrap()
    }

    /// The stamp of the current version, marker or not.
    pub(super) fn current(&self, key: &str) -> Option<u64> {
        self.found(key).map(|found| found.record.stamp.get())
    }

    /// How many rows a table has.
    pub(super) fn count(&self, table: Table) -> usize {
        self.rows.len(table)
    }
}

pub(super) fn at(key: &str) -> ObjectKey {
    ObjectKey::new(BUCKET, key)
}

/// All rows, for comparing.
pub(super) fn dump(rows: &dyn Rows) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in Table::ALL {
        rows.scan(table, &[], None, &mut |key, value| {
            all.push((table, key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    all
}

pub(super) fn inline(id: u128, len: u64) -> Blob {
    Blob {
        id: BlobId::new(id),
        len,
        crc64: 1,
        place: Place::Inline,
    }
}

/// A blob with one stripe in each of the volumes.
pub(super) fn striped(id: u128, len: u64, volumes: &[u64]) -> Blob {
    let extent = |(index, volume): (usize, &u64)| Extent {
        volume: VolumeId::new(*volume),
        first_stripe: u32::try_from(index).unwrap(),
        stripes: 1,
    };
    Blob {
        id: BlobId::new(id),
        len,
        crc64: 2,
        place: Place::Striped {
            profile: Profile::new(4, 2).unwrap(),
            layout: Layout::Full,
            extents: volumes.iter().enumerate().map(extent).collect(),
        },
    }
}

/// The bytes of an inline blob of this many bytes; none for others.
pub(super) fn bytes_of(blob: &Blob) -> Bytes {
    match blob.place {
        Place::Inline => Bytes::from(vec![b'x'; usize::try_from(blob.len).unwrap()]),
        Place::Striped { .. } => Bytes::new(),
    }
}

pub(super) fn object(blob: Blob) -> NewObject {
    NewObject {
        etag: etag(&blob),
        modified_ms: 1_000,
        attributes: Attributes::default(),
        checksum: None,
        inline: bytes_of(&blob),
        blob,
    }
}

/// Every blob has an ETag of its own in these tests.
pub(super) fn etag(blob: &Blob) -> String {
    format!("etag-{:x}", blob.id.get())
}

pub(super) fn put(blob: Blob) -> KeyOp {
    put_if(blob, Conditions::default())
}

pub(super) fn put_if(blob: Blob, conditions: Conditions) -> KeyOp {
    KeyOp::Put {
        object: object(blob),
        conditions,
    }
}

pub(super) fn delete(version: Option<u64>) -> KeyOp {
    delete_if(version, Conditions::default())
}

pub(super) fn delete_if(version: Option<u64>, conditions: Conditions) -> KeyOp {
    KeyOp::Delete {
        version: version.map(|stamp| enfilade_placement::Stamp::new(stamp).into()),
        conditions,
        modified_ms: 2_000,
    }
}

pub(super) fn create_upload(upload: u128) -> KeyOp {
    KeyOp::CreateUpload {
        upload: UploadId::new(upload),
        created_ms: 3_000,
        attributes: Attributes::default(),
        checksum: None,
    }
}

pub(super) fn put_part(upload: u128, number: u16, blob: Blob) -> KeyOp {
    KeyOp::PutPart {
        upload: UploadId::new(upload),
        inline: bytes_of(&blob),
        part: PartRecord {
            number,
            etag: etag(&blob),
            modified_ms: 4_000,
            checksum: None,
            blob,
        },
    }
}

pub(super) fn condemn(blob: u128) -> KeyOp {
    let blob = BlobId::new(blob);
    KeyOp::Condemn { blob }
}

pub(super) const STALE: Outcome = Err(Refusal::StaleRoute(Epoch::FIRST));
