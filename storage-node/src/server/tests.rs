//! The service over drives in memory and in a real directory.

use std::sync::Arc;

use bytes::Bytes;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::env::Env;
use enfilade_placement::{
    BlobId, BucketId, ClusterId, DriveId, EnclosureId, Epoch, Generation, Incarnation, Profile,
    VolumeId,
};

use super::*;
use crate::api::Owner;
use crate::api::append::FragmentHeader;
use crate::api::read::FragmentRange;
use crate::client::memory::MemoryNodes;
use crate::drive::file::FileDrive;
use crate::drive::superblock::Superblock;
use crate::erasure::checksum::{FragmentSeed, fragment_checksums};
use crate::settings::Settings;

fn request(at: ShardAddress, blob: BlobId, first_stripe: u32, payload: &[Bytes]) -> AppendRequest {
    let fragment = |(stripe, bytes): (u32, &Bytes)| {
        let seed = FragmentSeed {
            volume: at.volume.get(),
            blob: blob.get(),
            stripe,
            index: at.member,
        };
        FragmentHeader {
            len: u32::try_from(bytes.len()).unwrap(),
            checksums: fragment_checksums(seed, bytes).collect(),
        }
    };
    AppendRequest {
        header: AppendHeader {
            at,
            blob,
            first_stripe,
            fragments: (first_stripe..).zip(payload).map(fragment).collect(),
            owner: Some(Owner {
                at: ObjectKey::new(BucketId::new(1), "key"),
                upload: None,
            }),
            committed: Vec::new(),
        },
        fragments: payload.to_vec(),
    }
}

fn payload() -> Vec<Bytes> {
    let fragment = |i: u8| Bytes::from((0..65536u32).map(|n| (n as u8) ^ i).collect::<Vec<u8>>());
    (0..4).map(fragment).collect()
}

#[tokio::test]
async fn what_was_appended_is_read_after_a_restart_on_a_real_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let id = DriveId::new(7);
    let identity = Identity {
        cluster: ClusterId::new(1),
        incarnation: Incarnation::new(1),
        enclosure: EnclosureId::new(1),
    };
    let superblock = Superblock {
        revision: 1,
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        drive: id,
        file_system: 0,
        generation: Generation::new(1),
        pending: None,
    };
    drop(FileDrive::format(&path, &superblock).unwrap());
    let at = ShardAddress {
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        drive: id,
        generation: Generation::new(1),
        volume: VolumeId::new(3),
        epoch: Epoch::FIRST,
        member: 2,
    };
    let blob = BlobId::new(99);
    let payload = payload();
    let start = |clean: bool| {
        // The committer may still be about to let go of the last one.
        let (drive, read) = loop {
            match FileDrive::open(&path, id) {
                Err(crate::drive::file::OpenError::Locked(_)) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert_eq!(read, superblock);
        let host = Host::new(Env::seeded(1), Settings::default());
        let node = StorageNode::trusting(host.clone(), identity);
        let engine = Engine::open(&host, Arc::new(drive), id, None).unwrap();
        node.serve(Arc::clone(&engine), Generation::new(1));
        (node, engine, clean)
    };
    for round in 0..3u32 {
        let (node, engine, clean) = start(round == 1);
        let first = round * 4;
        let ack = node
            .append(request(at, blob, first, &payload))
            .await
            .unwrap();
        assert!(ack.shard_bytes > u64::from(round + 1) * 4 * 65536);
        let range = |stripe| FragmentRange {
            stripe,
            offset: 100,
            len: 5000,
        };
        let ranges: Vec<FragmentRange> = (0..first + 5).map(range).collect();
        let read = node.read(ReadRequest::get(at, blob, ranges)).await.unwrap();
        for (stripe, answer) in read.into_iter().enumerate() {
            match stripe < first as usize + 4 {
                true => assert_eq!(answer.unwrap(), payload[stripe % 4].slice(100..5100)),
                false => assert_eq!(answer, Err(FragmentFault::Missing)),
            }
        }
        if clean {
            engine.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_node_in_memory_serves_and_rots_and_stops() {
    let nodes = MemoryNodes::new(ClusterId::new(5), Incarnation::new(1), 6, 2);
    let volume = nodes.volume(1, Profile::new(4, 2).unwrap());
    let at = nodes.address(&volume, 3);
    let node = nodes.at(4);
    let (blob, payload) = (BlobId::new(8), payload());
    use crate::api::ShardClient;
    node.append(request(at, blob, 0, &payload)).await.unwrap();
    assert!(node.corrupt(at.drive, at.volume, at.member, (blob, 2)));
    let ranges = (0..3)
        .map(|stripe| FragmentRange {
            stripe,
            offset: 0,
            len: 65536,
        })
        .collect();
    let read = ReadRequest::get(at, blob, ranges);
    let answer = node.read(read.clone()).await.unwrap();
    assert_eq!(answer[1], Ok(payload[1].clone()));
    assert_eq!(answer[2], Err(FragmentFault::Corrupt));
    node.stop();
    assert!(matches!(
        node.read(read).await,
        Err(ShardError::Unreachable(_))
    ));
}
