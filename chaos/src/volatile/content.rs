//! The bytes of one file: as they are now, in a file of the backing folder, and for every page
//! that was written since the last sync, what was there before.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Lost;
use super::fate::{Fate, Page};

const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// A file's bytes.
#[derive(Debug)]
pub(super) struct Content {
    path: PathBuf,
    /// Held while somebody has the file open.
    file: Option<File>,
    opens: u32,
    length: u64,
    modified: SystemTime,
    synced_length: u64,
    /// The least length since the last sync: below the synced one when the file was truncated.
    least_length: u64,
    /// Pages written since the last sync, with what was there; `None` stands for zeros.
    old: BTreeMap<u64, Option<Box<[u8]>>>,
}

impl Content {
    /// An empty file, of which nothing is durable yet.
    pub(super) fn create(path: PathBuf) -> io::Result<Content> {
        File::create_new(&path)?;
        Ok(Content {
            path,
            file: None,
            opens: 0,
            length: 0,
            modified: SystemTime::now(),
            synced_length: 0,
            least_length: 0,
            old: BTreeMap::new(),
        })
    }

    /// Where the bytes are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn modified(&self) -> SystemTime {
        self.modified
    }

    pub(super) fn is_open(&self) -> bool {
        self.opens > 0
    }

    pub(super) fn opened(&mut self) {
        self.opens += 1;
    }

    pub(super) fn closed(&mut self) {
        self.opens = self.opens.saturating_sub(1);
        if self.opens == 0 {
            self.file = None;
        }
    }

    /// Reads up to the end of the file.
    pub(super) fn read(&mut self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; size.min(rest)];
        self.file()?.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        self.remember(offset, end)?;
        self.file()?.write_all_at(bytes, offset)?;
        self.length = self.length.max(end);
        self.modified = SystemTime::now();
        Ok(())
    }

    pub(super) fn set_length(&mut self, length: u64) -> io::Result<()> {
        if length < self.length {
            self.remember(length, self.length)?;
            self.least_length = self.least_length.min(length);
        }
        self.file()?.set_len(length)?;
        self.length = length;
        self.modified = SystemTime::now();
        Ok(())
    }

    /// Writes zeros, as far as the file goes.
    pub(super) fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = self.length.min(offset.saturating_add(length));
        let zeros = vec![0; 64 * 1024];
        let mut at = offset;
        while at < end {
            let step = usize::try_from(end - at).map_or(zeros.len(), |rest| rest.min(zeros.len()));
            self.write(at, &zeros[..step])?;
            at += step as u64;
        }
        Ok(())
    }

    /// From now on, a power cut leaves the bytes and the length as they are at this moment.
    pub(super) fn sync(&mut self) {
        self.old.clear();
        self.synced_length = self.length;
        self.least_length = self.length;
    }

    /// Keeps what pages hold that are about to be written for the first time since the last sync.
    fn remember(&mut self, offset: u64, end: u64) -> io::Result<()> {
        for page in offset / PAGE..end.div_ceil(PAGE) {
            if self.old.contains_key(&page) {
                continue;
            }
            let start = page * PAGE;
            let synced = self.synced_length.min(self.length).saturating_sub(start);
            let kept = match usize::try_from(synced.min(PAGE)).unwrap_or(PAGE_BYTES) {
                0 => None,
                count => {
                    let mut bytes = vec![0; PAGE_BYTES].into_boxed_slice();
                    self.file()?.read_exact_at(&mut bytes[..count], start)?;
                    Some(bytes)
                }
            };
            self.old.insert(page, kept);
        }
        Ok(())
    }

    /// Leaves what a power cut leaves. Nobody has the file open afterwards.
    pub(super) fn cut(&mut self, fate: &mut Fate, lost: &mut Lost) -> io::Result<()> {
        fate.next_file();
        let truncated = self.least_length < self.synced_length;
        let cut_lost = truncated && !fate.keeps();
        let length = if cut_lost {
            self.synced_length
        } else {
            fate.length(self.synced_length.min(self.least_length), self.length)
        };
        let least = self.least_length;
        let old = std::mem::take(&mut self.old);
        lost.files_unsynced += u64::from(!old.is_empty() || length != self.length);
        lost.pages_unsynced += old.len() as u64;
        for (page, kept) in old {
            let start = page * PAGE;
            let mut kept = kept.map_or_else(|| vec![0; PAGE_BYTES], <[u8]>::into_vec);
            let fallen = cut_lost && start + PAGE > least;
            if truncated && !cut_lost {
                // What the truncation took away is not seen again.
                let from = usize::try_from(least.saturating_sub(start)).unwrap_or(PAGE_BYTES);
                kept[from.min(PAGE_BYTES)..].fill(0);
            }
            let sectors = match fate.page() {
                _ if fallen => u8::MAX,
                Page::Old => u8::MAX,
                Page::New => 0,
                Page::Torn(sectors) => sectors,
            };
            lost.pages += u64::from(sectors != 0);
            for (index, sector) in (0u64..).zip(kept.chunks(SECTOR_BYTES)) {
                if sectors >> index & 1 == 1 {
                    let at = start + index * SECTOR_BYTES as u64;
                    self.file()?.write_all_at(sector, at)?;
                }
            }
        }
        self.file()?.set_len(length)?;
        (self.length, self.opens, self.file) = (length, 0, None);
        self.sync();
        Ok(())
    }

    fn file(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().read(true).write(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(folder: &tempfile::TempDir) -> Content {
        Content::create(folder.path().join("1")).unwrap()
    }

    fn all(content: &mut Content) -> Vec<u8> {
        content.read(0, 1 << 20).unwrap()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = content(&folder);
        content.write(0, &[1; 10_000]).unwrap();
        content.sync();
        content.write(100, &[2; 9_000]).unwrap();
        content.write(10_000, &[3; 50_000]).unwrap();
        assert_eq!(content.length(), 60_000);
        let mut lost = Lost::default();
        content.cut(&mut Fate::nothing(), &mut lost).unwrap();
        assert_eq!(all(&mut content), vec![1; 10_000]);
        assert!(lost.pages >= 14 && lost.files_unsynced == 1, "{lost:?}");
    }

    #[test]
    fn a_truncation_that_was_not_synced_is_undone_with_all_that_followed_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = content(&folder);
        content.write(0, &[1; 20_000]).unwrap();
        content.sync();
        content.set_length(5_000).unwrap();
        content.write(9_000, &[2; 100]).unwrap();
        assert_eq!(all(&mut content)[5_000..9_000], [0; 4_000]);
        content
            .cut(&mut Fate::nothing(), &mut Lost::default())
            .unwrap();
        assert_eq!(all(&mut content), vec![1; 20_000]);
        content.set_length(5_000).unwrap();
        content.set_length(8_000).unwrap();
        content
            .cut(&mut Fate::everything(), &mut Lost::default())
            .unwrap();
        assert_eq!(content.length(), 8_000);
        assert_eq!(all(&mut content)[5_000..], [0; 3_000]);
    }

    #[test]
    fn a_random_fate_leaves_each_sector_old_or_new() {
        let folder = tempfile::tempdir().unwrap();
        let (mut old, mut new, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let path = folder.path().join(format!("s{seed}"));
            let mut content = Content::create(path).unwrap();
            content.write(0, &[1; 40_000]).unwrap();
            content.sync();
            content.write(0, &[2; 50_000]).unwrap();
            content
                .cut(&mut Fate::of(seed), &mut Lost::default())
                .unwrap();
            let bytes = all(&mut content);
            assert!((40_000..=50_000).contains(&bytes.len()));
            for page in bytes[..36_864].chunks(PAGE_BYTES) {
                let count = page.iter().filter(|byte| **byte == 2).count();
                assert_eq!(count % SECTOR_BYTES, 0, "a sector is never torn");
                assert!(page.iter().all(|byte| *byte == 1 || *byte == 2));
                match count {
                    0 => old += 1,
                    PAGE_BYTES => new += 1,
                    _ => torn += 1,
                }
            }
        }
        assert!(old > 100 && new > 100 && torn > 10, "{old} {new} {torn}");
    }
}
