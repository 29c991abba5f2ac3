//! Every kernel against the plain one, on buffers between pages that may not be touched.

use std::ptr;

use crate::erasure::kernel::{Kernel, Mode, Product};
use crate::erasure::matrix::Matrix;
use crate::erasure::portable;

const PAGE: usize = 4096;

/// Bytes that can be touched: the longest fragment at the largest offset, and then some.
const ROOM: usize = 2 * PAGE;

/// Written around outputs, to find what is written out of place within the pages.
const CANARY: u8 = 0xA5;

/// Pages, with one before and one after them that end the process when they are touched.
struct Guarded(*mut u8);

#[expect(unsafe_code, reason = "pages without access are made by mmap")]
impl Guarded {
    fn new() -> Self {
        let length = ROOM + 2 * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at an address that the system chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the first page is inside of the mapping.
        let inner = unsafe { start.cast::<u8>().add(PAGE) };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is inside of the mapping, which nothing else uses.
        let result = unsafe { libc::mprotect(inner.cast(), ROOM, access) };
        assert_eq!(result, 0);
        Self(inner)
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes can be touched and are initialised (to zero), for as long as `self`
        // lives, which is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.0, ROOM) }
    }
}

#[expect(unsafe_code, reason = "what mmap made is returned by munmap")]
impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made begins a page before, and nobody borrows it.
        let result = unsafe { libc::munmap(self.0.sub(PAGE).cast(), ROOM + 2 * PAGE) };
        assert_eq!(result, 0);
    }
}

fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ ((seed as u64 + 1) << 17);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A matrix of any factors, zero and one among them.
fn matrix(rows: usize, columns: usize) -> Matrix {
    let cells = noise(rows * columns, rows * 256 + columns);
    let factor = |(at, cell): (usize, u8)| match at % 7 {
        0 => cell & 1,
        _ => cell,
    };
    Matrix::new(columns, cells.into_iter().enumerate().map(factor).collect())
}

/// What the outputs become, by the definition: one product at a time, in plain code.
fn expected(matrix: &Matrix, sources: &[&[u8]], before: &[u8], mode: Mode) -> Vec<Vec<u8>> {
    let row = |row| {
        let mut output = match mode {
            Mode::Set => vec![0; before.len()],
            Mode::Add => before.to_vec(),
        };
        for (source, &factor) in sources.iter().zip(matrix.row(row)) {
            let whole = 0..output.len();
            portable::multiply(&[factor], &[source], &mut [&mut output], whole, Mode::Add);
        }
        output
    };
    (0..matrix.rows()).map(row).collect()
}

/// Where a fragment lies in its room.
#[derive(Clone, Copy)]
enum Place {
    /// So many bytes after the page that may not be touched.
    After(usize),
    /// Up to the page that may not be touched.
    UpToEnd,
}

impl Place {
    fn start(self, length: usize) -> usize {
        match self {
            Self::After(offset) => offset,
            Self::UpToEnd => ROOM - length,
        }
    }
}

/// Rooms for the sources and the outputs of the largest matrix.
struct Bench {
    sources: Vec<Guarded>,
    outputs: Vec<Guarded>,
}

impl Bench {
    fn new(rows: usize, columns: usize) -> Self {
        let rooms = |count| (0..count).map(|_| Guarded::new()).collect();
        Self {
            sources: rooms(columns),
            outputs: rooms(rows),
        }
    }

    /// Multiplies by every kernel with the fragments at `place`, each source a little further.
    fn check(&mut self, matrix: &Matrix, length: usize, places: &[Place], mode: Mode) {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let data: Vec<Vec<u8>> = (0..columns).map(|column| noise(length, column)).collect();
        let before = vec![CANARY; length];
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let expected = expected(matrix, &data, &before, mode);
        for kernel in Kernel::available() {
            let product = Product::new(kernel, matrix);
            for &place in places {
                let start = place.start(length);
                let rooms = self.sources.iter_mut().zip(&data);
                let sources: Vec<&[u8]> = rooms
                    .enumerate()
                    .map(|(column, (room, data))| {
                        let start = match place {
                            Place::After(offset) => (offset + 7 * column) % 64,
                            Place::UpToEnd => start,
                        };
                        let slice = &mut room.all()[start..start + length];
                        slice.copy_from_slice(data);
                        &*slice
                    })
                    .collect();
                let mut rooms: Vec<&mut [u8]> =
                    self.outputs[..rows].iter_mut().map(Guarded::all).collect();
                let around = start.saturating_sub(128)..ROOM.min(start + length + 128);
                for room in &mut rooms {
                    room[around.clone()].fill(CANARY);
                }
                let slices = rooms
                    .iter_mut()
                    .map(|room| &mut room[start..start + length]);
                product.apply(&sources, &mut slices.collect::<Vec<_>>(), mode);
                for (row, room) in rooms.iter().enumerate() {
                    let context = || format!("{kernel}, {rows} by {columns}, {length} at {start}");
                    assert!(
                        room[start..start + length] == expected[row],
                        "{}",
                        context()
                    );
                    let outside = room[around.start..start]
                        .iter()
                        .chain(&room[start + length..around.end]);
                    assert!(outside.copied().all(|byte| byte == CANARY), "{}", context());
                }
            }
        }
    }
}

#[test]
fn every_kernel_is_the_plain_one_at_all_alignments_and_lengths_and_touches_nothing_else() {
    let mut bench = Bench::new(9, 3);
    let mut places: Vec<Place> = (0..64).map(Place::After).collect();
    places.push(Place::UpToEnd);
    for length in 0..=PAGE {
        let matrix = matrix(1 + length % 9, 1 + length % 3);
        let mode = if length % 2 == 0 {
            Mode::Set
        } else {
            Mode::Add
        };
        bench.check(&matrix, length, &places, mode);
    }
}

#[test]
fn groups_of_rows_and_columns_and_blocks_make_no_difference() {
    let mut bench = Bench::new(20, 40);
    let places = [Place::UpToEnd, Place::After(1)];
    for (rows, columns) in [(1, 40), (9, 17), (16, 16), (17, 33), (20, 20)] {
        for mode in [Mode::Set, Mode::Add] {
            for length in [64, 1000, ROOM - 200] {
                bench.check(&matrix(rows, columns), length, &places, mode);
            }
        }
    }
    // Longer than a block.
    let length = 70_000;
    let (matrix, source) = (matrix(2, 1), noise(length, 9));
    let expected = expected(&matrix, &[&source], &vec![0; length], Mode::Set);
    for kernel in Kernel::available() {
        let mut outputs = vec![vec![CANARY; length]; 2];
        let mut slices: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        Product::new(kernel, &matrix).apply(&[&source], &mut slices, Mode::Set);
        assert!(outputs == expected, "{kernel}");
    }
}

#[test]
#[should_panic(expected = "assertion")]
fn fragments_of_different_lengths_never_reach_a_kernel() {
    let (short, mut long) = (vec![0; 128], vec![0; 256]);
    let product = Product::new(Kernel::in_use(), &matrix(1, 1));
    product.apply(&[&short], &mut [&mut long], Mode::Set);
}
