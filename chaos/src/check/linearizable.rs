//! Whether one order explains all that happened to a key: each operation takes effect at one moment
//! between its start and its end, and every read sees the write before it (promise P2).
//!
//! The search is that of Wing and Gong with Lowe's memory of configurations, for a register with
//! writes, deletes and creates. What keeps it small: a read that fits is taken at once, because it
//! changes nothing; and a write of unknown outcome is dropped when nobody saw it, or must have
//! happened by the time that somebody did, because every write has bytes of its own.

use std::collections::{BTreeMap, HashSet};

use super::listing;
use super::register::{Read, Register};
use super::{Finding, Kind};
use crate::history::Operation;

/// Configurations that are tried for one key before the search is given up: about 1 GiB of memory
/// at 500 bytes each.
const CONFIGURATIONS_MAX: usize = 2_000_000;

/// Judges every key, by its own reads and by what listings say about it.
pub(crate) fn check(
    operations: &[Operation],
    registers: &BTreeMap<&str, Register<'_>>,
) -> Vec<Finding> {
    let listed = listing::reads(operations, registers);
    let mut findings = Vec::new();
    for (key, register) in registers {
        let more = listed.get(key).map(Vec::as_slice).unwrap_or_default();
        let events = events(register, more);
        match search(&events, CONFIGURATIONS_MAX) {
            Answer::Linearizable => {}
            Answer::Not { stuck } => {
                let text = format!("{key:?}: no order has a place for the operations {stuck:?}");
                findings.push(Finding::new(Kind::NotLinearizable, text));
            }
            Answer::Undecided => {
                let count = events.len();
                let text = format!("{key:?}: gave up the search among {count} operations");
                findings.push(Finding::new(Kind::Undecided, text));
            }
        }
    }
    findings
}

/// What an operation does to the register. Values are numbered from 1; 0 is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Write(u32),
    /// Takes effect only where there is no object.
    Create(u32),
    Read(u32),
    /// There was an object.
    Present,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    number: u64,
    start: u64,
    end: u64,
    effect: Effect,
    /// It may never take effect.
    optional: bool,
}

/// The events of one key in the order of their starts. Reads of values that nobody wrote are left
/// to the other checks.
fn events(register: &Register<'_>, listed: &[Read<'_>]) -> Vec<Event> {
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    for write in &register.writes {
        if let Some(value) = write.value {
            let next = u32::try_from(names.len() + 1).unwrap_or(u32::MAX);
            names.entry(&value.digest).or_insert(next);
        }
    }
    let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
    let mut events = Vec::new();
    for read in register.reads.iter().chain(listed) {
        let name = match read.value {
            None => 0,
            Some(value) => match names.get(value.digest.as_str()) {
                Some(name) => *name,
                None => continue,
            },
        };
        let first = seen.entry(name).or_insert(read.end);
        *first = read.end.min(*first);
        events.push(Event {
            number: read.number,
            start: read.start,
            end: read.end,
            effect: Effect::Read(name),
            optional: false,
        });
    }
    for conflict in &register.conflicts {
        events.push(Event {
            number: conflict.number,
            start: conflict.start,
            end: conflict.end,
            effect: Effect::Present,
            optional: false,
        });
    }
    let creates = register.writes.iter().any(|write| write.creates);
    for write in &register.writes {
        let name = write.value.map_or(0, |value| names[value.digest.as_str()]);
        let effect = match write.creates {
            true => Effect::Create(name),
            false => Effect::Write(name),
        };
        let observed = seen.get(&name).copied();
        let (end, optional) = match (write.acked, name, observed) {
            (true, _, _) => (write.end, false),
            // Any delete, or none, may be the one that a reader saw.
            (false, 0, None) if !creates => continue,
            (false, 0, _) => (u64::MAX, true),
            (false, _, Some(by)) => (by, false),
            (false, _, None) if register.conflicts.is_empty() => continue,
            (false, _, None) => (u64::MAX, true),
        };
        events.push(Event {
            number: write.number,
            start: write.start,
            end,
            effect,
            optional,
        });
    }
    events.sort_by_key(|event| (event.start, event.number));
    events
}

