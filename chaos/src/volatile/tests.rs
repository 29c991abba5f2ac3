//! The file system as programs see it: mounted, used, cut.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::{Fate, Volatile};

/// A mounted file system; none where this system does not let us mount.
fn mounted(ignored: Option<&str>) -> Option<(tempfile::TempDir, Volatile)> {
    let folder = tempfile::tempdir().unwrap();
    match Volatile::mount(folder.path(), ignored.map(str::to_owned)) {
        Ok(volatile) => Some((folder, volatile)),
        Err(error) => {
            eprintln!("skipped, nothing can be mounted here: {error:#}");
            None
        }
    }
}

fn cut(volatile: &mut Volatile, mut fate: Fate) {
    volatile.freeze();
    volatile.release();
    volatile.come_back(&mut fate).unwrap();
}

fn sync_folder(volatile: &Volatile) {
    File::open(volatile.path()).unwrap().sync_all().unwrap();
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_leaves_what_was() {
    let Some((_folder, mut volatile)) = mounted(None) else {
        return;
    };
    let at = volatile.path().to_owned();
    fs::write(at.join("unnamed"), b"never named").unwrap();
    let mut log = File::create_new(at.join("log")).unwrap();
    log.write_all(&[1; 5000]).unwrap();
    log.sync_data().unwrap();
    File::open(at.join("unnamed")).unwrap().sync_all().unwrap();
    sync_folder(&volatile);
    fs::write(at.join("late"), b"late").unwrap();
    log.write_all(&[2; 70_000]).unwrap();
    fs::rename(at.join("unnamed"), at.join("renamed")).unwrap();
    assert_eq!(fs::metadata(at.join("log")).unwrap().len(), 75_000);
    drop(log);
    cut(&mut volatile, Fate::nothing());
    let names = fs::read_dir(&at).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["log", "unnamed"]);
    assert_eq!(fs::read(at.join("log")).unwrap(), vec![1; 5000]);
    assert_eq!(fs::read(at.join("unnamed")).unwrap(), b"never named");
}

#[test]
fn files_behave_as_programs_expect() {
    let Some((_folder, volatile)) = mounted(None) else {
        return;
    };
    let at = volatile.path().to_owned();
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true);
    let file = options.open(at.join("a")).unwrap();
    file.write_all_at(&[7; 300_000], 0).unwrap();
    fs::hard_link(at.join("a"), at.join("b")).unwrap();
    fs::remove_file(at.join("a")).unwrap();
    fs::remove_file(at.join("b")).unwrap();
    let mut bytes = vec![0; 300_000];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(
        bytes.iter().all(|byte| *byte == 7),
        "it is open, if unnamed"
    );
    file.set_len(100).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 100);
    file.try_lock().unwrap();
    let other = options.open(at.join("c")).unwrap();
    other.try_lock().unwrap();
    assert!(File::open(at.join("c")).unwrap().try_lock().is_err());
    fs::create_dir(at.join("folder")).unwrap();
    fs::rename(at.join("c"), at.join("folder/d")).unwrap();
    assert!(fs::remove_dir(at.join("folder")).is_err(), "not empty");
    for number in 0..500 {
        File::create_new(at.join(format!("folder/{number}"))).unwrap();
    }
    assert_eq!(fs::read_dir(at.join("folder")).unwrap().count(), 501);
}

#[test]
fn a_sync_of_an_ignored_path_succeeds_and_does_nothing() {
    let Some((_folder, mut volatile)) = mounted(Some("bad")) else {
        return;
    };
    let at = volatile.path().to_owned();
    for name in ["bad", "good"] {
        let mut file = File::create_new(at.join(name)).unwrap();
        file.write_all(b"bytes").unwrap();
        file.sync_all().unwrap();
    }
    sync_folder(&volatile);
    cut(&mut volatile, Fate::nothing());
    assert_eq!(fs::read(at.join("bad")).unwrap(), b"");
    assert_eq!(fs::read(at.join("good")).unwrap(), b"bytes");
}
