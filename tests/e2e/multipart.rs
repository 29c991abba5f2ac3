//! Multipart uploads.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use md5::{Digest as _, Md5};

use crate::cluster::bytes;
use crate::objects::{etag_of, get, put};
use crate::{answer, refused};

/// The least size of a part but the last.
const PART: usize = 5 << 20;

const BUCKET: &str = "multipart";

async fn create(client: &Client, key: &str) -> String {
    let create = client.create_multipart_upload().bucket(BUCKET).key(key);
    let created = create
        .content_type("video/mp4")
        .metadata("color", "blue")
        .send()
        .await
        .unwrap();
    created.upload_id().unwrap().to_owned()
}

async fn upload(client: &Client, key: &str, id: &str, number: i32, bytes: &[u8]) -> CompletedPart {
    let part = client
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .part_number(number);
    let sent = part
        .body(ByteStream::from(bytes.to_vec()))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.e_tag(), Some(etag_of(bytes).as_str()));
    CompletedPart::builder()
        .part_number(number)
        .e_tag(sent.e_tag().unwrap())
        .build()
}

fn chosen(parts: Vec<CompletedPart>) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build()
}

fn composite_etag(parts: &[&[u8]]) -> String {
    let digests: Vec<u8> = parts
        .iter()
        .flat_map(|part| Md5::digest(part).to_vec())
        .collect();
    format!("\"{}-{}\"", hex::encode(Md5::digest(&digests)), parts.len())
}

/// Create, upload parts, complete; read by range and by part.
pub(crate) async fn makes_objects_of_parts(client: &Client) {
    // Two tests share the bucket, whoever comes first makes it.
    let _ = client.create_bucket().bucket(BUCKET).send().await;
    let id = create(client, "film").await;
    let parts = [bytes(1, PART), bytes(2, PART + 77), bytes(3, 1000)];
    let mut completed = Vec::new();
    for number in [3, 1, 2] {
        let body = &parts[usize::try_from(number - 1).unwrap()];
        completed.push(upload(client, "film", &id, number, body).await);
    }
    // A part that is sent again replaces the first.
    upload(client, "film", &id, 3, b"to be replaced").await;
    upload(client, "film", &id, 3, &parts[2]).await;
    completed.sort_by_key(CompletedPart::part_number);
    let absent = client.head_object().bucket(BUCKET).key("film").send().await;
    assert_eq!(refused(absent).0, 404, "not visible before it is complete");

    let complete = |parts: Vec<CompletedPart>| {
        let request = client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("film")
            .upload_id(&id);
        request.multipart_upload(chosen(parts)).send()
    };
    let reversed = completed.iter().rev().cloned().collect();
    assert_eq!(
        refused(complete(reversed).await),
        answer(400, "InvalidPartOrder")
    );
    let mut wrong = completed.clone();
    wrong[0] = CompletedPart::builder()
        .part_number(1)
        .e_tag(etag_of(b"other"))
        .build();
    assert_eq!(refused(complete(wrong).await), answer(400, "InvalidPart"));

    let done = complete(completed.clone()).await.unwrap();
    let etag = composite_etag(&[&parts[0], &parts[1], &parts[2]]);
    assert_eq!(done.e_tag(), Some(etag.as_str()));
    let again = complete(completed).await.unwrap();
    assert_eq!(again.e_tag(), Some(etag.as_str()), "the answer is repeated");

    let whole = parts.concat();
    assert!(get(client, BUCKET, "film").await == whole);
    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("film")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_type(), Some("video/mp4"));
    assert_eq!(
        head.metadata().unwrap().get("color").map(String::as_str),
        Some("blue")
    );
    let range = format!("bytes={}-{}", PART - 10, 2 * PART + 100);
    let got = client
        .get_object()
        .bucket(BUCKET)
        .key("film")
        .range(range)
        .send()
        .await
        .unwrap();
    let got = got.body.collect().await.unwrap().to_vec();
    assert!(
        got == whole[PART - 10..=2 * PART + 100],
        "over the edges of parts"
    );
    let part = client
        .get_object()
        .bucket(BUCKET)
        .key("film")
        .part_number(2)
        .send()
        .await
        .unwrap();
    assert_eq!(part.parts_count(), Some(3));
    assert!(part.body.collect().await.unwrap().to_vec() == parts[1]);
}

