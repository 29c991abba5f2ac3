//! Plans for a large cluster: 1,000 enclosures of 24 drives on 40 chains, 1,000,000 volumes.
//!
//! `cargo bench -p enfilade-placement` prints time (one thread) and the most memory that was in use
//! so far; an argument is the number of volumes. Volumes are made while they are handed over, so
//! that the memory is that of the planner alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use enfilade_placement::plan::{Input, Plan, plan};
use enfilade_placement::seed::SplitMix64;
use enfilade_placement::{
    Chain, ChainId, Drive, DriveId, DriveState, Enclosure, EnclosureId, EnclosureState, Epoch,
    Generation, Profile, Topology, Volume, VolumeId, VolumeState,
};

const CHAINS: u32 = 40;
const ENCLOSURES: u32 = 25;
const DRIVES: u32 = 24;
const CAPACITY: u64 = 15_360_000_000_000;
const FILL_PERCENT: u64 = 60;

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let count = numbers.next_back().unwrap_or(1_000_000);
    for (k, m) in [(4, 2), (10, 4)] {
        let profile = Profile::new(k, m).expect("in range");
        let start = Instant::now();
        let bytes: u64 = volumes(profile, count).map(|volume| volume.bytes).sum();
        let made = start.elapsed().as_secs_f64();
        let (volumes, tebibytes) = (count, (bytes * profile.width() as u64) >> 40);
        println!("{profile}: {volumes} volumes, {tebibytes} TiB (made in {made:.2} s)");

        let mut grown = topology();
        add_enclosure(&mut grown, 1, ENCLOSURES);
        measure("growth by one enclosure", &grown, &[], profile, count);
        for chain in 2..=CHAINS {
            add_enclosure(&mut grown, chain, ENCLOSURES);
        }
        measure("growth by one a chain", &grown, &[], profile, count);

        let mut lost = topology();
        let first = lost.enclosures.values_mut().next();
        first.expect("there are some").state = EnclosureState::Out;
        measure("repair of an enclosure", &lost, &[], profile, count);

        let whole = topology();
        let leaving: Vec<DriveId> = (0..DRIVES).map(|slot| drive_id(7, 3, slot)).collect();
        measure("drain of an enclosure", &whole, &leaving, profile, count);
    }
}

fn measure(what: &str, topology: &Topology, leaving: &[DriveId], profile: Profile, count: u64) {
    let input = Input {
        topology,
        leaving: &leaving.iter().copied().collect::<BTreeSet<_>>(),
        waiting: &BTreeMap::new(),
        other: &BTreeMap::new(),
        seed: 1,
    };
    let (start, worked) = (Instant::now(), worked());
    let Plan { moves, summary, .. } = plan(&input, volumes(profile, count));
    let seconds = start.elapsed().as_secs_f64();
    let worked = self::worked() - worked;
    let ratio = summary.moved_bytes as f64 / summary.bound_bytes.max(1) as f64;
    let gib = summary.moved_bytes >> 30;
    let peak = peak_mib().map_or_else(|| "?".to_owned(), |mib| mib.to_string());
    println!(
        "  {what:24} {seconds:6.2} s (core {worked:5.2} s)  peak {peak:>4} MiB  \
         {count:>7} moves  {gib:>8} GiB  {ratio:.4} x bound",
        count = moves.len(),
    );
}

/// Seconds that this process has had a core; none counted where the system does not tell.
fn worked() -> f64 {
    let status = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = status.split_whitespace().next();
    let nanoseconds: f64 = nanoseconds.and_then(|n| n.parse().ok()).unwrap_or(0.0);
    nanoseconds / 1e9
}

/// The most memory that was in use so far; none where the system does not tell.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}

fn topology() -> Topology {
    let mut topology = Topology::default();
    for chain in 1..=CHAINS {
        for position in 0..ENCLOSURES {
            add_enclosure(&mut topology, chain, position);
        }
    }
    topology
}

fn add_enclosure(topology: &mut Topology, chain: u32, position: u32) {
    let id = EnclosureId::new(chain * 1_000 + position);
    let chain_id = ChainId::new(chain);
    let made = Chain {
        id: chain_id,
        closed: false,
    };
    topology.chains.entry(chain_id).or_insert(made);
    let enclosure = Enclosure {
        id,
        chain: chain_id,
        position,
        state: EnclosureState::Up,
        shard_address: String::new(),
        meta_address: String::new(),
        admin_address: String::new(),
    };
    topology.enclosures.insert(id, enclosure);
    for slot in 0..DRIVES {
        let drive = Drive {
            id: drive_id(chain, position, slot),
            enclosure: id,
            slot,
            capacity: CAPACITY,
            state: DriveState::Healthy,
            generation: Generation::new(1),
        };
        topology.drives.insert(drive.id, drive);
    }
}

/// As random as a UUID.
fn drive_id(chain: u32, position: u32, slot: u32) -> DriveId {
    let number = (u64::from(chain) * 1_000 + u64::from(position)) * 100 + u64::from(slot);
    let mut random = SplitMix64::new(number);
    DriveId::new(u128::from(random.bits()) << 64 | u128::from(random.bits()))
}

/// Volumes as they come to lie over the years: even, and each with others.
fn volumes(profile: Profile, count: u64) -> impl Iterator<Item = Volume> {
    let drives = u64::from(CHAINS * ENCLOSURES * DRIVES);
    let bytes = drives * (CAPACITY / 100 * FILL_PERCENT) / (count * profile.width() as u64);
    let ids: Vec<DriveId> = (1..=CHAINS)
        .flat_map(|chain| (0..ENCLOSURES).map(move |position| (chain, position)))
        .flat_map(|(chain, at)| (0..DRIVES).map(move |slot| drive_id(chain, at, slot)))
        .collect();
    let mut random = SplitMix64::new(42);
    let mut pool: Vec<DriveId> = Vec::new();
    (0..count).map(move |number| {
        if pool.len() < profile.width() {
            pool = round(&ids, &mut random);
        }
        Volume {
            id: VolumeId::new(number + 1),
            profile,
            members: pool
                .drain(pool.len() - profile.width()..)
                .map(Some)
                .collect(),
            epoch: Epoch::FIRST,
            state: VolumeState::Sealed,
            bytes,
            violation: false,
        }
    })
}

/// All drives once, from chain to chain.
fn round(ids: &[DriveId], random: &mut SplitMix64) -> Vec<DriveId> {
    let per_chain = (ENCLOSURES * DRIVES) as usize;
    let mut chains: Vec<Vec<DriveId>> = ids.chunks(per_chain).map(<[DriveId]>::to_vec).collect();
    for chain in &mut chains {
        random.shuffle(chain);
    }
    random.shuffle(&mut chains);
    (0..per_chain)
        .flat_map(|turn| chains.iter().map(move |chain| chain[turn]))
        .collect()
}
