//! Files, folders and their names, and what a power cut leaves of them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::Lost;
use super::content::Content;
use super::fate::Fate;
use super::names::Names;

/// The number of the folder on top.
pub(super) const ROOT: u64 = 1;

/// The bytes of a file, for all who have it open.
pub(super) type Shared = Arc<Mutex<Content>>;

/// A file system.
#[derive(Debug)]
pub(super) struct Image {
    backing: PathBuf,
    nodes: BTreeMap<u64, Node>,
    names: Names,
    /// The number of the next file or folder; none is used twice.
    next: u64,
    /// Syncs of paths that contain this are not done, though they succeed.
    ignored: Option<String>,
}

#[derive(Debug)]
struct Node {
    /// None: a folder.
    content: Option<Shared>,
    links: u32,
    mode: u16,
    /// Where it was when it was last named.
    path: String,
    born: SystemTime,
}

/// What there is to know about a file or folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    pub(super) number: u64,
    pub(super) folder: bool,
    pub(super) length: u64,
    pub(super) links: u32,
    pub(super) mode: u16,
    pub(super) modified: SystemTime,
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Make {
    File,
    Folder,
}

/// A file by its folder and name.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) folder: u64,
    pub(super) name: &'a OsStr,
}

impl At<'_> {
    fn slot(self) -> Option<(u64, OsString)> {
        Some((self.folder, self.name.to_owned()))
    }
}

impl Image {
    /// An empty file system that keeps its bytes in a folder.
    pub(super) fn new(backing: &Path, ignored: Option<String>) -> Image {
        let root = Node {
            content: None,
            links: 1,
            mode: 0o755,
            path: String::new(),
            born: SystemTime::now(),
        };
        Image {
            backing: backing.to_owned(),
            nodes: BTreeMap::from([(ROOT, root)]),
            names: Names::default(),
            next: ROOT + 1,
            ignored,
        }
    }

    pub(super) fn about(&self, number: u64) -> io::Result<About> {
        let node = self.node(number)?;
        let (length, modified) = match &node.content {
            Some(content) => {
                let content = lock(content);
                (content.length(), content.modified())
            }
            None => (4096, node.born),
        };
        Ok(About {
            number,
            folder: node.content.is_none(),
            length,
            links: node.links,
            mode: node.mode,
            modified,
        })
    }

    pub(super) fn lookup(&self, at: At<'_>) -> io::Result<About> {
        let number = self.names.get(at.folder, at.name);
        self.about(number.ok_or(ErrorKind::NotFound)?)
    }

    pub(super) fn content(&self, number: u64) -> io::Result<Shared> {
        let content = self.node(number)?.content.clone();
        content.ok_or_else(|| ErrorKind::IsADirectory.into())
    }

    pub(super) fn set_mode(&mut self, number: u64, mode: u16) -> io::Result<()> {
        let node = self.nodes.get_mut(&number).ok_or(ErrorKind::NotFound)?;
        node.mode = mode & 0o7777;
        Ok(())
    }

    /// The names in a folder, with numbers and whether they are folders.
    pub(super) fn list(&self, folder: u64) -> Vec<(OsString, u64, bool)> {
        let names = self.names.list(folder);
        names
            .map(|(name, number)| {
                let node = self.nodes.get(&number);
                let folder = node.is_some_and(|node| node.content.is_none());
                (name.clone(), number, folder)
            })
            .collect()
    }

    pub(super) fn make(&mut self, at: At<'_>, make: Make, mode: u16) -> io::Result<About> {
        if self.names.get(at.folder, at.name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let path = self.path(at)?;
        let number = self.next;
        self.next += 1;
        let content = match make {
            Make::Folder => None,
            Make::File => {
                let content = Content::create(self.backing.join(number.to_string()))?;
                Some(Arc::new(Mutex::new(content)))
            }
        };
        let node = Node {
            content,
            links: 1,
            mode: mode & 0o7777,
            path,
            born: SystemTime::now(),
        };
        self.nodes.insert(number, node);
        self.names.change(None, at.slot(), number);
        self.about(number)
    }

    /// Gives a file another name.
    pub(super) fn link(&mut self, number: u64, at: At<'_>) -> io::Result<About> {
        if self.names.get(at.folder, at.name).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = self.nodes.get_mut(&number).ok_or(ErrorKind::NotFound)?;
        node.links += 1;
        self.names.change(None, at.slot(), number);
        self.about(number)
    }

    /// Removes a name of a file, or an empty folder.
    pub(super) fn remove(&mut self, at: At<'_>) -> io::Result<()> {
        let number = self.names.get(at.folder, at.name);
        let number = number.ok_or(ErrorKind::NotFound)?;
        self.must_be_empty(number)?;
        self.names.change(at.slot(), None, number);
        self.unlinked(number);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: At<'_>, to: At<'_>, replace: bool) -> io::Result<()> {
        let number = self.names.get(from.folder, from.name);
        let number = number.ok_or(ErrorKind::NotFound)?;
        let replaced = self.names.get(to.folder, to.name);
        match replaced {
            Some(same) if same == number => return Ok(()),
            Some(_) if !replace => return Err(ErrorKind::AlreadyExists.into()),
            Some(other) => self.must_be_empty(other)?,
            None => {}
        }
        let path = self.path(to)?;
        self.names.change(from.slot(), to.slot(), number);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.path = path;
        }
        if let Some(replaced) = replaced {
            self.unlinked(replaced);
        }
        Ok(())
    }

