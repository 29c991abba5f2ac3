//! Superblocks survive the loss of one copy, and are never guessed.

use super::*;
use crate::drive::memory::{Action, MemoryDrive};

fn block(revision: u64) -> Superblock {
    Superblock {
        revision,
        cluster: ClusterId::new(1),
        incarnation: Incarnation::new(2),
        drive: DriveId::new(3),
        file_system: 4,
        generation: Generation::new(5),
        pending: Some(RequestId::new(6)),
    }
}

#[test]
fn the_format_is_the_one_on_the_drives() {
    let golden = "454e4653555045520100000036000000010700000000000000000000000000000001\
                  0200000000000000000000000000000003040501000000000000000000000000\
                  0000000643ad68f5";
    assert_eq!(hex::encode(encode(&block(7))), golden);
}

#[test]
fn one_rotten_or_lost_copy_is_restored_from_the_other() {
    for name in NAMES {
        let drive = MemoryDrive::default();
        store(&drive, &block(7)).unwrap();
        assert!(drive.rot(name, 20));
        assert_eq!(load(&drive), Ok(block(7)));
        drive.remove(name).unwrap();
        assert_eq!(load(&drive), Ok(block(7)));
        assert_eq!(drive.content(NAMES[0]), drive.content(NAMES[1]));
    }
}

#[test]
fn two_rotten_copies_are_refused_and_kept() {
    let drive = MemoryDrive::default();
    store(&drive, &block(7)).unwrap();
    assert!(drive.rot(NAMES[0], 20) && drive.rot(NAMES[1], 30));
    let before = drive.content(NAMES[0]);
    let error = load(&drive).unwrap_err();
    assert!(matches!(error, SuperblockError::Corrupt(_)), "{error}");
    assert_eq!(drive.content(NAMES[0]), before);
    assert_eq!(load(&MemoryDrive::default()), Err(SuperblockError::Missing));
}

#[test]
fn a_newer_format_is_refused_though_an_older_copy_is_there() {
    let drive = MemoryDrive::default();
    store(&drive, &block(7)).unwrap();
    let mut newer = encode(&block(8));
    newer[8] = 2;
    let end = newer.len() - 4;
    let sum = crc(&newer[..end]).to_le_bytes();
    newer[end..].copy_from_slice(&sum);
    replace(&drive, NAMES[0], &newer).unwrap();
    assert_eq!(load(&drive), Err(SuperblockError::Version(2)));
}

#[test]
fn a_crash_at_any_step_of_a_store_leaves_the_old_or_the_new() {
    for seed in 0..200 {
        let drive = MemoryDrive::default();
        store(&drive, &block(7)).unwrap();
        let actions = [
            Action::Write,
            Action::Sync,
            Action::SyncFolder,
            Action::Open,
        ];
        let action = actions[seed as usize % actions.len()];
        drive.fail(
            action,
            (seed / 7) as u32 % 3,
            9,
            DriveError::Io("cut".to_owned()),
        );
        let stored = store(&drive, &block(8));
        drive.crash(seed);
        let found = load(&drive.replug()).unwrap();
        match stored {
            Ok(()) => assert_eq!(found, block(8)),
            Err(_) => assert!([7, 8].contains(&found.revision), "{found:?}"),
        }
    }
}
