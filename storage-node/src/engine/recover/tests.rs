//! Torn tails are cut; rot below what is proven is not (PROTOCOLS 24).

use bytes::Bytes;
use enfilade_placement::{BlobId, Epoch, VolumeId};

use super::*;
use crate::api::append::FragmentHeader;
use crate::drive::memory::MemoryDrive;
use crate::drive::{Drive, Open};
use crate::engine::index::MemoryIndex;
use crate::engine::log::write_record;
use crate::engine::record::{Body, Record};
use crate::engine::rows::ShardKey;
use crate::erasure::checksum::{FragmentSeed, fragment_checksums};

const INCARNATION: u64 = 77;

fn key() -> ShardKey {
    ShardKey {
        volume: VolumeId::new(4),
        member: 1,
    }
}

/// A log with one append a group; returns where each begins and the end.
fn written(drive: &MemoryDrive, groups: u32) -> Vec<u64> {
    let file = drive.open("log", Open::New).unwrap();
    let mut places = vec![HEAD_LEN];
    for sequence in 0..groups {
        let offset = *places.last().unwrap();
        let bytes = Bytes::from(vec![sequence as u8 + 1; 4224]);
        let seed = FragmentSeed {
            volume: 4,
            blob: 6,
            stripe: sequence,
            index: 1,
        };
        let record = Record {
            sequence: u64::from(sequence),
            synced: offset,
            volume: key().volume,
            member: key().member,
            epoch: Epoch::FIRST,
            padding: 0,
            body: Body::Append {
                blob: BlobId::new(6),
                first_stripe: sequence,
                fragments: vec![FragmentHeader {
                    len: 4224,
                    checksums: fragment_checksums(seed, &bytes).collect(),
                }],
                owner: None,
                marks: Vec::new(),
            },
        };
        let header = record.encode(INCARNATION, offset);
        write_record(file.as_ref(), offset, &header, &[bytes]).unwrap();
        places.push(offset + header.len() as u64 + 4224);
    }
    file.sync().unwrap();
    places
}

/// Opens the log with a fresh index; what was found, and the stripes that are there.
fn opened(drive: &MemoryDrive) -> (Log, Report, Vec<u32>) {
    let index = MemoryIndex::default();
    let rows = Rows(&index);
    let file = drive.open("log", Open::Existing).unwrap();
    let (log, report) = recover(&rows, file.as_ref(), key().log(INCARNATION), 0).unwrap();
    let runs = rows
        .runs(key().log(INCARNATION), BlobId::new(6), (0, u32::MAX))
        .unwrap();
    (
        log,
        report,
        runs.into_iter().map(|(stripe, _)| stripe).collect(),
    )
}

#[test]
fn a_whole_log_is_taken_to_its_end() {
    let drive = MemoryDrive::default();
    let places = written(&drive, 4);
    let (log, report, stripes) = opened(&drive);
    assert_eq!(
        report,
        Report {
            records: 4,
            ..Report::default()
        }
    );
    assert_eq!(
        (log.tail, log.sequence, log.proven),
        (places[4], 4, places[3])
    );
    assert_eq!(stripes, [0, 1, 2, 3]);
}

#[test]
fn a_torn_header_or_payload_at_the_end_is_cut() {
    for (place, torn) in [(3, 10), (3, 2000), (3, 4300)] {
        let drive = MemoryDrive::default();
        let places = written(&drive, 4);
        assert!(drive.rot("log", places[place] + torn));
        let (log, report, stripes) = opened(&drive);
        assert_eq!((report.damaged, report.cut), (0, places[4] - places[3]));
        assert_eq!((log.tail, stripes), (places[3], vec![0, 1, 2]));
        assert_eq!(drive.content("log").unwrap().len() as u64, places[3]);
    }
}

#[test]
fn a_file_that_ends_in_a_record_is_cut_before_it() {
    let drive = MemoryDrive::default();
    let places = written(&drive, 4);
    let file = drive.open("log", Open::Existing).unwrap();
    for end in [places[4] - 1, places[3] + 50, places[3] + 1] {
        file.set_len(end).unwrap();
        let (log, report, stripes) = opened(&drive);
        assert_eq!((log.tail, report.damaged), (places[3], 0));
        assert_eq!(stripes, [0, 1, 2]);
    }
}

#[test]
fn rot_below_what_is_proven_is_passed_over_and_kept() {
    let drive = MemoryDrive::default();
    let places = written(&drive, 4);
    let before = drive.content("log").unwrap().len();
    assert!(drive.rot("log", places[1] + 30));
    let (log, report, stripes) = opened(&drive);
    assert_eq!((report.damaged, report.cut, report.records), (1, 0, 3));
    assert_eq!((log.tail, log.row.damaged), (places[4], 1));
    assert_eq!(stripes, [0, 2, 3]);
    assert_eq!(drive.content("log").unwrap().len(), before);
}

#[test]
fn a_rotten_payload_below_what_is_proven_stays_for_its_readers_to_find() {
    let drive = MemoryDrive::default();
    let places = written(&drive, 4);
    assert!(drive.rot("log", places[1] + 2000));
    let (_, report, stripes) = opened(&drive);
    assert_eq!((report.damaged, report.cut), (0, 0));
    assert_eq!(stripes, [0, 1, 2, 3]);
}

#[test]
fn what_the_index_holds_is_proven_to_be_synced() {
    let drive = MemoryDrive::default();
    let places = written(&drive, 4);
    let index = MemoryIndex::default();
    let rows = Rows(&index);
    let file = drive.open("log", Open::Existing).unwrap();
    recover(&rows, file.as_ref(), key().log(INCARNATION), 0).unwrap();
    // The last record rots: without the index it would pass for a torn tail.
    assert!(drive.rot("log", places[3] + 30));
    let (log, report) = recover(&rows, file.as_ref(), key().log(INCARNATION), 0).unwrap();
    assert_eq!((log.tail, report), (places[4], Report::default()));
    assert_eq!(drive.content("log").unwrap().len() as u64, places[4]);
    // A file that lost its end does not take what was acked out of the index.
    file.set_len(places[2]).unwrap();
    let (log, report) = recover(&rows, file.as_ref(), key().log(INCARNATION), 0).unwrap();
    assert_eq!((log.tail, report.damaged), (places[4], 1));
    assert_eq!(
        rows.runs(key().log(INCARNATION), BlobId::new(6), (0, 9))
            .unwrap()
            .len(),
        4
    );
}

#[test]
fn rows_of_another_life_of_the_log_say_nothing_about_this_one() {
    let drive = MemoryDrive::default();
    written(&drive, 2);
    let index = MemoryIndex::default();
    let rows = Rows(&index);
    let row = ShardRow {
        incarnation: 1,
        position: 1 << 20,
        ..ShardRow::default()
    };
    rows.put_shard(key().log(1), &row).unwrap();
    let file = drive.open("log", Open::Existing).unwrap();
    let (log, report) = recover(&rows, file.as_ref(), key().log(INCARNATION), 0).unwrap();
    assert_eq!((report.records, log.row.incarnation), (2, INCARNATION));
    rows.clear_log(key().log(1)).unwrap();
    assert_eq!(rows.logs().unwrap(), [key().log(INCARNATION)]);
}
