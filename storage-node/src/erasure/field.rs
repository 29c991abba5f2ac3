//! Arithmetic of single elements of GF(2^16), on the tables of `reed-solomon-simd`, which define
//! the field (polynomial 0x1002D, elements written in the Cantor basis). Addition is XOR.

use reed_solomon_simd::engine::{GF_MODULUS, tables};

/// `a * b`.
pub(super) fn multiply(a: u16, b: u16) -> u16 {
    if b == 0 {
        return 0;
    }
    let tables = tables::get_exp_log();
    tables::mul(a, tables.log[usize::from(b)], &tables.exp, &tables.log)
}

/// `1 / a`, or `None` for zero.
pub(super) fn invert(a: u16) -> Option<u16> {
    let log = logarithm(a)?;
    let tables = tables::get_exp_log();
    Some(tables.exp[usize::from((GF_MODULUS - log) % GF_MODULUS)])
}

/// The discrete logarithm by which the crate's engines take a factor, or `None` for zero.
pub(super) fn logarithm(a: u16) -> Option<u16> {
    if a == 0 {
        return None;
    }
    Some(tables::get_exp_log().log[usize::from(a)] % GF_MODULUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_but_zero_has_an_inverse() {
        assert_eq!(invert(0), None);
        for a in 1..=u16::MAX {
            let inverse = invert(a).unwrap();
            assert_eq!(multiply(a, inverse), 1, "{a:#x}");
        }
    }

    #[test]
    fn multiplication_distributes_and_knows_zero_and_one() {
        for (a, b, c) in [(3, 0x1234, 0xffff), (0xacca, 0x8000, 0x7fff), (1, 2, 3)] {
            assert_eq!(multiply(a, b ^ c), multiply(a, b) ^ multiply(a, c));
            assert_eq!(multiply(a, b), multiply(b, a));
            assert_eq!(multiply(a, 1), a);
            assert_eq!(multiply(a, 0), 0);
            assert_eq!(multiply(0, a), 0);
        }
    }
}
