//! Logs and rows, held to openraft's own suite and to each other.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use enfilade_placement::PartitionId;
use openraft::alias::CommittedLeaderIdOf;
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, StorageError};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use tempfile::TempDir;

use super::log::GroupLog;
use super::memory::MemoryStore;
use super::rocks::Rocks;
use super::snapshot;
use super::state_machine::GroupState;
use super::store::{LogStore, LogWrite, RowRange, StateStore};
use super::types::{Command, Entry, LogId, Position, TypeConfig};
use crate::api::encoding::encode;
use crate::rows::{MemoryRows, Row, RowWrite, Rows, Table};
use crate::settings::StorageSettings;

type CommittedLeaderId = CommittedLeaderIdOf<TypeConfig>;

const GROUP: PartitionId = PartitionId::ROOT;

fn settings() -> StorageSettings {
    // What is tested is not whether the device keeps what was synced.
    StorageSettings {
        sync: false,
        ..StorageSettings::default()
    }
}

fn rocks(dir: &TempDir) -> Arc<Rocks> {
    Arc::new(Rocks::open(&dir.path().join("db"), &settings()).unwrap())
}

struct OnRocks;
struct InMemory;

fn build<S: LogStore + StateStore>(store: Arc<S>, dir: &TempDir) -> (GroupLog, GroupState) {
    // One byte of cache: nearly all is read back from the store.
    let log = GroupLog::open(GROUP, Arc::clone(&store) as _, 1).unwrap();
    (
        log,
        GroupState::open(GROUP, store, dir.path().to_owned()).unwrap(),
    )
}

impl StoreBuilder<TypeConfig, GroupLog, GroupState, TempDir> for OnRocks {
    async fn build(&self) -> Result<(TempDir, GroupLog, GroupState), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let (log, state) = build(rocks(&dir), &dir);
        Ok((dir, log, state))
    }
}

impl StoreBuilder<TypeConfig, GroupLog, GroupState, TempDir> for InMemory {
    async fn build(&self) -> Result<(TempDir, GroupLog, GroupState), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let (log, state) = build(Arc::new(MemoryStore::default()), &dir);
        Ok((dir, log, state))
    }
}

#[tokio::test]
async fn rocksdb_keeps_logs_and_state_as_openraft_needs_them() {
    Suite::test_all(OnRocks).await.unwrap();
}

#[tokio::test]
async fn memory_keeps_logs_and_state_as_openraft_needs_them() {
    Suite::test_all(InMemory).await.unwrap();
}

fn submit(store: &dyn LogStore, write: LogWrite) {
    let (sender, done) = mpsc::sync_channel(1);
    store.submit(
        GROUP,
        write,
        Box::new(move |result| sender.send(result).unwrap()),
    );
    done.recv().unwrap().unwrap();
}

#[test]
fn what_was_done_is_there_after_the_database_is_opened_again() {
    let dir = TempDir::new().unwrap();
    {
        let store = rocks(&dir);
        let entries = (1..=5).map(|index| (index, Bytes::from(vec![index as u8; 3])));
        submit(&*store, LogWrite::Append(entries.collect()));
        submit(&*store, LogWrite::Vote(Bytes::from_static(b"vote")));
        submit(&*store, LogWrite::Truncate(5));
        submit(&*store, LogWrite::Purge(3, Bytes::from_static(b"two")));
        let write = RowWrite {
            table: Table::Root,
            key: vec![1],
            value: Some(vec![2]),
        };
        store.commit(GROUP, vec![write], b"here").unwrap();
    }
    let store = rocks(&dir);
    let indices = store.entries(GROUP, 0..100, usize::MAX).unwrap();
    let indices: Vec<u64> = indices.into_iter().map(|(index, _)| index).collect();
    assert_eq!(indices, [3, 4]);
    assert_eq!(store.entries(GROUP, 0..100, 1).unwrap().len(), 1);
    assert_eq!(store.last(GROUP).unwrap().unwrap(), vec![4; 3]);
    assert_eq!(store.vote(GROUP).unwrap().unwrap(), "vote");
    assert_eq!(store.purged(GROUP).unwrap().unwrap(), "two");
    assert_eq!(store.position(GROUP).unwrap().unwrap(), "here");
    assert_eq!(store.groups().unwrap(), [GROUP]);
    assert_eq!(store.last(PartitionId::new(1)).unwrap(), None);
    let read = |rows: &dyn Rows| rows.get(Table::Root, &[1]).map_err(io::Error::other);
    store
        .read(&mut |rows| read(rows).map(|row| assert_eq!(row, Some(vec![2]))))
        .unwrap();
}

