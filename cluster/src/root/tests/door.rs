//! Birth, repeats, deadlines.

use enfilade_placement::{ClusterId, Epoch, PartitionId};

use crate::api::root::{Birth, RootCommand, RootRefusal, RootReply};
use crate::root::DEADLINE_MS;
use crate::root::read;

use super::harness::{Root, birth};

fn bucket(name: &str) -> RootCommand {
    RootCommand::CreateBucket {
        name: name.to_owned(),
        owner: "me".to_owned(),
        created_ms: 1,
    }
}

#[test]
fn nothing_happens_before_the_birth_which_happens_once() {
    let mut root = Root::unborn();
    assert_eq!(root.command(bucket("a")), Err(RootRefusal::NotBorn));
    let tick = RootCommand::Tick { elapsed_ms: 5 };
    assert_eq!(root.command(tick), Err(RootRefusal::NotBorn));
    assert_eq!(root.view().revision, 0);
    let envelope = root.envelope(RootCommand::Init(birth()));
    assert_eq!(root.apply(&envelope), Ok(RootReply::Done));
    assert_eq!(root.apply(&envelope), Ok(RootReply::Done));
    let other = Birth {
        cluster: ClusterId::new(6),
        ..birth()
    };
    let born = RootRefusal::Born(ClusterId::new(5));
    assert_eq!(root.command(RootCommand::Init(other)), Err(born));
    let view = root.view();
    assert_eq!(
        (view.revision, view.cluster, view.level),
        (1, ClusterId::new(5), 1)
    );
    let partition = &view.partitions[&PartitionId::new(1)];
    assert_eq!(
        (partition.epoch, partition.end.as_ref()),
        (Epoch::FIRST, None)
    );
    assert_eq!(view.partition_of(&[0xff; 9]), Some(partition));
    assert_eq!(view.partition_of(&[]), Some(partition));
}

#[test]
fn a_request_before_the_birth_may_come_again_after_it() {
    let mut root = Root::unborn();
    let envelope = root.envelope(bucket("a"));
    assert_eq!(root.apply(&envelope), Err(RootRefusal::NotBorn));
    assert!(root.command(RootCommand::Init(birth())).is_ok());
    assert!(root.apply(&envelope).is_ok());
}

#[test]
fn a_repeat_is_answered_with_the_first_result_for_an_hour() {
    let mut root = Root::new();
    let create = root.envelope(bucket("a"));
    let refused = root.envelope(bucket("a"));
    let first = root.apply(&create);
    let refusal = root.apply(&refused);
    assert!(first.is_ok() && refusal.is_err());
    root.command(RootCommand::Tick {
        elapsed_ms: DEADLINE_MS + 1,
    })
    .unwrap();
    assert_eq!(root.apply(&create), first);
    assert_eq!(root.apply(&refused), refusal);
    assert_eq!(root.view().buckets.len(), 1);
    root.command(RootCommand::Tick {
        elapsed_ms: 60 * 60 * 1000,
    })
    .unwrap();
    assert_eq!(root.apply(&create), Err(RootRefusal::Expired));
}

#[test]
fn time_passes_without_a_revision() {
    let mut root = Root::new();
    root.idle(RootCommand::Tick { elapsed_ms: 7 }).unwrap();
    root.idle(RootCommand::Tick {
        elapsed_ms: u64::MAX,
    })
    .unwrap();
    assert_eq!(read::time(&root.rows).unwrap().0, u64::MAX);
    assert_eq!(root.view().time.0, u64::MAX);
}

#[test]
fn old_results_go_a_bounded_number_at_a_time() {
    let mut root = Root::new();
    let most = crate::root::apply::tick::EXPIRED_MAX;
    for _ in 0..most + 5 {
        let name = "none".to_owned();
        let _ = root.command(RootCommand::BeginDeleteBucket { name });
    }
    let full = root.rows.len(crate::rows::Table::Root);
    for left in [6, 0] {
        root.command(RootCommand::Tick {
            elapsed_ms: 60 * 60 * 1000 + 1,
        })
        .unwrap();
        let gone = full - root.rows.len(crate::rows::Table::Root);
        // One more result is that of the birth; the clock's row is new.
        assert_eq!(gone, 2 * (most + 6 - left) - 1);
    }
}
