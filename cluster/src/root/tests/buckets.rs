//! Buckets.

use enfilade_placement::BucketId;

use crate::api::command::Versioning;
use crate::api::root::{Bucket, EtagKind, RootCommand, RootOutcome, RootRefusal, RootReply};

use super::harness::Root;

fn create(root: &mut Root, name: &str) -> RootOutcome {
    root.command(RootCommand::CreateBucket {
        name: name.to_owned(),
        owner: "me".to_owned(),
        created_ms: 1,
    })
}

fn begin(name: &str) -> RootCommand {
    let name = name.to_owned();
    RootCommand::BeginDeleteBucket { name }
}

const fn end(bucket: BucketId, revision: u64, empty: bool) -> RootCommand {
    RootCommand::EndDeleteBucket {
        bucket,
        revision,
        empty,
    }
}

fn bucket(outcome: RootOutcome) -> Bucket {
    match outcome {
        Ok(RootReply::Bucket(bucket)) => bucket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bucket_is_created_once_and_its_id_is_never_used_again() {
    let mut root = Root::new();
    let first = bucket(create(&mut root, "a"));
    assert_eq!((first.revision, first.deleting), (1, false));
    assert_eq!(
        create(&mut root, "a"),
        Err(RootRefusal::BucketExists(first.clone()))
    );
    assert!(bucket(create(&mut root, "ab")).id > first.id);
    let deleting = bucket(root.command(begin("a")));
    assert_eq!((deleting.revision, deleting.deleting), (2, true));
    assert_eq!(
        create(&mut root, "a"),
        Err(RootRefusal::BucketExists(deleting))
    );
    assert_eq!(root.command(end(first.id, 2, true)), Ok(RootReply::Done));
    assert!(!root.view().buckets.contains_key("a"));
    assert!(bucket(create(&mut root, "a")).id.get() > 2);
}

#[test]
fn a_deletion_ends_once_one_way_or_the_other() {
    let mut root = Root::new();
    let id = bucket(create(&mut root, "a")).id;
    assert!(matches!(
        root.idle(begin("b")),
        Err(RootRefusal::NotFound(_))
    ));
    assert_eq!(root.idle(end(id, 1, true)), Err(RootRefusal::BucketBusy));
    assert!(root.command(begin("a")).is_ok());
    assert_eq!(root.idle(begin("a")), Err(RootRefusal::BucketBusy));
    assert_eq!(root.idle(end(id, 1, true)), Err(RootRefusal::BucketBusy));
    let back = bucket(root.command(end(id, 2, false)));
    assert_eq!((back.revision, back.deleting), (3, false));
    assert_eq!(root.idle(end(id, 2, true)), Err(RootRefusal::BucketBusy));
    assert!(root.command(begin("a")).is_ok());
    assert!(root.command(end(id, 4, true)).is_ok());
    assert!(matches!(
        root.idle(end(id, 4, true)),
        Err(RootRefusal::NotFound(_))
    ));
}

#[test]
fn what_etags_are_changes_until_the_bucket_is_deleted_and_is_no_new_revision() {
    let set = |name: &str, etag| RootCommand::SetEtag {
        name: name.to_owned(),
        etag,
    };
    let mut root = Root::new();
    assert!(matches!(
        root.idle(set("a", EtagKind::Fast)),
        Err(RootRefusal::NotFound(_))
    ));
    let made = bucket(create(&mut root, "a"));
    assert_eq!(made.etag, EtagKind::Md5);
    let fast = bucket(root.command(set("a", EtagKind::Fast)));
    assert_eq!((fast.etag, fast.revision), (EtagKind::Fast, made.revision));
    assert_eq!(root.view().buckets["a"].etag, EtagKind::Fast);
    assert_eq!(bucket(root.idle(set("a", EtagKind::Fast))), fast);
    assert_eq!(bucket(root.command(set("a", EtagKind::Md5))), made);
    assert!(root.command(begin("a")).is_ok());
    assert_eq!(
        root.idle(set("a", EtagKind::Fast)),
        Err(RootRefusal::BucketBusy)
    );
}

#[test]
fn versioning_changes_in_two_steps_and_is_not_mixed_with_others() {
    let set = |versioning| RootCommand::SetVersioning {
        name: "a".to_owned(),
        versioning,
    };
    let done = |bucket, revision| RootCommand::EndSetVersioning { bucket, revision };
    let mut root = Root::new();
    assert!(matches!(
        root.idle(set(Versioning::Enabled)),
        Err(RootRefusal::NotFound(_))
    ));
    let id = bucket(create(&mut root, "a")).id;
    let begun = bucket(root.command(set(Versioning::Enabled)));
    assert_eq!((begun.revision, begun.versioning), (2, Versioning::Off));
    assert_eq!(begun.pending, Some(Versioning::Enabled));
    // Another driver of the same; another change; a deletion.
    assert_eq!(bucket(root.idle(set(Versioning::Enabled))), begun);
    for other in [set(Versioning::Suspended), begin("a"), done(id, 1)] {
        assert_eq!(root.idle(other), Err(RootRefusal::BucketBusy));
    }
    let ended = bucket(root.command(done(id, 2)));
    assert_eq!((ended.revision, ended.pending), (2, None));
    assert_eq!(ended.versioning, Versioning::Enabled);
    assert_eq!(root.idle(done(id, 2)), Err(RootRefusal::BucketBusy));
    assert_eq!(bucket(root.idle(set(Versioning::Enabled))), ended);
    assert!(root.command(begin("a")).is_ok());
    assert_eq!(
        root.idle(set(Versioning::Suspended)),
        Err(RootRefusal::BucketBusy)
    );
}
