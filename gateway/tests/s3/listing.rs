//! Listings through the whole stack.

use crate::support::client::{Answer, Client, call};
use crate::support::cluster::Cluster;

async fn filled(cluster: &Cluster, keys: &[&'static str]) -> Client {
    let client = cluster.bucket("bucket").await;
    for key in keys {
        client
            .put(&format!("/bucket/{key}"), *key)
            .await
            .expect(200);
    }
    client
}

fn list(parameters: &[(&str, &str)]) -> crate::support::client::Call {
    let list = call("GET", "/bucket");
    parameters
        .iter()
        .fold(list, |list, (name, value)| list.query(name, value))
}

/// All keys and folded prefixes, over all pages of that size, by the second version.
async fn pages(client: &Client, parameters: &[(&str, &str)], size: &str) -> Vec<String> {
    let (mut all, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut request = list(parameters)
            .query("list-type", "2")
            .query("max-keys", size);
        if let Some(token) = &token {
            request = request.query("continuation-token", token);
        }
        let page = client.send(request).await.expect(200);
        let mut entries = page.elements("Key");
        for prefixes in page.elements("CommonPrefixes") {
            entries.push(prefixes.replace("<Prefix>", "").replace("</Prefix>", ""));
        }
        assert_eq!(page.element("KeyCount").unwrap(), entries.len().to_string());
        all.extend(entries);
        token = page.element("NextContinuationToken");
        assert_eq!(
            page.element("IsTruncated").unwrap(),
            token.is_some().to_string()
        );
        if token.is_none() {
            return all;
        }
    }
}

const KEYS: [&str; 7] = ["a", "b/1", "b/2", "b/c/3", "d", "e/4", "f"];

#[tokio::test]
async fn pages_of_any_size_give_every_entry_once_in_order() {
    let cluster = Cluster::start().await;
    let client = filled(&cluster, &KEYS).await;
    for size in ["1", "2", "3", "1000"] {
        assert_eq!(pages(&client, &[], size).await, KEYS, "{size}");
        let mut folded = pages(&client, &[("delimiter", "/")], size).await;
        folded.sort();
        assert_eq!(folded, ["a", "b/", "d", "e/", "f"], "{size}");
        let mut inner = pages(&client, &[("delimiter", "/"), ("prefix", "b/")], size).await;
        inner.sort();
        assert_eq!(inner, ["b/1", "b/2", "b/c/"], "{size}");
        let after = pages(&client, &[("start-after", "b/2")], size).await;
        assert_eq!(after, ["b/c/3", "d", "e/4", "f"], "{size}");
    }
}

#[tokio::test]
async fn the_first_version_pages_by_markers() {
    let cluster = Cluster::start().await;
    let client = filled(&cluster, &KEYS).await;
    let page =
        |marker: &'static str| list(&[("delimiter", "/"), ("max-keys", "2"), ("marker", marker)]);
    let first = client.send(page("")).await.expect(200);
    assert_eq!(first.elements("Key"), ["a"]);
    assert_eq!(first.element("NextMarker").as_deref(), Some("b/"));
    assert_eq!(first.element("IsTruncated").as_deref(), Some("true"));
    let second = client.send(page("b/")).await.expect(200);
    assert_eq!(second.elements("Key"), ["d"]);
    assert_eq!(second.element("NextMarker").as_deref(), Some("e/"));
    let last = client.send(page("e/")).await.expect(200);
    assert_eq!(last.elements("Key"), ["f"]);
    assert_eq!(last.element("IsTruncated").as_deref(), Some("false"));
}

#[tokio::test]
async fn entries_tell_size_etag_and_owner_when_asked() {
    let cluster = Cluster::start().await;
    let client = filled(&cluster, &["a"]).await;
    let told = |answer: &Answer| {
        (
            answer.element("Size"),
            answer.element("ETag"),
            answer.element("StorageClass"),
        )
    };
    let plain = client.send(list(&[("list-type", "2")])).await.expect(200);
    let etag = "\"0cc175b9c0f1b6a831c399e269772661\"".to_owned();
    assert_eq!(
        told(&plain),
        (
            Some("1".to_owned()),
            Some(etag),
            Some("STANDARD".to_owned())
        )
    );
    assert_eq!(plain.element("Owner"), None);
    let owned = client
        .send(list(&[("list-type", "2"), ("fetch-owner", "true")]))
        .await
        .expect(200);
    assert!(owned.element("Owner").is_some());
}

#[tokio::test]
async fn keys_that_xml_cannot_hold_are_listed_in_url_encoding() {
    let cluster = Cluster::start().await;
    let client = filled(&cluster, &["a b+c", "\u{1}\u{2}", "\u{e9}/x"]).await;
    let request = list(&[
        ("list-type", "2"),
        ("encoding-type", "url"),
        ("delimiter", "/"),
    ]);
    let page = client.send(request).await.expect(200);
    assert_eq!(page.elements("Key"), ["%01%02", "a%20b%2Bc"]);
    assert!(
        page.text().contains("<Prefix>%C3%A9/</Prefix>"),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn wrong_parameters_are_told() {
    let cluster = Cluster::start().await;
    let client = filled(&cluster, &["a"]).await;
    for (name, value) in [
        ("max-keys", "-1"),
        ("max-keys", "many"),
        ("continuation-token", "no token of ours"),
        ("encoding-type", "base64"),
    ] {
        let answer = client
            .send(list(&[("list-type", "2"), (name, value)]))
            .await;
        answer.refused(400, "InvalidArgument");
    }
    let none = client
        .send(list(&[("list-type", "2"), ("max-keys", "0")]))
        .await
        .expect(200);
    assert_eq!(none.element("IsTruncated").as_deref(), Some("false"));
    let missing = call("GET", "/missing").query("list-type", "2");
    client.send(missing).await.refused(404, "NoSuchBucket");
}