/// Part copy, list parts, list uploads, abort, parts that are too small.
pub(crate) async fn copies_lists_and_aborts(client: &Client) {
    let _ = client.create_bucket().bucket(BUCKET).send().await;
    let source = bytes(9, PART + 5000);
    put(client, BUCKET, "source", &source).await;
    let id = create(client, "copied").await;
    let copy = |number: i32, range: &str| {
        let request = client
            .upload_part_copy()
            .bucket(BUCKET)
            .key("copied")
            .upload_id(&id);
        let request = request.copy_source(format!("{BUCKET}/source"));
        request.part_number(number).copy_source_range(range).send()
    };
    let first = copy(1, &format!("bytes=0-{}", PART - 1)).await.unwrap();
    let second = copy(2, &format!("bytes={PART}-{}", PART + 4999))
        .await
        .unwrap();
    let etags = [first, second].map(|copied| {
        copied
            .copy_part_result()
            .unwrap()
            .e_tag()
            .unwrap()
            .to_owned()
    });
    assert_eq!(etags[0], etag_of(&source[..PART]));
    let beyond = copy(3, &format!("bytes=0-{}", PART + 5000)).await;
    assert!(matches!(refused(beyond).0, 400 | 416));

    let list = client
        .list_parts()
        .bucket(BUCKET)
        .key("copied")
        .upload_id(&id);
    let listed = list.clone().max_parts(1).send().await.unwrap();
    assert_eq!(
        (listed.parts().len(), listed.is_truncated()),
        (1, Some(true))
    );
    let marker = listed.next_part_number_marker().unwrap();
    let rest = list.part_number_marker(marker).send().await.unwrap();
    let numbers: Vec<_> = rest.parts().iter().map(|part| part.part_number()).collect();
    assert_eq!(
        (numbers, rest.parts()[0].size()),
        (vec![Some(2)], Some(5000))
    );

    let uploads = client
        .list_multipart_uploads()
        .bucket(BUCKET)
        .prefix("copied")
        .send();
    let uploads = uploads.await.unwrap();
    assert_eq!(uploads.uploads().len(), 1);
    assert_eq!(uploads.uploads()[0].upload_id(), Some(id.as_str()));

    let parts = (1..).zip(&etags).map(|(number, etag)| {
        CompletedPart::builder()
            .part_number(number)
            .e_tag(etag)
            .build()
    });
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("copied")
        .upload_id(&id);
    complete
        .multipart_upload(chosen(parts.collect()))
        .send()
        .await
        .unwrap();
    assert!(get(client, BUCKET, "copied").await == source);

    let id = create(client, "small").await;
    let parts = [
        upload(client, "small", &id, 1, b"tiny").await,
        upload(client, "small", &id, 2, b"x").await,
    ];
    let complete = client
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key("small")
        .upload_id(&id);
    let refusal = refused(
        complete
            .multipart_upload(chosen(parts.to_vec()))
            .send()
            .await,
    );
    assert_eq!(refusal, answer(400, "EntityTooSmall"));
    let abort = client
        .abort_multipart_upload()
        .bucket(BUCKET)
        .key("small")
        .upload_id(&id);
    abort.send().await.unwrap();
    let list = client
        .list_parts()
        .bucket(BUCKET)
        .key("small")
        .upload_id(&id)
        .send()
        .await;
    assert_eq!(refused(list), answer(404, "NoSuchUpload"));
    let part = client
        .upload_part()
        .bucket(BUCKET)
        .key("small")
        .upload_id(&id)
        .part_number(1);
    let late = part.body(ByteStream::from_static(b"late")).send().await;
    assert_eq!(refused(late), answer(404, "NoSuchUpload"));
}
