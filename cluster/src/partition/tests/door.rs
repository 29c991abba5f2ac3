//! Repeats, deadlines, routes and revisions.

use enfilade_placement::Epoch;

use crate::api::command::{GroupTime, KeyReply, PartitionCommand, Refusal, Versioning};
use crate::api::key::RowPrefix;
use crate::partition::DEADLINE_MS;
use crate::partition::read;
use crate::rows::Txn;

use super::harness::{
    BUCKET, GROUP, Machine, STALE, at, condemn, delete, dump, inline, put, striped,
};

const HOUR_MS: u64 = 60 * 60 * 1000;

#[test]
fn a_repeat_is_answered_with_the_first_result_and_changes_nothing() {
    let mut machine = Machine::new();
    let command = machine.key_command("a", put(inline(1, 5)));
    let envelope = machine.envelope(command);
    let first = machine.apply(&envelope);
    machine.put("a", inline(2, 6));
    let before = dump(&machine.rows);
    assert_eq!(machine.apply(&envelope), first);
    assert_eq!(dump(&machine.rows), before);
}

#[test]
fn a_repeat_is_answered_even_when_late_stale_or_fenced() {
    let mut machine = Machine::new();
    let command = machine.key_command("a", put(inline(1, 5)));
    let mut envelope = machine.envelope(command);
    let first = machine.apply(&envelope);
    machine.settings(Versioning::Off, true, false);
    machine.tick(DEADLINE_MS + 1);
    envelope.epoch = Epoch::new(0);
    assert_eq!(machine.apply(&envelope), first);
}

#[test]
fn a_refusal_is_final_too() {
    let mut machine = Machine::new();
    machine.put("a", striped(1, 5, &[1]));
    let command = machine.key_command("a", put(striped(1, 5, &[1])));
    let envelope = machine.envelope(command);
    assert_eq!(machine.apply(&envelope), Err(Refusal::BlobReferenced));
    machine.delete("a");
    assert_eq!(machine.apply(&envelope), Err(Refusal::BlobReferenced));
}

#[test]
fn results_go_after_an_hour_and_never_before_the_deadline() {
    let mut machine = Machine::new();
    let command = machine.key_command("a", put(inline(1, 5)));
    let envelope = machine.envelope(command);
    assert!(machine.apply(&envelope).is_ok());
    machine.tick(HOUR_MS);
    assert!(machine.apply(&envelope).is_ok());
    machine.tick(1);
    assert_eq!(machine.apply(&envelope), Err(Refusal::Expired));

    let command = machine.key_command("b", put(inline(2, 5)));
    let mut far = machine.envelope(command);
    far.deadline = GroupTime(machine.now() + 2 * HOUR_MS);
    let first = machine.apply(&far);
    machine.tick(2 * HOUR_MS);
    assert_eq!(machine.apply(&far), first);
    machine.tick(1);
    assert_eq!(machine.apply(&far), Err(Refusal::Expired));
}

#[test]
fn a_command_is_refused_when_its_deadline_has_passed() {
    let mut machine = Machine::new();
    let command = machine.key_command("a", put(inline(1, 5)));
    let envelope = machine.envelope(command);
    machine.tick(DEADLINE_MS);
    machine.tick(1);
    assert_eq!(machine.apply(&envelope), Err(Refusal::Expired));
    assert_eq!(machine.found("a"), None);
    let command = machine.key_command("a", put(inline(1, 5)));
    let envelope = machine.envelope(command);
    machine.tick(DEADLINE_MS);
    assert!(machine.apply(&envelope).is_ok());
}

#[test]
fn keys_outside_the_range_and_older_epochs_are_sent_away_and_may_come_again() {
    let (start, end) = (at("b").row_prefix(), at("d").row_prefix());
    let mut machine = Machine::over(start, Some(end));
    for (key, inside) in [("a", false), ("b", true), ("c\u{ff}", true), ("d", false)] {
        let outcome = machine.op(key, put(inline(1, 5)));
        assert_eq!(outcome.is_ok(), inside, "{key}");
        let checked = read::check_range(&machine.rows, GROUP, &at(key).row_prefix()).unwrap();
        assert_eq!(checked.is_ok(), inside, "{key}");
    }
    let command = machine.key_command("c", put(inline(2, 5)));
    let mut envelope = machine.envelope(command);
    envelope.epoch = Epoch::new(0);
    assert_eq!(machine.apply(&envelope), STALE);
    envelope.epoch = Epoch::FIRST;
    assert!(machine.apply(&envelope).is_ok());
}

