//! `scripts/steady-times.sh`: the same content keeps its time in every clone, changed content does
//! not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// A clone with the script and one file of third_party, made just now.
fn clone_with(content: &str) -> TempDir {
    let clone = tempfile::tempdir().expect("a temporary folder");
    for folder in ["scripts", "third_party/x"] {
        fs::create_dir_all(clone.path().join(folder)).expect("a folder");
    }
    let script = "scripts/steady-times.sh";
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    fs::copy(ours, clone.path().join(script)).expect("the script");
    fs::write(file(&clone), content).expect("a file");
    clone
}

fn file(clone: &TempDir) -> PathBuf {
    clone.path().join("third_party/x/lib.rs")
}

/// Runs the script in the clone and returns the time of its file.
fn run(clone: &TempDir, target: &Path) -> SystemTime {
    let status = Command::new("bash")
        .arg(clone.path().join("scripts/steady-times.sh"))
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("bash runs");
    assert!(status.success());
    let metadata = fs::metadata(file(clone)).expect("the file");
    metadata.modified().expect("files have times")
}

/// Makes the stamp old, as if the first run had been long ago.
fn age(target: &Path) -> SystemTime {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let stamp = fs::File::open(target.join("third-party.stamp")).expect("the stamp");
    stamp.set_modified(old).expect("the time is ours to set");
    old
}

#[test]
fn a_new_clone_of_the_same_content_gets_the_time_of_the_first() {
    let target = tempfile::tempdir().expect("a temporary folder");
    run(&clone_with("a"), target.path());
    let old = age(target.path());
    assert_eq!(run(&clone_with("a"), target.path()), old);
}

#[test]
fn changed_content_is_new_also_when_it_was_there_before() {
    let target = tempfile::tempdir().expect("a temporary folder");
    run(&clone_with("a"), target.path());
    for content in ["b", "a"] {
        let old = age(target.path());
        assert!(run(&clone_with(content), target.path()) > old, "{content}");
    }
}

#[test]
fn a_build_folder_that_does_not_exist_yet_is_made() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let target = parent.path().join("cache/target");
    run(&clone_with("a"), &target);
    assert!(target.join("third-party.stamp").exists());
}
