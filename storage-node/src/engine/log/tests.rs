//! Heads of logs, and the search for records.

use enfilade_placement::VolumeId;

use super::*;
use crate::drive::memory::MemoryDrive;
use crate::drive::{Drive, Open};

const DRIVE: DriveId = DriveId::new(1);

fn key() -> ShardKey {
    ShardKey {
        volume: VolumeId::new(2),
        member: 3,
    }
}

#[test]
fn the_head_is_the_one_on_the_drives() {
    let head = encode_head(0x0102_0304_0506_0708, DRIVE, key());
    let golden = "454e464c4f470100080706050403020100000000000000000000000000000001\
                  020000000000000003";
    assert_eq!(head.len(), 4096);
    assert_eq!(hex::encode(&head[..41]), golden);
    assert_eq!(head[..45], head[2048..2093]);
}

#[test]
fn the_head_of_another_shard_or_drive_is_not_taken() {
    let drive = MemoryDrive::default();
    let file = drive.open("x", Open::New).unwrap();
    write_record(file.as_ref(), 0, &encode_head(9, DRIVE, key()), &[]).unwrap();
    let found = find_head(file.as_ref(), DRIVE, key()).unwrap();
    assert_eq!(
        found,
        Some(Head {
            incarnation: 9,
            whole: true,
            named: true,
        })
    );
    assert_eq!(find_head(file.as_ref(), DriveId::new(2), key()), Ok(None));
    let other = ShardKey { member: 4, ..key() };
    assert_eq!(find_head(file.as_ref(), DRIVE, other), Ok(None));
}

#[test]
fn a_record_is_found_behind_megabytes_of_damage() {
    let drive = MemoryDrive::default();
    let file = drive.open("x", Open::New).unwrap();
    let place = HEAD_LEN + 3 * SEARCH_BYTES as u64 + 40;
    let record = Record {
        sequence: 1,
        synced: 0,
        volume: key().volume,
        member: key().member,
        epoch: Epoch::FIRST,
        padding: 0,
        body: Body::Fence,
    };
    write_record(file.as_ref(), place, &record.encode(5, place), &[]).unwrap();
    // Another one, out of place.
    write_record(file.as_ref(), HEAD_LEN, &record.encode(5, place), &[]).unwrap();
    let len = file.size().unwrap();
    let scan = Scan {
        file: file.as_ref(),
        len,
        key: key(),
        incarnation: Some(5),
    };
    let first = scan.next(HEAD_LEN).unwrap();
    let Some(Stretch::Damage { from, to }) = first else {
        panic!("{first:?}")
    };
    assert_eq!((from, to), (HEAD_LEN, place));
    let Some(Stretch::Record(found)) = scan.next(to).unwrap() else {
        panic!("no record")
    };
    assert_eq!((found.record, found.offset), (record, place));
    assert!(scan.next(len).unwrap().is_none());
    let head = find_head(file.as_ref(), DRIVE, key()).unwrap();
    assert_eq!(
        head,
        Some(Head {
            incarnation: 5,
            whole: false,
            named: false,
        })
    );
}
