//! Memory for reads: blocks at addresses that suit reads past the page cache, kept for the next
//! reads instead of being asked of the system, and zeroed by it, for each.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a block: no drive or file system asks for more alignment.
pub(super) const BLOCK: usize = 4096;

/// Buffers of 2^n blocks for these n, and one more block for ranges that begin amid one. Larger
/// ones are not kept.
const CLASSES: usize = 11;

/// What is kept of buffers that nobody uses: a bound for the process.
pub(crate) const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

#[derive(Clone)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// Buffers that nobody uses.
struct Pool {
    free: [Vec<Box<[Block]>>; CLASSES],
    bytes: usize,
}

impl Pool {
    const fn new() -> Self {
        Self {
            free: [const { Vec::new() }; CLASSES],
            bytes: 0,
        }
    }
}

/// Some blocks of memory, always with some bytes in them: zeros, or of an earlier read.
pub(super) struct Buffer {
    blocks: Box<[Block]>,
}

/// The class of buffers that have so many blocks or more; none: too large to be kept.
fn class_of(blocks: usize) -> Option<usize> {
    let class = blocks.saturating_sub(1).max(1).next_power_of_two().ilog2() as usize;
    (class < CLASSES).then_some(class)
}

/// The memory that a read of so many bytes takes, wherever it begins.
pub(crate) fn room_for(len: usize) -> usize {
    let blocks = (len + BLOCK - 1).div_ceil(BLOCK);
    class_of(blocks).map_or(blocks, |class| (1 << class) + 1) * BLOCK
}

impl Buffer {
    /// One for that many bytes, or more.
    pub(super) fn take(len: usize) -> Self {
        let wanted = len.div_ceil(BLOCK).max(1);
        let class = class_of(wanted);
        let count = class.map_or(wanted, |class| (1 << class) + 1);
        let kept = class.and_then(|class| {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            let blocks = pool.free[class].pop()?;
            pool.bytes -= blocks.len() * BLOCK;
            Some(blocks)
        });
        let blocks = kept.unwrap_or_else(|| vec![Block([0; BLOCK]); count].into());
        Self { blocks }
    }

    /// One for just so many bytes, that is not kept.
    pub(super) fn alone(len: usize) -> Self {
        let blocks = vec![Block([0; BLOCK]); len.div_ceil(BLOCK)].into();
        Self { blocks }
    }

    /// Where it begins, for whoever writes to it while it lives: the address stays when the buffer
    /// moves.
    pub(super) fn address(&mut self) -> NonNull<u8> {
        NonNull::from(&mut *self.blocks).cast()
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        let len = self.blocks.len() * BLOCK;
        // SAFETY: a block is bytes and nothing else (`repr(C)`, as large as its alignment), blocks
        // lie side by side, and all were initialised when the box was made.
        #[expect(unsafe_code, reason = "blocks as bytes")]
        unsafe {
            std::slice::from_raw_parts(self.blocks.as_ptr().cast(), len)
        }
    }

    /// Its bytes, to be filled.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.blocks.len() * BLOCK;
        // SAFETY: as for `bytes`; they are borrowed as long as the buffer is.
        #[expect(unsafe_code, reason = "blocks as bytes")]
        unsafe {
            std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), len)
        }
    }

    /// A part of it to be handed on; none when it is not that large. The memory is kept for another
    /// read when all who hold it are done.
    pub(super) fn share(self, range: Range<usize>) -> Option<Bytes> {
        self.bytes().get(range.clone())?;
        Some(Bytes::from_owner(Shared {
            buffer: self,
            range,
        }))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let bytes = blocks.len() * BLOCK;
        let Some(class) = class_of(blocks.len()) else {
            return;
        };
        if blocks.len() != (1 << class) + 1 {
            return;
        }
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.bytes + bytes <= KEPT_BYTES_MAX {
            pool.bytes += bytes;
            pool.free[class].push(blocks);
        }
    }
}

struct Shared {
    buffer: Buffer,
    range: Range<usize>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.buffer
            .bytes()
            .get(self.range.clone())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_have_room() {
        for len in [1, 4096, 4097, 65536, 69632, 1 << 20, 5 << 20, 9 << 20] {
            let mut buffer = Buffer::take(len);
            assert!(buffer.bytes().len() >= len, "{len}");
            assert!(buffer.address().as_ptr().cast::<Block>().is_aligned());
            buffer.bytes_mut()[len - 1] = 7;
            let shared = buffer.share(len - 1..len).unwrap();
            assert_eq!(&shared[..], &[7]);
        }
        assert!(Buffer::take(4096).share(0..1 << 20).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<Buffer> = (0..16).map(|_| Buffer::take(1 << 20)).collect();
        drop(many);
        let pool = POOL.lock().unwrap();
        assert!(pool.bytes <= KEPT_BYTES_MAX);
        let free = pool.free.iter().flatten();
        assert_eq!(
            free.map(|blocks| blocks.len() * BLOCK).sum::<usize>(),
            pool.bytes
        );
    }
}
