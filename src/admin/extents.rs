//! Where the blobs of a bucket are: every committed extent, as the records name it.
//!
//! What operators ask for that want to know what a volume is good for, and those who compare what
//! drives hold with what they should (PROTOCOLS 13, 22). Pages are linearizable each, not together:
//! what is written or deleted meanwhile may be there or not.

use std::fmt::Write as _;

use anyhow::Result;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::{
    ListedVersion, PAGE_MAX, PartsQuery, UploadsQuery, VersionsQuery,
};
use enfilade_cluster::api::record::{Blob, Content, Layout, Place, VersionKind};
use enfilade_cluster::api::{MetadataClient, Result as Answered};
use enfilade_placement::{BucketId, Stamp};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::admin::commands::{client, say};
use crate::admin::model::extents::{Ask, BlobPlace, Cursor, ExtentPlace, Page};
use crate::cli::BucketExtentsArgs;

/// Records that are asked for at once.
const AT_ONCE: usize = 16;
/// Keys of one page: a page is small enough to come in time.
const KEYS: u32 = 500;
/// Blobs of one record that are asked for at once.
const BLOBS: usize = 1000;
/// Parts that are asked for at once.
const PARTS: u32 = 1000;

/// One page of what a bucket holds in volumes.
///
/// # Errors
/// When the metadata service does not answer.
pub(crate) async fn page(
    metadata: &dyn MetadataClient,
    bucket: BucketId,
    ask: Ask,
) -> Answered<Page> {
    match ask.after.unwrap_or_default() {
        Cursor::Versions(after) => versions(metadata, bucket, after).await,
        Cursor::Uploads(after) => uploads(metadata, bucket, after).await,
    }
}

async fn versions(
    metadata: &dyn MetadataClient,
    bucket: BucketId,
    after: Option<(String, Option<Stamp>)>,
) -> Answered<Page> {
    let query = VersionsQuery {
        after,
        limit: KEYS,
        ..VersionsQuery::default()
    };
    let listed = metadata.versions(bucket, query).await?;
    let objects = listed.versions.into_iter();
    let objects = objects.filter(|version| version.kind == VersionKind::Object);
    let found: Vec<Vec<BlobPlace>> = stream::iter(objects)
        .map(|version| of_version(metadata, bucket, version))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(Page {
        blobs: found.into_iter().flatten().collect(),
        next: Some(match listed.next {
            Some(next) => Cursor::Versions(Some(next)),
            None => Cursor::Uploads(None),
        }),
    })
}

async fn of_version(
    metadata: &dyn MetadataClient,
    bucket: BucketId,
    listed: ListedVersion,
) -> Answered<Vec<BlobPlace>> {
    let (key, stamp) = (listed.object.key, listed.object.stamp);
    let at = ObjectKey::new(bucket, key.clone());
    let Some(found) = metadata.object(&at, Some(stamp.into())).await? else {
        // Deleted since it was listed.
        return Ok(Vec::new());
    };
    let count = match found.record.content {
        Content::Blobs(blobs) => return Ok(blobs.iter().filter_map(|b| place(&key, b)).collect()),
        Content::Rows { blobs } => blobs as usize,
    };
    let (mut places, mut seen, mut offset) = (Vec::new(), 0, 0);
    while seen < count {
        let rows = metadata.blobs(&at, stamp, offset, BLOBS).await?;
        let Some(last) = rows.last() else { break };
        offset = last.offset + last.blob.len;
        seen += rows.len();
        places.extend(rows.iter().filter_map(|row| place(&key, &row.blob)));
    }
    Ok(places)
}

async fn uploads(
    metadata: &dyn MetadataClient,
    bucket: BucketId,
    after: Option<(String, Option<enfilade_placement::UploadId>)>,
) -> Answered<Page> {
    let query = UploadsQuery {
        after,
        limit: PAGE_MAX,
        ..UploadsQuery::default()
    };
    let listed = metadata.uploads(bucket, query).await?;
    let mut blobs = Vec::new();
    for upload in listed.uploads {
        let at = ObjectKey::new(bucket, upload.key.clone());
        let mut after = 0;
        loop {
            let query = PartsQuery {
                upload: upload.upload,
                after,
                limit: PARTS,
            };
            let Some(page) = metadata.parts(&at, query).await? else {
                // Completed or aborted since it was listed.
                break;
            };
            let parts = page.parts.iter();
            blobs.extend(parts.filter_map(|part| place(&upload.key, &part.blob)));
            match page.parts.last() {
                Some(last) if page.more => after = last.number,
                _ => break,
            }
        }
    }
    Ok(Page {
        blobs,
        next: listed.next.map(|next| Cursor::Uploads(Some(next))),
    })
}

/// None: it is inline.
fn place(key: &str, blob: &Blob) -> Option<BlobPlace> {
    let Place::Striped {
        profile,
        layout,
        extents,
    } = &blob.place
    else {
        return None;
    };
    let extent = |extent: &enfilade_cluster::api::record::Extent| ExtentPlace {
        volume: extent.volume.get(),
        first_stripe: extent.first_stripe,
        stripes: extent.stripes,
    };
    Some(BlobPlace {
        key: key.to_owned(),
        blob: blob.id.to_string(),
        bytes: blob.len,
        k: profile.k(),
        m: profile.m(),
        unit: profile.unit(),
        shortened: *layout == Layout::Shortened,
        extents: extents.iter().map(extent).collect(),
    })
}

/// `enfilade bucket extents`: a line a blob, as it comes.
pub(crate) async fn show(args: &BucketExtentsArgs) -> Result<()> {
    let client = client(&args.admin)?;
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => client.get("buckets").await?,
    };
    for name in names {
        let path = format!("buckets/{name}/extents");
        let mut ask = Ask::default();
        loop {
            let page: Page = client.post(&path, &ask).await?;
            let mut text = String::new();
            for blob in &page.blobs {
                match args.admin.json {
                    true => text.push_str(&serde_json::to_string(blob)?),
                    false => line(&mut text, blob),
                }
                text.push('\n');
            }
            say(&text)?;
            match page.next {
                Some(next) => ask.after = Some(next),
                None => break,
            }
        }
    }
    Ok(())
}

fn line(text: &mut String, blob: &BlobPlace) {
    let code = if blob.shortened { "shortened" } else { "full" };
    let (id, k, m) = (&blob.blob, blob.k, blob.m);
    let _ = write!(text, "{id} {k}+{m} {code} {} bytes:", blob.bytes);
    for extent in &blob.extents {
        let last = u64::from(extent.first_stripe) + u64::from(extent.stripes);
        let first = extent.first_stripe;
        let _ = write!(text, " {first}..{last} in volume {}", extent.volume);
    }
    let _ = write!(text, " {:?}", blob.key);
}
