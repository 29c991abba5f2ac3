//! The largest cluster that is planned for: 1,000 enclosures of 24 drives, a million volumes.

use enfilade_placement::plan::Wait;

use super::*;
use crate::api::tuning::Tuning;

const ENCLOSURES: u32 = 1000;
const DRIVES_EACH: u32 = 24;
const VOLUMES: u64 = 1_000_000;
const CHAINS: u32 = 40;

fn drive_id(enclosure: u32, slot: u32) -> DriveId {
    DriveId::new(u128::from(enclosure) << 64 | u128::from(slot) << 32 | 7)
}

/// All enclosures, one more a chain than volumes are on when it has grown.
fn view(grown: bool) -> RootView {
    let mut topology = enfilade_placement::Topology::default();
    let more = if grown { CHAINS } else { 0 };
    for number in 1..=ENCLOSURES + more {
        let (id, chain) = (EnclosureId::new(number), ChainId::new(number % CHAINS + 1));
        let made = enfilade_placement::Chain {
            id: chain,
            closed: false,
        };
        topology.chains.insert(chain, made);
        let enclosure = enfilade_placement::Enclosure {
            id,
            chain,
            position: number / CHAINS,
            state: EnclosureState::Up,
            shard_address: String::new(),
            meta_address: String::new(),
            admin_address: String::new(),
        };
        topology.enclosures.insert(id, enclosure);
        for slot in 0..DRIVES_EACH {
            let drive = enfilade_placement::Drive {
                id: drive_id(number, slot),
                enclosure: id,
                slot,
                capacity: 15 << 40,
                state: DriveState::Healthy,
                generation: Generation::new(1),
            };
            topology.drives.insert(drive.id, drive);
        }
    }
    RootView {
        revision: 1,
        profile: Profile::new(8, 3).ok(),
        volume_target: 20 << 30,
        topology,
        tuning: Tuning::default(),
        ..RootView::default()
    }
}

fn volume(id: u64) -> Volume {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let first = u32::try_from(mixed % u64::from(ENCLOSURES)).unwrap();
    let slot = u32::try_from((mixed >> 32) % u64::from(DRIVES_EACH)).unwrap();
    let member = |number: u32| {
        let enclosure = (first + number * 83) % ENCLOSURES + 1;
        Some(drive_id(enclosure, (slot + number) % DRIVES_EACH))
    };
    Volume {
        id: VolumeId::new(id),
        profile: Profile::new(8, 3).unwrap(),
        members: (0..11).map(member).collect(),
        epoch: Epoch::new(2),
        state: VolumeState::Sealed,
        bytes: 20 << 30,
        violation: false,
    }
}

/// A page of what is never held as a whole.
fn lazily() -> Pages {
    Arc::new(|after| {
        let first = after.map_or(1, |id: VolumeId| id.get() + 1);
        let page = first..=VOLUMES.min(first + survey::PAGE as u64 - 1);
        Ok(page.map(volume).collect())
    })
}

/// Bytes of memory that the process has had at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Some seconds, so only with the other long ones.
#[test]
fn a_million_volumes_are_planned_for_in_half_a_gibibyte() {
    if std::env::var_os("ENFILADE_SOAK").is_none() {
        return;
    }
    let view = Arc::new(view(true));
    let settings = KeeperSettings::default();
    let (beats, braked, replicas_leave) = (HeardBeats::default(), BTreeSet::new(), BTreeSet::new());
    let scene = Scene {
        settings: &settings,
        view: &view,
        beats: &beats,
        braked: &braked,
        replicas_leave: &replicas_leave,
        now: Duration::from_secs(100),
        seed: 7,
    };
    let mut absent = Absent::default();
    let basis = absent.basis(&scene);
    let clock = Env::real().clock;
    let began = clock.now();
    let same = (0..1000)
        .filter(|_| absent.basis(&scene).is_just_as(&basis))
        .count();
    let turn = clock.now().saturating_sub(began) / 1000;
    assert_eq!(same, 1000);
    let waits: Vec<&Wait> = basis.waiting.values().collect();
    assert_eq!(waits, Vec::<&Wait>::new());
    let ground = Ground::new(&scene, basis, |_| true);
    let began = clock.now();
    let survey = ground.survey(&lazily()).unwrap();
    let took = clock.now().saturating_sub(began);
    let summary = survey.plan.summary;
    println!(
        "a turn of the leader {turn:?}; a survey {took:?}, {} MiB at most, {} moves, {:.4} x bound",
        peak() >> 20,
        survey.plan.moves.len(),
        summary.moved_bytes as f64 / summary.bound_bytes.max(1) as f64
    );
    assert!(peak() < 512 << 20, "{}", peak());
}
