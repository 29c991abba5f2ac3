//! Values with something in every field.

use std::collections::BTreeMap;

use bytes::Bytes;
use enfilade_placement::{BlobId, Profile, Stamp, UploadId, VolumeId};

use crate::api::command::{ChosenPart, Conditions, ETags, NewObject};
use crate::api::record::{
    Attributes, Blob, Checksum, ChecksumAlgorithm, ChecksumScope, Content, Extent, Layout, Lock,
    ObjectRecord, PartRecord, Place, UploadRecord, VersionKind,
};

pub(super) const BLOB: BlobId = BlobId::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
pub(super) const UPLOAD: UploadId = UploadId::new(0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feff);

pub(super) fn profile() -> Profile {
    Profile::new(4, 2).unwrap()
}

pub(super) fn extent() -> Extent {
    Extent {
        volume: VolumeId::new(300),
        first_stripe: 5,
        stripes: 70_000,
    }
}

pub(super) fn inline() -> Blob {
    Blob {
        id: BLOB,
        len: 5,
        crc64: u64::MAX,
        place: Place::Inline,
    }
}

pub(super) fn striped(layout: Layout) -> Blob {
    let profile = profile();
    let extents = vec![
        extent(),
        Extent {
            volume: VolumeId::new(1),
            ..extent()
        },
    ];
    Blob {
        id: BLOB,
        len: 1 << 40,
        crc64: 7,
        place: Place::Striped {
            profile,
            layout,
            extents,
        },
    }
}

pub(super) fn checksum() -> Checksum {
    Checksum {
        algorithm: ChecksumAlgorithm::Sha256,
        scope: ChecksumScope::Composite,
        value: "abc=-2".to_owned(),
    }
}

pub(super) fn attributes() -> Attributes {
    let one = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    Attributes {
        headers: one("content-type", "text/plain"),
        metadata: one("color", "blue"),
        tags: one("tag", "\u{e9}"),
        lock: Lock {
            retain_until: Some((1_700_000_000_000, true)),
            legal_hold: true,
        },
    }
}

pub(super) fn conditions() -> Conditions {
    Conditions {
        if_match: Some(ETags::These(vec!["e1".to_owned(), "e2".to_owned()])),
        if_none_match: Some(ETags::Any),
    }
}

pub(super) fn new_object() -> NewObject {
    NewObject {
        etag: "etag".to_owned(),
        modified_ms: 1_700_000_000_001,
        attributes: attributes(),
        checksum: Some(checksum()),
        blob: inline(),
        inline: Bytes::from_static(b"bytes"),
    }
}

pub(super) fn chosen() -> ChosenPart {
    ChosenPart {
        number: 10_000,
        etag: "etag".to_owned(),
        checksum: Some("sum".to_owned()),
    }
}

pub(super) fn object() -> ObjectRecord {
    ObjectRecord {
        stamp: Stamp::new(1 << 33),
        kind: VersionKind::Object,
        null_version: true,
        len: 6_000_000,
        etag: "etag-2".to_owned(),
        modified_ms: 1_700_000_000_002,
        attributes: attributes(),
        checksum: Some(checksum()),
        parts: vec![5_242_880, 757_120],
        content: Content::Blobs(vec![striped(Layout::Full), inline()]),
    }
}

pub(super) fn upload() -> UploadRecord {
    UploadRecord {
        id: UPLOAD,
        created_ms: 1_700_000_000_003,
        attributes: attributes(),
        checksum: Some((ChecksumAlgorithm::Crc64Nvme, ChecksumScope::FullObject)),
    }
}

pub(super) fn part() -> PartRecord {
    PartRecord {
        number: 10_000,
        etag: "part".to_owned(),
        modified_ms: 1_700_000_000_004,
        checksum: Some(checksum()),
        blob: striped(Layout::Shortened),
    }
}
