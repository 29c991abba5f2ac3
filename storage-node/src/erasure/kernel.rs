//! The seam between the code and the instructions: which kernel this CPU runs, and fragments times
//! a matrix by any of them.
//!
//! Safe code only; what needs instructions of one CPU is in `simd`. All kernels read the caller's
//! fragments and write the caller's outputs, once each: no copies, no scratch space, no allocation.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::OnceLock;

use super::field::{self, ByteMap};
use super::matrix::Matrix;
use super::{portable, simd};

/// The elements' grouping in a fragment: 32 low bytes, then 32 high bytes.
pub(super) const CHUNK_BYTES: usize = 64;

/// So many fragments are read at the same time: prefetchers follow no more than that.
const COLUMNS_AT_ONCE: usize = 16;

/// When the rows or the columns of a matrix are taken in groups, so many bytes of each fragment are
/// worked on before the next, that sources or outputs are still in the cache.
const BLOCK_BYTES: usize = 32 * 1024;

/// A way to multiply fragments: which instructions it takes. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Affine maps of 64 bytes: Intel from Ice Lake on, AMD from Zen 4 on.
    Avx512Gfni,
    /// Affine maps of 32 bytes: Intel from Alder Lake on, where AVX-512 is absent.
    Avx2Gfni,
    /// Table look-ups of nibbles by shuffles of 32 bytes: all x86-64 servers since 2013.
    Avx2,
    /// Table look-ups of nibbles, 16 bytes at a time: 64-bit ARM.
    Neon,
    /// Plain code, bit by bit over whole chunks, which compilers turn into whatever vectors the
    /// target promises.
    Scalar,
}

impl Kernel {
    /// All kernels, those that are faster where they run first.
    pub const ALL: [Self; 5] = [
        Self::Avx512Gfni,
        Self::Avx2Gfni,
        Self::Avx2,
        Self::Neon,
        Self::Scalar,
    ];

    /// The name by which a kernel is chosen and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512Gfni => "avx512-gfni",
            Self::Avx2Gfni => "avx2-gfni",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Scalar => "scalar",
        }
    }

    /// Whether this CPU has the instructions.
    #[must_use]
    pub fn runs_here(self) -> bool {
        self == Self::Scalar || simd::runs_here(self)
    }

    /// The kernels that this CPU runs, the fastest first. Never empty.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kernel| kernel.runs_here())
    }

    /// The kernel of this process: the chosen one, else the fastest of this CPU.
    #[must_use]
    pub fn in_use() -> Self {
        *IN_USE.get_or_init(|| Self::available().next().unwrap_or(Self::Scalar))
    }

    /// Makes this the kernel of the process. To be called before the first codec is made.
    ///
    /// # Errors
    /// [`KernelError::NotHere`] when this CPU lacks the instructions, and [`KernelError::TooLate`]
    /// when the process uses another already.
    pub fn choose(self) -> Result<(), KernelError> {
        if !self.runs_here() {
            return Err(KernelError::NotHere { kernel: self });
        }
        match *IN_USE.get_or_init(|| self) {
            kernel if kernel == self => Ok(()),
            kernel => Err(KernelError::TooLate { kernel }),
        }
    }

    /// Rows of a matrix whose sums fit the registers.
    fn rows_at_once(self) -> usize {
        match self {
            Self::Avx512Gfni => 8,
            _ => 4,
        }
    }

    /// Bytes of a fragment in one step of the inner loop. What is left over goes to plain code.
    pub(super) fn step(self) -> usize {
        match self {
            Self::Avx512Gfni => 2 * CHUNK_BYTES,
            _ => CHUNK_BYTES,
        }
    }
}

/// The choice of the process, made once.
static IN_USE: OnceLock<Kernel> = OnceLock::new();

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kernel {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self, KernelError> {
        let mut all = Self::ALL.into_iter();
        all.find(|kernel| kernel.name() == name)
            .ok_or_else(|| KernelError::Unknown {
                name: name.to_owned(),
            })
    }
}

/// Why a kernel cannot be chosen: correct the name, or leave the choice to the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// There is no such kernel.
    #[error("there is no kernel '{name}'; this CPU runs {list}", list = runnable())]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The CPU lacks instructions that the kernel takes.
    #[error("this CPU cannot run the kernel {kernel}; it runs {list}", list = runnable())]
    NotHere {
        /// The kernel asked for.
        kernel: Kernel,
    },
    /// A codec was made with another kernel before.
    #[error("the process uses the kernel {kernel} already")]
    TooLate {
        /// The kernel in use.
        kernel: Kernel,
    },
}

fn runnable() -> String {
    let names: Vec<&str> = Kernel::available().map(Kernel::name).collect();
    names.join(", ")
}

/// What becomes of the bytes that an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// They are replaced.
    Set,
    /// The product is added to them.
    Add,
}