    /// Makes the names of a folder durable.
    pub(super) fn sync_folder(&mut self, folder: u64) -> io::Result<()> {
        if self.is_ignored(folder)? {
            return Ok(());
        }
        self.names.sync(folder);
        let unnamed = self.nodes.iter().filter(|(_, node)| node.links == 0);
        let unnamed: Vec<u64> = unnamed.map(|(number, _)| *number).collect();
        unnamed.into_iter().for_each(|number| self.free(number));
        Ok(())
    }

    /// Makes the bytes of a file durable.
    pub(super) fn sync_file(&self, number: u64) -> io::Result<()> {
        if !self.is_ignored(number)? {
            lock(&self.content(number)?).sync();
        }
        Ok(())
    }

    /// Notes that somebody closed a file.
    pub(super) fn closed(&mut self, number: u64) {
        if let Ok(content) = self.content(number) {
            lock(&content).closed();
        }
        self.free(number);
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        let contents = self.nodes.values().filter_map(|node| node.content.as_ref());
        contents.map(|content| lock(content).length()).sum()
    }

    /// Leaves what a power cut leaves.
    pub(super) fn cut(&mut self, fate: &mut Fate) -> io::Result<Lost> {
        let mut lost = Lost::default();
        self.names.cut(fate, &mut lost);
        let links = self.names.reachable(ROOT);
        for (number, node) in &mut self.nodes {
            node.links = links.get(number).copied().unwrap_or(0);
            let Some(content) = &node.content else {
                continue;
            };
            let mut content = lock(content);
            if node.links == 0 {
                std::fs::remove_file(content.path())?;
            } else {
                content.cut(fate, &mut lost)?;
            }
        }
        self.nodes.retain(|_, node| node.links > 0);
        Ok(lost)
    }

    /// Lays all files out as they are now in a folder, for people to look at.
    pub(super) fn export(&self, to: &Path) -> io::Result<()> {
        self.export_folder(ROOT, to)
    }

    fn export_folder(&self, folder: u64, to: &Path) -> io::Result<()> {
        std::fs::create_dir_all(to)?;
        for (name, number) in self.names.list(folder) {
            match &self.node(number)?.content {
                Some(content) => std::fs::hard_link(lock(content).path(), to.join(name))?,
                None => self.export_folder(number, &to.join(name))?,
            }
        }
        Ok(())
    }

    fn node(&self, number: u64) -> io::Result<&Node> {
        let node = self.nodes.get(&number);
        node.ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn path(&self, at: At<'_>) -> io::Result<String> {
        let folder = self.node(at.folder)?;
        Ok(format!("{}/{}", folder.path, at.name.to_string_lossy()))
    }

    fn is_ignored(&self, number: u64) -> io::Result<bool> {
        let path = &self.node(number)?.path;
        let ignored = self.ignored.as_ref();
        Ok(ignored.is_some_and(|part| path.contains(part.as_str())))
    }

    fn must_be_empty(&self, number: u64) -> io::Result<()> {
        match self.names.list(number).next() {
            Some(_) => Err(ErrorKind::DirectoryNotEmpty.into()),
            None => Ok(()),
        }
    }

    fn unlinked(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.links = node.links.saturating_sub(1);
        }
        self.free(number);
    }

    /// Forgets a file that has no name, is not open, and cannot come back.
    fn free(&mut self, number: u64) {
        let Some(node) = self.nodes.get(&number).filter(|node| node.links == 0) else {
            return;
        };
        let content = node.content.clone();
        if content
            .as_ref()
            .is_some_and(|content| lock(content).is_open())
            || self.names.refer_to(number)
        {
            return;
        }
        self.nodes.remove(&number);
        if let Some(content) = content {
            // It only takes room.
            let _ = std::fs::remove_file(lock(&content).path());
        }
    }
}

pub(super) fn lock(content: &Shared) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}
