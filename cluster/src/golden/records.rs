//! Records as rows hold them.

use crate::api::record::{
    Attributes, ChecksumAlgorithm, ChecksumScope, Content, Layout, ObjectRecord, VersionKind,
};

use super::Lines;
use super::samples::{attributes, extent, inline, object, part, striped, upload};

#[test]
fn records_are_kept_as_they_were() {
    let mut lines = Lines::default();
    lines.add("object", &object());
    let content = Content::Rows { blobs: 10_000 };
    lines.add(
        "object-with-content-rows",
        &ObjectRecord {
            content,
            ..object()
        },
    );
    let marker = ObjectRecord {
        kind: VersionKind::DeleteMarker,
        null_version: false,
        len: 0,
        etag: String::new(),
        attributes: Attributes::default(),
        checksum: None,
        parts: Vec::new(),
        content: Content::Blobs(Vec::new()),
        ..object()
    };
    lines.add("delete-marker", &marker);
    lines.add("upload", &upload());
    lines.add("part", &part());
    lines.add(
        "content-row",
        &vec![inline(), striped(Layout::Full), striped(Layout::Shortened)],
    );
    lines.add("extent", &extent());
    lines.add("attributes", &attributes());
    for (name, algorithm) in [
        ("crc32", ChecksumAlgorithm::Crc32),
        ("crc32c", ChecksumAlgorithm::Crc32c),
        ("crc64nvme", ChecksumAlgorithm::Crc64Nvme),
        ("sha1", ChecksumAlgorithm::Sha1),
        ("sha256", ChecksumAlgorithm::Sha256),
    ] {
        lines.add(
            name,
            &(
                algorithm,
                ChecksumScope::FullObject,
                ChecksumScope::Composite,
            ),
        );
    }
    lines.compare("records.txt");
}
