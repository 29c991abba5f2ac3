//! What the kernel asks, passed on to the image.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::gate::Gate;
use super::image::{About, At, Image, Make, Shared, lock};

/// Nobody but the kernel changes anything.
const VALID: Duration = Duration::from_secs(3600);

/// What the file system says that it holds.
const ROOM_BYTES: u64 = 64 << 30;

const BLOCK_BYTES: u32 = 4096;

/// Answers the kernel. It is never asked to sync the file system as a whole: the kernel answers
/// `syncfs` by itself.
pub(super) struct Server {
    image: Arc<Mutex<Image>>,
    gate: Arc<Gate>,
}

impl Server {
    pub(super) fn new(image: Arc<Mutex<Image>>, gate: Arc<Gate>) -> Server {
        Server { image, gate }
    }

    fn image(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something unless the power is gone.
    fn act<T>(&self, act: impl FnOnce(&mut Image) -> io::Result<T>) -> Result<T, Errno> {
        let _pass = self.gate.enter().ok_or(Errno::EIO)?;
        act(&mut self.image()).map_err(|error| errno(&error))
    }

    /// Does something with the bytes of a file, while others are served.
    fn with<T>(
        &self,
        file: INodeNo,
        act: impl FnOnce(&Shared) -> io::Result<T>,
    ) -> Result<T, Errno> {
        let _pass = self.gate.enter().ok_or(Errno::EIO)?;
        let content = self.image().content(file.0);
        content
            .and_then(|content| act(&content))
            .map_err(|error| errno(&error))
    }
}

fn errno(error: &io::Error) -> Errno {
    if let Some(number) = error.raw_os_error() {
        return Errno::from_i32(number);
    }
    match error.kind() {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::AlreadyExists => Errno::EEXIST,
        ErrorKind::DirectoryNotEmpty => Errno::ENOTEMPTY,
        ErrorKind::IsADirectory => Errno::EISDIR,
        ErrorKind::Unsupported => Errno::EOPNOTSUPP,
        _ => Errno::EIO,
    }
}

fn at(folder: INodeNo, name: &OsStr) -> At<'_> {
    At {
        folder: folder.0,
        name,
    }
}

fn kind(folder: bool) -> FileType {
    match folder {
        true => FileType::Directory,
        false => FileType::RegularFile,
    }
}

fn attributes(about: &About) -> FileAttr {
    FileAttr {
        ino: INodeNo(about.number),
        size: about.length,
        blocks: about.length.div_ceil(512),
        atime: about.modified,
        mtime: about.modified,
        ctime: about.modified,
        crtime: about.modified,
        kind: kind(about.folder),
        perm: about.mode,
        nlink: about.links,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// The bits of a mode that a `umask` leaves.
fn masked(mode: u32, umask: u32) -> u16 {
    u16::try_from(mode & !umask & 0o7777).unwrap_or(0)
}

fn entry(reply: ReplyEntry, about: Result<About, Errno>) {
    match about {
        Ok(about) => reply.entry(&VALID, &attributes(&about), Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, done: Result<(), Errno>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.act(|image| image.lookup(at(parent, name))));
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.act(|image| image.about(file.0)) {
            Ok(about) => reply.attr(&VALID, &attributes(&about)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        file: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.act(|image| {
            if let Some(mode) = mode {
                image.set_mode(file.0, masked(mode, 0))?;
            }
            if let Some(size) = size {
                lock(&image.content(file.0)?).set_length(size)?;
            }
            image.about(file.0)
        });
        match set {
            Ok(about) => reply.attr(&VALID, &attributes(&about)),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = masked(mode, umask);
        let made = self.act(|image| image.make(at(parent, name), Make::Folder, mode));
        entry(reply, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.act(|image| image.remove(at(parent, name))));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.act(|image| image.remove(at(parent, name))));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let renamed =
            self.act(|image| image.rename(at(parent, name), at(newparent, newname), replace));
        empty(reply, renamed);
    }

    fn link(&self, _: &Request, file: INodeNo, to: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.act(|image| image.link(file.0, at(to, name))));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.act(|image| {
            let about = image.make(at(parent, name), Make::File, masked(mode, umask))?;
            lock(&image.content(about.number)?).opened();
            Ok(about)
        });
        match made {
            Ok(about) => {
                let (attributes, handle) = (attributes(&about), FileHandle(0));
                let keep = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&VALID, &attributes, Generation(0), handle, keep);
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, file: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.with(file, |content| {
            lock(content).opened();
            Ok(())
        });
        match opened {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let closed = self.act(|image| {
            image.closed(file.0);
            Ok(())
        });
        empty(reply, closed);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        match self.with(file, |content| lock(content).read(offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(file, |content| lock(content).write(offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.act(|image| image.sync_file(file.0)));
    }

    fn fsyncdir(&self, _: &Request, folder: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.act(|image| image.sync_folder(folder.0)));
    }

    fn readdir(
        &self,
        _: &Request,
        folder: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let list = match self.act(|image| Ok(image.list(folder.0))) {
            Ok(list) => list,
            Err(error) => return reply.error(error),
        };
        // Offsets are numbers of files: they stay while names come and go.
        let mut list: Vec<_> = list
            .into_iter()
            .filter(|(_, number, _)| *number > offset)
            .collect();
        list.sort_by_key(|(_, number, _)| *number);
        for (name, number, folder) in list {
            if reply.add(INodeNo(number), number, kind(folder), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let used = match self.act(|image| Ok(image.used())) {
            Ok(used) => used,
            Err(error) => return reply.error(error),
        };
        let block = u64::from(BLOCK_BYTES);
        let (total, free) = (ROOM_BYTES / block, ROOM_BYTES.saturating_sub(used) / block);
        reply.statfs(
            total,
            free,
            free,
            1 << 20,
            1 << 20,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
        );
    }

    fn fallocate(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = self.with(file, |content| {
            let mut content = lock(content);
            let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
            let end = offset.saturating_add(length);
            match mode & !libc::FALLOC_FL_KEEP_SIZE {
                libc::FALLOC_FL_PUNCH_HOLE if keep => content.zero(offset, length),
                // Room is not reserved: there is enough.
                0 if keep || end <= content.length() => Ok(()),
                0 => content.set_length(end),
                _ => Err(ErrorKind::Unsupported.into()),
            }
        });
        empty(reply, done);
    }
}
