//! What a power cut keeps of a drive in memory, and what a volatile one keeps of a process.

use super::*;

fn write(drive: &MemoryDrive, name: &str, how: Open, offset: u64, bytes: &[u8]) {
    let file = drive.open(name, how).unwrap();
    file.write_at(offset, &[IoSlice::new(bytes)]).unwrap();
}

/// What a file holds after a power cut.
fn after(seed: u64, act: impl Fn(&MemoryDrive)) -> Option<Vec<u8>> {
    let drive = MemoryDrive::default();
    act(&drive);
    drive.crash(seed);
    drive.replug().content("a")
}

#[test]
fn a_power_cut_keeps_any_sectors_of_what_was_not_synced() {
    let outcomes = |act: &dyn Fn(&MemoryDrive)| -> std::collections::BTreeSet<_> {
        (0..200).map(|seed| after(seed, act)).collect()
    };
    let synced = outcomes(&|drive| {
        write(drive, "a", Open::New, 0, &[1; 1024]);
        drive.open("a", Open::Existing).unwrap().sync().unwrap();
        drive.sync_folder("").unwrap();
    });
    assert_eq!(
        synced.into_iter().collect::<Vec<_>>(),
        [Some(vec![1; 1024])]
    );
    let unsynced = outcomes(&|drive| {
        write(drive, "a", Open::New, 0, &[1; 1024]);
    });
    let second = [vec![0; 512], vec![1; 512]].concat();
    for outcome in [
        None,
        Some(Vec::new()),
        Some(vec![1; 512]),
        Some(second),
        Some(vec![1; 1024]),
    ] {
        assert!(unsynced.contains(&outcome), "{outcome:?}");
    }
}

#[test]
fn space_that_was_not_written_may_hold_what_a_removed_file_left() {
    let recycled = (0..200).any(|seed| {
        let left = after(seed, |drive| {
            write(drive, "old", Open::New, 0, &[7; 8192]);
            drive.remove("old").unwrap();
            write(drive, "a", Open::New, 0, &[1; 8192]);
            drive.sync_folder("").unwrap();
        });
        left.is_some_and(|bytes| bytes.contains(&7) && bytes.contains(&1))
    });
    assert!(recycled);
}

#[test]
fn a_sync_that_failed_once_loses_what_the_next_one_does_not_bring_back() {
    let lost = (0..50).any(|seed| {
        let kept = after(seed, |drive| {
            write(drive, "a", Open::New, 0, &[1; 4096]);
            drive.sync_folder("").unwrap();
            let file = drive.open("a", Open::Existing).unwrap();
            drive.fail(Action::Sync, 0, 1, DriveError::Io("bad".to_owned()));
            assert!(file.sync().is_err());
            assert_eq!(drive.content("a").unwrap(), [1; 4096]);
            assert_eq!(file.sync(), Ok(()));
        });
        kept.is_none_or(|bytes| bytes != [1; 4096])
    });
    assert!(lost);
}

#[test]
fn the_power_goes_amid_a_change() {
    for seed in 0..20 {
        let drive = MemoryDrive::default();
        drive.crash_after(1, seed);
        let file = drive.open("a", Open::New).unwrap();
        let written = file.write_at(0, &[IoSlice::new(&[1; 600])]);
        assert_eq!(written, Err(dead()));
        assert!(drive.list("").is_err());
        assert!(drive.replug().list("").is_ok());
    }
}

#[test]
fn a_volatile_drive_keeps_what_was_synced_over_its_process() {
    for lies in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let drive = MemoryDrive::over(folder.path(), false).unwrap();
        drive.set_lying(lies);
        write(&drive, "a", Open::New, 0, &[1; 100]);
        write(&drive, "b", Open::New, 0, &[2; 100]);
        let file = drive.open("a", Open::Existing).unwrap();
        file.sync().unwrap();
        drive.sync_folder("").unwrap();
        file.write_at(50, &[IoSlice::new(&[3; 100])]).unwrap();
        drive.rename("a", "c").unwrap();
        drop(drive);
        let drive = MemoryDrive::over(folder.path(), false).unwrap();
        let kept = (drive.content("a"), drive.content("b"));
        match lies {
            false => assert_eq!(kept, (Some(vec![1; 100]), Some(Vec::new()))),
            true => assert_eq!(kept, (None, None)),
        }
        let _ = drive.open("d", Open::New).unwrap();
        assert_eq!(drive.content("d").unwrap(), Vec::<u8>::new());
    }
}
