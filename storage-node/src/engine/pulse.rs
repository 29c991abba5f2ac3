//! How quickly a drive does what it is asked, and how often it cannot read.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use enfilade_placement::BlobId;

use super::ShardKey;
use crate::sync::lock;

/// Counts since the last look.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    done: AtomicU64,
    micros: AtomicU64,
    /// What the drive failed to read; never reset, and no more than are counted.
    unread: Mutex<BTreeSet<Unread>>,
    /// What the drive said of the last of them.
    last_error: Mutex<String>,
}

/// Beyond so many it does not matter how many they are.
const UNREAD_MAX: usize = 64;

/// Bytes of a log, aligned, that count as one place: a bad sector, or what a device loses with it.
const PLACE: u64 = 64 * 1024;

/// What a drive failed to read.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unread {
    /// A fragment, because it did not answer: shard, blob, stripe.
    Fragment(ShardKey, BlobId, u32),
    /// A place of a log, the bytes of which are lost: shard, and number.
    Place(ShardKey, u64),
}

impl Pulse {
    /// Something took so long.
    pub(super) fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// A fragment (shard, blob, stripe) could not be read, and what the drive said; again and again
    /// counts once.
    pub(super) fn read_failed(&self, (key, blob, stripe): (ShardKey, BlobId, u32), error: &str) {
        self.count(key, Unread::Fragment(key, blob, stripe), error);
    }

    /// The bytes at an offset of a shard's log are lost, as the drive said; how many places are not
    /// readable by now.
    pub(super) fn place_lost(&self, key: ShardKey, offset: u64, error: &str) -> u64 {
        self.count(key, Unread::Place(key, offset / PLACE), error)
    }

    fn count(&self, ShardKey { volume, member }: ShardKey, what: Unread, error: &str) -> u64 {
        *lock(&self.last_error) = format!("read of volume {volume}, member {member}: {error}");
        let mut unread = lock(&self.unread);
        if unread.len() < UNREAD_MAX {
            unread.insert(what);
        }
        unread.len() as u64
    }

    /// The last read that failed.
    pub(super) fn last_error(&self) -> String {
        lock(&self.last_error).clone()
    }

    pub(super) fn read_errors(&self) -> u64 {
        lock(&self.unread).len() as u64
    }

    /// The mean time since this was asked last; none when nothing was done.
    pub(super) fn take(&self) -> Option<Duration> {
        let done = self.done.swap(0, Ordering::Relaxed);
        let micros = self.micros.swap(0, Ordering::Relaxed);
        Some(Duration::from_micros(micros.checked_div(done)?))
    }
}
