//! Random commands against the model, with every invariant checked after each.

use std::collections::BTreeSet;

use enfilade_placement::{Stamp, UploadId, VolumeId};
use proptest::bool;
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use crate::api::command::{
    ChosenPart, Conditions, ETags, KeyOp, KeyReply, Outcome, PartitionCommand, PartitionEnvelope,
    Versioning,
};
use crate::api::garbage::{GarbageAck, GarbageQuery};
use crate::api::query::{ListEntry, ListQuery, PartsQuery, UploadsQuery, VersionsQuery};
use crate::api::record::{Blob, VersionId, VersionKind};
use crate::partition::read;
use crate::rows::{MemoryRows, Txn};

use super::harness::{
    BUCKET, GROUP, Machine, at, condemn, create_upload, delete_if, dump, etag, inline, object,
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
        condition: Condition,
        held: bool,
    },
    Delete {
        key: &'static str,
        condition: Condition,
    },
    /// Of the versions that the key has (or a stamp that it has not).
    DeleteVersion {
        key: &'static str,
        pick: usize,
        condition: Condition,
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
        condition: Condition,
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

/// A condition on a key; the ETag of its current object is found when the command is made.
#[derive(Debug, Clone, Copy)]
enum Condition {
    None,
    Absent,
    Present,
    Same,
    Other,
    NotSame,
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

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        5 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => Just(Condition::Same),
        1 => Just(Condition::Other),
        1 => Just(Condition::NotSame),
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
        6 => (key(), shape(), condition(), bool::weighted(0.1))
            .prop_map(|(key, shape, condition, held)| Op::Put { key, shape, condition, held }),
        3 => (key(), condition()).prop_map(|(key, condition)| Op::Delete { key, condition }),
        3 => (key(), any::<usize>(), condition())
            .prop_map(|(key, pick, condition)| Op::DeleteVersion { key, pick, condition }),
        3 => (key(), upload()).prop_map(|(key, upload)| Op::Create { key, upload }),
        6 => (key(), upload(), 1u16..5, shape())
            .prop_map(|(key, upload, number, shape)| Op::Part { key, upload, number, shape }),
        3 => (key(), upload(), btree_set(1u16..5, 0..3), condition()).prop_map(
            |(key, upload, numbers, condition)| Op::Complete { key, upload, numbers, condition }
        ),
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
                condition,
                held,
            } => {
                let (blob, conditions) = (self.blob(&shape), self.conditions(key, condition));
                let expected = self.model.put(key, blob.clone(), &conditions, held);
                let mut object = object(blob);
                object.attributes.lock.legal_hold = held;
                self.key(key, KeyOp::Put { object, conditions }, expected);
            }
            Op::Delete { key, condition } => {
                let conditions = self.conditions(key, condition);
                let expected = self.model.delete(key, &conditions);
                self.key(key, delete_if(None, conditions), expected);
            }
            Op::DeleteVersion {
                key,
                pick,
                condition,
            } => self.delete_version(key, pick, condition),
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
                condition,
            } => self.complete(key, upload, &numbers, condition),
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

    fn conditions(&self, key: &str, condition: Condition) -> Conditions {
        let current = self.model.current(key).map(|version| version.etag.clone());
        let same = ETags::These(vec!["x".to_owned(), current.unwrap_or_default()]);
        let other = ETags::These(vec!["other".to_owned()]);
        let (if_match, if_none_match) = match condition {
            Condition::None => (None, None),
            Condition::Absent => (None, Some(ETags::Any)),
            Condition::Present => (Some(ETags::Any), None),
            Condition::Same => (Some(same), None),
            Condition::Other => (Some(other), None),
            Condition::NotSame => (None, Some(same)),
        };
        Conditions {
            if_match,
            if_none_match,
        }
    }

    fn delete_version(&mut self, key: &str, pick: usize, condition: Condition) {
        let versions = self.model.keys.get(key).map_or(&[][..], Vec::as_slice);
        let picked = versions.get(pick % (versions.len() + 1));
        let stamp = picked.map_or(1_000_000, |version| version.stamp);
        let conditions = self.conditions(key, condition);
        let expected = self.model.delete_version(key, stamp, &conditions);
        self.key(key, delete_if(Some(stamp), conditions), expected);
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

    fn complete(&mut self, key: &str, upload: u128, numbers: &BTreeSet<u16>, condition: Condition) {
        let conditions = self.conditions(key, condition);
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
        let expected = self
            .model
            .complete(key, upload, &numbers, &whole, &conditions);
        let op = KeyOp::CompleteUpload {
            upload: UploadId::new(upload),
            parts: numbers.iter().map(chosen).collect(),
            etag: whole,
            checksum: None,
            modified_ms: 0,
            conditions,
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
        self.compare_versions();
        assert_eq!(
            read::usage(&self.machine.rows, GROUP, BUCKET).unwrap(),
            self.model.usage()
        );
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

    /// All versions in pages of three, and the `null` version by its name.
    fn compare_versions(&self) {
        let mut query = VersionsQuery {
            limit: 3,
            ..VersionsQuery::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = read::versions(&self.machine.rows, GROUP, BUCKET, &query).unwrap();
            assert!(page.versions.len() <= 3 && page.prefixes.is_empty());
            seen.extend(page.versions);
            if page.next.is_none() {
                break;
            }
            query.after = page.next;
        }
        let seen = seen.iter().map(|one| {
            let (key, stamp) = (one.object.key.as_str(), one.object.stamp.get());
            let marker = one.kind == VersionKind::DeleteMarker;
            (key, stamp, one.null_version, one.current, marker)
        });
        let told = |(key, versions): (_, &'_ Vec<super::model::Version>)| {
            let newest = versions.last().map(|version| version.stamp);
            let versions = versions.iter().rev().map(|version| {
                let current = Some(version.stamp) == newest;
                let marker = version.blobs.is_none();
                (key, version.stamp, version.null, current, marker)
            });
            versions.collect::<Vec<_>>()
        };
        let keys = self.model.keys.iter().map(|(key, v)| (key.as_str(), v));
        let expected: Vec<_> = keys.flat_map(told).collect();
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        for key in KEYS {
            let versions = self.model.keys.get(key).map_or(&[][..], Vec::as_slice);
            let null = versions.iter().find(|version| version.null);
            let found = read::object(&self.machine.rows, &at(key), Some(VersionId::Null));
            let found = found.unwrap().map(|found| found.record.stamp.get());
            assert_eq!(found, null.map(|version| version.stamp), "{key:?}");
        }
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
            let found = read::object(&self.machine.rows, &at(key), Some(stamp.into()))
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
