//! Whether the parity on drives is that of the data on drives, by the crate that defines the code
//! and none of ours: what a rebuild made has right checksums whatever it holds.

use anyhow::Context;
use reed_solomon_simd::ReedSolomonEncoder;

/// The code works on multiples of this; fragments count as padded with zeros.
const STEP: usize = 64;

/// Makes parity. Stripes of one shape after another are the cheapest.
#[derive(Default)]
pub(crate) struct Parity {
    encoder: Option<ReedSolomonEncoder>,
    padded: Vec<u8>,
}

impl Parity {
    /// Whether the parity fragments of a stripe are right; data that is implied to be zero is none.
    pub(crate) fn is_right(
        &mut self,
        data: &[Option<&[u8]>],
        parity: &[&[u8]],
        len: usize,
    ) -> anyhow::Result<bool> {
        let width = len.next_multiple_of(STEP);
        let (k, m) = (data.len(), parity.len());
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(k, m, width).context("the code")?;
                encoder
            }
            none => none.insert(ReedSolomonEncoder::new(k, m, width).context("the code")?),
        };
        for fragment in data {
            self.padded.clear();
            self.padded.extend_from_slice(fragment.unwrap_or_default());
            self.padded.resize(width, 0);
            encoder
                .add_original_shard(&self.padded)
                .context("the code")?;
        }
        let encoded = encoder.encode().context("the code")?;
        let mut pairs = encoded.recovery_iter().zip(parity);
        Ok(pairs.all(|(right, there)| right.get(..len) == Some(*there)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_bit_in_parity_is_found_and_right_parity_passes() {
        let data: Vec<Vec<u8>> = (1..5u8)
            .map(|seed| vec![seed.wrapping_mul(37); 200])
            .collect();
        let padded = data.iter().map(|fragment| {
            let mut fragment = fragment.clone();
            fragment.resize(256, 0);
            fragment
        });
        let parity = reed_solomon_simd::encode(4, 2, padded).unwrap();
        let mut parity: Vec<Vec<u8>> = parity.iter().map(|one| one[..200].to_vec()).collect();
        let data: Vec<Option<&[u8]>> = data.iter().map(|one| Some(one.as_slice())).collect();
        let mut code = Parity::default();
        let of = |parity: &[Vec<u8>]| -> Vec<Vec<u8>> { parity.to_vec() };
        let right = of(&parity);
        let slices: Vec<&[u8]> = right.iter().map(Vec::as_slice).collect();
        assert!(code.is_right(&data, &slices, 200).unwrap());
        parity[1][199] ^= 1;
        let slices: Vec<&[u8]> = parity.iter().map(Vec::as_slice).collect();
        assert!(!code.is_right(&data, &slices, 200).unwrap());
        // A fragment that is taken for zeros gives other parity.
        let short = [data[0], None, data[2], data[3]];
        let slices: Vec<&[u8]> = right.iter().map(Vec::as_slice).collect();
        assert!(!code.is_right(&short, &slices, 200).unwrap());
    }
}
