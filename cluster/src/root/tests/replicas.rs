//! Changes of the replicas of groups.

use std::collections::BTreeSet;

use enfilade_placement::{EnclosureId, IntentId, PartitionId};

use crate::api::moves::Subject;
use crate::api::root::{RootCommand, RootOutcome, RootRefusal, RootReply};

use super::harness::Root;

const FIRST: PartitionId = PartitionId::new(1);

fn ids(numbers: &[u32]) -> Vec<EnclosureId> {
    numbers.iter().copied().map(EnclosureId::new).collect()
}

fn begin(group: PartitionId, from: &[u32], to: &[u32], replaces: Option<u64>) -> RootCommand {
    RootCommand::BeginReplicas {
        group,
        from: ids(from),
        to: ids(to),
        replaces: replaces.map(IntentId::new),
    }
}

fn end(group: PartitionId, change: u64) -> RootCommand {
    let change = IntentId::new(change);
    RootCommand::EndReplicas { group, change }
}

fn is_unfit(outcome: &RootOutcome) -> bool {
    matches!(outcome, Err(RootRefusal::UnfitReplicas(_)))
}

#[test]
fn a_change_is_begun_by_compare_and_set_and_ended_once() {
    let mut root = Root::with_drives();
    for group in [PartitionId::ROOT, FIRST] {
        assert!(is_unfit(&root.idle(begin(group, &[2], &[1, 2, 3], None))));
        assert!(is_unfit(&root.idle(begin(group, &[1], &[1, 2], None))));
        assert!(is_unfit(&root.idle(begin(group, &[1], &[1, 2, 99], None))));
        assert!(is_unfit(&root.idle(begin(
            group,
            &[1],
            &[1, 2, 3],
            Some(7)
        ))));
        let begun = root.command(begin(group, &[1], &[3, 1, 2], None));
        assert_eq!(begun, Ok(RootReply::Done));
        let view = root.view();
        let id = view.replicas.changes[&group].id;
        assert_eq!(view.placed(group), (&ids(&[1, 2, 3])[..], id));
        assert_eq!(view.replicas_of(group), ids(&[1]));
        assert!(is_unfit(&root.idle(begin(group, &[1], &[4], None))));
        assert!(root.command(end(group, id.get())).is_ok());
        assert_eq!(root.view().replicas_of(group), ids(&[1, 2, 3]));
        assert_eq!(
            root.idle(end(group, id.get())),
            Err(RootRefusal::IntentEnded(id))
        );
        assert_eq!(root.view().placed(group).1, id, "the last change is known");
    }
}

#[test]
fn nothing_comes_back_to_where_something_was_left_before_that_is_cleared() {
    let mut root = Root::with_drives();
    root.command(begin(FIRST, &[1], &[1, 2, 3], None)).unwrap();
    // Another change takes its place: what the first may have made is kept in mind.
    root.command(begin(FIRST, &[1], &[4], Some(1))).unwrap();
    assert!(root.idle(end(FIRST, 1)).is_err());
    root.command(end(FIRST, 2)).unwrap();
    let left = |root: &Root| -> BTreeSet<u32> {
        let leftovers = root.view().replicas.leftovers;
        leftovers.keys().map(|(_, id)| id.get()).collect()
    };
    assert_eq!(left(&root), BTreeSet::from([1, 2, 3]));
    assert!(is_unfit(&root.idle(begin(FIRST, &[4], &[2], None))));
    let enclosure = EnclosureId::new(2);
    let cleared = |change| RootCommand::ReplicaCleared {
        group: FIRST,
        enclosure,
        change: IntentId::new(change),
    };
    root.command(cleared(2)).unwrap();
    assert!(root.idle(cleared(2)).is_ok(), "told twice");
    root.command(begin(FIRST, &[4], &[2], None)).unwrap();
    assert_eq!(left(&root), BTreeSet::from([1, 3]));
    // It leaves again, by change 4: what was told of the first time says nothing.
    root.command(end(FIRST, 3)).unwrap();
    root.command(begin(FIRST, &[2], &[5], None)).unwrap();
    root.command(end(FIRST, 4)).unwrap();
    assert!(root.idle(cleared(2)).is_ok());
    assert!(left(&root).contains(&2));
    root.command(cleared(4)).unwrap();
    assert!(!left(&root).contains(&2));
}

#[test]
fn what_was_left_where_an_enclosure_was_removed_stays_known() {
    let mut root = Root::with_drives();
    root.command(begin(FIRST, &[1], &[1, 2, 3], None)).unwrap();
    root.command(end(FIRST, 1)).unwrap();
    root.command(begin(FIRST, &[1, 2, 3], &[1], None)).unwrap();
    root.command(end(FIRST, 2)).unwrap();
    let three = EnclosureId::new(3);
    let remove = RootCommand::Remove(Subject::Enclosure(three));
    root.command(remove).unwrap();
    let left = root.view().replicas.leftovers;
    assert_eq!(left.get(&(FIRST, three)), Some(&IntentId::new(2)));
    let cleared = RootCommand::ReplicaCleared {
        group: FIRST,
        enclosure: three,
        change: IntentId::new(2),
    };
    root.command(cleared).unwrap();
    assert_eq!(root.view().replicas.leftovers.len(), 1);
}
