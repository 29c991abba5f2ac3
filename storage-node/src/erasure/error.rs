//! Why the codec refuses.

use super::FRAGMENTS_MAX;

/// Errors of [`Codec`](super::Codec). Only [`ErasureError::TooFewFragments`] depends on the state
/// of the cluster: the caller fetches more fragments, or reports the stripe as lost. All others
/// say that the caller's arguments do not belong together; repeating the call does not help.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// The stripe cannot be restored from what is present: fetch further fragments.
    #[error("too few fragments: {needed} needed, {present} present")]
    TooFewFragments {
        /// The profile's `k`.
        needed: usize,
        /// Fragments given.
        present: usize,
    },
    /// No code of ours exists for this profile.
    #[error(
        "unsupported profile {k}+{m}: both at least 1, at most {FRAGMENTS_MAX} together when the \
         smaller is rounded up to a power of two"
    )]
    UnsupportedProfile {
        /// Data fragments asked for.
        k: usize,
        /// Parity fragments asked for.
        m: usize,
    },
    /// A list of data or parity fragments does not have the profile's length.
    #[error("{actual} fragments given, the profile has {expected}")]
    FragmentCount {
        /// The profile's `k` or `m`.
        expected: usize,
        /// Fragments given.
        actual: usize,
    },
    /// The fragments hold no bytes.
    #[error("fragments of no bytes")]
    Empty,
    /// The fragments of one stripe differ in length.
    #[error("fragments of {expected} and of {actual} bytes in one stripe")]
    LengthMismatch {
        /// Bytes of the first fragment.
        expected: usize,
        /// Bytes of the first fragment that differs.
        actual: usize,
    },
    /// A fragment index that the profile does not have, or not for data.
    #[error("fragment index {index} is not below {limit}")]
    IndexOutOfRange {
        /// The index given.
        index: usize,
        /// The first index that is too large.
        limit: usize,
    },
    /// A fragment is listed twice.
    #[error("fragment {index} is listed twice")]
    DuplicateIndex {
        /// The index that appears again.
        index: usize,
    },
    /// A data fragment that a shortened stripe implies to be zero was given as its content.
    #[error("fragment {index} of a shortened stripe is implied and holds nothing")]
    ImpliedFragment {
        /// The index given.
        index: usize,
    },
    /// Parity was to be updated, and a data fragment is named.
    #[error("fragment {index} is not parity")]
    NotParity {
        /// The index given.
        index: usize,
    },
    /// The encoder from which the generator is read refused valid fragments: a bug, not bad input.
    #[error("the encoder refused valid fragments")]
    Encoder {
        /// What the encoder said.
        #[source]
        source: reed_solomon_simd::Error,
    },
}
