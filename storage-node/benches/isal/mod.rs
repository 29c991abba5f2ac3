//! Intel's ISA-L, when it is installed (`apt-get install libisal2`): looked up at run time, so that
//! nothing is needed to build.
#![expect(unsafe_code, reason = "functions of a C library")]

use std::ffi::{CStr, c_int, c_void};
use std::sync::OnceLock;

type Generate = unsafe extern "C" fn(matrix: *mut u8, rows: c_int, k: c_int);
type Invert = unsafe extern "C" fn(matrix: *mut u8, inverse: *mut u8, n: c_int) -> c_int;
type Prepare = unsafe extern "C" fn(k: c_int, rows: c_int, matrix: *mut u8, tables: *mut u8);
type Encode = unsafe extern "C" fn(
    length: c_int,
    k: c_int,
    rows: c_int,
    tables: *mut u8,
    sources: *const *const u8,
    outputs: *const *mut u8,
);

/// The functions that are needed of the library.
#[derive(Clone, Copy)]
struct Library {
    generate: Generate,
    invert: Invert,
    prepare: Prepare,
    encode: Encode,
}

fn library() -> Option<Library> {
    static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        let found = open();
        if found.is_none() {
            eprintln!("libisal.so.2 is not installed: ISA-L is left out");
        }
        found
    })
}

fn open() -> Option<Library> {
    // SAFETY: the library runs no code when it is loaded but to look up the CPU.
    let handle = unsafe { libc::dlopen(c"libisal.so.2".as_ptr(), libc::RTLD_NOW) };
    if handle.is_null() {
        return None;
    }
    let symbol = |name: &CStr| {
        // SAFETY: the handle is of an open library, which is never closed.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    };
    // SAFETY: the types are those of erasure_code.h of ISA-L 2.
    unsafe {
        Some(Library {
            generate: std::mem::transmute::<*mut c_void, Generate>(symbol(
                c"gf_gen_cauchy1_matrix",
            )?),
            invert: std::mem::transmute::<*mut c_void, Invert>(symbol(c"gf_invert_matrix")?),
            prepare: std::mem::transmute::<*mut c_void, Prepare>(symbol(c"ec_init_tables")?),
            encode: std::mem::transmute::<*mut c_void, Encode>(symbol(c"ec_encode_data")?),
        })
    }
}

/// A code of ISA-L, ready to encode or to decode one erasure pattern.
pub(super) struct Code {
    library: Library,
    k: usize,
    tables: Vec<u8>,
    /// The first fragments that are lost, or none when encoding.
    lost: usize,
    /// Parity that stands in for what is lost; of any content, which takes the same time.
    parity: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

impl Code {
    /// Prepares the code, or says nothing when the library is not installed.
    pub(super) fn new(k: usize, m: usize, lost: Option<usize>, unit: usize) -> Option<Self> {
        let library = library()?;
        let mut matrix = vec![0; (k + m) * k];
        // SAFETY: the matrix has k + m rows of k bytes.
        unsafe { (library.generate)(matrix.as_mut_ptr(), (k + m) as c_int, k as c_int) };
        let rows = lost.unwrap_or(m);
        let mut used = matrix[k * k..].to_vec();
        if let Some(lost) = lost {
            let mut survivors = matrix[lost * k..(lost + k) * k].to_vec();
            used = vec![0; k * k];
            // SAFETY: both matrices have k rows of k bytes.
            let result =
                unsafe { (library.invert)(survivors.as_mut_ptr(), used.as_mut_ptr(), k as c_int) };
            assert_eq!(result, 0, "a Cauchy matrix has an inverse");
        }
        let mut tables = vec![0; 32 * k * rows];
        // SAFETY: at least `rows` rows of k bytes, and 32 bytes of tables for each of them.
        unsafe {
            let (k, rows) = (k as c_int, rows as c_int);
            (library.prepare)(k, rows, used.as_mut_ptr(), tables.as_mut_ptr());
        }
        Some(Self {
            library,
            k,
            tables,
            lost: lost.unwrap_or(0),
            parity: vec![vec![0x5A; unit]; m],
            outputs: vec![vec![0; unit]; rows],
        })
    }

    /// Encodes `data`, or restores its first fragments.
    pub(super) fn run(&mut self, data: &[Vec<u8>]) {
        let all = data.iter().chain(&self.parity).skip(self.lost);
        let sources: Vec<*const u8> = all.take(self.k).map(|s| s.as_ptr()).collect();
        let outputs: Vec<*mut u8> = self.outputs.iter_mut().map(|o| o.as_mut_ptr()).collect();
        // SAFETY: k sources and as many outputs as the tables are for, all of one length.
        unsafe {
            (self.library.encode)(
                self.outputs[0].len() as c_int,
                self.k as c_int,
                outputs.len() as c_int,
                self.tables.as_mut_ptr(),
                sources.as_ptr(),
                outputs.as_ptr(),
            );
        }
    }
}
