//! What a page costs: rows that are looked at, not time.

use std::cell::Cell;
use std::ops::ControlFlow;

use crate::api::command::{KeyOp, Versioning};
use crate::api::query::{ListEntry, ListPage, ListQuery, PAGE_MAX, UploadsQuery, VersionsQuery};
use crate::partition::read;
use crate::partition::read::VISITED_MAX;
use crate::rows::{MemoryRows, Row, Rows, RowsError, Survey, Table, Txn, Visit};

use super::harness::{BUCKET, GROUP, Machine, create_upload, delete, inline, put};
use super::heavy::fast;

/// Rows that count how many of them, there or removed, are looked at.
struct Counted<'r> {
    rows: &'r MemoryRows,
    visited: Cell<usize>,
}

impl<'r> Counted<'r> {
    fn new(rows: &'r MemoryRows) -> Self {
        let visited = Cell::new(0);
        Self { rows, visited }
    }
}

impl Rows for Counted<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.rows.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), RowsError> {
        self.survey(table, from, to, &mut |key, value| match value {
            Some(value) => visit(key, value),
            None => ControlFlow::Continue(()),
        })
    }

    fn survey(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Survey<'_>,
    ) -> Result<(), RowsError> {
        self.rows.survey(table, from, to, &mut |key, value| {
            self.visited.set(self.visited.get() + 1);
            visit(key, value)
        })
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, RowsError> {
        self.rows.last(table, from, to)
    }
}

/// One page, and how many rows it looked at.
fn page(machine: &Machine, query: &ListQuery) -> (ListPage, usize) {
    let counted = Counted::new(&machine.rows);
    let page = read::list(&counted, GROUP, BUCKET, query).unwrap();
    (page, counted.visited.get())
}

fn name(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Object(object) => &object.key,
        ListEntry::Prefix(prefix) => prefix,
    }
}

/// All pages; none looks at more rows than it may.
fn all(machine: &Machine, mut query: ListQuery) -> (Vec<String>, usize) {
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let (page, visited) = page(machine, &query);
        assert!(visited <= VISITED_MAX + 1, "{visited} rows for a page");
        names.extend(page.entries.iter().map(|entry| name(entry).to_owned()));
        pages += 1;
        let Some(next) = page.next else {
            return (names, pages);
        };
        assert!(Some(&next) > query.after.as_ref(), "pages repeat");
        (query.after, query.inside) = (Some(next), page.inside);
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:07}")).collect()
}

fn puts(keys: &[String]) -> Vec<(&str, KeyOp)> {
    let op = |(id, key): (usize, &'_ String)| (id as u128 + 1, key.clone());
    let ids: Vec<_> = keys.iter().enumerate().map(op).collect();
    ids.into_iter()
        .zip(keys)
        .map(|((id, _), key)| (key.as_str(), put(inline(id, 1))))
        .collect()
}

fn deletes(keys: &[String]) -> Vec<(&str, KeyOp)> {
    keys.iter()
        .map(|key| (key.as_str(), delete(None)))
        .collect()
}

fn whole(delimiter: Option<&str>) -> ListQuery {
    ListQuery {
        limit: PAGE_MAX,
        delimiter: delimiter.map(str::to_owned),
        ..ListQuery::default()
    }
}

#[test]
fn a_page_looks_at_as_many_rows_as_it_has_entries_wherever_it_begins() {
    let mut machine = Machine::new();
    let keys = keys(30_000);
    fast(&mut machine, puts(&keys));
    for after in [None, Some("0000000"), Some("0014999"), Some("0028000")] {
        let query = ListQuery {
            after: after.map(str::to_owned),
            ..whole(None)
        };
        let (page, visited) = page(&machine, &query);
        assert_eq!(page.entries.len(), PAGE_MAX as usize);
        assert!(visited <= PAGE_MAX as usize + 1, "{visited} rows");
    }
}

#[test]
fn pages_after_many_deletes_are_short_and_lose_nothing() {
    let mut machine = Machine::new();
    let keys = keys(30_000);
    fast(&mut machine, puts(&keys));
    fast(&mut machine, deletes(&keys[..22_000]));
    let (names, pages) = all(&machine, whole(None));
    assert_eq!(names, keys[22_000..]);
    assert!(pages <= 8 + 22_000 / VISITED_MAX + 1, "{pages} pages");
}

#[test]
fn keys_whose_current_version_is_a_marker_are_passed_over_in_short_pages() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let keys = keys(12_000);
    fast(&mut machine, puts(&keys));
    fast(&mut machine, deletes(&keys[..11_000]));
    let (names, pages) = all(&machine, whole(None));
    assert_eq!(names, keys[11_000..]);
    assert!(pages <= 1 + 11_000 / VISITED_MAX + 1, "{pages} pages");
    // Both versions of each are there.
    let mut query = VersionsQuery {
        limit: PAGE_MAX,
        ..VersionsQuery::default()
    };
    let (mut versions, mut current) = (0, 0);
    loop {
        let counted = Counted::new(&machine.rows);
        let page = read::versions(&counted, GROUP, BUCKET, &query).unwrap();
        // Some are read ahead.
        assert!(counted.visited.get() <= VISITED_MAX + 2 * 256);
        versions += page.versions.len();
        current += page.versions.iter().filter(|one| one.current).count();
        if page.next.is_none() {
            break;
        }
        query.after = page.next;
    }
    assert_eq!((versions, current), (23_000, 12_000));
}

