//! Splits: what a partition is divided into, and what both halves still know (PROTOCOLS 5).

use enfilade_placement::{Epoch, IntentId, PartitionId};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, proptest};

use crate::api::command::{
    GroupTime, KeyReply, Outcome, PartitionCommand, PartitionEnvelope, Refusal, Versioning,
};
use crate::api::error::MetadataError;
use crate::api::key::RowPrefix;
use crate::api::query::{ListEntry, ListQuery};
use crate::call::{Answer, Call};
use crate::partition::apply::split::COPIED_MAX;
use crate::partition::{check, read};
use crate::rows::Txn;
use crate::server::{self, read::ReadSettings};

use super::harness::{BUCKET, GROUP, Machine, at, condemn, create_upload, inline, put};

const CHILD: PartitionId = PartitionId::new(8);
const SPLIT: IntentId = IntentId::new(5);

fn divide(machine: &mut Machine, key: &str) {
    let at = RowPrefix::of_keys_from(BUCKET, key);
    let (split, child) = (SPLIT, CHILD);
    let divide = PartitionCommand::Divide { split, child, at };
    assert_eq!(machine.command(divide), Ok(KeyReply::Done));
}

/// Copies all; answers in how many commands.
fn copy(machine: &mut Machine) -> usize {
    let mut commands = 0;
    while read::division(&machine.rows, GROUP).unwrap() == Some((SPLIT, CHILD, false)) {
        let copy = PartitionCommand::CopyForChild { split: SPLIT };
        assert_eq!(machine.command(copy), Ok(KeyReply::Done));
        commands += 1;
    }
    commands
}

fn split(machine: &mut Machine) {
    let split = PartitionCommand::Split { split: SPLIT };
    assert_eq!(machine.command(split), Ok(KeyReply::Done));
}

/// Applies a command in one of the halves; both must be sound.
fn apply(machine: &mut Machine, group: PartitionId, envelope: &PartitionEnvelope) -> Outcome {
    let mut txn = Txn::new(&machine.rows);
    let outcome = crate::partition::apply(&mut txn, group, envelope).unwrap();
    let writes = txn.into_writes();
    machine.rows.commit(writes);
    check_both(machine);
    outcome
}

fn check_both(machine: &Machine) {
    for group in [GROUP, CHILD] {
        let wrong = check::check(&machine.rows, group).unwrap();
        assert!(wrong.is_empty(), "{group}: {wrong:#?}");
    }
    let [counted, truth] = check::sums(&machine.rows, &[GROUP, CHILD]).unwrap();
    assert_eq!(counted, truth);
}

fn holder(key: &str, at: &str) -> [PartitionId; 2] {
    match key < at {
        true => [GROUP, CHILD],
        false => [CHILD, GROUP],
    }
}

fn tick(machine: &mut Machine, group: PartitionId, elapsed_ms: u64) {
    let tick = machine.envelope(PartitionCommand::Tick { elapsed_ms });
    assert_eq!(apply(machine, group, &tick), Ok(KeyReply::Done));
}

