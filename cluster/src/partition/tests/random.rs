//! Random commands against the model, with every invariant checked after each.

use std::collections::BTreeSet;

use enfilade_placement::{Stamp, UploadId, VolumeId};
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use crate::api::command::{
    ChosenPart, Conditions, ETags, KeyOp, KeyReply, Outcome, PartitionCommand, PartitionEnvelope,
    Versioning,
};
use crate::api::garbage::{GarbageAck, GarbageQuery};
use crate::api::query::{ListEntry, ListQuery, PartsQuery, UploadsQuery};
use crate::api::record::{Blob, VersionKind};
use crate::partition::read;
use crate::rows::{MemoryRows, Txn};

use super::harness::{
    BUCKET, GROUP, Machine, at, condemn, create_upload, delete, dump, etag, inline, put_if,
    put_part, striped,
};
use super::model::{Answer, Model};

const KEYS: [&str; 4] = ["a", "a\0", "a/b", "\u{ff}"];
const UPLOADS: u128 = 3;
const MIB: u64 = 1024 * 1024;

#[derive(Debug, Clone)]
enum Op {
    Put {
        key: &'static str,
        shape: Shape,
        if_absent: bool,
    },
    Delete {
        key: &'static str,
    },
    /// Of the versions that the key has (or a stamp that it has not).
    DeleteVersion {
        key: &'static str,
        pick: usize,
    },
    Create {
        key: &'static str,
        upload: u128,
    },
    Part {
        key: &'static str,
        upload: u128,
        number: u16,
        shape: Shape,
    },
    Complete {
        key: &'static str,
        upload: u128,
        numbers: BTreeSet<u16>,
    },
    Abort {
        key: &'static str,
        upload: u128,
    },
    /// A blob that was named before, or the next one to be.
    Condemn {
        key: &'static str,
        back: u128,
    },
    Versioning(Versioning),
    AckGarbage {
        volume: u64,
        members: Vec<u8>,
        limit: u32,
    },
    Tick(u64),
    Repeat,
}

#[derive(Debug, Clone)]
enum Shape {
    Inline,
    Striped(Vec<u64>),
    Heavy,
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        3 => Just(Shape::Inline),
        4 => vec(1u64..4, 1..4).prop_map(Shape::Striped),
        1 => Just(Shape::Heavy),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || select(&KEYS[..]);
    let upload = || 0..UPLOADS;
    let versioning = select(vec![
        Versioning::Off,
        Versioning::Enabled,
        Versioning::Enabled,
        Versioning::Suspended,
    ]);
    prop_oneof![
        6 => (key(), shape(), any::<bool>())
            .prop_map(|(key, shape, if_absent)| Op::Put { key, shape, if_absent }),
        3 => key().prop_map(|key| Op::Delete { key }),
        3 => (key(), any::<usize>()).prop_map(|(key, pick)| Op::DeleteVersion { key, pick }),
        3 => (key(), upload()).prop_map(|(key, upload)| Op::Create { key, upload }),
        6 => (key(), upload(), 1u16..5, shape())
            .prop_map(|(key, upload, number, shape)| Op::Part { key, upload, number, shape }),
        3 => (key(), upload(), btree_set(1u16..5, 0..3))
            .prop_map(|(key, upload, numbers)| Op::Complete { key, upload, numbers }),
        1 => (key(), upload()).prop_map(|(key, upload)| Op::Abort { key, upload }),
        3 => (key(), 0u128..8).prop_map(|(key, back)| Op::Condemn { key, back }),
        2 => versioning.prop_map(Op::Versioning),
        3 => (1u64..4, vec(0u8..6, 1..6), 1u32..5)
            .prop_map(|(volume, members, limit)| Op::AckGarbage { volume, members, limit }),
        1 => select(vec![1, 60_000, 3_600_000]).prop_map(Op::Tick),
        2 => Just(Op::Repeat),
    ]
}

/// The machine, the model, and the commands so far.
struct Run {
    machine: Machine,
    model: Model,
    log: Vec<PartitionEnvelope>,
    outcomes: Vec<Outcome>,
    blobs: u128,
    /// Which members have acked which dead blob.
    acked: BTreeSet<(u64, u128, u8)>,
}

impl Run {
    fn new() -> Self {
        let (machine, model) = (Machine::new(), Model::default());
        let (log, outcomes, blobs, acked) = (Vec::new(), Vec::new(), 0, BTreeSet::new());
        Self {
            machine,
            model,
            log,
            outcomes,
            blobs,
            acked,
        }
    }

    fn blob(&mut self, shape: &Shape) -> Blob {
        self.blobs += 1;
        let heavy: Vec<u64> = (0..70).map(|n| 1 + n % 3).collect();
        match shape {
            Shape::Inline => inline(self.blobs, 7),
            Shape::Striped(volumes) => striped(self.blobs, 5 * MIB, volumes),
            Shape::Heavy => striped(self.blobs, 6 * MIB, &heavy),
        }
    }

