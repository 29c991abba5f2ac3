//! What is written, and how objects of many blobs are read.

use bytes::Bytes;
use enfilade_cluster::api::query::BlobAt;
use enfilade_cluster::api::record::{ChecksumAlgorithm, Content, Layout, Place};
use enfilade_placement::Stamp;
use enfilade_storage_node::api::ShardClient;
use enfilade_storage_node::api::read::InventoryRequest;
use futures::{StreamExt, stream};
use s3s::crypto::Checksum as _;

use super::{Cluster, content, noise, pieces, profile, until};
use crate::path::types::{BodyError, ReadContent, ReadError, WriteError};

#[tokio::test]
async fn a_body_is_kept_inline_shortened_or_in_stripes_by_its_length() {
    let cluster = Cluster::start("4+2".parse().unwrap(), 6, |_| {}).await;
    for (len, layout) in [
        (0, None),
        (16 << 10, None),
        ((16 << 10) + 1, Some(Layout::Shortened)),
        (32 << 10, Some(Layout::Shortened)),
        ((32 << 10) + 1, Some(Layout::Full)),
        ((64 << 10) + 1, Some(Layout::Full)),
    ] {
        let bytes = noise(len, 1);
        let written = cluster.write(&bytes, 10_000).await.unwrap();
        let kept = match &written.blob.place {
            Place::Inline => None,
            Place::Striped {
                layout, extents, ..
            } => {
                assert_eq!((extents[0].first_stripe, extents[0].stripes), (0, 1));
                Some(*layout)
            }
        };
        assert_eq!(kept, layout, "{len}");
        assert_eq!(
            written.inline,
            if layout.is_none() {
                Bytes::from(bytes)
            } else {
                Bytes::new()
            }
        );
    }
}

#[tokio::test]
async fn digests_are_those_of_the_body() {
    let cluster = Cluster::start(profile("4+2"), 6, |_| {}).await;
    for len in [0, 100, 20_000, 500_000, 3_000_000] {
        for asked in [
            ChecksumAlgorithm::Crc32,
            ChecksumAlgorithm::Crc32c,
            ChecksumAlgorithm::Crc64Nvme,
            ChecksumAlgorithm::Sha1,
            ChecksumAlgorithm::Sha256,
        ] {
            let bytes = noise(len, 5);
            let mut body = cluster.body("key", pieces(&bytes, 7_777));
            body.digest = Some(asked);
            let written = cluster.path.write(body).await.unwrap();
            let md5 = s3s::crypto::Md5::checksum(&bytes);
            let crc64 = u64::from_be_bytes(s3s::crypto::Crc64Nvme::checksum(&bytes));
            assert_eq!(
                (written.md5, written.blob.crc64),
                (Some(md5), crc64),
                "{len}"
            );
            let expected = match asked {
                ChecksumAlgorithm::Crc32 => s3s::crypto::Crc32::checksum(&bytes).to_vec(),
                ChecksumAlgorithm::Crc32c => s3s::crypto::Crc32c::checksum(&bytes).to_vec(),
                ChecksumAlgorithm::Crc64Nvme => crc64.to_be_bytes().to_vec(),
                ChecksumAlgorithm::Sha1 => s3s::crypto::Sha1::checksum(&bytes).to_vec(),
                ChecksumAlgorithm::Sha256 => s3s::crypto::Sha256::checksum(&bytes).to_vec(),
            };
            assert_eq!(written.digest, Some((asked, expected)), "{len}");
        }
    }
}

