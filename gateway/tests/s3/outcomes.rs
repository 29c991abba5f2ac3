//! What clients hear when the metadata service fails or refuses.

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::command::{KeyOp, KeyReply, Refusal, WriteRequest};
use enfilade_cluster::api::error::MetadataError;

use crate::support::client::call;
use crate::support::cluster::Cluster;
use crate::support::scripted::Turn;

#[tokio::test]
async fn an_unknown_outcome_is_neither_success_nor_a_failed_condition() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    cluster.metadata.next([Turn::Lost]);
    let put = call("PUT", "/bucket/key")
        .body("x")
        .header("if-none-match", "*");
    let lost = client.send(put).await.refused(503, "ServiceUnavailable");
    assert_eq!(lost.header("retry-after"), "1");
    // It was committed, and the blob was not taken back.
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "x");
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_answered_when_it_is_repeated() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let create = client
        .send(call("POST", "/bucket/key").query("uploads", ""))
        .await
        .expect(200);
    let upload = create.element("UploadId").unwrap();
    let part = call("PUT", "/bucket/key")
        .query("partNumber", "1")
        .query("uploadId", &upload);
    let etag = client
        .send(part.body("part"))
        .await
        .expect(200)
        .header("etag")
        .to_owned();
    let complete = || {
        let part = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
        let xml = format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>");
        call("POST", "/bucket/key")
            .query("uploadId", &upload)
            .body(xml)
    };
    cluster.metadata.next([Turn::Lost]);
    client
        .send(complete())
        .await
        .refused(503, "ServiceUnavailable");
    let again = client.send(complete()).await.expect(200);
    assert!(again.element("ETag").unwrap().ends_with("-1\""));
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "part");
}

#[tokio::test]
async fn a_stale_revision_is_proposed_anew_under_another_request_id() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    cluster.metadata.requests.lock().unwrap().clear();
    let stale = || Turn::Refuse(Refusal::StaleRevision(1));
    cluster.metadata.next([stale(), stale()]);
    client.put("/bucket/key", "x").await.expect(200);
    let requests = cluster.metadata.requests.lock().unwrap().clone();
    let mut ids: Vec<_> = requests.iter().map(|request| request.request).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert!(requests.iter().all(|request| request.op == requests[0].op));
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    for (turn, status, code) in [
        (
            Turn::Refuse(Refusal::BlobCondemned),
            503,
            "ServiceUnavailable",
        ),
        (Turn::Refuse(Refusal::Expired), 503, "ServiceUnavailable"),
        (Turn::Refuse(Refusal::Locked), 403, "AccessDenied"),
        (
            Turn::Fail(MetadataError::Full("at 90 %".to_owned())),
            503,
            "ServiceUnavailable",
        ),
        (
            Turn::Fail(MetadataError::Unavailable("no leader".to_owned())),
            503,
            "ServiceUnavailable",
        ),
        (
            Turn::Fail(MetadataError::Invalid("a defect".to_owned())),
            500,
            "InternalError",
        ),
    ] {
        cluster.metadata.next([turn]);
        client.put("/bucket/key", "x").await.refused(status, code);
        client.get("/bucket/key").await.refused(404, "NoSuchKey");
    }
}

#[tokio::test]
async fn a_put_that_took_longer_than_orphans_live_fails_whole_or_is_there_whole() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let body = vec![b'x'; 300_000];
    let puts = || {
        let requests = cluster.metadata.requests.lock().unwrap().clone();
        let put = |request: &WriteRequest| matches!(request.op, KeyOp::Put { .. });
        requests.into_iter().filter(put).collect::<Vec<_>>()
    };
    // Condemned while its body was still arriving: no record, and none later.
    cluster.metadata.next([Turn::Condemned]);
    let late = client.put("/bucket/key", body.clone()).await;
    late.refused(503, "ServiceUnavailable");
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    let again = cluster.metadata.inner.write(puts()[0].clone()).await;
    assert_eq!(again.unwrap(), Err(Refusal::BlobCondemned));
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
    // Committed first: what is asked for then is no orphan.
    client.put("/bucket/key", body.clone()).await.expect(200);
    let asked = cluster.metadata.condemn(&puts()[1]).await;
    assert!(matches!(asked, KeyReply::Referenced(extents) if !extents.is_empty()));
    let whole = client.get("/bucket/key").await.expect(200);
    assert_eq!(whole.body, body);
}