fn forgets<S: LogStore + StateStore>(store: &S) {
    let other = PartitionId::new(9);
    let row = |key: u8| RowWrite {
        table: Table::Root,
        key: vec![key],
        value: Some(vec![key]),
    };
    submit(
        store,
        LogWrite::Append(vec![(1, Bytes::from_static(b"one"))]),
    );
    submit(store, LogWrite::Vote(Bytes::from_static(b"vote")));
    submit(store, LogWrite::Purge(1, Bytes::from_static(b"none")));
    store.commit(GROUP, vec![row(1), row(2)], b"here").unwrap();
    store.commit(other, vec![row(3)], b"there").unwrap();
    let range = RowRange::new(Table::Root, vec![1], Some(vec![3]));
    store.forget(GROUP, &[range]).unwrap();
    let mut kept = Vec::new();
    let all = &mut |rows: &dyn Rows| {
        let visit = &mut |key: &[u8], _: &[u8]| {
            kept.extend_from_slice(key);
            ControlFlow::Continue(())
        };
        rows.scan(Table::Root, &[], None, visit)
            .map_err(io::Error::other)
    };
    store.read(all).unwrap();
    assert_eq!(kept, [3]);
    assert_eq!(store.groups().unwrap(), [other]);
    assert_eq!(store.last(GROUP).unwrap(), None);
    assert_eq!(store.purged(GROUP).unwrap(), None);
    assert_eq!(store.vote(GROUP).unwrap().unwrap(), "vote");
}

#[test]
fn a_replica_that_left_forgets_all_but_its_vote() {
    forgets(&*rocks(&TempDir::new().unwrap()));
    forgets(&MemoryStore::default());
}

#[test]
fn writes_that_wait_together_share_a_sync() {
    let dir = TempDir::new().unwrap();
    let store = rocks(&dir);
    let (sender, done) = mpsc::sync_channel(100);
    let syncs = || {
        crate::metrics::metrics()
            .log_batch_writes
            .get_sample_count()
    };
    let before = syncs();
    // The first callback holds the writer until all others are queued.
    let (release, held) = mpsc::sync_channel::<()>(1);
    store.submit(
        GROUP,
        LogWrite::Append(vec![(0, Bytes::new())]),
        Box::new(move |_| {
            held.recv().unwrap();
        }),
    );
    for group in 1..=100 {
        let sender = sender.clone();
        let write = LogWrite::Append(vec![(1, Bytes::from_static(b"entry"))]);
        let done = Box::new(move |result: io::Result<()>| sender.send(result).unwrap());
        store.submit(PartitionId::new(group), write, done);
    }
    release.send(()).unwrap();
    for _ in 0..100 {
        done.recv().unwrap().unwrap();
    }
    // Other tests of this process write, too: far fewer than one each is what must hold.
    assert!(syncs() - before < 50, "{} syncs", syncs() - before);
}

