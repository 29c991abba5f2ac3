//! A file system that forgets: what was not synced may be gone after a power cut.
//!
//! It is mounted by FUSE and serves any program. Names are kept in memory, bytes in files of a
//! backing folder; for both it is known what the last syncs made durable. A power cut stops all
//! requests in one moment, decides what of the rest survives, and forgets what does not. The model
//! is the strictest that the interface allows: each page of a file and each name is by itself, and
//! syncing a file says nothing about its name. A rename survives as a whole or not at all, and so
//! does a truncation.
//!
//! Not modelled: modes and times of files (durable at once), and the kernel's `syncfs`, of which
//! a file system in user space never hears: it makes nothing durable.

mod content;
mod fate;
mod gate;
mod image;
mod mount;
mod names;
mod serve;

pub(crate) use fate::Fate;
pub(crate) use mount::Volatile;

/// What a power cut could take, and what it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Files with bytes or a length that were not synced.
    pub(crate) files_unsynced: u64,
    /// Pages of files that were not synced.
    pub(crate) pages_unsynced: u64,
    /// Of these, pages that are old again, at least in part.
    pub(crate) pages: u64,
    /// Changes of names that were not synced.
    pub(crate) names_unsynced: u64,
    /// Of these, changes that did not happen.
    pub(crate) names: u64,
}

#[cfg(test)]
mod tests;
