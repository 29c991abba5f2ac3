//! Which two enclosures are killed.

use std::str::FromStr;

use anyhow::{Context, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// A choice of pairs, as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pairs {
    /// Every pair of replica holders.
    All,
    /// That many, at random.
    Random(usize),
    /// These, in this order.
    Named(Vec<(u32, u32)>),
}

impl FromStr for Pairs {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Pairs> {
        if text == "all" {
            return Ok(Pairs::All);
        }
        if let Ok(count) = text.parse() {
            return Ok(Pairs::Random(count));
        }
        let pairs = text.split(',').map(|pair| {
            let (first, second) = pair.split_once('+').context("a pair is `first+second`")?;
            let (first, second) = (first.trim().parse()?, second.trim().parse()?);
            ensure!(first != second, "an enclosure is killed once");
            Ok((first, second))
        });
        pairs.collect::<anyhow::Result<_>>().map(Pairs::Named)
    }
}

impl Pairs {
    /// The pairs, and which of the two dies first.
    pub(crate) fn choose(&self, holders: &[u32], rng: &mut StdRng) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        for (index, first) in holders.iter().enumerate() {
            for second in &holders[index + 1..] {
                let swap = rng.random_bool(0.5);
                pairs.push(if swap {
                    (*second, *first)
                } else {
                    (*first, *second)
                });
            }
        }
        match self {
            Pairs::All => {}
            Pairs::Random(count) => {
                pairs.shuffle(rng);
                pairs.truncate(*count);
            }
            Pairs::Named(named) => pairs.clone_from(named),
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    #[test]
    fn all_pairs_of_five_holders_are_ten_and_each_once() {
        let mut rng = StdRng::seed_from_u64(1);
        let pairs = Pairs::All.choose(&[1, 2, 3, 4, 6], &mut rng);
        let unordered: BTreeSet<(u32, u32)> =
            pairs.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        assert_eq!((pairs.len(), unordered.len()), (10, 10));
    }

    #[test]
    fn pairs_are_read_from_the_command_line() {
        assert_eq!("all".parse::<Pairs>().unwrap(), Pairs::All);
        assert_eq!("3".parse::<Pairs>().unwrap(), Pairs::Random(3));
        let named = Pairs::Named(vec![(1, 4), (2, 3)]);
        assert_eq!("1+4,2+3".parse::<Pairs>().unwrap(), named);
        assert!("1+1".parse::<Pairs>().is_err() && "1-2".parse::<Pairs>().is_err());
    }
}
