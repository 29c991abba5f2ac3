//! The erasure codec beside what else there is: the crate that defines the code (whole fragments,
//! and columns of 4 KiB), Intel's ISA-L (where libisal.so.2 is installed), and memcpy.
//!
//! `cargo bench -p enfilade-storage-node --bench codec` runs criterion. With `-- --table` it prints
//! rates and ratios instead: all candidates take turns on one thread, and medians are given. Both
//! measure CPU time of the thread, in bytes of user data.

mod isal;

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, Throughput};
use enfilade_storage_node::erasure::{Codec, Kernel};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// Bytes of a fragment.
const UNIT: usize = 65_536;

/// Columns in which the crate is fastest.
const COLUMN: usize = 4096;

const PROFILES: [(usize, usize); 6] = [(4, 2), (8, 3), (8, 4), (10, 4), (20, 4), (100, 8)];

fn main() {
    if std::env::args().any(|argument| argument == "--table") {
        return PROFILES.into_iter().for_each(|(k, m)| table(k, m));
    }
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime(WallTime))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    for (k, m) in PROFILES {
        for work in Work::all(m) {
            let mut group = criterion.benchmark_group(format!("{k}+{m} {}", work.name()));
            group.throughput(Throughput::Bytes((k * UNIT) as u64));
            for (name, mut call) in candidates(k, m, work) {
                group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(&mut call));
            }
        }
    }
    criterion.final_summary();
}

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Encode,
    /// So many data fragments are lost.
    Decode(usize),
}

impl Work {
    fn all(m: usize) -> [Self; 3] {
        [Self::Encode, Self::Decode(1), Self::Decode(m)]
    }

    fn name(self) -> String {
        match self {
            Self::Encode => "encode".to_owned(),
            Self::Decode(lost) => format!("decode {lost}"),
        }
    }
}

type Candidate = (String, Box<dyn FnMut()>);

/// All ways to do the same work, each on fragments of its own.
fn candidates(k: usize, m: usize, work: Work) -> Vec<Candidate> {
    let data: Vec<Vec<u8>> = (0..k).map(|index| noise(UNIT, index)).collect();
    let parity = reed_solomon_simd::encode(k, m, &data).expect("a profile of the crate");
    let mut all = vec![memcpy(data.clone())];
    for kernel in Kernel::available() {
        let codec = Codec::with_kernel(k, m, kernel).expect("a profile of ours");
        all.push(ours(kernel, codec, &data, &parity, work));
    }
    match work {
        Work::Encode => {
            all.push(crate_encode("crate whole", data.clone(), m, UNIT));
            all.push(crate_encode("crate 4 KiB", data.clone(), m, COLUMN));
        }
        Work::Decode(lost) => all.push(crate_decode(data.clone(), parity, lost)),
    }
    let lost = match work {
        Work::Encode => None,
        Work::Decode(lost) => Some(lost),
    };
    if let Some(mut code) = isal::Code::new(k, m, lost, UNIT) {
        all.push(("isa-l".to_owned(), Box::new(move || code.run(&data))));
    }
    all
}

fn memcpy(data: Vec<Vec<u8>>) -> Candidate {
    let mut copy = data.clone();
    let call = move || {
        for (to, from) in copy.iter_mut().zip(&data) {
            to.copy_from_slice(std::hint::black_box(from));
        }
        std::hint::black_box(&copy);
    };
    ("memcpy".to_owned(), Box::new(call))
}

fn ours(
    kernel: Kernel,
    codec: Codec,
    data: &[Vec<u8>],
    parity: &[Vec<u8>],
    work: Work,
) -> Candidate {
    let (k, data, parity) = (data.len(), data.to_vec(), parity.to_vec());
    let name = format!("ours {kernel}");
    match work {
        Work::Encode => {
            let mut outputs = vec![vec![0; UNIT]; parity.len()];
            let call = move || {
                let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
                let mut slices: Vec<&mut [u8]> =
                    outputs.iter_mut().map(Vec::as_mut_slice).collect();
                codec.encode(&data, &mut slices).expect("valid fragments");
            };
            (name, Box::new(call))
        }
        Work::Decode(lost) => {
            let mut outputs = vec![vec![0; UNIT]; lost];
            let call = move || {
                let all = data.iter().chain(&parity).map(Vec::as_slice).enumerate();
                let present: Vec<(usize, &[u8])> = all.skip(lost).take(k).collect();
                let slices = outputs.iter_mut().map(Vec::as_mut_slice);
                let mut wanted: Vec<(usize, &mut [u8])> = slices.enumerate().collect();
                codec
                    .reconstruct(&present, &mut wanted)
                    .expect("valid fragments");
            };
            (name, Box::new(call))
        }
    }
}

