//! Where the drives of an embedded cluster are: every folder that holds a superblock, by the UUID
//! that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::format::{self, Shard};

/// The folders of drives, and the logs in them.
#[derive(Debug, Default)]
pub(crate) struct Drives {
    folders: BTreeMap<u128, PathBuf>,
}

impl Drives {
    /// Looks through the folder of a cluster.
    pub(crate) fn find(data: &Path) -> anyhow::Result<Drives> {
        let mut drives = Drives::default();
        for enclosure in folders(&data.join("enclosures"))? {
            for folder in folders(&enclosure.join("drives"))? {
                let Some(id) = superblock(&folder) else {
                    // Empty, or being formatted.
                    continue;
                };
                if let Some(other) = drives.folders.insert(id, folder.clone()) {
                    bail!("{} and {} are one drive", other.display(), folder.display());
                }
            }
        }
        Ok(drives)
    }

    pub(crate) fn has(&self, drive: u128) -> bool {
        self.folders.contains_key(&drive)
    }

    /// The log of a shard; none when there is no such file.
    pub(crate) fn log(&self, drive: u128, shard: Shard) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(folder) = self.folders.get(&drive) else {
            return Ok(None);
        };
        let name = format!("shards/{}-{}.log", shard.volume, shard.member);
        read(&folder.join(name))
    }

    /// Every shard with a log, and its bytes.
    pub(crate) fn shards(&self) -> anyhow::Result<Vec<(u128, Shard, u64)>> {
        let mut shards = Vec::new();
        for (drive, folder) in &self.folders {
            let names = match std::fs::read_dir(folder.join("shards")) {
                Ok(names) => names,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context("listing a drive"),
            };
            for entry in names {
                let entry = entry.context("listing a drive")?;
                let bytes = match entry.metadata() {
                    Ok(metadata) => metadata.len(),
                    // Gone since.
                    Err(_) => continue,
                };
                let name = entry.file_name();
                if let Some(shard) = name.to_str().and_then(of_name) {
                    shards.push((*drive, shard, bytes));
                }
            }
        }
        Ok(shards)
    }

    /// The file of a shard's log.
    #[cfg(test)]
    pub(crate) fn path(&self, drive: u128, shard: Shard) -> PathBuf {
        let name = format!("shards/{}-{}.log", shard.volume, shard.member);
        self.folders[&drive].join(name)
    }
}

fn of_name(name: &str) -> Option<Shard> {
    let (volume, member) = name.strip_suffix(".log")?.split_once('-')?;
    Some(Shard {
        volume: volume.parse().ok()?,
        member: member.parse().ok()?,
    })
}

fn superblock(folder: &Path) -> Option<u128> {
    let copies = ["superblock", "superblock.copy"];
    let copies = copies.into_iter().filter_map(|name| {
        let bytes = read(&folder.join(name)).ok()??;
        format::superblock(&bytes)
    });
    copies.max().map(|(_, drive)| drive)
}

fn folders(of: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(of) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("listing {}", of.display())),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Result<Vec<PathBuf>, _> = paths.collect();
    let mut paths = paths.with_context(|| format!("listing {}", of.display()))?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
