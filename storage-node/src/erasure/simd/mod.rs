//! Kernels that take instructions of one family of CPUs: the only unsafe code of the codec.
//!
//! What is unsafe is of two kinds. Calling a function with `#[target_feature]`: done here, after
//! asking whether the CPU has the feature. Loading and storing vectors through pointers: done in
//! the two functions that each kernel has for it, within bounds that [`Work::check`] has asserted.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_gfni;
#[cfg(target_arch = "x86_64")]
mod avx512_gfni;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::kernel::{Kernel, Mode, Nibbles};

/// One call of an inner loop, apart from the outputs.
pub(super) struct Work<'a> {
    /// The fragments that are multiplied.
    pub(super) sources: &'a [&'a [u8]],
    /// Which of their bytes: a multiple of the kernel's step.
    pub(super) span: Range<usize>,
    pub(super) mode: Mode,
}

impl Work<'_> {
    /// Asserts what the unsafe code relies on: this CPU runs the kernel, every source and every
    /// output has the span, the span is made of whole steps, and there is a table for each source
    /// and output.
    fn check(&self, kernel: Kernel, tables: usize, outputs: &[&mut [u8]]) {
        assert!(kernel.runs_here());
        assert!(self.span.start <= self.span.end);
        assert!(self.span.len().is_multiple_of(kernel.step()));
        assert!(self.sources.iter().all(|s| self.span.end <= s.len()));
        assert!(outputs.iter().all(|o| self.span.end <= o.len()));
        assert_eq!(tables, self.sources.len() * outputs.len());
    }
}

/// Whether this CPU has what a kernel takes.
pub(super) fn runs_here(kernel: Kernel) -> bool {
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx512Gfni => {
            is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("gfni")
        }
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2Gfni => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("gfni"),
        #[cfg(target_arch = "x86_64")]
        Kernel::Avx2 => is_x86_feature_detected!("avx2"),
        #[cfg(target_arch = "aarch64")]
        Kernel::Neon => std::arch::is_aarch64_feature_detected!("neon"),
        _ => false,
    }
}

/// Multiplies with bit matrices. `tables` has, for each source, one for each output.
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that not every CPU has")
)]
pub(super) fn affine(kernel: Kernel, tables: &[u64], work: &Work<'_>, outputs: &mut [&mut [u8]]) {
    work.check(kernel, tables.len(), outputs);
    match kernel {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` asserted that the CPU has the features.
        Kernel::Avx512Gfni => unsafe { avx512_gfni::multiply(tables, work, outputs) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Kernel::Avx2Gfni => unsafe { avx2_gfni::multiply(tables, work, outputs) },
        _ => unreachable!("{kernel} takes other tables"),
    }
}

/// Multiplies with tables of nibbles. `tables` has, for each source, one for each output.
#[cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "instructions that not every CPU has")
)]
pub(super) fn nibbles(
    kernel: Kernel,
    tables: &[Nibbles],
    work: &Work<'_>,
    outputs: &mut [&mut [u8]],
) {
    work.check(kernel, tables.len(), outputs);
    match kernel {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `check` asserted that the CPU has the features.
        Kernel::Avx2 => unsafe { avx2::multiply(tables, work, outputs) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: `check` asserted that the CPU has the features.
        Kernel::Neon => unsafe { neon::multiply(tables, work, outputs) },
        _ => unreachable!("{kernel} takes other tables"),
    }
}
