//! Digests, one thread: MD5 of 1 to 32 bodies with every kernel of this CPU, CRCs, SHA.
//!
//! `cargo bench -p enfilade-gateway --bench digest`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use enfilade_cluster::api::record::ChecksumAlgorithm;
use enfilade_gateway::digest::Sha;
use enfilade_gateway::digest::bench::{BODIES, BODY, hash, noise};
use enfilade_gateway::digest::crc::Crc;
use enfilade_gateway::digest::kernel::{Kernel, START};

fn md5(criterion: &mut Criterion) {
    let data = noise(32 * BODY);
    for kernel in Kernel::available() {
        let mut group = criterion.benchmark_group(format!("md5/{}", kernel.name()));
        for bodies in BODIES {
            let mut states = vec![START; bodies];
            group.throughput(Throughput::Bytes((bodies * BODY) as u64));
            group.bench_function(bodies.to_string(), |bencher| {
                bencher.iter(|| hash(kernel, &mut states, black_box(&data)));
            });
        }
    }
}

fn others(criterion: &mut Criterion) {
    let data = noise(4 * BODY);
    let mut group = criterion.benchmark_group("digest");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for crc in [Crc::Crc64Nvme, Crc::Crc32c, Crc::Crc32] {
        group.bench_function(format!("{crc:?}"), |bencher| {
            bencher.iter(|| crc.of_bytes(black_box(&data)));
        });
    }
    for algorithm in [ChecksumAlgorithm::Sha256, ChecksumAlgorithm::Sha1] {
        group.bench_function(format!("{algorithm:?}"), |bencher| {
            bencher.iter(|| {
                let mut sha = Sha::of(algorithm)?;
                sha.update(black_box(&data));
                Some(sha.finish())
            });
        });
    }
    group.bench_function("combine", |bencher| {
        bencher.iter(|| Crc::Crc64Nvme.combine(black_box(1), black_box(2), black_box(256 << 10)));
    });
}

criterion_group!(benches, md5, others);
criterion_main!(benches);