#[test]
fn a_key_with_many_versions_costs_a_listing_nothing() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let many: Vec<String> = vec!["b".to_owned(); 20_000];
    fast(&mut machine, puts(&many));
    let few = (0..3).map(|id| (["a", "c", "d"][id], put(inline(100_000 + id as u128, 1))));
    fast(&mut machine, few.collect());
    let (page, visited) = page(&machine, &whole(None));
    assert!(page.entries.iter().map(name).eq(["a", "b", "c", "d"]));
    assert_eq!(visited, 4);
}

#[test]
fn a_prefix_is_listed_once_although_a_page_ends_among_what_was_deleted_in_it() {
    let mut machine = Machine::new();
    let keys: Vec<String> = (0..VISITED_MAX + 700)
        .map(|number| format!("a/{number:05}"))
        .chain(["b/1", "c"].map(str::to_owned))
        .collect();
    fast(&mut machine, puts(&keys));
    fast(&mut machine, deletes(&keys[..VISITED_MAX + 699]));
    let (first, _) = page(&machine, &whole(Some("/")));
    assert_eq!((first.entries.len(), first.inside), (0, true));
    let (names, pages) = all(&machine, whole(Some("/")));
    assert_eq!(
        (names, pages),
        (["a/", "b/", "c"].map(str::to_owned).to_vec(), 2)
    );
    // What is listed first hides nothing either.
    fast(&mut machine, vec![("a/", put(inline(900_000, 1)))]);
    let (names, pages) = all(&machine, whole(Some("/")));
    assert_eq!(
        (names, pages),
        (["a/", "b/", "c"].map(str::to_owned).to_vec(), 1)
    );
}

#[test]
fn prefixes_of_uploads_and_versions_are_listed_once_beyond_what_was_deleted() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let keys: Vec<String> = (0..VISITED_MAX + 700)
        .map(|number| format!("a/{number:05}"))
        .collect();
    fast(&mut machine, puts(&keys));
    let removes = (0..keys.len() - 1).map(|index| {
        let stamp = index as u64 + 1;
        (keys[index].as_str(), delete(Some(stamp)))
    });
    fast(&mut machine, removes.collect());
    let id = |index: usize| index as u128 + 1;
    let opened = keys.iter().enumerate();
    let opened = opened.map(|(index, key)| (key.as_str(), create_upload(id(index))));
    let opened: Vec<_> = opened.collect();
    fast(&mut machine, opened);
    let aborted = keys[1..].iter().enumerate().map(|(index, _)| {
        let upload = enfilade_placement::UploadId::new(id(index));
        (keys[index].as_str(), KeyOp::AbortUpload { upload })
    });
    let aborted: Vec<_> = aborted.collect();
    fast(&mut machine, aborted);
    let delimiter = Some("/".to_owned());
    let mut query = VersionsQuery {
        delimiter: delimiter.clone(),
        limit: 10,
        ..VersionsQuery::default()
    };
    let first = read::versions(&machine.rows, GROUP, BUCKET, &query).unwrap();
    assert!(first.prefixes.is_empty());
    query.after = first.next;
    let second = read::versions(&machine.rows, GROUP, BUCKET, &query).unwrap();
    assert_eq!(
        (second.prefixes, second.next),
        (vec!["a/".to_owned()], None)
    );
    let mut query = UploadsQuery {
        delimiter,
        limit: 10,
        ..UploadsQuery::default()
    };
    let first = read::uploads(&machine.rows, GROUP, BUCKET, &query).unwrap();
    assert!(first.prefixes.is_empty());
    query.after = first.next;
    let second = read::uploads(&machine.rows, GROUP, BUCKET, &query).unwrap();
    assert_eq!(
        (second.prefixes, second.next),
        (vec!["a/".to_owned()], None)
    );
}

#[test]
fn deleting_versions_from_the_newest_on_passes_over_none_twice() {
    let mut machine = Machine::new();
    machine.versioning(Versioning::Enabled);
    let many: Vec<String> = vec!["a".to_owned(); 3_000];
    fast(&mut machine, puts(&many));
    let counted = Counted::new(&machine.rows);
    let mut txn = Txn::new(&counted);
    for stamp in (1_001..=3_000).rev() {
        let command = machine.key_command("a", delete(Some(stamp)));
        let envelope = crate::api::command::PartitionEnvelope {
            request: enfilade_placement::RequestId::new(u128::from(stamp) << 64),
            ..machine_envelope(command)
        };
        let outcome = crate::partition::apply(&mut txn, GROUP, &envelope).unwrap();
        assert!(outcome.is_ok());
    }
    let visited = counted.visited.get();
    assert!(visited <= 2 * 2_000 + 10, "{visited} rows");
}

fn machine_envelope(
    command: crate::api::command::PartitionCommand,
) -> crate::api::command::PartitionEnvelope {
    Machine::new().envelope(command)
}
