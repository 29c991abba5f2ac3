//! The format of records is fixed: these bytes are on drives.

use enfilade_cluster::api::key::ObjectKey;
use enfilade_placement::{BucketId, UploadId};
use proptest::prelude::*;

use super::*;

const GOLDEN: &str = include_str!("golden.txt");
const INCARNATION: u64 = 0x0102_0304_0506_0708;

fn record(body: Body) -> Record {
    Record {
        sequence: 3,
        synced: 4096,
        volume: VolumeId::new(0x11),
        member: 5,
        epoch: Epoch::new(7),
        padding: 0,
        body,
    }
}

fn samples() -> Vec<(&'static str, Record)> {
    let blob = BlobId::new(0xb10b);
    let fragments = vec![
        FragmentHeader {
            len: 4224,
            checksums: vec![0xdead_beef, 1],
        },
        FragmentHeader {
            len: 128,
            checksums: vec![2],
        },
    ];
    let owner = Owner {
        at: ObjectKey::new(BucketId::new(9), "a/key"),
        upload: Some((UploadId::new(0xa), 4)),
    };
    let marks = vec![BlobId::new(1), BlobId::new(2)];
    let append = |owner, marks| Body::Append {
        blob,
        first_stripe: 12,
        fragments: fragments.clone(),
        owner,
        marks,
    };
    vec![
        ("append", record(append(Some(owner), marks.clone()))),
        ("append-plain", record(append(None, Vec::new()))),
        (
            "delete",
            record(Body::Delete {
                blob,
                runs: Vec::new(),
            }),
        ),
        (
            "delete-runs",
            record(Body::Delete {
                blob,
                runs: vec![(1, 2), (9, 9)],
            }),
        ),
        (
            "bad",
            record(Body::Bad {
                blob,
                runs: vec![(3, 3)],
            }),
        ),
        ("fence", record(Body::Fence)),
        ("commit", record(Body::Commit { marks })),
        ("lost", record(Body::Lost)),
        (
            "padded",
            Record {
                padding: 3960,
                ..record(Body::Fence)
            },
        ),
    ]
}

#[test]
fn records_have_the_bytes_of_the_golden_file() {
    let lines = samples().into_iter().map(|(name, record)| {
        format!("{name} {}\n", hex::encode(record.encode(INCARNATION, 8192)))
    });
    let text: String = lines.collect();
    assert_eq!(text, GOLDEN);
}

#[test]
fn golden_records_are_read() {
    for ((name, record), line) in samples().into_iter().zip(GOLDEN.lines()) {
        let (_, bytes) = line.split_once(' ').unwrap();
        let mut bytes = hex::decode(bytes).unwrap();
        let len = bytes.len();
        assert!(len.is_multiple_of(8));
        bytes.extend_from_slice(&[0xee; 50]);
        assert_eq!(
            Record::decode(&bytes, INCARNATION, 8192),
            Ok((record, len)),
            "{name}"
        );
    }
}

#[test]
fn a_record_is_valid_only_in_its_log_and_at_its_place() {
    let (_, record) = samples().remove(0);
    let bytes = record.encode(INCARNATION, 8192);
    assert!(Record::decode(&bytes, INCARNATION, 8192).is_ok());
    assert_eq!(
        Record::decode(&bytes, INCARNATION + 1, 8192),
        Err(RecordError::Invalid)
    );
    assert_eq!(
        Record::decode(&bytes, INCARNATION, 8200),
        Err(RecordError::Invalid)
    );
    assert_eq!(
        Record::decode(&bytes[..80], INCARNATION, 8192),
        Err(RecordError::Invalid)
    );
}

#[test]
fn a_newer_version_is_told_from_rot() {
    let (_, record) = samples().remove(5);
    let mut bytes = record.encode(INCARNATION, 0);
    bytes[4] = 2;
    assert_eq!(
        Record::decode(&bytes, INCARNATION, 0),
        Err(RecordError::Invalid)
    );
    let end = bytes.len() - 4;
    let crc = header_crc(INCARNATION, 0, &bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(
        Record::decode(&bytes, INCARNATION, 0),
        Err(RecordError::Version(2))
    );
}

#[test]
fn a_padded_record_ends_at_a_block() {
    for (name, mut record) in samples() {
        record.padding = 0;
        for offset in [8192, 8200, 12_280] {
            let mut header = record.encode(INCARNATION, offset);
            let mut padded = record.clone();
            padded.pad(&mut header, INCARNATION, offset);
            assert!((offset + padded.span(header.len())).is_multiple_of(BLOCK));
            let read = Record::decode(&header, INCARNATION, offset);
            assert_eq!(read, Ok((padded, header.len())), "{name}");
        }
        record.padding = u32::try_from(BLOCK).unwrap();
        let header = record.encode(INCARNATION, 0);
        let read = Record::decode(&header, INCARNATION, 0);
        assert_eq!(read, Err(RecordError::Invalid));
    }
}

proptest! {
    #[test]
    fn any_flipped_bit_of_a_header_is_found(
        which in 0..8usize,
        at in any::<prop::sample::Index>(),
    ) {
        let (_, record) = samples().remove(which);
        let mut bytes = record.encode(INCARNATION, 64);
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Record::decode(&bytes, INCARNATION, 64), Err(RecordError::Invalid));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        // With a valid CRC, so that the rest of the decoder sees them.
        if bytes.len() >= FIXED_LEN + 8 {
            let len = bytes.len() / 8 * 8;
            bytes.truncate(len);
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
            bytes[6] %= 7;
            bytes[8..12].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
            bytes[16..24].copy_from_slice(&INCARNATION.to_le_bytes());
            let crc = header_crc(INCARNATION, 0, &bytes[..len - 4]);
            bytes[len - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        let _ = Record::decode(&bytes, INCARNATION, 0);
    }
}
