//! Snapshots: a position, and the group's rows streamed only when a replica needs them
//! (PROTOCOLS 7).
//!
//! A sender reads rows from one RocksDB snapshot, in a thread of its own, as fast as the receiver
//! takes them. A receiver stages them in a file; only when that is complete and synced, it is
//! renamed to what a restart finds and finishes. So a broken stream changes nothing, and a crash
//! while rows are replaced is repaired by replacing them again.
//!
//! A staged file is a series of frames: length (4 bytes, big endian), CRC-32C (4), an encoded
//! [`Part`].

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use enfilade_placement::PartitionId;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::store::{RowRange, StateStore};
use super::types::{Position, SnapshotMeta, Vote};
use crate::api::encoding::{decode, encode};
use crate::partition;
use crate::rows::{Row, RowWrite, Rows, Table};

/// Bytes of rows in one part, about.
const PART_BYTES: usize = 1 << 20;

/// The largest frame that is read: a part, and a row that made it overflow.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// A piece of a snapshot, on the wire and in a staged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// The first.
    Begin {
        /// The vote of the leader that sends it.
        vote: Vote,
        /// Where the rows are.
        position: Position,
        /// Which ranges the rows fill; whatever else is in them goes.
        ranges: Vec<RowRange>,
    },
    /// Rows of one range.
    Rows {
        /// Index of the range.
        range: u32,
        /// The rows.
        rows: Vec<Row>,
    },
    /// The last.
    End {
        /// How many parts there were in all, this one included.
        parts: u64,
    },
}

/// What openraft carries about as the data of a snapshot.
pub(crate) enum SnapshotData {
    /// Only a position is wanted.
    Position,
    /// To be sent.
    Export(Export),
    /// Received.
    Staged(Staged),
}

/// Rows and the index of their range; `None` when all have come.
pub(crate) type Exported = Option<(u32, Vec<Row>)>;

/// Rows on their way to another replica.
pub(crate) struct Export {
    /// The ranges that they are of.
    pub ranges: Vec<RowRange>,
    /// The rows, by index of their range; `None` when all have come.
    pub rows: mpsc::Receiver<io::Result<Exported>>,
}

/// A complete, synced file of a snapshot.
pub(crate) struct Staged(PathBuf);

impl Staged {
    /// Gives the file the name that a restart looks for: from now on it will be installed.
    pub(super) fn persist(&self, dir: &Path, group: PartitionId) -> io::Result<()> {
        fs::rename(&self.0, import_path(dir, group))?;
        File::open(dir)?.sync_all()
    }
}

/// The ranges that a group's rows are in.
fn ranges_of(group: PartitionId, rows: &dyn Rows) -> io::Result<Vec<RowRange>> {
    if group == PartitionId::ROOT {
        return Ok(vec![RowRange::new(Table::Root, Vec::new(), None)]);
    }
    let info = partition::read::info(rows, group).map_err(io::Error::other)?;
    let info = info.ok_or_else(|| io::Error::other("the partition has no range"))?;
    let side = |group: PartitionId| {
        let next = group.get().checked_add(1);
        let end = next.map(|next| next.to_be_bytes().to_vec());
        RowRange::new(Table::Side, group.get().to_be_bytes().to_vec(), end)
    };
    let mut ranges = vec![side(group)];
    // What was copied for a child belongs to the parent until it is given away.
    let division = partition::read::division(rows, group).map_err(io::Error::other)?;
    ranges.extend(division.map(|(_, child, _)| side(child)));
    let end = info.end.map(|end| end.as_bytes().to_vec());
    for table in Table::KEYED {
        ranges.push(RowRange::new(
            table,
            info.start.as_bytes().to_vec(),
            end.clone(),
        ));
    }
    Ok(ranges)
}

/// Takes a snapshot of a group; none when it has applied nothing.
pub(super) async fn export(
    group: PartitionId,
    store: Arc<dyn StateStore>,
) -> io::Result<Option<(SnapshotMeta, Export)>> {
    let (began, begun) = oneshot::channel();
    let (sender, rows) = mpsc::channel(2);
    let run = move || {
        let mut began = Some(began);
        let exported = store.export(
            group,
            PART_BYTES,
            &mut |rows, position| {
                let position = position.map(|p| decode::<Position>(&p)).transpose();
                let position = position.map_err(io::Error::other)?.unwrap_or_default();
                let ranges = ranges_of(group, rows)?;
                if let Some(began) = began.take() {
                    let _ = began.send((position, ranges.clone()));
                }
                Ok(ranges)
            },
            &mut |range, rows| {
                let range = u32::try_from(range).unwrap_or(u32::MAX);
                match sender.blocking_send(Ok(Some((range, rows)))) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            },
        );
        let _ = sender.blocking_send(exported.map(|()| None));
    };
    std::thread::Builder::new()
        .name("raft-snapshot".to_owned())
        .spawn(run)?;
    let Ok((position, ranges)) = begun.await else {
        return Err(io::Error::other("the rows of the group cannot be read"));
    };
    if position.applied.is_none() {
        return Ok(None);
    }
    let meta = SnapshotMeta {
        last_log_id: position.applied,
        last_membership: position.membership,
    };
    Ok(Some((meta, Export { ranges, rows })))
}

/// A snapshot that is being received.
pub(crate) struct Staging {
    path: PathBuf,
    file: BufWriter<File>,
    parts: u64,
}

