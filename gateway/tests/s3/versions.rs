//! Versions through the whole stack.

use crate::support::client::{Answer, Client, call};
use crate::support::cluster::Cluster;

async fn versioning(client: &Client, status: &str) -> Answer {
    let xml =
        format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    let set = call("PUT", "/bucket").query("versioning", "").body(xml);
    client.send(set).await
}

/// The version id that an answer tells.
fn version(answer: &Answer) -> String {
    answer.header("x-amz-version-id").to_owned()
}

fn at(method: &'static str, version: &str) -> crate::support::client::Call {
    call(method, "/bucket/key").query("versionId", version)
}

async fn listed(client: &Client, parameters: &[(&str, &str)]) -> Answer {
    let list = call("GET", "/bucket").query("versions", "");
    let list = parameters
        .iter()
        .fold(list, |list, (name, value)| list.query(name, value));
    client.send(list).await.expect(200)
}

#[tokio::test]
async fn versioning_is_switched_on_and_suspended_and_never_off() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let state = async || {
        let get = call("GET", "/bucket").query("versioning", "");
        client.send(get).await.expect(200).element("Status")
    };
    assert_eq!(state().await, None);
    for status in ["Enabled", "Suspended", "Suspended", "Enabled"] {
        versioning(&client, status).await.expect(200);
        assert_eq!(state().await.as_deref(), Some(status));
    }
    versioning(&client, "Off")
        .await
        .refused(400, "MalformedXML");
}

#[tokio::test]
async fn versions_are_read_and_deleted_by_their_ids_and_a_marker_hides_them() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    let first = client.put("/bucket/key", "null").await.expect(200);
    assert_eq!(version(&first), "");
    assert_eq!(version(&client.get("/bucket/key").await.expect(200)), "");
    versioning(&client, "Enabled").await.expect(200);
    let second = version(&client.put("/bucket/key", "second").await.expect(200));
    let got = client.get("/bucket/key").await.expect(200);
    assert_eq!(
        (got.text(), version(&got)),
        ("second".to_owned(), second.clone())
    );
    let old = client.send(at("GET", "null")).await.expect(200);
    assert_eq!(
        (old.text().as_str(), version(&old).as_str()),
        ("null", "null")
    );
    let head = client.send(at("HEAD", &second)).await.expect(200);
    assert_eq!(
        (head.header("content-length"), version(&head)),
        ("6", second.clone())
    );
    // A delete without a version hides all.
    let deleted = client.delete("/bucket/key").await.expect(204);
    assert_eq!(deleted.header("x-amz-delete-marker"), "true");
    let marker = version(&deleted);
    let hidden = client.get("/bucket/key").await.refused(404, "NoSuchKey");
    assert_eq!(hidden.header("x-amz-delete-marker"), "true");
    assert_eq!(version(&hidden), marker);
    client
        .send(at("GET", &marker))
        .await
        .refused(405, "MethodNotAllowed");
    client
        .send(at("GET", "999"))
        .await
        .refused(404, "NoSuchVersion");
    client
        .send(at("GET", "no"))
        .await
        .refused(404, "NoSuchVersion");
    let list = client.send(call("GET", "/bucket")).await.expect(200);
    assert_eq!(list.element("Key"), None);
    // A copy of a version that is hidden.
    let source = format!("/bucket/key?versionId={second}");
    let copy = call("PUT", "/bucket/copy").header("x-amz-copy-source", &source);
    let copied = client.send(copy).await.expect(200);
    assert_eq!(copied.header("x-amz-copy-source-version-id"), second);
    assert_eq!(
        client.get("/bucket/copy").await.expect(200).text(),
        "second"
    );
    // Without the marker it is there again; without itself, the one before.
    let gone = client.send(at("DELETE", &marker)).await.expect(204);
    assert_eq!(
        (gone.header("x-amz-delete-marker"), version(&gone)),
        ("true", marker)
    );
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "second");
    client.send(at("DELETE", &second)).await.expect(204);
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "null");
    client.send(at("DELETE", "null")).await.expect(204);
    client.get("/bucket/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn the_null_version_is_replaced_when_versioning_is_suspended() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    versioning(&client, "Enabled").await.expect(200);
    let kept = version(&client.put("/bucket/key", "kept").await.expect(200));
    versioning(&client, "Suspended").await.expect(200);
    for text in ["one", "two"] {
        let put = client.put("/bucket/key", text).await.expect(200);
        assert_eq!(version(&put), "null");
    }
    let versions = listed(&client, &[]).await.elements("VersionId");
    assert_eq!(versions, ["null".to_owned(), kept.clone()]);
    let deleted = client.delete("/bucket/key").await.expect(204);
    assert_eq!(
        (
            version(&deleted).as_str(),
            deleted.header("x-amz-delete-marker")
        ),
        ("null", "true")
    );
    client
        .send(at("GET", "null"))
        .await
        .refused(405, "MethodNotAllowed");
    client.send(at("DELETE", "null")).await.expect(204);
    assert_eq!(client.get("/bucket/key").await.expect(200).text(), "kept");
    // In a bucket without versions, the only one has this id too.
    let plain = call("PUT", "/plain");
    client.send(plain).await.expect(200);
    client.put("/plain/key", "x").await.expect(200);
    let delete = call("DELETE", "/plain/key").query("versionId", "null");
    client.send(delete).await.expect(204);
    client.get("/plain/key").await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn versions_are_listed_with_their_markers_in_pages_of_any_size() {
    let cluster = Cluster::start().await;
    let client = cluster.bucket("bucket").await;
    client.put("/bucket/a", "null").await.expect(200);
    versioning(&client, "Enabled").await.expect(200);
    for key in ["a", "b/1", "b/2", "c"] {
        client.put(&format!("/bucket/{key}"), key).await.expect(200);
    }
    client.delete("/bucket/c").await.expect(204);
    let all = listed(&client, &[]).await;
    assert_eq!(all.elements("Key").len(), 6);
    let (versions, markers) = (all.elements("Version"), all.elements("DeleteMarker"));
    assert_eq!((versions.len(), markers.len()), (5, 1));
    assert!(markers[0].contains("<IsLatest>true</IsLatest>"));
    let latest = |text: &&String| text.contains("<IsLatest>true</IsLatest>");
    assert_eq!(versions.iter().filter(latest).count(), 3);
    assert!(versions[1].contains("<VersionId>null</VersionId>"));
    for size in ["1", "2", "5"] {
        let (mut keys, mut prefixes) = (Vec::new(), 0);
        let (mut key, mut version) = (String::new(), String::new());
        loop {
            let mut parameters = vec![("max-keys", size), ("delimiter", "/")];
            if !key.is_empty() {
                parameters.push(("key-marker", key.as_str()));
            }
            if !version.is_empty() {
                parameters.push(("version-id-marker", version.as_str()));
            }
            let page = listed(&client, &parameters).await;
            keys.extend(page.elements("Key"));
            prefixes += page.elements("CommonPrefixes").len();
            let next = page.element("NextKeyMarker");
            let truncated = next.is_some().to_string();
            assert_eq!(page.element("IsTruncated"), Some(truncated));
            let Some(next) = next else { break };
            let next_version = page.element("NextVersionIdMarker").unwrap_or_default();
            (key, version) = (next, next_version);
        }
        keys.sort();
        assert_eq!(
            (keys.join(" "), prefixes),
            ("a a c c".to_owned(), 1),
            "{size}"
        );
    }
    let wrong = call("GET", "/bucket")
        .query("versions", "")
        .query("version-id-marker", "1");
    client.send(wrong).await.refused(400, "InvalidArgument");
}