#[test]
fn a_partition_says_of_a_key_that_it_does_not_hold_only_that() {
    // Another partition may have applied it: not even that its deadline has passed is known here.
    let mut machine = Machine::over(at("b").row_prefix(), None);
    let command = machine.key_command("a", put(inline(1, 5)));
    let envelope = machine.envelope(command);
    machine.tick(DEADLINE_MS + 1);
    assert_eq!(machine.apply(&envelope), STALE);
}

#[test]
fn a_partition_that_was_not_created_holds_nothing() {
    let mut machine = Machine::new();
    let command = machine.key_command("a", put(inline(1, 5)));
    let envelope = machine.envelope(command);
    let empty = crate::rows::MemoryRows::default();
    let mut txn = Txn::new(&empty);
    let outcome = crate::partition::apply(&mut txn, GROUP, &envelope).unwrap();
    assert_eq!(outcome, Err(Refusal::StaleRoute(Epoch::new(0))));
}

#[test]
fn creating_a_partition_again_changes_nothing() {
    let mut machine = Machine::new();
    machine.put("a", inline(1, 5));
    machine.tick(5);
    let partition = crate::api::root::Partition {
        id: GROUP,
        epoch: Epoch::new(9),
        start: at("x").row_prefix(),
        end: None,
        replicas: Vec::new(),
        change: enfilade_placement::IntentId::new(0),
    };
    let mut txn = Txn::new(&machine.rows);
    crate::partition::create(&mut txn, &partition).unwrap();
    assert_eq!(txn.into_writes(), []);
}

#[test]
fn an_older_revision_and_a_fence_refuse_all_but_condemning() {
    let mut machine = Machine::new();
    machine.put("a", inline(1, 5));
    machine.settings(Versioning::Off, false, false);
    let newer = machine.revision;
    machine.revision -= 1;
    assert_eq!(
        machine.op("a", delete(None)),
        Err(Refusal::StaleRevision(newer))
    );
    assert_eq!(machine.op("a", condemn(9)), Ok(KeyReply::Condemned));
    let command = PartitionCommand::Bucket {
        bucket: BUCKET,
        revision: machine.revision,
        versioning: Versioning::Enabled,
        fenced: true,
        abort_uploads: false,
    };
    assert_eq!(machine.command(command), Err(Refusal::StaleRevision(newer)));
    machine.revision = newer;
    machine.settings(Versioning::Off, true, false);
    assert_eq!(machine.op("a", delete(None)), Err(Refusal::BucketFenced));
    assert_eq!(machine.op("a", condemn(10)), Ok(KeyReply::Condemned));
    machine.settings(Versioning::Off, false, false);
    assert_eq!(machine.delete("a"), (None, true));
}

#[test]
fn settings_reach_every_partition_that_covers_the_bucket_and_no_other() {
    let of = RowPrefix::of_bucket;
    let next = enfilade_placement::BucketId::new(BUCKET.get() + 1);
    for (start, end, covers) in [
        (RowPrefix::default(), None, true),
        (RowPrefix::default(), Some(of(BUCKET)), false),
        (RowPrefix::default(), Some(at("m").row_prefix()), true),
        (at("m").row_prefix(), None, true),
        (of(BUCKET), Some(of(next)), true),
        (of(next), None, false),
    ] {
        let mut machine = Machine::over(start.clone(), end.clone());
        let command = PartitionCommand::Bucket {
            bucket: BUCKET,
            revision: 2,
            versioning: Versioning::Enabled,
            fenced: false,
            abort_uploads: false,
        };
        let outcome = machine.command(command);
        assert_eq!(outcome.is_ok(), covers, "{start:?} {end:?}");
    }
}
