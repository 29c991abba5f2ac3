//! One MD5 stream, by blocks.

use super::kernel::{BLOCK, Kernel, Lane, START, Words};

/// MD5 of the bytes so far: a state after whole blocks, and the bytes after them.
#[derive(Debug, Clone)]
pub struct Md5 {
    words: Words,
    /// Bytes that were taken in.
    len: u64,
    tail: [u8; BLOCK],
}

impl Default for Md5 {
    fn default() -> Self {
        Self {
            words: START,
            len: 0,
            tail: [0; BLOCK],
        }
    }
}

impl Md5 {
    /// Takes in the next bytes, alone on this thread.
    pub fn update(&mut self, bytes: &[u8]) {
        let rest = self.fill_tail(bytes);
        let (blocks, rest) = rest.as_chunks::<BLOCK>();
        Kernel::Single.compress(&mut [self.lane(blocks)]);
        self.advance(blocks.len());
        self.fill_tail(rest);
    }

    /// Takes in what completes the block under way, or begins one when too little is left for a
    /// whole block. Returns the rest: none, or at least a block, at the beginning of a block.
    pub(super) fn fill_tail<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let held = self.held();
        if held == 0 && bytes.len() >= BLOCK {
            return bytes;
        }
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - held));
        self.tail[held..held + now.len()].copy_from_slice(now);
        self.len += now.len() as u64;
        if held + now.len() == BLOCK {
            md5_simd::hazmat::compress_block(&mut self.words, &self.tail);
        }
        if rest.is_empty() || rest.len() >= BLOCK {
            return rest;
        }
        self.fill_tail(rest)
    }

    /// The lane that takes in whole blocks; only at the beginning of a block. Then follows
    /// [`Md5::advance`].
    pub(super) fn lane<'a>(&'a mut self, blocks: &'a [[u8; BLOCK]]) -> Lane<'a> {
        debug_assert!(blocks.is_empty() || self.held() == 0);
        let words = &mut self.words;
        Lane { words, blocks }
    }

    /// Notes that a lane took in so many blocks.
    pub(super) fn advance(&mut self, blocks: usize) {
        self.len += (blocks * BLOCK) as u64;
    }

    /// The digest of all bytes so far.
    pub fn finish(mut self) -> [u8; 16] {
        let (held, bits) = (self.held(), self.len.wrapping_mul(8));
        let mut last = [0; 2 * BLOCK];
        last[..held].copy_from_slice(&self.tail[..held]);
        last[held] = 0x80;
        let blocks = if held < BLOCK - 8 { 1 } else { 2 };
        last[blocks * BLOCK - 8..blocks * BLOCK].copy_from_slice(&bits.to_le_bytes());
        for block in last.as_chunks::<BLOCK>().0.iter().take(blocks) {
            md5_simd::hazmat::compress_block(&mut self.words, block);
        }
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.words) {
            *bytes = word.to_le_bytes();
        }
        digest
    }

    /// Bytes of the block under way.
    fn held(&self) -> usize {
        (self.len % BLOCK as u64) as usize
    }
}