#[tokio::test]
async fn digests_that_nobody_wants_are_not_computed() {
    let cluster = Cluster::start(profile("4+2"), 6, |_| {}).await;
    for len in [0, 100, 20_000, 500_000] {
        let bytes = noise(len, 5);
        let mut body = cluster.body("key", pieces(&bytes, 7_777));
        body.md5 = false;
        let written = cluster.path.write(body).await.unwrap();
        assert_eq!((written.md5, written.digest), (None, None), "{len}");
        let crc64 = u64::from_be_bytes(s3s::crypto::Crc64Nvme::checksum(&bytes));
        assert_eq!(written.blob.crc64, crc64, "{len}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_announced_is_refused() {
    let cluster = Cluster::start(profile("2+1"), 3, |_| {}).await;
    let bytes = noise(100_000, 5);
    for announced in [0, 1, 99_999, 100_001] {
        let mut body = cluster.body("key", pieces(&bytes, 10_000));
        body.len = Some(announced);
        let error = cluster.path.write(body).await.unwrap_err();
        assert!(
            matches!(error, WriteError::Body(BodyError::Incomplete(_))),
            "{error}"
        );
    }
    for announced in [None, Some(100_000)] {
        let mut body = cluster.body("key", pieces(&bytes, 10_000));
        (body.len, body.len_max) = (announced, 99_999);
        let error = cluster.path.write(body).await.unwrap_err();
        assert!(matches!(error, WriteError::TooLong(99_999)), "{error}");
    }
    // The end of the body is waited for: a wrong signature may be found only there.
    let wrong = BodyError::Mismatch("the last chunk".to_owned());
    let tail = stream::iter([Err(wrong.clone())]);
    for len in [1000, 100_000] {
        let mut body = cluster.body(
            "key",
            pieces(&bytes[..len], 10_000).chain(tail.clone()).boxed(),
        );
        body.len = Some(len as u64);
        let error = cluster.path.write(body).await.unwrap_err();
        assert!(
            matches!(&error, WriteError::Body(found) if *found == wrong),
            "{error}"
        );
    }
    until(|| cluster.path.inner.write_budget.used() == 0).await;
}

/// An object of blobs of all kinds, in the record or in rows.
#[tokio::test]
async fn an_object_of_many_blobs_reads_as_one() {
    let cluster = Cluster::start(profile("4+2"), 6, |s| s.inline_limit = 2048).await;
    let (mut blobs, mut rows, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (number, len) in [60_000usize, 1, 3_000, 0, 2_048, 100_000, 16_384]
        .into_iter()
        .enumerate()
    {
        let part = noise(len, number as u64);
        let written = cluster.write(&part, 9_999).await.unwrap();
        rows.push(BlobAt {
            offset: bytes.len() as u64,
            blob: written.blob.clone(),
        });
        cluster
            .metadata
            .inline
            .lock()
            .unwrap()
            .insert(written.blob.id, written.inline);
        blobs.push(written.blob);
        bytes.extend(part);
    }
    *cluster.metadata.rows.lock().unwrap() = rows;
    let blobs_len = u32::try_from(blobs.len()).unwrap();
    for content in [Content::Blobs(blobs), Content::Rows { blobs: blobs_len }] {
        let content = ReadContent {
            stamp: Stamp::new(1),
            content,
            inline: Bytes::new(),
        };
        assert_eq!(cluster.read(&content, 0..u64::MAX).await.unwrap(), bytes);
        for start in (0..bytes.len()).step_by(7_919) {
            for end in [start, start + 1, start + 4_096, start + 70_000, bytes.len()] {
                let end = end.min(bytes.len());
                let read = cluster
                    .read(&content, start as u64..end as u64)
                    .await
                    .unwrap();
                assert_eq!(read, bytes[start..end], "{start}..{end}");
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_do_not_match_the_records_crc_never_come_whole() {
    let cluster = Cluster::start(profile("4+2"), 6, |_| {}).await;
    for len in [1_000, 18_000, 500_000] {
        let bytes = noise(len, 2);
        let mut written = cluster.write(&bytes, 50_000).await.unwrap();
        written.blob.crc64 ^= 1;
        let content = content(&written);
        let error = cluster.read(&content, 0..len as u64).await.unwrap_err();
        assert!(
            matches!(error, ReadError::Mismatch(id) if id == written.blob.id),
            "{error}"
        );
        let part = cluster.read(&content, 1..len as u64).await.unwrap();
        assert_eq!(part, bytes[1..]);
        let stream = cluster
            .path
            .read(cluster.key("key"), content, 0..u64::MAX)
            .await;
        if let Ok(stream) = stream {
            let came = stream.map(|chunk| chunk.map_or(0, |chunk| chunk.len()));
            assert!(came.collect::<Vec<_>>().await.iter().sum::<usize>() < len);
        }
    }
}

#[tokio::test]
async fn nodes_hear_with_the_next_append_what_was_committed() {
    let cluster = Cluster::bare(profile("2+1"), 3, |_| {}).await;
    let volume = cluster.open(0, &[]).await;
    cluster.view.refresh().await.unwrap();
    let first = cluster.write(&noise(100_000, 1), 50_000).await.unwrap();
    cluster.commit("key", &first).await;
    let second = cluster.write(&noise(100_000, 2), 50_000).await.unwrap();
    for member in 0..3 {
        let at = cluster.nodes.address(&volume, member);
        let request = InventoryRequest {
            at,
            after: None,
            limit: 10,
        };
        let node = cluster.nodes.at(cluster.enclosure(&volume, member));
        let page = node.inventory(request).await.unwrap();
        let mut committed: Vec<_> = page.blobs.iter().map(|b| (b.blob, b.committed)).collect();
        committed.sort_by_key(|(_, committed)| !committed);
        assert_eq!(committed, [(first.blob.id, true), (second.blob.id, false)]);
        assert!(
            page.blobs
                .iter()
                .all(|blob| blob.owner.as_ref().unwrap().at.key == "key")
        );
    }
}
