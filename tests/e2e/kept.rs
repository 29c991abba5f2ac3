//! Objects of every kind that must outlive restarts and losses.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;

use crate::cluster::{bytes, eventually};
use crate::objects::{get, put};

const BUCKET: &str = "kept";

/// What was acked.
pub(crate) struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
}

/// Writes objects of all sizes, some over and over, some deleted again.
pub(crate) async fn write(client: &Client) -> Kept {
    let create = || client.create_bucket().bucket(BUCKET).send();
    eventually(|| async { create().await }).await;
    let mut objects = BTreeMap::new();
    for (index, size) in [0, 10, 16_384, 20_000, 65_536, 300_000, 2_000_000]
        .iter()
        .enumerate()
    {
        for round in 0..2 {
            let key = format!("object/{index}");
            let body = bytes((index * 10 + round) as u64, *size);
            put(client, BUCKET, &key, &body).await;
            objects.insert(key, body);
        }
    }
    put(client, BUCKET, "deleted", b"to be deleted").await;
    client
        .delete_object()
        .bucket(BUCKET)
        .key("deleted")
        .send()
        .await
        .unwrap();
    Kept { objects }
}

impl Kept {
    /// Whether all is there, byte for byte, and nothing else.
    pub(crate) async fn check(&self, client: &Client) {
        let list = || async { client.list_objects_v2().bucket(BUCKET).send().await };
        let listed = eventually(list).await;
        let keys: Vec<&str> = listed
            .contents()
            .iter()
            .filter_map(|object| object.key())
            .collect();
        assert_eq!(keys, Vec::from_iter(self.objects.keys()));
        for (key, body) in &self.objects {
            assert!(get(client, BUCKET, key).await == *body, "{key}");
        }
    }
}