#[test]
fn keys_and_what_is_known_of_them_go_to_the_child_and_versions_go_on() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    machine.put("a", inline(1, 3));
    let last = machine.put("m", inline(2, 3));
    divide(&mut machine, "m");
    machine.put("z", inline(3, 3));
    assert_eq!(copy(&mut machine), 1);
    let before = machine.now();
    split(&mut machine);
    check_both(&machine);
    let [parent, child] = [GROUP, CHILD].map(|id| read::info(&machine.rows, id).unwrap().unwrap());
    assert_eq!(parent.end, Some(RowPrefix::of_keys_from(BUCKET, "m")));
    assert_eq!((child.start, child.end), (parent.end.unwrap(), None));
    assert_eq!((parent.epoch, child.epoch), (child.epoch, parent.epoch));
    assert_eq!(child.time, GroupTime(before));
    let again = machine.key_command("m", put(inline(4, 3)));
    let again = machine.envelope(again);
    let Err(Refusal::StaleRoute(epoch)) = apply(&mut machine, GROUP, &again) else {
        panic!("the parent took a key that it gave away");
    };
    assert_eq!(epoch, child.epoch);
    // The proposer's route is old, also where the key is now: it is to read the routes again.
    assert_eq!(
        apply(&mut machine, CHILD, &again),
        Err(Refusal::StaleRoute(epoch))
    );
    let again = PartitionEnvelope { epoch, ..again };
    let Ok(KeyReply::Put { stamp, .. }) = apply(&mut machine, CHILD, &again) else {
        panic!("the child does not take its key");
    };
    assert!(stamp.get() > last + 1, "{stamp:?} after {last} and another");
    // Every step again: nothing.
    let rows = super::harness::dump(&machine.rows);
    divide(&mut machine, "m");
    copy(&mut machine);
    split(&mut machine);
    assert_eq!(rows, super::harness::dump(&machine.rows));
}

#[test]
fn a_question_of_before_a_split_is_told_that_its_route_is_stale() {
    let mut machine = Machine::new();
    machine.put("a", inline(1, 3));
    machine.put("z", inline(2, 3));
    let settings = ReadSettings {
        garbage_grace_ms: 0,
    };
    let ask = |machine: &Machine, partition, epoch| {
        let calls = [
            Call::List {
                partition,
                epoch,
                bucket: BUCKET,
                query: ListQuery {
                    limit: 10,
                    ..ListQuery::default()
                },
            },
            Call::Usage {
                partition,
                epoch,
                bucket: BUCKET,
            },
            Call::IsEmpty {
                partition,
                epoch,
                bucket: BUCKET,
            },
        ];
        calls.map(|call| server::read::answer(&machine.rows, settings, &call))
    };
    assert!(ask(&machine, GROUP, Epoch::FIRST).iter().all(Result::is_ok));
    divide(&mut machine, "m");
    copy(&mut machine);
    split(&mut machine);
    // What is asked with the old route must not be answered with half of it.
    for answer in ask(&machine, GROUP, Epoch::FIRST) {
        assert!(
            matches!(answer, Err(MetadataError::StaleRoute(_))),
            "{answer:?}"
        );
    }
    for (group, key) in [(GROUP, "a"), (CHILD, "z")] {
        let [list, usage, is_empty] = ask(&machine, group, Epoch::FIRST.next());
        let Ok(Some(Answer::List(page))) = list else {
            panic!("{list:?}");
        };
        let [ListEntry::Object(listed)] = page.entries.as_slice() else {
            panic!("{page:?}");
        };
        assert_eq!(listed.key, key);
        assert!(usage.is_ok());
        assert_eq!(is_empty, Ok(Some(Answer::IsEmpty(false))));
    }
}

#[test]
fn a_fence_and_an_abortion_under_way_are_of_both_halves() {
    let mut machine = Machine::new();
    machine.settings(Versioning::Off, true, false);
    divide(&mut machine, "m");
    copy(&mut machine);
    split(&mut machine);
    let epoch = read::info(&machine.rows, CHILD).unwrap().unwrap().epoch;
    for (key, group) in [("a", GROUP), ("z", CHILD)] {
        let command = machine.key_command(key, put(inline(9, 1)));
        let envelope = PartitionEnvelope {
            epoch,
            ..machine.envelope(command)
        };
        assert_eq!(
            apply(&mut machine, group, &envelope),
            Err(Refusal::BucketFenced)
        );
    }
}

