//! Power cuts under a whole cluster: a short run passes, and the same run fails when the syncs of
//! the metadata, or those of the drives, do nothing.
//!
//! `make soak` has the long run. Where nothing can be mounted (no `/dev/fuse`, no right to), these
//! tests say so and do nothing.

use std::process::Command;

/// Runs the scenario on a small cluster; what it printed, and whether it passed. `None` where
/// nothing can be mounted.
fn run(seed: &str, more: &[&str]) -> Option<(String, bool)> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .args(["run", "power-cut", "--cuts", "3", "--seed", seed])
        .args(["--drives", "1", "--writers", "4", "--keys", "12"])
        .args(["--largest", "1000000", "--patience", "20", "--folder"])
        .arg(folder.path())
        .args(more)
        .output()
        .unwrap();
    let (text, complaint) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    if complaint.contains("mounting at") {
        eprintln!("skipped, nothing can be mounted here: {complaint}");
        return None;
    }
    assert!(
        text.contains(" power-cut (seed"),
        "no verdict: {text}{complaint}"
    );
    Some((text, output.status.success()))
}

#[test]
fn what_was_acked_survives_power_cuts() {
    if let Some((text, passed)) = run("4", &[]) {
        assert!(passed, "{text}");
    }
}

#[test]
fn metadata_that_is_not_synced_is_found_to_be_lost() {
    if let Some((text, passed)) = run("4", &["--ignore-sync", "/meta/"]) {
        assert!(!passed, "{text}");
    }
}

#[test]
fn fragments_that_are_not_synced_are_found_to_be_lost() {
    if let Some((text, passed)) = run("4", &["--ignore-sync", "/drives/"]) {
        assert!(!passed, "{text}");
    }
}
