//! A drive is opened only where it is, and formatted only where nothing is (PROTOCOLS 26).

use std::io::IoSlice;

use enfilade_placement::{ClusterId, Generation, Incarnation};

use super::*;
use crate::drive::{Hold, Way};

fn block(drive: u128) -> Superblock {
    Superblock {
        revision: 1,
        cluster: ClusterId::new(1),
        incarnation: Incarnation::new(1),
        drive: DriveId::new(drive),
        file_system: 0,
        generation: Generation::new(0),
        pending: None,
    }
}

#[test]
fn an_empty_missing_or_other_folder_is_gone_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let id = DriveId::new(5);
    let gone = |path: &Path| matches!(FileDrive::open(path, id), Err(OpenError::Gone { .. }));
    let missing = folder.path().join("missing");
    assert!(gone(&missing));
    assert!(!missing.exists());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(gone(&empty));
    assert_eq!(
        fs::read_dir(&empty).unwrap().count(),
        0,
        "nothing is created"
    );
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter.txt"), "dear").unwrap();
    assert!(gone(&other));
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    let foreign = folder.path().join("foreign");
    drop(FileDrive::format(&foreign, &block(6)).unwrap());
    let opened = FileDrive::open(&foreign, id).unwrap_err();
    assert!(matches!(opened, OpenError::Other { found, .. } if found == DriveId::new(6)));
}

#[test]
fn only_an_empty_folder_is_formatted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    drop(FileDrive::format(&path, &block(5)).unwrap());
    let again = FileDrive::format(&path, &block(7));
    assert!(matches!(again, Err(OpenError::NotEmpty(_))), "{again:?}");
    let (_, found) = FileDrive::open(&path, DriveId::new(5)).unwrap();
    assert_eq!(found, block(5));
    let fresh = folder.path().join("fresh");
    fs::create_dir_all(fresh.join("lost+found")).unwrap();
    fs::write(fresh.join(LOCK), "").unwrap();
    FileDrive::format(&fresh, &block(8)).unwrap();
}

#[test]
fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let held = FileDrive::format(&path, &block(5)).unwrap();
    let second = FileDrive::open(&path, DriveId::new(5));
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
    drop(held);
    FileDrive::open(&path, DriveId::new(5)).unwrap();
}

#[test]
fn files_are_written_in_many_slices_punched_and_cut() {
    let folder = tempfile::tempdir().unwrap();
    let drive = FileDrive::format(&folder.path().join("drive"), &block(5)).unwrap();
    let file = drive.open("log", Open::New).unwrap();
    assert!(matches!(
        drive.open("log", Open::New),
        Err(crate::drive::DriveError::Exists(_))
    ));
    let bytes: Vec<u8> = (0..3000u32).flat_map(|i| [(i % 251) as u8; 7]).collect();
    let slices: Vec<IoSlice<'_>> = bytes.chunks(7).map(IoSlice::new).collect();
    assert!(slices.len() > 1024, "more than one call takes");
    file.write_at(5, &slices).unwrap();
    file.start_write_back(0, 100);
    file.sync().unwrap();
    // Whether it holds depends on the file system of this machine.
    assert!(drive.sync_file_system().is_ok());
    let mut read = vec![0; bytes.len() + 100];
    assert_eq!(file.read_at(5, &mut read), Ok(bytes.len()));
    assert_eq!(read[..bytes.len()], bytes);
    file.punch(4096, 4096).unwrap();
    assert_eq!(file.size(), Ok(5 + bytes.len() as u64));
    file.set_len(10).unwrap();
    assert_eq!(file.read_at(0, &mut read), Ok(10));
    drive.rename("log", "log2").unwrap();
    drive.sync_folder("").unwrap();
    assert!(drive.list("").unwrap().contains(&"log2".to_owned()));
    assert!(drive.space().unwrap().available > 0);
}

#[test]
fn large_writes_of_whole_blocks_go_past_the_page_cache_and_read_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let drive = FileDrive::format(&folder.path().join("drive"), &block(5)).unwrap();
    let file = drive.open("log", Open::New).unwrap();
    let bytes: Vec<u8> = (0..5_000_000u32)
        .map(|i| (i >> 7) as u8 ^ i as u8)
        .collect();
    let mut expected = Vec::new();
    // Past the cache, through it, past it beside what is dirty in it, unaligned, and past it again.
    for len in [
        2_097_152, 4096, 131_072, 1_310_720, 5000, 3192, 262_144, 1_048_576,
    ] {
        let at = expected.len();
        let part = &bytes[at % 1000..at % 1000 + len];
        let slices: Vec<IoSlice<'_>> = part.chunks(65_000).map(IoSlice::new).collect();
        file.write_at(at as u64, &slices).unwrap();
        expected.extend_from_slice(part);
        assert_eq!(file.read_vec(0, expected.len() + 9).unwrap(), expected);
        file.sync().unwrap();
    }
    drop(file);
    let file = drive.open("log", Open::Existing).unwrap();
    file.will_need(0, 4096);
    assert_eq!(
        file.read_vec(4000, 1_000_000).unwrap(),
        expected[4000..1_004_000]
    );
    assert!(file.read_vec(expected.len() as u64, 5).unwrap().is_empty());
}

