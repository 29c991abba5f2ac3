//! What follows from parts: ETags, checksums, and what is refused.

use super::*;
use enfilade_cluster::api::record::{Blob, Place};
use enfilade_placement::BlobId;
use s3s::crypto::{self, Checksum as _};

fn part(number: i32, etag: &str) -> CompletedPart {
    let e_tag = Some(strong(etag));
    CompletedPart {
        part_number: Some(number),
        e_tag,
        ..CompletedPart::default()
    }
}

fn record(number: u16, body: &[u8]) -> PartRecord {
    let crc64 = u64::from_be_bytes(crypto::Crc64Nvme::checksum(body));
    let id = BlobId::new(u128::from(number));
    PartRecord {
        number,
        etag: hex::encode(crypto::Md5::checksum(body)),
        modified_ms: 0,
        checksum: None,
        blob: Blob {
            id,
            len: body.len() as u64,
            crc64,
            place: Place::Inline,
        },
    }
}

fn named(parts: &[PartRecord]) -> Vec<NamedPart> {
    let parts: Vec<_> = parts
        .iter()
        .map(|record| part(i32::from(record.number), &record.etag))
        .collect();
    chosen_parts(&parts).unwrap()
}

#[test]
fn the_etag_of_parts_is_the_md5_of_their_md5s() {
    // As S3 gives for two parts "a" and "b".
    let etags = [&b"a"[..], b"b"].map(|body| hex::encode(crypto::Md5::checksum(body)));
    let both = [&b"a"[..], b"b"].map(crypto::Md5::checksum).concat();
    let expected = format!("{}-2", hex::encode(crypto::Md5::checksum(&both)));
    let found = etag_of_parts(etags.iter().map(String::as_str)).unwrap();
    assert_eq!(found, expected);
    assert!(etag_of_parts(["xyz"].into_iter()).is_err());
}

#[test]
fn parts_are_named_in_order_with_number_and_etag() {
    let etag = "0cc175b9c0f1b6a831c399e269772661";
    for (parts, code) in [
        (vec![], S3ErrorCode::MalformedXML),
        (vec![CompletedPart::default()], S3ErrorCode::MalformedXML),
        (
            vec![part(2, etag), part(1, etag)],
            S3ErrorCode::InvalidPartOrder,
        ),
        (
            vec![part(1, etag), part(1, etag)],
            S3ErrorCode::InvalidPartOrder,
        ),
        (vec![part(0, etag)], S3ErrorCode::InvalidPart),
        (vec![part(10_001, etag)], S3ErrorCode::InvalidPart),
        (vec![part(-1, etag)], S3ErrorCode::InvalidPart),
    ] {
        assert_eq!(chosen_parts(&parts).unwrap_err().code(), &code, "{parts:?}");
    }
}

#[test]
fn the_checksum_of_an_object_follows_from_its_parts() {
    let parts = [record(1, b"hello, "), record(4, b"world")];
    let made = Made::of(&named(&parts), &parts, None).unwrap();
    let expected = crypto::Crc64Nvme::checksum(b"hello, world").to_vec();
    let checksum = made.checksum.unwrap();
    assert_eq!(
        checksum::raw(ChecksumAlgorithm::Crc64Nvme, &checksum.value),
        Some(expected)
    );
    assert_eq!(made.len, Some(12));
}

#[test]
fn a_part_that_is_missing_or_another_is_invalid() {
    let parts = [record(1, b"hello, ")];
    let absent = [record(1, b"hello, "), record(2, b"world")];
    let error = Made::of(&named(&absent), &parts, None).unwrap_err();
    assert_eq!(error.code(), &S3ErrorCode::InvalidPart);
    let other = [record(1, b"hullo, ")];
    let error = Made::of(&named(&other), &parts, None).unwrap_err();
    assert_eq!(error.code(), &S3ErrorCode::InvalidPart);
    // A composite needs the checksum of every part.
    let chosen = Some((ChecksumAlgorithm::Sha256, ChecksumScope::Composite));
    let error = Made::of(&named(&parts), &parts, chosen).unwrap_err();
    assert_eq!(error.code(), &S3ErrorCode::InvalidPart);
}

#[test]
fn what_a_client_says_of_the_object_is_compared() {
    let parts = [record(1, b"hello, "), record(2, b"world")];
    let made = Made::of(&named(&parts), &parts, None).unwrap();
    let value = made.checksum.clone().unwrap().value;
    let input = |size, checksum_crc64nvme| CompleteMultipartUploadInput {
        mpu_object_size: size,
        checksum_crc64nvme,
        ..complete_input()
    };
    assert!(made.check(&input(Some(12), Some(value))).is_ok());
    let error = made.check(&input(Some(13), None)).unwrap_err();
    assert_eq!(error.code(), &S3ErrorCode::InvalidRequest);
    let error = made
        .check(&input(None, Some("AAAAAAAAAAA=".to_owned())))
        .unwrap_err();
    assert_eq!(error.code(), &S3ErrorCode::BadDigest);
}

fn complete_input() -> CompleteMultipartUploadInput {
    CompleteMultipartUploadInput {
        bucket: "b".to_owned(),
        key: "k".to_owned(),
        upload_id: String::new(),
        ..CompleteMultipartUploadInput::default()
    }
}