fn crate_encode(name: &str, data: Vec<Vec<u8>>, m: usize, column: usize) -> Candidate {
    let mut encoder = ReedSolomonEncoder::new(data.len(), m, column).expect("a profile");
    let mut parity = vec![vec![0; UNIT]; m];
    let call = move || {
        for start in (0..UNIT).step_by(column) {
            let range = start..start + column;
            for fragment in &data {
                encoder
                    .add_original_shard(&fragment[range.clone()])
                    .expect("a valid fragment");
            }
            let result = encoder.encode().expect("all fragments are there");
            for (output, column) in parity.iter_mut().zip(result.recovery_iter()) {
                output[range.clone()].copy_from_slice(column);
            }
        }
    };
    (name.to_owned(), Box::new(call))
}

fn crate_decode(data: Vec<Vec<u8>>, parity: Vec<Vec<u8>>, lost: usize) -> Candidate {
    let mut decoder = ReedSolomonDecoder::new(data.len(), parity.len(), UNIT).expect("a profile");
    let mut outputs = vec![vec![0; UNIT]; lost];
    let call = move || {
        for (index, fragment) in data.iter().enumerate().skip(lost) {
            decoder.add_original_shard(index, fragment).expect("valid");
        }
        for (index, fragment) in parity.iter().enumerate().take(lost) {
            decoder.add_recovery_shard(index, fragment).expect("valid");
        }
        let result = decoder.decode().expect("enough fragments");
        for (output, (_, fragment)) in outputs.iter_mut().zip(result.restored_original_iter()) {
            output.copy_from_slice(fragment);
        }
    };
    ("crate whole".to_owned(), Box::new(call))
}

/// Medians of candidates that take turns, and of their ratios to ISA-L and the crate in each round.
fn table(k: usize, m: usize) {
    const ROUNDS: usize = 15;
    println!("\n{k}+{m}, units of {UNIT} bytes: GB/s a core (x isa-l) [x crate whole]");
    for work in Work::all(m) {
        let mut all = candidates(k, m, work);
        all.iter_mut().for_each(|(_, call)| call());
        let mut rates = vec![Vec::new(); all.len()];
        for _ in 0..ROUNDS {
            for ((_, call), rates) in all.iter_mut().zip(&mut rates) {
                rates.push(rate(k * UNIT, call));
            }
        }
        let at = |name: &str| all.iter().position(|(candidate, _)| candidate == name);
        let ratio = |of: usize, to: Option<usize>| {
            let pairs = |to: usize| rates[of].iter().zip(&rates[to]).map(|(a, b)| a / b);
            to.map_or(f64::NAN, |to| median(pairs(to).collect()))
        };
        for (index, (name, _)) in all.iter().enumerate() {
            println!(
                "{:<10} {name:<18} {:6.1}  ({:5.2}) [{:6.2}]",
                work.name(),
                median(rates[index].clone()),
                ratio(index, at("isa-l")),
                ratio(index, at("crate whole")),
            );
        }
    }
}

/// GB/s of CPU time, over at least 3 ms.
fn rate(bytes: usize, call: &mut dyn FnMut()) -> f64 {
    let (begin, mut calls) = (cpu_time(), 0);
    loop {
        call();
        calls += 1;
        let spent = cpu_time() - begin;
        if spent >= Duration::from_millis(3) {
            return (bytes * calls) as f64 / spent.as_secs_f64() / 1e9;
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ ((seed as u64 + 1) << 17);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[expect(unsafe_code, reason = "std offers no clock of a thread")]
fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live, writable timespec; the call keeps nothing of it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Criterion's wall time, but of the CPU.
struct CpuTime(WallTime);

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu_time()
    }

    fn end(&self, begin: Duration) -> Duration {
        cpu_time() - begin
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self.0.formatter()
    }
}
