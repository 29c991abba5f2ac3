//! One file of a drive in memory: what is there now, and what of it is durable.

use std::collections::BTreeSet;

use rand::Rng;
use rand::rngs::StdRng;

/// What a device writes as a whole or not at all.
const SECTOR: u64 = 512;
/// Room is freed in blocks of this.
pub(super) const BLOCK: u64 = 4096;

#[derive(Default)]
pub(super) struct FileState {
    pub(super) now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Blocks that were freed, by number.
    holes: BTreeSet<u64>,
    /// Blocks that cannot be read, by number.
    spoilt: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Punch(u64, u64),
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(size(*len), 0),
            Self::Write(offset, new) => {
                let at = size(*offset);
                if bytes.len() < at + new.len() {
                    bytes.resize(at + new.len(), 0);
                }
                bytes[at..at + new.len()].copy_from_slice(new);
            }
            Self::Punch(offset, len) => {
                let end = size(offset + len).min(bytes.len());
                if let Some(range) = bytes.get_mut(size(*offset)..end) {
                    range.fill(0);
                }
            }
        }
    }

    /// In the pieces that a device writes as a whole.
    fn sectors(self) -> Vec<Self> {
        let Self::Write(offset, bytes) = self else {
            return vec![self];
        };
        let mut sectors = Vec::with_capacity(bytes.len() / 512 + 2);
        let (mut at, mut rest) = (offset, bytes.as_slice());
        while !rest.is_empty() {
            let (sector, others) = rest.split_at(size(SECTOR - at % SECTOR).min(rest.len()));
            sectors.push(Self::Write(at, sector.to_vec()));
            at += sector.len() as u64;
            rest = others;
        }
        sectors
    }
}

impl FileState {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            now: bytes.clone(),
            durable: bytes,
            ..Self::default()
        }
    }

    pub(super) fn used(&self) -> u64 {
        (self.now.len() as u64).saturating_sub(self.holes.len() as u64 * BLOCK)
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let start = size(offset).min(self.now.len());
        let count = buffer.len().min(self.now.len() - start);
        buffer[..count].copy_from_slice(&self.now[start..start + count]);
        count
    }

    pub(super) fn change(&mut self, change: Change) {
        let (first, end) = match &change {
            Change::Punch(offset, len) => (offset / BLOCK, (offset + len) / BLOCK),
            Change::Write(offset, bytes) => {
                let end = (offset + bytes.len() as u64).div_ceil(BLOCK);
                (offset / BLOCK, end)
            }
            Change::SetLen(len) => (len.div_ceil(BLOCK), u64::MAX),
        };
        self.spoilt.retain(|block| !(first..end).contains(block));
        match &change {
            Change::Punch(offset, len) => {
                self.holes.extend(offset / BLOCK..(offset + len) / BLOCK);
            }
            Change::Write(offset, bytes) => {
                let end = (offset + bytes.len() as u64).div_ceil(BLOCK);
                self.holes
                    .retain(|block| *block < offset / BLOCK || *block >= end);
            }
            Change::SetLen(len) => self.holes.retain(|block| *block < len / BLOCK),
        }
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(super) fn rot(&mut self, offset: u64) -> bool {
        let at = size(offset);
        for bytes in [&mut self.durable, &mut self.now] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x40;
            }
        }
        at < self.now.len()
    }

    pub(super) fn spoil(&mut self, offset: u64) -> bool {
        let there = size(offset) < self.now.len();
        if there {
            self.spoilt.insert(offset / BLOCK);
        }
        there
    }

    /// Whether a part of a range cannot be read.
    pub(super) fn is_spoilt(&self, offset: u64, len: usize) -> bool {
        let end = (offset + len as u64).min(self.now.len() as u64);
        offset < end
            && self
                .spoilt
                .range(offset / BLOCK..end.div_ceil(BLOCK))
                .next()
                .is_some()
    }

    pub(super) fn sync(&mut self, mut made: impl FnMut(&Change)) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
            made(&change);
        }
    }

    /// Loses any part of what is not durable.
    pub(super) fn lose(
        &mut self,
        random: &mut StdRng,
        former: &[Vec<u8>],
        mut made: impl FnMut(&Change),
    ) {
        let old_len = self.durable.len() as u64;
        let mut written = BTreeSet::new();
        let mut make = |change: &Change, durable: &mut Vec<u8>| {
            change.apply(durable);
            made(change);
        };
        for change in std::mem::take(&mut self.pending) {
            let all = random.random_ratio(1, 3);
            let none = !all && random.random_ratio(1, 3);
            for piece in change.sectors() {
                if all || (!none && random.random()) {
                    if let Change::Write(offset, _) = &piece {
                        written.insert(offset / SECTOR);
                    }
                    make(&piece, &mut self.durable);
                }
            }
        }
        // What the file got of the device and did not write: file systems show zeros there. This
        // one shows old bytes, but not at its beginning: a head of a former life, whole and in its
        // place, is valid.
        let recycled = random.random::<bool>();
        if let Some(old) = former
            .get(random.random_range(0..4usize))
            .filter(|_| recycled)
        {
            let from = old_len.max(BLOCK).div_ceil(SECTOR);
            for sector in from..self.durable.len() as u64 / SECTOR {
                let range = size(sector * SECTOR)..size((sector + 1) * SECTOR);
                let left = old.get(range).filter(|_| !written.contains(&sector));
                if let Some(left) = left {
                    make(
                        &Change::Write(sector * SECTOR, left.to_vec()),
                        &mut self.durable,
                    );
                }
            }
        }
    }

    pub(super) fn crash(
        &mut self,
        random: &mut StdRng,
        former: &[Vec<u8>],
        made: impl FnMut(&Change),
    ) {
        self.lose(random, former, made);
        self.now = self.durable.clone();
        self.holes.clear();
    }
}
