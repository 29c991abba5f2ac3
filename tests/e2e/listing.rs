//! Listings.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use futures::StreamExt as _;

use crate::objects::put;

/// Prefix, delimiter, start-after, tokens and markers, in both versions.
pub(crate) async fn pages_and_folds(client: &Client) {
    client
        .create_bucket()
        .bucket("listing")
        .send()
        .await
        .unwrap();
    let mut keys: BTreeSet<String> = (0..120).map(|n| format!("a/{:02}/{n:03}", n % 7)).collect();
    keys.extend(["a", "a!", "b/x", "b/y/z", "c", "\u{e4}/1", "\u{10348}"].map(str::to_owned));
    let write = |key: String| async move {
        put(client, "listing", &key, key.as_bytes()).await;
    };
    futures::stream::iter(keys.clone())
        .for_each_concurrent(8, write)
        .await;

    assert_eq!(all_v2(client, None, 50).await, Vec::from_iter(keys.clone()));
    assert_eq!(all_v1(client, 50).await, Vec::from_iter(keys.clone()));
    let under: Vec<String> = keys
        .iter()
        .filter(|key| key.starts_with("a/03/"))
        .cloned()
        .collect();
    assert_eq!(all_v2(client, Some("a/03/"), 4).await, under);

    let folded = client
        .list_objects_v2()
        .bucket("listing")
        .delimiter("/")
        .send()
        .await
        .unwrap();
    let prefixes: Vec<&str> = folded
        .common_prefixes()
        .iter()
        .filter_map(|p| p.prefix())
        .collect();
    assert_eq!(prefixes, ["a/", "b/", "\u{e4}/"]);
    let plain: Vec<&str> = folded
        .contents()
        .iter()
        .filter_map(|object| object.key())
        .collect();
    assert_eq!(plain, ["a", "a!", "c", "\u{10348}"]);
    assert_eq!(
        (folded.key_count(), folded.is_truncated()),
        (Some(7), Some(false))
    );

    let request = client
        .list_objects_v2()
        .bucket("listing")
        .prefix("a/")
        .delimiter("/");
    let inner = request.max_keys(3).send().await.unwrap();
    let first: Vec<&str> = inner
        .common_prefixes()
        .iter()
        .filter_map(|p| p.prefix())
        .collect();
    assert_eq!(
        (first, inner.is_truncated()),
        (vec!["a/00/", "a/01/", "a/02/"], Some(true))
    );
    let request = client
        .list_objects_v2()
        .bucket("listing")
        .prefix("a/")
        .delimiter("/");
    let token = inner.next_continuation_token().unwrap();
    let next = request.continuation_token(token).send().await.unwrap();
    let rest: Vec<&str> = next
        .common_prefixes()
        .iter()
        .filter_map(|p| p.prefix())
        .collect();
    assert_eq!(rest, ["a/03/", "a/04/", "a/05/", "a/06/"]);

    let after = client
        .list_objects_v2()
        .bucket("listing")
        .start_after("b/x");
    let after = after.send().await.unwrap();
    let later: Vec<&str> = after
        .contents()
        .iter()
        .filter_map(|object| object.key())
        .collect();
    assert_eq!(later, ["b/y/z", "c", "\u{e4}/1", "\u{10348}"]);
    let object = &after.contents()[1];
    assert_eq!((object.size(), object.e_tag().is_some()), (Some(1), true));

    let none = client
        .list_objects_v2()
        .bucket("listing")
        .max_keys(0)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (none.key_count(), none.is_truncated()),
        (Some(0), Some(false))
    );
    // What was written before the listing began is in it.
    put(client, "listing", "a/new", b"now").await;
    assert!(all_v2(client, Some("a/new"), 9).await == ["a/new"]);
}

async fn all_v2(client: &Client, prefix: Option<&str>, page: i32) -> Vec<String> {
    let request = client.list_objects_v2().bucket("listing").max_keys(page);
    let request = request.set_prefix(prefix.map(str::to_owned));
    let mut pages = request.into_paginator().send();
    let mut keys = Vec::new();
    while let Some(listed) = pages.next().await {
        let listed = listed.unwrap();
        assert!(listed.contents().len() <= usize::try_from(page).unwrap());
        keys.extend(
            listed
                .contents()
                .iter()
                .filter_map(|object| object.key().map(str::to_owned)),
        );
    }
    keys
}

async fn all_v1(client: &Client, page: i32) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    loop {
        let request = client.list_objects().bucket("listing").max_keys(page);
        let listed = request
            .set_marker(keys.last().cloned())
            .send()
            .await
            .unwrap();
        keys.extend(
            listed
                .contents()
                .iter()
                .filter_map(|object| object.key().map(str::to_owned)),
        );
        if listed.is_truncated() != Some(true) {
            return keys;
        }
    }
}