#[test]
fn a_drive_that_is_moved_is_absent_and_still_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let drive = FileDrive::format(&old, &block(5)).unwrap();
    assert_eq!(drive.absence(), None);
    fs::rename(&old, &new).unwrap();
    assert!(drive.absence().unwrap().contains("old"));
    // Another one in its place is not written to.
    drop(FileDrive::format(&old, &block(6)).unwrap());
    assert!(drive.absence().unwrap().contains("not there any more"));
    drive.create_folder("shards").unwrap();
    drive.open("shards/1-0.log", Open::New).unwrap();
    assert!(new.join("shards/1-0.log").exists() && !old.join("shards").exists());
    assert_eq!(superblock::peek(&drive).unwrap(), block(5));
    // Nobody else opens it while it is held.
    let second = FileDrive::open(&new, DriveId::new(5));
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
    drop(drive);
    FileDrive::open(&new, DriveId::new(5)).unwrap();
}

#[test]
fn only_the_drive_that_is_named_is_wiped_and_only_what_is_of_a_drive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let drive = FileDrive::format(&path, &block(5)).unwrap();
    drive.create_folder("shards").unwrap();
    drive.open("shards/1-0.log", Open::New).unwrap();
    let held = FileDrive::wipe(&path, DriveId::new(5));
    assert!(matches!(held, Err(OpenError::Locked(_))), "{held:?}");
    drop(drive);
    let other = FileDrive::wipe(&path, DriveId::new(6));
    assert!(matches!(other, Err(OpenError::Other { .. })), "{other:?}");
    fs::write(path.join("photo"), "mine").unwrap();
    let mixed = FileDrive::wipe(&path, DriveId::new(5));
    assert!(matches!(mixed, Err(OpenError::NoDrive { .. })), "{mixed:?}");
    assert!(path.join("shards/1-0.log").exists());
    fs::remove_file(path.join("photo")).unwrap();
    FileDrive::wipe(&path, DriveId::new(5)).unwrap();
    assert!(FileDrive::look(&path).is_none() && !path.join("shards").exists());
    FileDrive::format(&path, &block(8)).unwrap();
    assert_eq!(FileDrive::look(&path).unwrap(), block(8));
}

#[test]
fn a_copy_on_another_file_system_is_told_from_the_drive() {
    let folder = tempfile::tempdir().unwrap();
    // A list as the system has it, with a device that every machine has.
    let null = Path::new("/dev/null");
    let device = fs::metadata(null).unwrap().rdev();
    let name = "0a0b0c0d-0102-0304-0506-0708090a0b0c";
    std::os::unix::fs::symlink(null, folder.path().join(name)).unwrap();
    let uuid = 0x0a0b_0c0d_0102_0304_0506_0708_090a_0b0c;
    assert_eq!(uuid_of_device(folder.path(), device), uuid);
    assert_eq!(uuid_of_device(folder.path(), device + 1), 0);
    assert_eq!(uuid_of_device(&folder.path().join("none"), device), 0);

    let path = folder.path().join("drive");
    let here = file_system_of(folder.path());
    let elsewhere = Superblock {
        file_system: here.wrapping_add(1).max(1),
        ..block(5)
    };
    drop(FileDrive::format(&path, &elsewhere).unwrap());
    let opened = FileDrive::open(&path, DriveId::new(5));
    // Where the system does not tell, nothing is compared.
    assert_eq!(opened.is_ok(), here == 0, "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_are_queued_give_what_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let drive = FileDrive::format(&folder.path().join("drive"), &block(5)).unwrap();
    let file = drive.open("x", Open::New).unwrap();
    let bytes: Vec<u8> = (0..301_000u32).map(|n| (n >> 7) as u8 ^ n as u8).collect();
    file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
    let hold: Hold = Arc::new(());
    for (offset, len) in [
        (0, 1),
        (4096, 4096),
        (5000, 4096),
        (1184, 65_536),
        (300_000, 1000),
    ] {
        for way in [Way::Past, Way::Kept] {
            let there = &bytes[offset..offset + len];
            assert_eq!(&file.read_bytes(offset as u64, len).unwrap()[..], there);
            // A file system that takes no direct reads says so once.
            for _ in 0..2 {
                let queued = file.read_queued(offset as u64, len, way, &hold);
                let Some(queued) = queued else { continue };
                if let Some(read) = queued.await {
                    assert_eq!(&read[..], there, "{offset} {len} {way:?}");
                }
            }
        }
    }
    assert_eq!(Arc::strong_count(&hold), 1);
    let beyond = file.read_queued(300_500, 1000, Way::Past, &hold);
    if let Some(beyond) = beyond {
        assert_eq!(beyond.await, None);
    }
}
