//! What every [`ShardClient`] keeps to: run by all implementations.

use std::sync::Arc;

use bytes::Bytes;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_placement::{BlobId, BucketId, ClusterId, Epoch, Generation, UploadId, VolumeId};

use super::append::{AppendHeader, AppendRequest, FragmentHeader};
use super::error::ShardError;
use super::read::{FragmentFault, FragmentRange, InventoryRequest, ReadRequest};
use super::{Owner, ShardAddress, ShardClient};
use crate::erasure::checksum::{FragmentSeed, fragment_checksums};

/// A client, and a shard that holds nothing yet and takes any volume id.
pub struct Subject {
    /// The client.
    pub client: Arc<dyn ShardClient>,
    /// The shard.
    pub at: ShardAddress,
}

/// A well-formed append of these fragments.
pub fn append_of(
    at: ShardAddress,
    blob: BlobId,
    first_stripe: u32,
    fragments: &[Bytes],
) -> AppendRequest {
    let fragment = |(stripe, bytes): (u32, &Bytes)| {
        let (volume, index) = (at.volume.get(), at.member);
        let seed = FragmentSeed {
            volume,
            blob: blob.get(),
            stripe,
            index,
        };
        FragmentHeader {
            len: u32::try_from(bytes.len()).expect("a fragment is small"),
            checksums: fragment_checksums(seed, bytes).collect(),
        }
    };
    AppendRequest {
        header: AppendHeader {
            at,
            blob,
            first_stripe,
            fragments: (first_stripe..).zip(fragments).map(fragment).collect(),
            owner: None,
            committed: Vec::new(),
        },
        fragments: fragments.to_vec(),
    }
}

/// Fragments whose bytes follow from their place.
pub fn sample(stripes: std::ops::Range<u32>, len: u32) -> Vec<Bytes> {
    let byte =
        |stripe: u32, i: u32| (i.wrapping_mul(31) ^ (i >> 8) ^ stripe.wrapping_mul(97)) as u8;
    stripes
        .map(|stripe| {
            (0..len)
                .map(|i| byte(stripe, i))
                .collect::<Vec<u8>>()
                .into()
        })
        .collect()
}

fn range(stripe: u32, offset: u32, len: u32) -> FragmentRange {
    FragmentRange {
        stripe,
        offset,
        len,
    }
}

/// Everything; each part on a volume of its own.
pub async fn all(subject: &Subject) {
    let mut volume = subject.at.volume.get();
    let mut next = || {
        volume += 1;
        Subject {
            client: Arc::clone(&subject.client),
            at: ShardAddress {
                volume: VolumeId::new(volume),
                ..subject.at
            },
        }
    };
    any_range_of_what_was_appended_is_read(&next()).await;
    a_repeat_is_harmless_and_other_bytes_are_refused(&next()).await;
    wrong_checksums_are_refused_and_store_nothing(&next()).await;
    malformed_requests_are_refused(&next()).await;
    a_fault_of_one_range_does_not_hide_the_others(&next()).await;
    foreign_addresses_are_refused(&next()).await;
    older_epochs_are_refused(&next()).await;
    inventories_come_in_pages_ordered_by_blob(&next()).await;
}

async fn any_range_of_what_was_appended_is_read(Subject { client, at }: &Subject) {
    let (at, blob) = (*at, BlobId::new(1));
    let bytes = sample(5..9, 65536);
    let ack = client
        .append(append_of(at, blob, 5, &bytes))
        .await
        .expect("appended");
    assert_eq!(ack.epoch, at.epoch);
    assert!(ack.shard_bytes > 4 * 65536);
    let ranges = vec![
        range(5, 0, 65536),
        range(8, 4095, 2),
        range(6, 65535, 1),
        range(7, 8192, 4096),
        range(6, 100, 0),
        range(5, 1, 65535),
    ];
    let read = ReadRequest::get(at, blob, ranges.clone());
    let answers = client.read(read).await.expect("read");
    for (range, answer) in ranges.iter().zip(answers) {
        let (start, fragment) = (range.offset as usize, &bytes[range.stripe as usize - 5]);
        assert_eq!(
            answer,
            Ok(fragment.slice(start..start + range.len as usize)),
            "{range:?}"
        );
    }
    let none = client.read(ReadRequest::get(at, blob, Vec::new())).await;
    assert_eq!(none, Ok(Vec::new()));
}