#[tokio::test]
async fn a_snapshot_that_a_crash_interrupted_is_installed_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let (source, target) = (Arc::new(MemoryStore::default()), rocks(&dir));
    let position = Position {
        applied: Some(LogId::new(CommittedLeaderId::new(1, 1), 9)),
        ..Position::default()
    };
    let row = |value| RowWrite {
        table: Table::Root,
        key: vec![1],
        value: Some(vec![value]),
    };
    source
        .commit(GROUP, vec![row(1)], &encode(&position))
        .unwrap();
    let stale = RowWrite {
        table: Table::Root,
        key: vec![2],
        value: Some(vec![2]),
    };
    target
        .commit(GROUP, vec![row(2), stale], &encode(&Position::default()))
        .unwrap();
    let (meta, export) = snapshot::export(GROUP, source).await.unwrap().unwrap();
    let staged = snapshot::stage(dir.path(), GROUP, &meta, export)
        .await
        .unwrap();
    // The crash comes before any row is replaced, and again in the midst of it.
    staged.persist(dir.path(), GROUP).unwrap();
    let clear = RowWrite {
        table: Table::Root,
        key: vec![1],
        value: None,
    };
    target
        .commit(GROUP, vec![clear], &encode(&Position::default()))
        .unwrap();
    let mut state = GroupState::open(GROUP, target.clone(), dir.path().to_owned()).unwrap();
    assert_eq!(state.applied_state().await.unwrap().0, position.applied);
    let mut seen = |rows: &dyn Rows| {
        assert_eq!(rows.get(Table::Root, &[1]).unwrap(), Some(vec![1]));
        assert_eq!(rows.get(Table::Root, &[2]).unwrap(), None);
        Ok(())
    };
    target.read(&mut seen).unwrap();
    assert!(
        snapshot::finish(dir.path(), GROUP, &*target)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_command_that_cannot_be_decoded_stops_the_replica_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (_, mut state) = build(Arc::new(MemoryStore::default()), &dir);
    let id = LogId::new(CommittedLeaderId::new(1, 1), 1);
    let bytes = Bytes::from_static(&[99, 1, 2]);
    let entry = Entry::new(id, EntryPayload::Normal(Command { bytes }));
    let entries = futures::stream::iter([Ok((entry, None))]);
    let error = futures::executor::block_on(state.apply(entries)).unwrap_err();
    assert!(
        error.to_string().contains("version 99 is not known"),
        "{error}"
    );
    assert_eq!(
        futures::executor::block_on(state.applied_state())
            .unwrap()
            .0,
        None
    );
}

fn scan(rows: &dyn Rows, from: &[u8], to: Option<&[u8]>) -> Vec<Row> {
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        seen.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    rows.scan(Table::Latest, from, to, &mut visit).unwrap();
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn rows_on_rocksdb_read_as_rows_in_memory(
        writes in vec((vec(any::<u8>(), 0..3), any::<Option<u8>>()), 0..60),
        from in vec(any::<u8>(), 0..3),
        to in vec(any::<u8>(), 0..3),
    ) {
        let dir = TempDir::new().unwrap();
        let store = rocks(&dir);
        let mut twin = MemoryRows::default();
        for (key, value) in writes {
            let value = value.map(|value| vec![value]);
            let write = RowWrite { table: Table::Latest, key, value };
            store.commit(GROUP, vec![write.clone()], b"").unwrap();
            twin.commit(vec![write]);
        }
        let mut act = |rows: &dyn Rows| {
            assert_eq!(scan(rows, &from, Some(&to)), scan(&twin, &from, Some(&to)));
            assert_eq!(scan(rows, &from, None), scan(&twin, &from, None));
            let last = |rows: &dyn Rows| rows.last(Table::Latest, &from, &to).unwrap();
            assert_eq!(last(rows), last(&twin));
            let get = |rows: &dyn Rows| rows.get(Table::Latest, &from).unwrap();
            assert_eq!(get(rows), get(&twin));
            Ok(())
        };
        store.read(&mut act).unwrap();
    }

    #[test]
    fn an_export_replaces_all_rows_of_its_ranges_and_no_others(
        theirs in vec(any::<u8>(), 0..40),
        ours in vec(any::<u8>(), 0..40),
        from in any::<u8>(),
        to in any::<Option<u8>>(),
    ) {
        let dir = TempDir::new().unwrap();
        let source: &dyn StateStore = &MemoryStore::default();
        let target = rocks(&dir);
        let range = RowRange::new(Table::Latest, vec![from], to.map(|to| vec![to]));
        let put = |store: &dyn StateStore, keys: &[u8], value: u8| {
            let write = |key: &u8| RowWrite {
                table: Table::Latest, key: vec![*key], value: Some(vec![value]),
            };
            store.commit(GROUP, keys.iter().map(write).collect(), b"old").unwrap();
        };
        put(source, &theirs, 1);
        put(&*target, &ours, 2);
        let mut chunks = Vec::new();
        source.export(GROUP, 10, &mut |_, _| Ok(vec![range.clone()]), &mut |index, rows| {
            assert_eq!(index, 0);
            chunks.push(rows);
            ControlFlow::Continue(())
        }).unwrap();
        let mut chunks = chunks.into_iter();
        target.import(GROUP, std::slice::from_ref(&range), &mut || {
            let write = |(key, value)| RowWrite { table: Table::Latest, key, value: Some(value) };
            Ok(chunks.next().map(|rows: Vec<Row>| rows.into_iter().map(write).collect()))
        }, b"new").unwrap();
        let inside = |key: u8| key >= from && to.is_none_or(|to| key < to);
        for key in 0..=255u8 {
            let expected = if inside(key) { theirs.contains(&key).then_some(1) }
                else { ours.contains(&key).then_some(2) };
            target.read(&mut |rows| {
                let row = rows.get(Table::Latest, &[key]).unwrap();
                assert_eq!(row, expected.map(|value| vec![value]), "{key}");
                Ok(())
            }).unwrap();
        }
        prop_assert_eq!(target.position(GROUP).unwrap().unwrap(), "new");
    }
}