/// A matrix, in the form that a kernel takes. Fragments are multiplied by it.
pub(super) struct Product {
    kernel: Kernel,
    columns: usize,
    rows: usize,
    /// The coefficients, in the order of `tables`.
    factors: Vec<u8>,
    tables: Tables,
}

/// One entry a coefficient, in the order in which the inner loop takes them: for each group of
/// rows, for each column, for each row of the group.
enum Tables {
    /// Scalar: the factors are enough.
    None,
    /// GFNI: an 8 by 8 bit matrix each.
    Affine(Vec<u64>),
    /// Shuffles: the products of the low and of the high nibble.
    Nibbles(Vec<Nibbles>),
}

/// The products of a factor and each low nibble, then each high nibble.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Nibbles(pub(super) [u8; 32]);

impl Nibbles {
    pub(super) fn new(map: &ByteMap) -> Self {
        Self(std::array::from_fn(|entry| {
            let byte = if entry < 16 { entry } else { (entry - 16) << 4 };
            field::image(map, byte as u8)
        }))
    }
}

/// The bit matrix that `gf2p8affineqb` takes: its byte 7 - i has the bits of the input that bit i
/// of the output is the sum of.
pub(super) fn bit_matrix(map: &ByteMap) -> u64 {
    let row = |out: usize| {
        let bits = map.iter().enumerate();
        bits.fold(0_u64, |row, (bit, image)| {
            row | u64::from(image >> out & 1) << bit
        })
    };
    (0..8).fold(0, |matrix, out| matrix | row(out) << (8 * (7 - out)))
}

impl Product {
    pub(super) fn new(kernel: Kernel, matrix: &Matrix) -> Self {
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let mut factors = Vec::with_capacity(rows * columns);
        for group in groups(rows, kernel.rows_at_once()) {
            for column in 0..columns {
                factors.extend(group.clone().map(|row| matrix.row(row)[column]));
            }
        }
        let products = field::products();
        let maps = factors.iter().map(|&factor| &products[usize::from(factor)]);
        let tables = match kernel {
            Kernel::Scalar => Tables::None,
            Kernel::Avx512Gfni | Kernel::Avx2Gfni => Tables::Affine(maps.map(bit_matrix).collect()),
            Kernel::Avx2 | Kernel::Neon => Tables::Nibbles(maps.map(Nibbles::new).collect()),
        };
        Self {
            kernel,
            columns,
            rows,
            factors,
            tables,
        }
    }

    /// Outputs = matrix * sources: one output a row, one source a column.
    ///
    /// # Panics
    /// When the counts are not the matrix's or the lengths differ, which the callers have checked.
    pub(super) fn apply(&self, sources: &[&[u8]], outputs: &mut [&mut [u8]], mode: Mode) {
        assert_eq!((outputs.len(), sources.len()), (self.rows, self.columns));
        let length = sources.first().map_or(0, |source| source.len());
        assert!(sources.iter().all(|source| source.len() == length));
        assert!(outputs.iter().all(|output| output.len() == length));
        let step = self.kernel.step();
        let whole = match self.kernel {
            Kernel::Scalar => 0,
            _ => length - length % step,
        };
        let mut start = 0;
        while start < whole {
            let span = start..whole.min(start + BLOCK_BYTES);
            for rows in groups(self.rows, self.kernel.rows_at_once()) {
                let outputs = &mut outputs[rows.clone()];
                for columns in groups(self.columns, COLUMNS_AT_ONCE) {
                    let mode = if columns.start == 0 { mode } else { Mode::Add };
                    self.multiply(rows.clone(), columns, sources, outputs, span.clone(), mode);
                }
            }
            start = span.end;
        }
        if whole < length {
            for rows in groups(self.rows, self.kernel.rows_at_once()) {
                let factors = &self.factors[self.cells(&rows)];
                let outputs = &mut outputs[rows];
                portable::multiply(factors, sources, outputs, whole..length, mode);
            }
        }
    }

    /// Where the coefficients of a group of rows are.
    fn cells(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.columns..rows.end * self.columns
    }

    fn multiply(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        sources: &[&[u8]],
        outputs: &mut [&mut [u8]],
        span: Range<usize>,
        mode: Mode,
    ) {
        let start = rows.start * self.columns;
        let cells = start + columns.start * rows.len()..start + columns.end * rows.len();
        let work = simd::Work {
            sources: &sources[columns],
            span,
            mode,
        };
        match &self.tables {
            Tables::None => {}
            Tables::Affine(tables) => simd::affine(self.kernel, &tables[cells], &work, outputs),
            Tables::Nibbles(tables) => simd::nibbles(self.kernel, &tables[cells], &work, outputs),
        }
    }
}

/// What there is `count` of, in groups of about the same size, of `most` at most.
fn groups(count: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = count.div_ceil(count.div_ceil(most).max(1)).max(1);
    let starts = (0..count).step_by(size);
    starts.map(move |start| start..count.min(start + size))
}
