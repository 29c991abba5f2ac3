//! Objects.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, Delete, MetadataDirective, ObjectIdentifier,
};
use md5::{Digest as _, Md5};

use crate::cluster::bytes;
use crate::{answer, refused};

/// The sizes at which another way of storing begins: empty, inline, shortened, one stripe, many.
const SIZES: [usize; 9] = [
    0,
    1,
    16 << 10,
    (16 << 10) + 1,
    64 << 10,
    (64 << 10) + 1,
    256 << 10,
    700_001,
    9_000_001,
];

pub(crate) fn etag_of(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(Md5::digest(bytes)))
}

pub(crate) async fn put(client: &Client, bucket: &str, key: &str, bytes: &[u8]) -> String {
    let body = ByteStream::from(bytes.to_vec());
    let put = client
        .put_object()
        .bucket(bucket)
        .key(key)
        .body(body)
        .send()
        .await
        .unwrap();
    put.e_tag().unwrap().to_owned()
}

pub(crate) async fn get(client: &Client, bucket: &str, key: &str) -> Vec<u8> {
    let got = client
        .get_object()
        .bucket(bucket)
        .key(key)
        .send()
        .await
        .unwrap();
    got.body.collect().await.unwrap().to_vec()
}

/// Bytes, ETags, ranges, headers, metadata.
pub(crate) async fn are_what_was_written(client: &Client) {
    client
        .create_bucket()
        .bucket("objects")
        .send()
        .await
        .unwrap();
    for size in SIZES {
        let (key, body) = (format!("size/{size}"), bytes(size as u64, size));
        assert_eq!(put(client, "objects", &key, &body).await, etag_of(&body));
        assert!(get(client, "objects", &key).await == body, "{size} bytes");
        let head = client
            .head_object()
            .bucket("objects")
            .key(&key)
            .send()
            .await
            .unwrap();
        assert_eq!(head.content_length(), i64::try_from(size).ok());
        assert_eq!(head.e_tag(), Some(etag_of(&body).as_str()));
        assert!(head.last_modified().is_some());
    }
    ranges(client).await;
    headers(client).await;
    let longest = "\u{10348}".repeat(256);
    for key in [
        longest.as_str(),
        "a b+c&d?e#f%20g",
        "../up/./there//",
        "\u{fc}\u{4e2d}/\t\"'<>",
    ] {
        let body = bytes(key.len() as u64, 40_000);
        put(client, "objects", key, &body).await;
        assert!(get(client, "objects", key).await == body, "{key}");
    }
    let absent = client
        .get_object()
        .bucket("objects")
        .key("absent")
        .send()
        .await;
    assert_eq!(refused(absent), answer(404, "NoSuchKey"));
    put(client, "objects", "size/1", b"written over").await;
    assert_eq!(get(client, "objects", "size/1").await, b"written over");
}

async fn ranges(client: &Client) {
    let size = SIZES[8];
    let (key, body) = (format!("size/{size}"), bytes(size as u64, size));
    let get = |range: &str| {
        client
            .get_object()
            .bucket("objects")
            .key(&key)
            .range(range)
            .send()
    };
    let last = size - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=65530-65545".to_owned(), 65_530, 65_546),
        ("bytes=262143-262144".to_owned(), 262_143, 262_145),
        (format!("bytes={last}-"), last, size),
        (
            format!("bytes={}-{}", size - 10, size + 10),
            size - 10,
            size,
        ),
        ("bytes=-100".to_owned(), size - 100, size),
        (format!("bytes=-{}", size + 5), 0, size),
        ("bytes=1000000-5000000".to_owned(), 1_000_000, 5_000_001),
    ] {
        let got = get(&range).await.unwrap();
        let told = format!("bytes {first}-{}/{size}", end - 1);
        assert_eq!(got.content_range(), Some(told.as_str()));
        let part = got.body.collect().await.unwrap().to_vec();
        assert!(part == body[first..end], "{range}");
    }
    for range in [format!("bytes={size}-"), "bytes=-0".to_owned()] {
        assert_eq!(
            refused(get(&range).await),
            answer(416, "InvalidRange"),
            "{range}"
        );
    }
    assert_eq!(
        refused(get("bytes=5-2").await),
        answer(400, "InvalidArgument")
    );
}