async fn a_repeat_is_harmless_and_other_bytes_are_refused(Subject { client, at }: &Subject) {
    let (at, blob) = (*at, BlobId::new(2));
    let bytes = sample(0..3, 4096);
    let first = client
        .append(append_of(at, blob, 0, &bytes))
        .await
        .expect("appended");
    let again = client
        .append(append_of(at, blob, 0, &bytes))
        .await
        .expect("repeated");
    assert_eq!(again, first, "a repeat takes no room");
    let part = client
        .append(append_of(at, blob, 1, &bytes[1..2]))
        .await
        .expect("in part");
    assert_eq!(part, first);
    let other = client
        .append(append_of(at, blob, 1, &sample(7..8, 4096)))
        .await;
    assert!(matches!(other, Err(ShardError::Invalid(_))), "{other:?}");
    let read = ReadRequest::get(at, blob, vec![range(1, 0, 4096)]);
    assert_eq!(
        client.read(read).await.expect("read"),
        [Ok(bytes[1].clone())]
    );
}

async fn wrong_checksums_are_refused_and_store_nothing(Subject { client, at }: &Subject) {
    let (at, blob) = (*at, BlobId::new(3));
    let mut request = append_of(at, blob, 0, &sample(0..2, 8192));
    request.header.fragments[1].checksums[1] ^= 1;
    let refused = client.append(request).await;
    assert!(
        matches!(refused, Err(ShardError::Invalid(_))),
        "{refused:?}"
    );
    // The right bytes under another stripe's name.
    let mut request = append_of(at, blob, 0, &sample(0..2, 8192));
    request.header.first_stripe = 1;
    assert!(matches!(
        client.append(request).await,
        Err(ShardError::Invalid(_))
    ));
    let read = ReadRequest::get(at, blob, vec![range(0, 0, 1)]);
    assert_eq!(
        client.read(read).await.expect("read"),
        [Err(FragmentFault::Missing)]
    );
}

async fn malformed_requests_are_refused(Subject { client, at }: &Subject) {
    let blob = BlobId::new(4);
    let good = || append_of(*at, blob, 0, &sample(0..1, 4096));
    let mut none = good();
    none.header.fragments.clear();
    none.fragments.clear();
    let mut odd = good();
    odd.header.fragments[0].len = 4095;
    let mut short = good();
    short.header.fragments[0].checksums.clear();
    let mut beyond = good();
    beyond.header.first_stripe = u32::MAX;
    let mut huge = append_of(*at, blob, 0, &sample(0..65, 65536));
    huge.header.committed.clear();
    for request in [none, odd, short, beyond, huge] {
        let refused = client.append(request).await;
        assert!(
            matches!(refused, Err(ShardError::Invalid(_))),
            "{refused:?}"
        );
    }
    for limit in [0, 10_001] {
        let page = client
            .inventory(InventoryRequest {
                at: *at,
                after: None,
                limit,
            })
            .await;
        assert!(matches!(page, Err(ShardError::Invalid(_))), "{page:?}");
    }
    let ranges = vec![range(0, 0, u32::MAX); 8];
    let read = client.read(ReadRequest::get(*at, blob, ranges)).await;
    assert!(matches!(read, Err(ShardError::Invalid(_))), "{read:?}");
}

