//! `enfilade bench codec`: the erasure codec with every kernel that this CPU runs.

use anyhow::{Context as _, Result};
use enfilade_placement::Profile;
use enfilade_storage_node::erasure::{Codec, Kernel};
use serde::Serialize;

use super::{Candidate, measure, noise, table};
use crate::cli::BenchCodecArgs;

/// Measured unless others are asked for.
const PROFILES: [(usize, usize); 4] = [(4, 2), (8, 3), (10, 4), (20, 4)];

/// The result, as JSON has it.
#[derive(Debug, Serialize)]
struct Report {
    /// The kernel that the roles of a process would use here.
    kernel: &'static str,
    /// Bytes of a fragment.
    unit: u32,
    rates: Vec<Rates>,
}

/// What one kernel does for one profile, in GB (10^9 bytes) of user data a second of one core.
#[derive(Debug, Serialize)]
struct Rates {
    profile: String,
    kernel: &'static str,
    /// All parity of a stripe.
    encode: f64,
    /// One data fragment that is lost.
    decode_one: f64,
    /// As many data fragments as may be lost.
    decode_most: f64,
    /// One parity fragment that is lost, its data being there.
    restore_parity: f64,
}

/// Measures, and prints.
///
/// # Errors
/// When the codec refuses a profile.
pub(crate) fn run(args: &BenchCodecArgs) -> Result<()> {
    let mut profiles: Vec<(usize, usize)> = args
        .profile
        .iter()
        .map(|p: &Profile| (p.k(), p.m()))
        .collect();
    if profiles.is_empty() {
        profiles = PROFILES.to_vec();
    }
    let mut rates = Vec::new();
    for (k, m) in profiles {
        rates.extend(profile(k, m, args).with_context(|| format!("profile {k}+{m}"))?);
    }
    let report = Report {
        kernel: Kernel::in_use().name(),
        unit: args.unit,
        rates,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", text(&report));
    }
    Ok(())
}

fn profile(k: usize, m: usize, args: &BenchCodecArgs) -> Result<Vec<Rates>> {
    let (kernels, unit): (Vec<Kernel>, _) = (Kernel::available().collect(), args.unit as usize);
    let mut stripe: Vec<Vec<u8>> = (0..k).map(|index| noise(unit, index)).collect();
    stripe.extend(vec![vec![0; unit]; m]);
    let (data, parity) = stripe.split_at_mut(k);
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    Codec::new(k, m)?.encode(&data, &mut parity)?;

    // Each candidate has outputs of its own; the sources are shared.
    let mut candidates = Vec::new();
    for &kernel in &kernels {
        let codec = Codec::with_kernel(k, m, kernel)?;
        let lost = k.min(m);
        candidates.push(encode(codec.clone(), &stripe));
        candidates.push(restore(codec.clone(), &stripe, 0, 1));
        candidates.push(restore(codec.clone(), &stripe, 0, lost));
        candidates.push(restore(codec, &stripe, k, 1));
    }
    let rates = measure(&mut candidates, args.rounds)?;
    let rates = kernels.iter().zip(rates.chunks_exact(4));
    let rates = rates.map(|(kernel, rates)| Rates {
        profile: format!("{k}+{m}"),
        kernel: kernel.name(),
        encode: rates[0],
        decode_one: rates[1],
        decode_most: rates[2],
        restore_parity: rates[3],
    });
    Ok(rates.collect())
}

fn encode(codec: Codec, stripe: &[Vec<u8>]) -> Candidate<'_> {
    let data: Vec<&[u8]> = stripe[..codec.k()].iter().map(Vec::as_slice).collect();
    let mut parity = vec![vec![0; data[0].len()]; codec.m()];
    let bytes = data.len() * data[0].len();
    Candidate::new(bytes, move || {
        let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        Ok(codec.encode(&data, &mut outputs)?)
    })
}

/// Loses `count` fragments from `first` on, and restores them from the first `k` others.
fn restore(codec: Codec, stripe: &[Vec<u8>], first: usize, count: usize) -> Candidate<'_> {
    let lost = first..first + count;
    let there = stripe.iter().map(Vec::as_slice).enumerate();
    let there = there.filter(|(index, _)| !lost.contains(index));
    let present: Vec<(usize, &[u8])> = there.take(codec.k()).collect();
    let unit = present[0].1.len();
    let mut restored = vec![vec![0; unit]; count];
    Candidate::new(codec.k() * unit, move || {
        let outputs = restored.iter_mut().map(Vec::as_mut_slice);
        let mut wanted: Vec<(usize, &mut [u8])> = lost.clone().zip(outputs).collect();
        Ok(codec.reconstruct(&present, &mut wanted)?)
    })
}

fn text(report: &Report) -> String {
    let headings = [
        "profile", "kernel", "encode", "decode 1", "decode m", "parity 1",
    ];
    let rows = report.rates.iter().map(|rates| {
        let figures = [
            rates.encode,
            rates.decode_one,
            rates.decode_most,
            rates.restore_parity,
        ];
        let mut row = vec![rates.profile.clone(), rates.kernel.to_owned()];
        row.extend(figures.map(|figure| format!("{figure:.1}")));
        row
    });
    format!(
        "GB/s of user data a core, fragments of {} bytes; in use here: {}\n\n{}",
        report.unit,
        report.kernel,
        table(&headings, &rows.collect::<Vec<_>>())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_of_this_cpu_is_measured_for_every_profile() {
        let args = BenchCodecArgs {
            profile: Vec::new(),
            unit: 200,
            rounds: 1,
            json: false,
        };
        for (k, m) in [(2, 1), (1, 3)] {
            let rates = profile(k, m, &args).expect("it runs");
            let kernels: Vec<_> = rates.iter().map(|rates| rates.kernel).collect();
            let all: Vec<_> = Kernel::available().map(Kernel::name).collect();
            assert_eq!(kernels, all);
            for rates in rates {
                let figures = [rates.encode, rates.decode_one, rates.decode_most];
                assert!(figures.iter().all(|&figure| figure > 0.0), "{rates:?}");
            }
        }
    }
}