/// How many rows of a table are there, and how many removed ones are passed over.
fn surveyed(store: &Rocks, table: Table) -> (usize, usize) {
    let (mut there, mut removed) = (0, 0);
    let count = &mut |rows: &dyn Rows| {
        rows.survey(table, &[], None, &mut |_, value| {
            match value {
                Some(_) => there += 1,
                None => removed += 1,
            }
            ControlFlow::Continue(())
        })
        .map_err(io::Error::other)
    };
    store.read(count).unwrap();
    (there, removed)
}

#[test]
fn removed_rows_are_not_there_show_in_surveys_and_are_forgotten() {
    let dir = TempDir::new().unwrap();
    let store = rocks(&dir);
    let key = |number: u32| number.to_be_bytes().to_vec();
    let write = |table, number, value: Option<&[u8]>| RowWrite {
        table,
        key: key(number),
        value: value.map(<[u8]>::to_vec),
    };
    let commit = |table, numbers: std::ops::Range<u32>, value: Option<&[u8]>| {
        let writes = numbers.map(|number| write(table, number, value));
        store.commit(GROUP, writes.collect(), b"here").unwrap();
    };
    for table in [Table::Latest, Table::Side] {
        commit(table, 0..5_000, Some(b"value"));
        commit(table, 0..900, None);
    }
    assert_eq!(surveyed(&store, Table::Latest), (4_100, 900));
    assert_eq!(surveyed(&store, Table::Side), (4_100, 0));
    store
        .read(&mut |rows| {
            let last = rows.last(Table::Latest, &key(0), &key(900)).unwrap();
            assert_eq!(
                (rows.get(Table::Latest, &key(7)).unwrap(), last),
                (None, None)
            );
            let (last, _) = rows
                .last(Table::Latest, &key(0), &key(901))
                .unwrap()
                .unwrap();
            assert_eq!(last, key(900));
            Ok(())
        })
        .unwrap();
    // Where there are many, a survey has them forgotten; what was written again stays.
    commit(Table::Latest, 900..4_000, None);
    commit(Table::Latest, 17..18, Some(b"again"));
    while surveyed(&store, Table::Latest) != (1_001, 0) {
        std::thread::yield_now();
    }
}
