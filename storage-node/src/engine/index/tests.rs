//! Both indexes keep to the same contract.

use super::rocks::{IndexMemory, RocksIndex};
use super::*;

fn put(index: &dyn Index, rows: &[(&str, &str)]) {
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(key.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    index.write(batch).unwrap();
}

fn keys(rows: Vec<Row>) -> Vec<String> {
    rows.into_iter()
        .map(|(key, _)| String::from_utf8(key).unwrap())
        .collect()
}

fn conforms(index: &dyn Index) {
    put(
        index,
        &[
            ("a1", "x"),
            ("a3", "y"),
            ("b1", "z"),
            ("b2", ""),
            ("c", "w"),
        ],
    );
    assert_eq!(index.get(b"a3").unwrap().as_deref(), Some(b"y".as_slice()));
    assert_eq!(index.get(b"b2").unwrap().as_deref(), Some(b"".as_slice()));
    assert_eq!(index.get(b"a2").unwrap(), None);
    assert_eq!(
        keys(index.scan(b"a", b"b2", 9).unwrap()),
        ["a1", "a3", "b1"]
    );
    assert_eq!(keys(index.scan(b"a", b"z", 2).unwrap()), ["a1", "a3"]);
    assert_eq!(keys(index.scan(b"b", b"a", 9).unwrap()), [""; 0]);
    let last = |from: &[u8], to: &[u8]| keys(index.last(from, to).unwrap().into_iter().collect());
    assert_eq!(last(b"a", b"a2"), ["a1"]);
    assert_eq!(last(b"a", b"a3"), ["a3"], "the end is included");
    assert_eq!(last(b"a2", b"a2"), [""; 0]);
    assert_eq!(last(b"b", b"c"), ["c"]);
    let mut batch = Batch::default();
    batch.delete_range(b"a".to_vec(), b"b2".to_vec());
    batch.delete(b"c".to_vec());
    batch.put(b"a2".to_vec(), b"later changes win".to_vec());
    index.write(batch).unwrap();
    assert_eq!(keys(index.scan(b"", b"z", 9).unwrap()), ["a2", "b2"]);
    index.flush().unwrap();
}

#[test]
fn the_index_in_memory_conforms() {
    conforms(&MemoryIndex::default());
    conforms(&MemoryIndex::crashable());
}

#[test]
fn the_index_on_rocksdb_conforms_and_keeps_what_was_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let memory = IndexMemory::new(1 << 20, 1 << 20, 16);
    let index = RocksIndex::open(&path, &memory).unwrap();
    conforms(&index);
    drop(index);
    let index = RocksIndex::open(&path, &memory).unwrap();
    assert_eq!(keys(index.scan(b"", b"z", 9).unwrap()), ["a2", "b2"]);
}

#[test]
fn a_crash_of_the_index_in_memory_keeps_a_prefix() {
    let index = MemoryIndex::crashable();
    put(&index, &[("a", "1")]);
    index.flush().unwrap();
    put(&index, &[("b", "2")]);
    put(&index, &[("c", "3")]);
    assert_eq!(index.unflushed(), 2);
    index.crash(1);
    assert_eq!(keys(index.scan(b"", b"z", 9).unwrap()), ["a", "b"]);
}
