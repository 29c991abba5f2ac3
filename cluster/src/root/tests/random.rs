//! Random commands, with every invariant checked after each.

use std::ops::ControlFlow;

use enfilade_placement::{
    ChainId, DriveId, DriveState, EnclosureId, EnclosureState, Epoch, IntentId, PartitionId,
    VolumeId,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use crate::api::command::{GroupTime, Versioning};
use crate::api::moves::{Flip, MoveOrder, Reason, Subject};
use crate::api::root::{Addresses, EtagKind, RootCommand, RootEnvelope};
use crate::rows::{MemoryRows, Rows, Table, Txn};

use super::harness::{Root, attach, birth, fenced, open};

fn enclosure_state() -> impl Strategy<Value = EnclosureState> {
    use EnclosureState::{Down, Out, Suspect, Up};
    select(vec![Up, Up, Up, Suspect, Down, Out])
}

fn drive_state() -> impl Strategy<Value = DriveState> {
    use DriveState::{Failing, Full, Gone, Healthy, Returned, Slow};
    select(vec![
        Healthy, Healthy, Healthy, Slow, Full, Failing, Gone, Returned,
    ])
}

fn versioning() -> impl Strategy<Value = Versioning> {
    select(vec![Versioning::Enabled, Versioning::Suspended])
}

fn command() -> impl Strategy<Value = RootCommand> {
    let volume = || (1u64..4, 1u64..3).prop_map(|(id, at)| (VolumeId::new(id), Epoch::new(at)));
    let bucket = || select(vec!["a", "b"]).prop_map(str::to_owned);
    let enclosure = || (0u32..8).prop_map(EnclosureId::new);
    prop_oneof![
        (option::of(enclosure()), 1u32..3, any::<bool>()).prop_map(|(id, chain, moved)| {
            let shard = if moved { "moved" } else { "" }.to_owned();
            let addresses = Addresses {
                shard,
                ..Addresses::default()
            };
            RootCommand::JoinEnclosure {
                id,
                chain: ChainId::new(chain),
                addresses,
            }
        }),
        (enclosure(), enclosure_state())
            .prop_map(|(id, state)| RootCommand::SetEnclosure { id, state }),
        (enclosure(), enclosure_state(), enclosure_state())
            .prop_map(|(id, from, to)| RootCommand::JudgeEnclosure { id, from, to }),
        drives(),
        drives(),
        drives(),
        vec(0u128..14, 5..8).prop_map(|members| open(&members)),
        select(vec![
            [1u128, 3, 5, 7, 9, 11],
            [2, 4, 6, 8, 10, 0],
            [1, 4, 5, 8, 9, 12]
        ])
        .prop_map(|members| open(&members)),
        volume().prop_map(|(volume, epoch)| RootCommand::SuspendVolume { volume, epoch }),
        volume().prop_map(|(volume, epoch)| RootCommand::ResumeVolume { volume, epoch }),
        volume().prop_map(|(volume, epoch)| RootCommand::SealVolume { volume, epoch }),
        (volume(), 0u8..7, any::<u64>())
            .prop_map(|((volume, epoch), member, bytes)| fenced(volume, epoch, member, bytes)),
        volume().prop_map(|(volume, epoch)| RootCommand::RetireVolume { volume, epoch }),
        bucket().prop_map(|name| {
            RootCommand::CreateBucket {
                name,
                owner: String::new(),
                created_ms: 0,
            }
        }),
        bucket().prop_map(|name| RootCommand::BeginDeleteBucket { name }),
        (bucket(), any::<bool>()).prop_map(|(name, fast)| {
            let etag = if fast { EtagKind::Fast } else { EtagKind::Md5 };
            RootCommand::SetEtag { name, etag }
        }),
        (bucket(), versioning())
            .prop_map(|(name, versioning)| { RootCommand::SetVersioning { name, versioning } }),
        (1u64..5, 1u64..5).prop_map(|(bucket, revision)| {
            let bucket = enfilade_placement::BucketId::new(bucket);
            RootCommand::EndSetVersioning { bucket, revision }
        }),
        (1u64..5, 1u64..5, any::<bool>()).prop_map(|(bucket, revision, empty)| {
            let bucket = enfilade_placement::BucketId::new(bucket);
            RootCommand::EndDeleteBucket {
                bucket,
                revision,
                empty,
            }
        }),
        select(vec![0u64, 1, 600_000, 4_000_000])
            .prop_map(|elapsed_ms| RootCommand::Tick { elapsed_ms }),
        (0u8..2).prop_map(|_| RootCommand::Init(birth())),
        moves(),
        replicas(),
    ]
}

fn replicas() -> impl Strategy<Value = RootCommand> {
    let group = || (0u32..3).prop_map(PartitionId::new);
    let set = || {
        let enclosures = btree_set(1u32..7, 0..5);
        enclosures.prop_map(|ids| ids.into_iter().map(EnclosureId::new).collect::<Vec<_>>())
    };
    let known = || prop_oneof![Just(vec![EnclosureId::new(1)]), set()];
    let change = || (1u64..9).prop_map(IntentId::new);
    prop_oneof![
        4 => (group(), known(), set(), option::of(change())).prop_map(
            |(group, from, to, replaces)| {
                RootCommand::BeginReplicas { group, from, to, replaces }
            }
        ),
        4 => (group(), change())
            .prop_map(|(group, change)| RootCommand::EndReplicas { group, change }),
        2 => (group(), (1u32..7).prop_map(EnclosureId::new), change()).prop_map(
            |(group, enclosure, change)| {
                RootCommand::ReplicaCleared { group, enclosure, change }
            }
        ),
        1 => (0u32..8).prop_map(|most| RootCommand::SetReplicas { most }),
    ]
}

fn drives() -> impl Strategy<Value = RootCommand> {
    prop_oneof![
        (1u128..14, 1u32..7, 0u32..3)
            .prop_map(|(drive, at, generation)| attach(drive, at, generation)),
        (1u128..14, drive_state()).prop_map(|(drive, state)| {
            let drive = DriveId::new(drive);
            RootCommand::SetDrive { drive, state }
        }),
        (1u128..14, 0u32..4).prop_map(|(drive, generation)| {
            RootCommand::ReconcileDrive {
                drive: DriveId::new(drive),
                generation: enfilade_placement::Generation::new(generation),
            }
        }),
    ]
}

fn moves() -> impl Strategy<Value = RootCommand> {
    use Reason::{Drain, Rebalance, Repair};
    let volume = || (1u64..4).prop_map(VolumeId::new);
    let epoch = || (1u64..5).prop_map(Epoch::new);
    let order = (volume(), 0u128..14, 0u8..7, 1u128..14).prop_map(|(volume, at, member, to)| {
        let (from, to) = ((at > 0).then(|| DriveId::new(at)), DriveId::new(to));
        let reason = [Repair, Drain, Rebalance][usize::from(member) % 3];
        MoveOrder {
            volume,
            member,
            from,
            to,
            reason,
        }
    });
    let flip = (volume(), epoch(), 0u8..7, 1u64..9).prop_map(|(volume, epoch, member, id)| {
        RootCommand::FlipMember(Flip {
            intent: IntentId::new(id),
            volume,
            epoch,
            member,
            bytes: 1,
            lacks: Vec::new(),
        })
    });
    let subject = prop_oneof![
        (1u128..14).prop_map(|id| Subject::Drive(DriveId::new(id))),
        (1u32..8).prop_map(|id| Subject::Enclosure(EnclosureId::new(id))),
    ];
    prop_oneof![
        4 => vec(order, 1..8).prop_map(RootCommand::BeginMoves),
        4 => flip,
        1 => vec((1u64..9).prop_map(IntentId::new), 0..3).prop_map(RootCommand::CancelMoves),
        2 => vec((1u64..9).prop_map(IntentId::new), 0..5).prop_map(RootCommand::EndMoves),
        1 => any::<bool>().prop_map(RootCommand::PauseMoves),
        1 => subject.clone().prop_map(RootCommand::Remove),
        1 => (1u32..8, 0u64..2).prop_map(|(id, for_ms)| {
            let id = EnclosureId::new(id);
            RootCommand::Maintain { id, for_ms }
        }),
        1 => (1u32..8, select(vec![1u64, 600_001])).prop_map(|(id, until)| {
            let id = EnclosureId::new(id);
            RootCommand::EndMaintenance { id, until: GroupTime(until) }
        }),
        1 => (subject, any::<bool>())
            .prop_map(|(subject, on)| RootCommand::Drain { subject, on }),
    ]
}

fn dump(rows: &dyn Rows) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    rows.scan(Table::Root, &[], None, &mut |key, value| {
        all.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn invariants_hold_and_the_same_commands_come_to_the_same_rows(
        commands in vec(command(), 1..80), batch in 1usize..7
    ) {
        let mut root = Root::with_drives();
        let start = root.rows.clone();
        let mut log: Vec<RootEnvelope> = Vec::new();
        let mut outcomes = Vec::new();
        for command in commands {
            let envelope = root.envelope(command);
            outcomes.push(root.apply(&envelope));
            log.push(envelope);
        }
        let mut again: MemoryRows = start;
        let mut replayed = Vec::new();
        for chunk in log.chunks(batch) {
            let mut txn = Txn::new(&again);
            for envelope in chunk {
                replayed.push(crate::root::apply(&mut txn, envelope).unwrap());
            }
            let writes = txn.into_writes();
            again.commit(writes);
        }
        assert_eq!(outcomes, replayed);
        assert_eq!(dump(&again), dump(&root.rows));
    }
}