async fn headers(client: &Client) {
    let put = client
        .put_object()
        .bucket("objects")
        .key("headers")
        .content_type("text/plain; charset=utf-8")
        .cache_control("max-age=60")
        .content_disposition("attachment; filename=\"a.txt\"")
        .content_encoding("identity")
        .content_language("de")
        .metadata("color", "blue")
        .metadata("note", "two words")
        .body(ByteStream::from_static(b"text"));
    put.send().await.unwrap();
    let head = client
        .head_object()
        .bucket("objects")
        .key("headers")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_type(), Some("text/plain; charset=utf-8"));
    assert_eq!(head.cache_control(), Some("max-age=60"));
    assert_eq!(
        head.content_disposition(),
        Some("attachment; filename=\"a.txt\"")
    );
    assert_eq!(head.content_language(), Some("de"));
    let metadata = head.metadata().unwrap();
    assert_eq!(metadata.get("color").map(String::as_str), Some("blue"));
    assert_eq!(metadata.get("note").map(String::as_str), Some("two words"));
}

/// If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since.
pub(crate) async fn have_conditions(client: &Client) {
    client
        .create_bucket()
        .bucket("conditions")
        .send()
        .await
        .unwrap();
    let etag = put(client, "conditions", "a", b"first").await;
    let get = || client.get_object().bucket("conditions").key("a");
    get().if_match(&etag).send().await.unwrap();
    assert_eq!(refused(get().if_none_match(&etag).send().await).0, 304);
    let other = "\"00000000000000000000000000000000\"";
    assert_eq!(
        refused(get().if_match(other).send().await),
        answer(412, "PreconditionFailed")
    );
    let modified = get()
        .send()
        .await
        .unwrap()
        .last_modified()
        .copied()
        .unwrap();
    assert_eq!(
        refused(get().if_modified_since(modified).send().await).0,
        304
    );
    get().if_unmodified_since(modified).send().await.unwrap();

    let put = |key: &str| {
        let body = ByteStream::from_static(b"second");
        client.put_object().bucket("conditions").key(key).body(body)
    };
    let taken = put("a").if_none_match("*").send().await;
    assert_eq!(refused(taken), answer(412, "PreconditionFailed"));
    assert_eq!(
        refused(put("a").if_match(other).send().await),
        answer(412, "PreconditionFailed")
    );
    assert_eq!(
        refused(put("absent").if_match(other).send().await),
        answer(404, "NoSuchKey")
    );
    put("b").if_none_match("*").send().await.unwrap();
    put("a").if_match(&etag).send().await.unwrap();

    // Of many that create the same key, one does.
    let attempts = (0..16).map(|_| put("race").if_none_match("*").send());
    let outcomes = futures::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

/// Copy with and without new metadata, delete, multi-delete.
pub(crate) async fn are_copied_and_deleted(client: &Client) {
    client
        .create_bucket()
        .bucket("copies")
        .send()
        .await
        .unwrap();
    for size in [100, 100_000, 3_000_000] {
        let body = bytes(size as u64, size);
        let stream = ByteStream::from(body.clone());
        let put = client
            .put_object()
            .bucket("copies")
            .key("from")
            .metadata("color", "red");
        put.content_type("image/png")
            .body(stream)
            .send()
            .await
            .unwrap();
        let copy = client
            .copy_object()
            .bucket("copies")
            .key("to")
            .copy_source("copies/from");
        let copied = copy.send().await.unwrap();
        assert_eq!(
            copied.copy_object_result().unwrap().e_tag(),
            Some(etag_of(&body).as_str())
        );
        // A copy has bytes of its own.
        client
            .delete_object()
            .bucket("copies")
            .key("from")
            .send()
            .await
            .unwrap();
        assert!(get(client, "copies", "to").await == body, "{size} bytes");
        let head = client
            .head_object()
            .bucket("copies")
            .key("to")
            .send()
            .await
            .unwrap();
        assert_eq!(head.content_type(), Some("image/png"));
        assert_eq!(
            head.metadata().unwrap().get("color").map(String::as_str),
            Some("red")
        );
    }
    let replace = client
        .copy_object()
        .bucket("copies")
        .key("to")
        .copy_source("copies/to");
    let replace = replace
        .metadata_directive(MetadataDirective::Replace)
        .metadata("color", "green");
    replace.send().await.unwrap();
    let head = client
        .head_object()
        .bucket("copies")
        .key("to")
        .send()
        .await
        .unwrap();
    assert_eq!(
        head.metadata().unwrap().get("color").map(String::as_str),
        Some("green")
    );
    let absent = client
        .copy_object()
        .bucket("copies")
        .key("x")
        .copy_source("copies/absent");
    assert_eq!(refused(absent.send().await), answer(404, "NoSuchKey"));

    client
        .delete_object()
        .bucket("copies")
        .key("to")
        .send()
        .await
        .unwrap();
    client
        .delete_object()
        .bucket("copies")
        .key("to")
        .send()
        .await
        .unwrap();
    let gone = client.get_object().bucket("copies").key("to").send().await;
    assert_eq!(refused(gone), answer(404, "NoSuchKey"));

    let keys: Vec<String> = (0..30).map(|n| format!("many/{n}")).collect();
    for key in &keys {
        put(client, "copies", key, key.as_bytes()).await;
    }
    let name = |key: &String| ObjectIdentifier::builder().key(key).build().unwrap();
    let absent = "never there".to_owned();
    let names = keys.iter().chain([&absent]).map(name).collect();
    let delete = Delete::builder().set_objects(Some(names)).build().unwrap();
    let deleted = client
        .delete_objects()
        .bucket("copies")
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!((deleted.deleted().len(), deleted.errors().len()), (31, 0));
    let left = client
        .list_objects_v2()
        .bucket("copies")
        .send()
        .await
        .unwrap();
    assert_eq!(left.key_count(), Some(0));
}

/// Content-MD5 and x-amz-checksum-*, as headers and trailing.
pub(crate) async fn have_verified_checksums(client: &Client) {
    client
        .create_bucket()
        .bucket("checksums")
        .send()
        .await
        .unwrap();
    let body = bytes(11, 1_500_000);
    let put = |key: &str| {
        let stream = ByteStream::from(body.clone());
        client
            .put_object()
            .bucket("checksums")
            .key(key)
            .body(stream)
    };
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ] {
        let key = algorithm.as_str().to_owned();
        // The client sends it behind the body.
        let stored = put(&key)
            .checksum_algorithm(algorithm.clone())
            .send()
            .await
            .unwrap();
        let get = client.get_object().bucket("checksums").key(&key);
        // The client compares what it reads with the checksum that it is told.
        let got = get
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .unwrap();
        let told = [
            (got.checksum_crc32(), stored.checksum_crc32()),
            (got.checksum_crc32_c(), stored.checksum_crc32_c()),
            (got.checksum_crc64_nvme(), stored.checksum_crc64_nvme()),
            (got.checksum_sha1(), stored.checksum_sha1()),
            (got.checksum_sha256(), stored.checksum_sha256()),
        ];
        let told: Vec<_> = told.iter().filter(|(got, _)| got.is_some()).collect();
        assert_eq!(told.len(), 1, "{key}");
        assert_eq!(told[0].0, told[0].1, "{key}");
        assert!(got.body.collect().await.unwrap().to_vec() == body, "{key}");
    }
    let wrong = "AAAAAAAAAAAAAAAAAAAAAA==";
    let bad = put("bad").content_md5(wrong).send().await;
    assert_eq!(refused(bad), answer(400, "BadDigest"));
    let bad = put("bad").checksum_crc32("AAAAAA==").send().await;
    assert_eq!(refused(bad).0, 400);
    let malformed = put("bad").content_md5("no digest").send().await;
    assert_eq!(refused(malformed).0, 400);
    let visible = client
        .head_object()
        .bucket("checksums")
        .key("bad")
        .send()
        .await;
    assert_eq!(refused(visible).0, 404, "nothing is left half-visible");
}
