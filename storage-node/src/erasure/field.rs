//! Arithmetic of single elements, on the tables of `reed-solomon-simd`, which define the field.
//!
//! The crate works in GF(2^16) (polynomial 0x1002D, elements written in a Cantor basis `v`). In a
//! Cantor basis the elements below 256 are the subfield GF(2^8), and the generators of all profiles
//! that [`super::Codec`] takes lie in it. Multiplying by such a factor `f` is
//!
//! ```text
//! f * (low + high) = (f * (low + twist(high)) + twist(f * high)) + f * high
//! ```
//!
//! where `high` on the right stands for the element's high byte as if it were a low one, and
//! `twist` is a fixed linear map of bytes, `v[8 + i] = v[8] * v[i] + twist(v[i])`. So a kernel adds
//! `twist(high)` to the low bytes of its sources, multiplies bytes by bytes, and adds `twist(high)`
//! to the low bytes of its outputs: half the work of factors of 16 bits, with the same parity.

use std::sync::OnceLock;

use reed_solomon_simd::engine::{GF_MODULUS, tables};

/// A linear map of bytes: the images of the eight bits, lowest first.
pub(super) type ByteMap = [u8; 8];

/// `a * b` in GF(2^16).
fn multiply_wide(a: u16, b: u16) -> u16 {
    if b == 0 {
        return 0;
    }
    let tables = tables::get_exp_log();
    tables::mul(a, tables.log[usize::from(b)], &tables.exp, &tables.log)
}

/// `a * b` in the subfield.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    narrow(multiply_wide(a.into(), b.into()))
}

/// `1 / a`, or `None` for zero.
pub(super) fn invert(a: u8) -> Option<u8> {
    if a == 0 {
        return None;
    }
    let tables = tables::get_exp_log();
    let log = tables.log[usize::from(a)] % GF_MODULUS;
    Some(narrow(
        tables.exp[usize::from((GF_MODULUS - log) % GF_MODULUS)],
    ))
}

/// Multiplication by each of the 256 factors.
pub(super) fn products() -> &'static [ByteMap; 256] {
    static PRODUCTS: OnceLock<[ByteMap; 256]> = OnceLock::new();
    PRODUCTS.get_or_init(|| {
        let mut products = [[0; 8]; 256];
        for (factor, map) in (0..=u8::MAX).zip(&mut products) {
            *map = std::array::from_fn(|bit| multiply(1 << bit, factor));
        }
        products
    })
}

/// What a high byte adds to its low byte; see the module.
pub(super) fn twist() -> ByteMap {
    std::array::from_fn(|bit| narrow(multiply_wide(1 << 8, 1 << bit) ^ 1 << (8 + bit)))
}

/// The image of a byte.
pub(super) fn image(map: &ByteMap, byte: u8) -> u8 {
    let bits = map.iter().enumerate();
    bits.filter(|(bit, _)| byte >> bit & 1 == 1)
        .fold(0, |sum, (_, image)| sum ^ image)
}

fn narrow(element: u16) -> u8 {
    u8::try_from(element).expect("the elements below 256 of a Cantor basis are a field")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_but_zero_has_an_inverse() {
        assert_eq!(invert(0), None);
        for a in 1..=u8::MAX {
            assert_eq!(multiply(a, invert(a).unwrap()), 1, "{a:#x}");
        }
    }

    #[test]
    fn multiplication_distributes_and_knows_zero_and_one() {
        for a in 0..=u8::MAX {
            assert_eq!((multiply(a, 0), multiply(0, a), multiply(a, 1)), (0, 0, a));
            for b in 0..=u8::MAX {
                assert_eq!(multiply(a, b), multiply(b, a));
                assert_eq!(multiply(a, b ^ 0x5A), multiply(a, b) ^ multiply(a, 0x5A));
                assert_eq!(image(&products()[usize::from(a)], b), multiply(a, b));
            }
        }
    }

    #[test]
    fn bytes_times_bytes_and_the_twist_are_the_crates_product() {
        let twist = twist();
        for factor in 0..=u8::MAX {
            let map = &products()[usize::from(factor)];
            for element in (0..=u16::MAX).step_by(7).chain([0xFF00, 0x00FF, 0xFFFF]) {
                let [low, high] = element.to_le_bytes();
                let out_high = image(map, high);
                let out_low = image(map, low ^ image(&twist, high)) ^ image(&twist, out_high);
                let expected = multiply_wide(element, factor.into());
                assert_eq!(u16::from_le_bytes([out_low, out_high]), expected);
            }
        }
    }
}