enum Answer {
    Linearizable,
    /// The operations that could not be placed where the search got furthest.
    Not {
        stuck: Vec<u64>,
    },
    Undecided,
}

/// Which events have taken effect, and the value after them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    value: u32,
    /// All certain events before this index have taken effect.
    certain: usize,
    /// Certain events beyond it that have, ascending.
    beyond: Vec<usize>,
    /// Optional events that have, ascending.
    chosen: Vec<usize>,
}

fn search(events: &[Event], limit: usize) -> Answer {
    let (optional, certain): (Vec<Event>, Vec<Event>) =
        events.iter().partition(|event| event.optional);
    let mut stack = vec![Configuration {
        value: 0,
        certain: 0,
        beyond: Vec::new(),
        chosen: Vec::new(),
    }];
    let mut known = HashSet::new();
    let (mut furthest, mut stuck) = (0, Vec::new());
    while let Some(mut configuration) = stack.pop() {
        let (candidates, limit_time) = configuration.take_reads(&certain);
        if configuration.certain == certain.len() {
            return Answer::Linearizable;
        }
        let done = configuration.certain + configuration.beyond.len();
        if done >= furthest {
            furthest = done + 1;
            stuck = candidates
                .iter()
                .map(|index| certain[*index].number)
                .take(8)
                .collect();
        }
        if !known.insert(configuration.clone()) {
            continue;
        }
        if known.len() > limit {
            return Answer::Undecided;
        }
        for (index, event) in optional.iter().enumerate().rev() {
            let free = !configuration.chosen.contains(&index) && event.start <= limit_time;
            if let Some(value) = event.effect.apply(configuration.value).filter(|_| free)
                // Without a change it might as well not have happened.
                && value != configuration.value
            {
                let mut next = configuration.clone();
                next.value = value;
                insert(&mut next.chosen, index);
                stack.push(next);
            }
        }
        for index in candidates.into_iter().rev() {
            if let Some(value) = certain[index].effect.apply(configuration.value) {
                let mut next = configuration.clone();
                next.value = value;
                next.take(index);
                stack.push(next);
            }
        }
    }
    Answer::Not { stuck }
}

impl Effect {
    /// The value afterwards, or nothing where it cannot take effect now.
    fn apply(self, value: u32) -> Option<u32> {
        match self {
            Effect::Write(new) => Some(new),
            Effect::Create(new) => (value == 0).then_some(new),
            Effect::Read(seen) => (value == seen).then_some(value),
            Effect::Present => (value != 0).then_some(value),
        }
    }
}

impl Configuration {
    /// Takes every read that may come next and fits, until none is left. Returns the
    /// certain events that may come next, and the time by which the next one must have begun.
    fn take_reads(&mut self, certain: &[Event]) -> (Vec<usize>, u64) {
        loop {
            let (candidates, limit) = self.candidates(certain);
            // A delete where there is no object changes nothing either, but it may be needed later.
            let neutral = |index: &&usize| match certain[**index].effect {
                Effect::Read(seen) => seen == self.value,
                Effect::Present => self.value != 0,
                Effect::Write(_) | Effect::Create(_) => false,
            };
            let Some(index) = candidates.iter().find(neutral).copied() else {
                return (candidates, limit);
            };
            self.take(index);
        }
    }

    /// Events that began before every other untaken event has ended.
    fn candidates(&self, certain: &[Event]) -> (Vec<usize>, u64) {
        let mut candidates = Vec::new();
        let mut limit = u64::MAX;
        for (index, event) in certain.iter().enumerate().skip(self.certain) {
            if event.start > limit {
                break;
            }
            if self.beyond.binary_search(&index).is_err() {
                candidates.push(index);
                limit = limit.min(event.end);
            }
        }
        candidates.retain(|index| certain[*index].start <= limit);
        (candidates, limit)
    }