impl Staging {
    /// Begins a file of its own.
    pub(crate) fn begin(dir: &Path, group: PartitionId, nonce: u64) -> io::Result<Self> {
        let path = dir.join(format!("stage-{group}-{nonce:016x}"));
        let file = BufWriter::new(File::create(&path)?);
        Ok(Self {
            path,
            file,
            parts: 0,
        })
    }

    /// Adds the encoded part that came next.
    pub(crate) fn add(&mut self, part: &Bytes) -> io::Result<()> {
        let len = u32::try_from(part.len()).map_err(io::Error::other)?;
        self.file.write_all(&len.to_be_bytes())?;
        self.file.write_all(&checksum(part).to_be_bytes())?;
        self.file.write_all(part)?;
        self.parts += 1;
        Ok(())
    }

    /// Ends the file, when all parts have come.
    pub(crate) fn end(mut self, parts: u64) -> io::Result<Staged> {
        if parts != self.parts {
            let came = self.parts;
            return Err(io::Error::other(format!(
                "{came} of {parts} parts of a snapshot came"
            )));
        }
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(Staged(std::mem::take(&mut self.path)))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Stages rows that were exported in this process.
pub(super) async fn stage(
    dir: &Path,
    group: PartitionId,
    meta: &SnapshotMeta,
    mut export: Export,
) -> io::Result<Staged> {
    let mut staging = Staging::begin(dir, group, 0)?;
    let mut add = |part: &Part| staging.add(&Bytes::from(encode(part)));
    let (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
    let (position, ranges) = (
        Position {
            applied,
            membership,
        },
        std::mem::take(&mut export.ranges),
    );
    add(&Part::Begin {
        vote: Vote::new(0, 0),
        position,
        ranges,
    })?;
    let mut parts = 2;
    loop {
        let rows = export.rows.recv().await;
        let rows = rows.ok_or_else(|| io::Error::other("the reader of a snapshot stopped"))??;
        let Some((range, rows)) = rows else { break };
        parts += 1;
        add(&Part::Rows { range, rows })?;
    }
    add(&Part::End { parts })?;
    staging.end(parts)
}

fn checksum(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc & u64::from(u32::MAX)).expect("masked")
}

fn import_path(dir: &Path, group: PartitionId) -> PathBuf {
    dir.join(format!("import-{group}"))
}

/// Removes what broken streams left.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("stage-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Replaces a group's rows by those of a staged file. Blocks.
pub(super) fn install(
    dir: &Path,
    group: PartitionId,
    store: &dyn StateStore,
    staged: &Staged,
) -> io::Result<Position> {
    staged.persist(dir, group)?;
    finish(dir, group, store)?.ok_or_else(|| io::Error::other("the file of a snapshot went away"))
}

/// Finishes what [`install`] began before a crash; none when there is nothing to finish. Blocks.
pub(super) fn finish(
    dir: &Path,
    group: PartitionId,
    store: &dyn StateStore,
) -> io::Result<Option<Position>> {
    let path = import_path(dir, group);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::new(file);
    let Part::Begin {
        position, ranges, ..
    } = next(&mut file)?
    else {
        return Err(io::Error::other(
            "a snapshot does not begin with its position",
        ));
    };
    let tables: Vec<Option<Table>> = ranges.iter().map(RowRange::table).collect();
    let table = |range: u32| usize::try_from(range).ok().and_then(|r| *tables.get(r)?);
    let mut source = || match next(&mut file)? {
        Part::Rows { range, rows } => {
            let table = table(range).ok_or_else(|| io::Error::other("rows of no known table"))?;
            let write = |(key, value)| RowWrite {
                table,
                key,
                value: Some(value),
            };
            Ok(Some(rows.into_iter().map(write).collect()))
        }
        Part::End { .. } => Ok(None),
        Part::Begin { .. } => Err(io::Error::other("a snapshot begins twice")),
    };
    store.import(group, &ranges, &mut source, &encode(&position))?;
    fs::remove_file(&path)?;
    Ok(Some(position))
}

/// Removes all that a replica holds but its vote (PROTOCOLS 5). Blocks.
pub(super) fn forget(dir: &Path, group: PartitionId, store: &dyn StateStore) -> io::Result<()> {
    match fs::remove_file(import_path(dir, group)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
        Ok(()) => File::open(dir)?.sync_all()?,
    }
    let mut ranges = Vec::new();
    store.read(&mut |rows| {
        let held = group == PartitionId::ROOT
            || partition::read::info(rows, group)
                .map_err(io::Error::other)?
                .is_some();
        if held {
            ranges = ranges_of(group, rows)?;
        }
        Ok(())
    })?;
    store.forget(group, &ranges)
}

/// Reads the next frame.
fn next(file: &mut impl Read) -> io::Result<Part> {
    let mut word = [0; 4];
    file.read_exact(&mut word)?;
    let len = usize::try_from(u32::from_be_bytes(word)).map_err(io::Error::other)?;
    file.read_exact(&mut word)?;
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::other("a frame of a snapshot is too long"));
    }
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes)?;
    if checksum(&bytes) != u32::from_be_bytes(word) {
        return Err(io::Error::other("a frame of a snapshot is corrupt"));
    }
    decode(&bytes).map_err(io::Error::other)
}
