//! Many objects, written once while all is well: what a cluster holds before it grows.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::Writer;
use super::ops::Step;
use crate::client::Store;
use crate::history::{History, Outcome};

/// Clients that write at once.
const CLIENTS: u32 = 16;

/// The number of the first of them, which no writer of a load has.
const FIRST_CLIENT: u32 = 1000;

/// Writes so many objects: nine in ten of 1 to 16 KiB, one in a hundred of 8 MiB, the rest of
/// 64 KiB to 1 MiB. Their bytes.
///
/// # Errors
/// When one is not acked: without a fault, that must not be.
pub(crate) async fn write(
    store: &Arc<dyn Store>,
    history: &Arc<History>,
    seed: u64,
    count: usize,
) -> anyhow::Result<u64> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let writer = Writer {
            number: FIRST_CLIENT + client,
            seed,
            pause: Duration::ZERO,
            store: store.clone(),
            history: history.clone(),
        };
        clients.spawn(async move {
            let mut bytes = 0;
            for number in (0..count).skip(client as usize).step_by(CLIENTS as usize) {
                let length = length(seed, number);
                let key = key(number);
                let outcome = writer.step(Step::Put { key, length }).await;
                anyhow::ensure!(
                    outcome == Outcome::Acked,
                    "a write without a fault: {outcome:?}"
                );
                bytes += length as u64;
            }
            Ok(bytes)
        });
    }
    let mut bytes = 0;
    while let Some(written) = clients.join_next().await {
        bytes += written??;
    }
    Ok(bytes)
}

fn key(number: usize) -> String {
    format!("bulk/{:02}/{number:06}", number % 64)
}

/// Bytes of one object.
fn length(seed: u64, number: usize) -> usize {
    let mut rng = StdRng::seed_from_u64(seed ^ (number as u64) << 20);
    match rng.random_range(0..100) {
        0..90 => rng.random_range(1 << 10..=16 << 10),
        90..99 => rng.random_range(64 << 10..=1 << 20),
        _ => 8 << 20,
    }
}

/// Bytes that so many objects take on average, without parity.
pub(crate) fn expected_bytes(count: usize) -> u64 {
    let mean = 0.9 * 8.5 * 1024.0 + 0.09 * 544.0 * 1024.0 + 0.01 * f64::from(8 << 20);
    (mean * count as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_of_8_mib_and_nine_in_ten_are_small() {
        let lengths: Vec<usize> = (0..20_000).map(|number| length(5, number)).collect();
        let share = |least: usize, most: usize| {
            let between = lengths.iter().filter(|len| (least..=most).contains(*len));
            between.count() * 1000 / lengths.len()
        };
        assert!((880..=920).contains(&share(1 << 10, 16 << 10)));
        assert!((80..=100).contains(&share(64 << 10, 1 << 20)));
        assert!((5..=15).contains(&share(8 << 20, 8 << 20)));
        let sum: u64 = lengths.iter().map(|len| *len as u64).sum();
        let expected = expected_bytes(lengths.len());
        assert!(sum > expected * 9 / 10 && sum < expected * 11 / 10);
    }
}
