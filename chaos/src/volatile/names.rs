//! The names of all files: as they are now, as the last syncs of folders left them, and the changes
//! between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::Lost;
use super::fate::Fate;

/// A name in a folder.
pub(super) type Slot = (u64, OsString);

/// Which file each name stands for.
type Tree = BTreeMap<Slot, u64>;

/// One change, which survives as a whole or not at all: a new name, a removed one, or a rename.
#[derive(Clone, Debug)]
struct Change {
    from: Option<Slot>,
    to: Option<Slot>,
    file: u64,
}

impl Change {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.from.iter().chain(&self.to)
    }

    /// Applies to a tree that may lack changes that came before.
    fn apply(&self, tree: &mut Tree) {
        if let Some(from) = &self.from
            && tree.get(from) == Some(&self.file)
        {
            tree.remove(from);
        }
        if let Some(to) = &self.to {
            tree.insert(to.clone(), self.file);
        }
    }
}

/// All names of a file system.
#[derive(Debug, Default)]
pub(super) struct Names {
    now: Tree,
    synced: Tree,
    pending: Vec<Change>,
}

impl Names {
    /// The file of a name.
    pub(super) fn get(&self, folder: u64, name: &OsStr) -> Option<u64> {
        self.now.get(&(folder, name.to_owned())).copied()
    }

    /// The names in a folder, in order.
    pub(super) fn list(&self, folder: u64) -> impl Iterator<Item = (&OsString, u64)> {
        let range = (folder, OsString::new())..(folder + 1, OsString::new());
        self.now.range(range).map(|((_, name), file)| (name, *file))
    }

    /// Adds, removes or renames.
    pub(super) fn change(&mut self, from: Option<Slot>, to: Option<Slot>, file: u64) {
        let change = Change { from, to, file };
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// Makes the names of a folder durable, and whatever else its renames touched.
    pub(super) fn sync(&mut self, folder: u64) {
        let mut taken = BTreeSet::new();
        let mut slots: BTreeSet<&Slot> = BTreeSet::new();
        for (index, change) in self.pending.iter().enumerate().rev() {
            // What came before on the same name must not come after it.
            if change
                .slots()
                .any(|slot| slot.0 == folder || slots.contains(slot))
            {
                taken.insert(index);
                slots.extend(change.slots());
            }
        }
        let pending = std::mem::take(&mut self.pending);
        for (index, change) in pending.into_iter().enumerate() {
            match taken.contains(&index) {
                true => change.apply(&mut self.synced),
                false => self.pending.push(change),
            }
        }
    }

    /// Whether a file has a name, had one when it was synced, or may get one back by a power cut.
    pub(super) fn refer_to(&self, file: u64) -> bool {
        self.now.values().any(|named| *named == file)
            || self.synced.values().any(|named| *named == file)
            || self.pending.iter().any(|change| change.file == file)
    }

    /// Leaves what a power cut leaves.
    pub(super) fn cut(&mut self, fate: &mut Fate, lost: &mut Lost) {
        for change in std::mem::take(&mut self.pending) {
            lost.names_unsynced += 1;
            match fate.keeps() {
                true => change.apply(&mut self.synced),
                false => lost.names += 1,
            }
        }
        self.now = self.synced.clone();
    }

    /// How often each file is named, below the root. What cannot be reached is forgotten.
    pub(super) fn reachable(&mut self, root: u64) -> BTreeMap<u64, u32> {
        let mut links = BTreeMap::from([(root, 1)]);
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for (_, file) in self.list(folder) {
                let count = links.entry(file).or_insert(0);
                *count += 1;
                if *count == 1 {
                    folders.push(file);
                }
            }
        }
        self.now.retain(|(folder, _), _| links.contains_key(folder));
        self.synced = self.now.clone();
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u64 = 1;

    fn slot(folder: u64, name: &str) -> Option<Slot> {
        Some((folder, name.into()))
    }

    fn at(names: &Names, name: &str) -> Option<u64> {
        names.get(ROOT, OsStr::new(name))
    }

    #[test]
    fn names_are_there_after_a_cut_only_when_their_folder_was_synced() {
        let mut names = Names::default();
        names.change(None, slot(ROOT, "a"), 10);
        names.change(None, slot(ROOT, "folder"), 2);
        names.sync(ROOT);
        names.change(None, slot(2, "b"), 11);
        names.change(slot(ROOT, "a"), None, 10);
        names.change(None, slot(ROOT, "c"), 12);
        assert_eq!((at(&names, "a"), at(&names, "c")), (None, Some(12)));
        assert!(names.refer_to(10), "it may come back");
        let mut lost = Lost::default();
        names.cut(&mut Fate::nothing(), &mut lost);
        assert_eq!((at(&names, "a"), at(&names, "c")), (Some(10), None));
        assert_eq!(names.get(2, OsStr::new("b")), None);
        assert_eq!((lost.names_unsynced, lost.names), (3, 3));
        assert_eq!(
            names.reachable(ROOT),
            BTreeMap::from([(1, 1), (2, 1), (10, 1)])
        );
    }

    #[test]
    fn a_rename_is_old_or_new_whatever_the_seed() {
        for seed in 0..100 {
            let mut names = Names::default();
            names.change(None, slot(ROOT, "file"), 10);
            names.change(None, slot(ROOT, "file.new"), 11);
            names.sync(ROOT);
            names.change(slot(ROOT, "file.new"), slot(ROOT, "file"), 11);
            names.cut(&mut Fate::of(seed), &mut Lost::default());
            let found = (at(&names, "file"), at(&names, "file.new"));
            assert!(
                found == (Some(10), Some(11)) || found == (Some(11), None),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_rename_into_a_synced_folder_takes_the_file_out_of_the_other() {
        let mut names = Names::default();
        names.change(None, slot(ROOT, "x"), 2);
        names.change(None, slot(ROOT, "y"), 3);
        names.sync(ROOT);
        names.change(None, slot(2, "a"), 10);
        names.change(slot(2, "a"), slot(3, "b"), 10);
        names.sync(3);
        names.cut(&mut Fate::everything(), &mut Lost::default());
        assert_eq!(names.get(2, OsStr::new("a")), None);
        assert_eq!(names.get(3, OsStr::new("b")), Some(10));
    }
}