#[test]
fn many_results_are_copied_in_many_commands() {
    let mut machine = Machine::new();
    // Written as they would be, without a check after each.
    let mut log = Vec::new();
    for number in 0..2 * COPIED_MAX + 10 {
        let command = machine.key_command(&format!("k{number}"), create_upload(number as u128));
        log.push(machine.envelope(command));
    }
    let mut txn = Txn::new(&machine.rows);
    for envelope in &log {
        crate::partition::apply(&mut txn, GROUP, envelope)
            .unwrap()
            .unwrap();
    }
    let writes = txn.into_writes();
    machine.rows.commit(writes);
    let at = RowPrefix::of_keys_from(BUCKET, "k");
    let (split_id, child) = (SPLIT, CHILD);
    let steps = |command| PartitionEnvelope {
        command,
        ..log[0].clone()
    };
    let mut txn = Txn::new(&machine.rows);
    let divide = PartitionCommand::Divide {
        split: split_id,
        child,
        at,
    };
    let mut step = |command| {
        let outcome = crate::partition::apply(&mut txn, GROUP, &steps(command)).unwrap();
        outcome.unwrap();
        read::division(&txn, GROUP).unwrap()
    };
    step(divide);
    let mut commands = 0;
    while step(PartitionCommand::CopyForChild { split: SPLIT }) == Some((SPLIT, CHILD, false)) {
        commands += 1;
    }
    assert_eq!(commands, 2);
    assert_eq!(step(PartitionCommand::Split { split: SPLIT }), None);
    let writes = txn.into_writes();
    machine.rows.commit(writes);
    for envelope in [&log[0], &log[COPIED_MAX], &log[2 * COPIED_MAX + 9]] {
        let mut txn = Txn::new(&machine.rows);
        let repeat = crate::partition::apply(&mut txn, CHILD, envelope).unwrap();
        assert_eq!(repeat, Ok(KeyReply::UploadCreated));
        assert_eq!(txn.into_writes(), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// PROTOCOLS 2, across a split: a repeat has its first answer, on whichever side.
    #[test]
    fn what_was_answered_before_or_while_a_partition_was_divided_is_answered_again(
        ops in vec((0usize..6, 0u8..4, any::<bool>()), 1..40),
        divided in 0usize..40,
        copied in 0usize..40,
    ) {
        const KEYS: [&str; 6] = ["", "a", "l\0", "m", "m\0", "z"];
        let mut machine = Machine::new();
        let (mut log, mut shown) = (Vec::new(), Vec::new());
        for (index, (key, kind, late)) in ops.into_iter().enumerate() {
            if index == divided {
                divide(&mut machine, "m");
            }
            if index == divided.max(copied) {
                copy(&mut machine);
            }
            let blob = index as u128 + 1;
            let op = match kind {
                0 | 1 => put(inline(blob, 2)),
                2 => condemn(blob),
                _ => create_upload(blob),
            };
            let command = machine.key_command(KEYS[key], op);
            let envelope = machine.envelope(command);
            let outcome = machine.apply(&envelope);
            log.push((KEYS[key], envelope, outcome));
            if late {
                machine.tick(40 * 60 * 1000);
            }
        }
        divide(&mut machine, "m");
        copy(&mut machine);
        for key in KEYS {
            shown.push(read::object(&machine.rows, &at(key), None).unwrap());
        }
        let expired = machine.now();
        split(&mut machine);
        check_both(&machine);
        for (key, found) in KEYS.iter().zip(shown) {
            assert_eq!(read::object(&machine.rows, &at(key), None).unwrap(), found);
        }
        for (key, envelope, outcome) in &log {
            let [right, wrong] = holder(key, "m");
            let stale = apply(&mut machine, wrong, envelope);
            assert!(matches!(stale, Err(Refusal::StaleRoute(_))), "{stale:?}");
            let repeat = apply(&mut machine, right, envelope);
            let gone = envelope.deadline.0 < expired && repeat == Err(Refusal::Expired);
            assert!(gone || repeat == *outcome, "{repeat:?}, first {outcome:?}");
        }
        // All goes by its time, in both.
        for group in [GROUP, CHILD] {
            tick(&mut machine, group, 60 * 24 * 60 * 60 * 1000);
            assert!(!read::info(&machine.rows, group).unwrap().unwrap().behind);
        }
    }
}
