//! The ledger: what it says is what was reported and not closed (PROTOCOLS 22).

use std::collections::BTreeSet;

use enfilade_placement::{BlobId, DriveId, Volume, VolumeId};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

use crate::api::root::{LedgerRange, LedgerRow, RootCommand};
use crate::root::read;

use super::harness::Root;

fn row(volume: VolumeId, member: u8, blob: u128, first: u32, last: u32) -> LedgerRow {
    let what = LedgerRange::Stripes {
        blob: BlobId::new(blob),
        first,
        last,
    };
    LedgerRow {
        volume,
        member,
        what,
    }
}

fn whole(volume: VolumeId, member: u8) -> LedgerRow {
    let what = LedgerRange::Whole;
    LedgerRow {
        volume,
        member,
        what,
    }
}

fn report(root: &mut Root, rows: &[LedgerRow]) {
    root.command(RootCommand::ReportFaults(rows.to_vec()))
        .unwrap();
}

/// By a node that has all drives.
fn closing(rows: Vec<LedgerRow>) -> RootCommand {
    let drives = (1..=12).map(DriveId::new).collect();
    RootCommand::CloseFaults { rows, drives }
}

fn close(root: &mut Root, rows: &[LedgerRow]) {
    root.command(closing(rows.to_vec())).unwrap();
}

fn ledger(root: &Root) -> Vec<LedgerRow> {
    read::ledger(&root.rows, usize::MAX).unwrap()
}

#[test]
fn ranges_that_touch_become_one_and_closing_splits_them() {
    let mut root = Root::with_drives();
    let id = root.volume().id;
    report(
        &mut root,
        &[
            row(id, 0, 1, 0, 3),
            row(id, 0, 1, 4, 6),
            row(id, 0, 2, 9, 9),
        ],
    );
    report(&mut root, &[row(id, 1, 1, 0, u32::MAX)]);
    assert_eq!(
        ledger(&root),
        [
            row(id, 0, 1, 0, 6),
            row(id, 0, 2, 9, 9),
            row(id, 1, 1, 0, u32::MAX)
        ]
    );
    root.idle(RootCommand::ReportFaults(vec![row(id, 0, 1, 2, 5)]))
        .unwrap();
    close(
        &mut root,
        &[row(id, 0, 1, 2, 2), row(id, 1, 1, 5, u32::MAX)],
    );
    assert_eq!(
        ledger(&root),
        [
            row(id, 0, 1, 0, 1),
            row(id, 0, 1, 3, 6),
            row(id, 0, 2, 9, 9),
            row(id, 1, 1, 0, 4)
        ]
    );
    assert_eq!(read::ledger(&root.rows, 2).unwrap().len(), 2);
    assert_eq!(root.view().ledger_rows, 4);
}

#[test]
fn a_shard_with_too_many_rows_counts_as_whole() {
    let mut root = Root::with_drives();
    let id = root.volume().id;
    let rows: Vec<LedgerRow> = (0..1000).map(|n| row(id, 2, 7, 2 * n, 2 * n)).collect();
    report(&mut root, &rows);
    assert_eq!(ledger(&root).len(), 1000);
    report(&mut root, &[row(id, 2, 8, 0, 0)]);
    assert_eq!(ledger(&root), [whole(id, 2)]);
    root.idle(RootCommand::ReportFaults(vec![row(id, 2, 9, 0, 0)]))
        .unwrap();
    root.idle(closing(vec![row(id, 2, 7, 0, 0)])).unwrap();
    close(&mut root, &[whole(id, 2)]);
    assert_eq!((ledger(&root), root.view().ledger_rows), (vec![], 0));
}

#[test]
fn a_shard_is_entered_by_what_it_lacks_once_that_is_known() {
    let mut root = Root::with_drives();
    let id = root.volume().id;
    report(&mut root, &[whole(id, 2), row(id, 3, 1, 0, 0)]);
    let by = |drive, ranges| RootCommand::RefineFaults {
        volume: id,
        member: 2,
        drive: DriveId::new(drive),
        ranges,
    };
    let refine = |ranges| by(5, ranges);
    let (one, other) = (row(id, 2, 7, 0, 4), row(id, 2, 9, 1, 1));
    let ranges = vec![one.what.clone(), other.what.clone()];
    root.command(refine(ranges.clone())).unwrap();
    assert_eq!(ledger(&root), [one, other, row(id, 3, 1, 0, 0)]);
    root.idle(refine(ranges)).unwrap();
    // By one that has the shard no more, nothing.
    root.idle(by(6, Vec::new())).unwrap();
    let (rows, drives) = (vec![row(id, 2, 7, 0, 4)], vec![DriveId::new(6)]);
    root.idle(RootCommand::CloseFaults { rows, drives })
        .unwrap();
    root.command(refine(Vec::new())).unwrap();
    assert_eq!(ledger(&root), [row(id, 3, 1, 0, 0)]);
}

#[test]
fn what_cannot_be_lost_is_not_entered_and_a_retired_volume_leaves_nothing() {
    let mut root = Root::with_drives();
    let Volume { id, epoch, .. } = root.sealed();
    let none = VolumeId::new(99);
    let rows = vec![
        row(none, 0, 1, 0, 0),
        row(id, 6, 1, 0, 0),
        row(id, 0, 1, 5, 4),
    ];
    root.idle(RootCommand::ReportFaults(rows)).unwrap();
    report(&mut root, &[whole(id, 0), row(id, 1, 1, 0, 0)]);
    assert_eq!(root.view().ledger_rows, 2);
    let volume = id;
    assert!(
        root.command(RootCommand::RetireVolume { volume, epoch })
            .is_ok()
    );
    assert_eq!(root.view().ledger_rows, 0);
    root.idle(RootCommand::ReportFaults(vec![whole(id, 0)]))
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_ledger_says_exactly_what_is_open(
        changes in vec((any::<bool>(), vec((0u128..2, 0u32..20, 0u32..4), 1..4)), 1..12)
    ) {
        let mut root = Root::with_drives();
        let id = root.volume().id;
        let mut open: BTreeSet<(u128, u32)> = BTreeSet::new();
        for (enters, ranges) in changes {
            let mut rows = Vec::new();
            for (blob, first, more) in ranges {
                rows.push(row(id, 0, blob, first, first + more));
                for stripe in first..=first + more {
                    if enters {
                        open.insert((blob, stripe));
                    } else {
                        open.remove(&(blob, stripe));
                    }
                }
            }
            let command = if enters {
                RootCommand::ReportFaults(rows)
            } else {
                closing(rows)
            };
            root.command(command).unwrap();
            let mut said = BTreeSet::new();
            for row in ledger(&root) {
                let LedgerRange::Stripes { blob, first, last } = row.what else { panic!("whole") };
                said.extend((first..=last).map(|stripe| (blob.get(), stripe)));
            }
            prop_assert_eq!(&said, &open);
        }
    }
}