    fn command(&mut self, command: PartitionCommand) -> Outcome {
        let envelope = self.machine.envelope(command);
        let outcome = self.machine.apply(&envelope);
        self.log.push(envelope);
        self.outcomes.push(outcome.clone());
        outcome
    }

    fn key(&mut self, key: &str, op: KeyOp, expected: Answer) {
        let command = self.machine.key_command(key, op);
        assert_eq!(self.command(command), expected);
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Put {
                key,
                shape,
                if_absent,
            } => {
                let blob = self.blob(&shape);
                let if_none_match = if_absent.then_some(ETags::Any);
                let conditions = Conditions {
                    if_match: None,
                    if_none_match,
                };
                let expected = self.model.put(key, blob.clone(), if_absent);
                self.key(key, put_if(blob, conditions), expected);
            }
            Op::Delete { key } => {
                let expected = self.model.delete(key);
                self.key(key, delete(None), expected);
            }
            Op::DeleteVersion { key, pick } => self.delete_version(key, pick),
            Op::Create { key, upload } => {
                let expected = self.model.create_upload(key, upload);
                self.key(key, create_upload(upload), expected);
            }
            Op::Part {
                key,
                upload,
                number,
                shape,
            } => {
                let blob = self.blob(&shape);
                let expected = self.model.put_part(key, upload, number, blob.clone());
                self.key(key, put_part(upload, number, blob), expected);
            }
            Op::Complete {
                key,
                upload,
                numbers,
            } => self.complete(key, upload, &numbers),
            Op::Abort { key, upload } => {
                let expected = self.model.abort(key, upload);
                let upload = UploadId::new(upload);
                self.key(key, KeyOp::AbortUpload { upload }, expected);
            }
            Op::Condemn { key, back } => {
                let blob = (self.blobs + 1).saturating_sub(back);
                let expected = self.model.condemn(key, blob);
                self.key(key, condemn(blob), expected);
            }
            Op::Versioning(versioning) => self.versioning(versioning),
            Op::AckGarbage {
                volume,
                members,
                limit,
            } => self.ack(volume, &members, limit),
            Op::Tick(elapsed_ms) => {
                assert_eq!(
                    self.command(PartitionCommand::Tick { elapsed_ms }),
                    Ok(KeyReply::Done)
                );
            }
            Op::Repeat => self.repeat(),
        }
    }

    fn delete_version(&mut self, key: &str, pick: usize) {
        let versions = self.model.keys.get(key).map_or(&[][..], Vec::as_slice);
        let picked = versions.get(pick % (versions.len() + 1));
        let stamp = picked.map_or(1_000_000, |version| version.stamp);
        let expected = self.model.delete_version(key, stamp);
        self.key(key, delete(Some(stamp)), expected);
    }

    fn versioning(&mut self, versioning: Versioning) {
        let off = versioning == Versioning::Off && self.model.versioning != Versioning::Off;
        self.model.versioning = if off {
            Versioning::Suspended
        } else {
            versioning
        };
        self.machine.revision += 1;
        let command = PartitionCommand::Bucket {
            bucket: BUCKET,
            revision: self.machine.revision,
            versioning,
            fenced: false,
            abort_uploads: false,
        };
        assert_eq!(self.command(command), Ok(KeyReply::Done));
    }

    fn complete(&mut self, key: &str, upload: u128, numbers: &BTreeSet<u16>) {
        let parts = self
            .model
            .uploads
            .get(&(key.to_owned(), upload))
            .cloned()
            .unwrap_or_default();
        let numbers: Vec<u16> = numbers.iter().copied().collect();
        let chosen = |number: &u16| ChosenPart {
            number: *number,
            etag: parts.get(number).map_or_else(String::new, etag),
            checksum: None,
        };
        let whole = format!("whole-{}", self.log.len());
        let expected = self.model.complete(key, upload, &numbers, &whole);
        let op = KeyOp::CompleteUpload {
            upload: UploadId::new(upload),
            parts: numbers.iter().map(chosen).collect(),
            etag: whole,
            checksum: None,
            modified_ms: 0,
            conditions: Conditions::default(),
        };
        self.key(key, op, expected);
    }

    /// The first member asks and acks for all of them.
    fn ack(&mut self, volume: u64, members: &[u8], limit: u32) {
        let shards = vec![(VolumeId::new(volume), members[0])];
        let query = GarbageQuery {
            partition: GROUP,
            shards,
            limit,
        };
        let due = read::garbage(&self.machine.rows, &query, 0).unwrap();
        let mut acks = Vec::new();
        for entry in due {
            let blob = entry.blob.get();
            assert!(!self.acked.contains(&(volume, blob, members[0])));
            self.acked
                .extend(members.iter().map(|member| (volume, blob, *member)));
            acks.push(GarbageAck {
                sequence: entry.sequence,
                volume: entry.volume,
                epoch: enfilade_placement::Epoch::FIRST,
                members: members.to_vec(),
            });
        }
        assert_eq!(
            self.command(PartitionCommand::AckGarbage(acks)),
            Ok(KeyReply::Done)
        );
    }

    /// The latest requests come again, within their deadline.
    fn repeat(&mut self) {
        let before = dump(&self.machine.rows);
        for (envelope, outcome) in self.log.iter().zip(&self.outcomes).rev().take(3) {
            let keyed = matches!(envelope.command, PartitionCommand::Key { .. });
            if keyed && envelope.deadline.0 >= self.machine.now() {
                assert_eq!(&self.machine.apply(envelope), outcome);
            }
        }
        assert_eq!(dump(&self.machine.rows), before);
    }

    /// Everything that can be read is as the model says.
    fn compare(&self) {
        for key in KEYS {
            self.compare_key(key);
        }
        let query = ListQuery {
            limit: 1000,
            ..ListQuery::default()
        };
        let page = read::list(&self.machine.rows, GROUP, BUCKET, &query).unwrap();
        let listed: Vec<&str> = page
            .entries
            .iter()
            .map(|entry| match entry {
                ListEntry::Object(object) => object.key.as_str(),
                ListEntry::Prefix(prefix) => prefix.as_str(),
            })
            .collect();
        assert_eq!(listed, self.model.listed());
        let empty = read::is_empty(&self.machine.rows, GROUP, BUCKET).unwrap();
        assert_eq!(empty, self.model.keys.is_empty());
        let query = UploadsQuery {
            limit: 1000,
            ..UploadsQuery::default()
        };
        let page = read::uploads(&self.machine.rows, GROUP, BUCKET, &query).unwrap();
        let uploads = page
            .uploads
            .iter()
            .map(|one| (one.key.clone(), one.upload.get()));
        assert!(uploads.eq(self.model.uploads.keys().cloned()));
        self.compare_garbage();
    }

    fn compare_key(&self, key: &str) {
        let found = self.machine.found(key);
        let stamp = found.as_ref().map(|found| found.record.stamp.get());
        assert_eq!(
            stamp,
            self.model.current(key).map(|version| version.stamp),
            "{key:?}"
        );
        for version in self.model.keys.get(key).into_iter().flatten() {
            let stamp = Stamp::new(version.stamp);
            let found = read::object(&self.machine.rows, &at(key), Some(stamp))
                .unwrap()
                .unwrap();
            let marker = found.record.kind == VersionKind::DeleteMarker;
            assert_eq!(
                (marker, found.record.null_version),
                (version.blobs.is_none(), version.null)
            );
            assert_eq!(found.record.etag, version.etag);
            let blobs = version.blobs.as_deref().unwrap_or_default();
            let len: u64 = blobs.iter().map(|blob| blob.len).sum();
            assert_eq!(found.record.len, len);
        }
        for ((_, upload), parts) in self.model.uploads.iter().filter(|((of, _), _)| of == key) {
            let upload = UploadId::new(*upload);
            let query = PartsQuery {
                upload,
                after: 0,
                limit: 10_000,
            };
            let page = read::parts(&self.machine.rows, &at(key), &query)
                .unwrap()
                .unwrap();
            let found = page.parts.iter().map(|part| (part.number, &part.blob));
            assert!(found.eq(parts.iter().map(|(number, blob)| (*number, blob))));
        }
    }

    fn compare_garbage(&self) {
        for member in 0..6 {
            let shards = (1..4)
                .map(|volume| (VolumeId::new(volume), member))
                .collect();
            let query = GarbageQuery {
                partition: GROUP,
                shards,
                limit: u32::MAX,
            };
            let due = read::garbage(&self.machine.rows, &query, 0).unwrap();
            let found: Vec<_> = due.iter().map(|e| (e.volume.get(), e.blob.get())).collect();
            let distinct: BTreeSet<_> = found.iter().copied().collect();
            let acked = |of: &(u64, u128)| self.acked.contains(&(of.0, of.1, member));
            let dead = self.model.garbage.iter().filter(|of| !acked(of)).copied();
            assert_eq!((found.len(), &distinct), (distinct.len(), &dead.collect()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn commands_do_what_s3_promises(ops in vec(op(), 1..60), batch in 1usize..7) {
        let mut run = Run::new();
        for op in ops {
            run.step(op);
            run.compare();
        }
        // The same commands in other batches come to the same rows.
        let mut again: MemoryRows = Machine::new().rows;
        let mut outcomes = Vec::new();
        for chunk in run.log.chunks(batch) {
            let mut txn = Txn::new(&again);
            for envelope in chunk {
                outcomes.push(crate::partition::apply(&mut txn, GROUP, envelope).unwrap());
            }
            let writes = txn.into_writes();
            again.commit(writes);
        }
        assert_eq!(outcomes, run.outcomes);
        assert_eq!(dump(&again), dump(&run.machine.rows));
    }
}