async fn a_fault_of_one_range_does_not_hide_the_others(Subject { client, at }: &Subject) {
    let (at, blob) = (*at, BlobId::new(5));
    let bytes = sample(0..2, 1280);
    client
        .append(append_of(at, blob, 0, &bytes))
        .await
        .expect("appended");
    let ranges = vec![
        range(0, 0, 1280),
        range(2, 0, 1),
        range(1, 1279, 2),
        range(1, u32::MAX, 2),
        range(1, 0, 1280),
    ];
    let answers = client
        .read(ReadRequest::get(at, blob, ranges))
        .await
        .expect("read");
    let missing = || Err(FragmentFault::Missing);
    let expected = [
        Ok(bytes[0].clone()),
        missing(),
        missing(),
        missing(),
        Ok(bytes[1].clone()),
    ];
    assert_eq!(answers, expected);
    let other = ReadRequest::get(at, BlobId::new(6), vec![range(0, 0, 1)]);
    assert_eq!(client.read(other).await.expect("read"), [missing()]);
}

async fn foreign_addresses_are_refused(Subject { client, at }: &Subject) {
    let blob = BlobId::new(7);
    let send = |at| client.append(append_of(at, blob, 0, &sample(0..1, 128)));
    let other = ClusterId::new(at.cluster.get() ^ 1);
    let refused = send(ShardAddress {
        cluster: other,
        ..*at
    })
    .await;
    assert!(
        matches!(refused, Err(ShardError::Forbidden(_))),
        "{refused:?}"
    );
    let incarnation = at.incarnation.next();
    let refused = send(ShardAddress { incarnation, ..*at }).await;
    assert!(
        matches!(refused, Err(ShardError::Forbidden(_))),
        "{refused:?}"
    );
    let generation = at.generation.next();
    let refused = send(ShardAddress { generation, ..*at }).await;
    assert_eq!(refused, Err(ShardError::NotHere(at.generation)));
    let drive = enfilade_placement::DriveId::new(!at.drive.get());
    let refused = send(ShardAddress { drive, ..*at }).await;
    assert_eq!(refused, Err(ShardError::NotHere(Generation::default())));
}

async fn older_epochs_are_refused(Subject { client, at }: &Subject) {
    let newer = ShardAddress {
        epoch: Epoch::new(at.epoch.get() + 2),
        ..*at
    };
    client
        .append(append_of(newer, BlobId::new(8), 0, &sample(0..1, 128)))
        .await
        .expect("newer");
    let refused = client
        .append(append_of(*at, BlobId::new(9), 0, &sample(0..1, 128)))
        .await;
    let stale = ShardError::StaleEpoch {
        volume: at.volume,
        current: newer.epoch,
    };
    assert_eq!(refused, Err(stale));
}

async fn inventories_come_in_pages_ordered_by_blob(Subject { client, at }: &Subject) {
    let at = *at;
    let owner = Owner {
        at: ObjectKey::new(BucketId::new(3), "some/key"),
        upload: Some((UploadId::new(4), 5)),
    };
    for blob in [30, 10, 20] {
        let mut request = append_of(at, BlobId::new(blob), 0, &sample(0..4, 256));
        request.header.owner = (blob == 20).then(|| owner.clone());
        client.append(request).await.expect("appended");
    }
    let mut marked = append_of(at, BlobId::new(10), 4, &sample(4..6, 128));
    marked.header.committed = vec![BlobId::new(30), BlobId::new(31)];
    client.append(marked).await.expect("appended");
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = client
            .inventory(InventoryRequest {
                at,
                after,
                limit: 2,
            })
            .await
            .expect("page");
        after = page.blobs.last().map(|blob| blob.blob);
        seen.extend(page.blobs);
        if !page.more {
            break;
        }
    }
    let ids: Vec<u128> = seen.iter().map(|blob| blob.blob.get()).collect();
    assert_eq!(ids, [10, 20, 30]);
    assert_eq!([seen[0].stripes[0], seen[2].stripes[0]], [(0, 5), (0, 3)]);
    assert_eq!([&seen[0].owner, &seen[1].owner], [&None, &Some(owner)]);
    assert_eq!(
        seen.iter().map(|blob| blob.committed).collect::<Vec<_>>(),
        [false, false, true]
    );
}