    fn take(&mut self, index: usize) {
        insert(&mut self.beyond, index);
        let run = self.beyond.iter().zip(self.certain..);
        let run = run.take_while(|(taken, next)| *taken == next).count();
        self.beyond.drain(..run);
        self.certain += run;
    }
}

fn insert(sorted: &mut Vec<usize>, index: usize) {
    let at = sorted.partition_point(|other| *other < index);
    sorted.insert(at, index);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, start: u64, end: u64, effect: Effect) -> Event {
        Event {
            number,
            start,
            end,
            effect,
            optional: false,
        }
    }

    fn optional(number: u64, start: u64, effect: Effect) -> Event {
        Event {
            optional: true,
            ..event(number, start, u64::MAX, effect)
        }
    }

    fn fits(mut events: Vec<Event>) -> bool {
        events.sort_by_key(|event| event.start);
        matches!(search(&events, 10_000), Answer::Linearizable)
    }

    use Effect::{Create, Present, Read, Write};

    #[test]
    fn concurrent_writes_may_take_either_order_but_only_one() {
        let writes = [event(1, 0, 10, Write(1)), event(2, 0, 10, Write(2))];
        for last in [1, 2] {
            let mut events = writes.to_vec();
            events.push(event(3, 20, 30, Read(last)));
            assert!(fits(events.clone()));
            events.push(event(4, 40, 50, Read(3 - last)));
            assert!(!fits(events));
        }
    }

    #[test]
    fn two_readers_may_not_see_two_orders() {
        let writes = [event(1, 0, 100, Write(1)), event(2, 0, 100, Write(2))];
        let mut events = writes.to_vec();
        events.extend([event(3, 10, 20, Read(1)), event(4, 30, 40, Read(2))]);
        assert!(fits(events.clone()));
        events.push(event(5, 50, 60, Read(1)));
        assert!(!fits(events));
    }

    #[test]
    fn a_write_that_may_have_happened_explains_a_read_but_not_two_states_in_turn() {
        let mut events = vec![event(1, 0, 10, Write(1)), optional(2, 20, Write(0))];
        events.push(event(3, 30, 40, Read(1)));
        events.push(event(4, 50, 60, Read(0)));
        assert!(fits(events.clone()));
        events.push(event(5, 70, 80, Read(1)));
        assert!(!fits(events));
    }

    #[test]
    fn a_write_takes_no_effect_before_it_began() {
        let events = vec![event(1, 0, 10, Read(1)), event(2, 20, 30, Write(1))];
        assert!(!fits(events));
    }

    #[test]
    fn of_two_creates_only_one_succeeds_until_a_delete() {
        let both = [event(1, 0, 10, Create(1)), event(2, 5, 15, Create(2))];
        assert!(!fits(both.to_vec()));
        let mut events = both.to_vec();
        events.push(event(3, 8, 12, Write(0)));
        assert!(fits(events));
        assert!(fits(vec![
            event(1, 0, 10, Create(1)),
            event(2, 5, 15, Present)
        ]));
        assert!(!fits(vec![event(1, 0, 10, Present)]));
    }

    #[test]
    fn a_long_busy_history_is_decided() {
        let mut events = Vec::new();
        for round in 0..2000u64 {
            let name = u32::try_from(round + 1).unwrap();
            // Eight operations overlap at any time.
            let (start, end) = (round * 10, round * 10 + 80);
            events.push(event(2 * round, start, end, Write(name)));
            events.push(event(2 * round + 1, end, end + 5, Read(name)));
        }
        // Each read must come right after its write; the writes overlap, the reads do not.
        assert!(fits(events));
    }

    #[test]
    fn a_search_beyond_its_limit_is_given_up() {
        let events: Vec<Event> = (0..12)
            .map(|name| event(u64::from(name), 0, 10, Write(name + 1)))
            .chain([event(99, 20, 30, Read(100))])
            .collect();
        assert!(matches!(search(&events, 1000), Answer::Undecided));
    }
}
