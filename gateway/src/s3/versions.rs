//! Listings of versions: ListObjectVersions.

use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::{ListedVersion, VersionsPage, VersionsQuery};
use enfilade_cluster::api::record::{VersionId, VersionKind};
use enfilade_cluster::api::root::Bucket;
use enfilade_placement::Stamp;
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ListObjectVersionsInput, ListObjectVersionsOutput,
    ObjectVersion, ObjectVersionStorageClass, Owner,
};
use s3s::{S3Request, S3Response, S3Result};

use crate::s3::conditions::timestamp;
use crate::s3::front::{NULL, version_text};
use crate::s3::list::{PAGES_MAX, limit, some, told_object};
use crate::s3::text::Encoding;
use crate::s3::{Front, errors};

/// Where a listing begins: after a key, or after a version of it.
type After = Option<(String, Option<Stamp>)>;

/// What the markers of a request say. That of a version is the `NextVersionIdMarker` of the page
/// before, or the id of a version.
async fn after(
    front: &Front,
    bucket: &Bucket,
    key: Option<String>,
    version: Option<String>,
) -> S3Result<After> {
    let (key, version) = match (some(key), some(version)) {
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            let text = "A version-id marker cannot be specified without a key marker";
            return Err(errors::invalid_argument(text));
        }
        (Some(key), None) => return Ok(Some((key, None))),
        (Some(key), Some(version)) => (key, version),
    };
    if version == NULL {
        let at = ObjectKey::new(bucket.id, key.as_str());
        let found = front.metadata.object(&at, Some(VersionId::Null)).await;
        let null = found
            .map_err(errors::metadata)?
            .map(|found| found.record.stamp);
        return Ok(Some((key, null)));
    }
    match version.parse() {
        Ok(stamp) => Ok(Some((key, Some(stamp)))),
        Err(_) => Err(errors::invalid_argument("Invalid version id specified")),
    }
}

/// Gathers pages, which may be short or empty, until the answer is full, the end is reached, or
/// there were many.
async fn gather(
    front: &Front,
    bucket: &Bucket,
    mut query: VersionsQuery,
) -> S3Result<VersionsPage> {
    let mut gathered = VersionsPage::default();
    if query.limit == 0 {
        return Ok(gathered);
    }
    for _ in 0..PAGES_MAX {
        let page = front.metadata.versions(bucket.id, query.clone()).await;
        let page = page.map_err(errors::metadata)?;
        let got = page.versions.len() + page.prefixes.len();
        gathered.versions.extend(page.versions);
        gathered.prefixes.extend(page.prefixes);
        gathered.next = page.next;
        query.limit = query
            .limit
            .saturating_sub(u32::try_from(got).unwrap_or(u32::MAX));
        if gathered.next.is_none() || query.limit == 0 {
            break;
        }
        query.after.clone_from(&gathered.next);
    }
    Ok(gathered)
}

fn told_version(listed: ListedVersion, encoding: Encoding, owner: &Owner) -> ObjectVersion {
    let version = version_text(listed.null_version, listed.object.stamp);
    let object = told_object(listed.object, encoding, Some(owner));
    ObjectVersion {
        checksum_algorithm: object.checksum_algorithm,
        checksum_type: object.checksum_type,
        e_tag: object.e_tag,
        is_latest: Some(listed.current),
        key: object.key,
        last_modified: object.last_modified,
        owner: object.owner,
        restore_status: None,
        size: object.size,
        storage_class: Some(ObjectVersionStorageClass::from_static(
            ObjectVersionStorageClass::STANDARD,
        )),
        version_id: Some(version),
    }
}

fn told_marker(listed: ListedVersion, encoding: Encoding, owner: &Owner) -> DeleteMarkerEntry {
    DeleteMarkerEntry {
        is_latest: Some(listed.current),
        key: Some(encoding.write(&listed.object.key)),
        last_modified: Some(timestamp(listed.object.modified_ms)),
        owner: Some(owner.clone()),
        version_id: Some(version_text(listed.null_version, listed.object.stamp)),
    }
}

pub(crate) async fn list(
    front: &Front,
    req: S3Request<ListObjectVersionsInput>,
) -> S3Result<S3Response<ListObjectVersionsOutput>> {
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let (delimiter, prefix) = (some(input.delimiter), input.prefix.unwrap_or_default());
    let (key, version) = (input.key_marker.clone(), input.version_id_marker.clone());
    let query = VersionsQuery {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        after: after(front, &bucket, key, version).await?,
        limit,
    };
    let page = gather(front, &bucket, query).await?;
    let owner = front.owner();
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for listed in page.versions {
        match listed.kind {
            VersionKind::Object => versions.push(told_version(listed, encoding, &owner)),
            VersionKind::DeleteMarker => markers.push(told_marker(listed, encoding, &owner)),
        }
    }
    let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix {
        prefix: Some(encoding.write(prefix)),
    });
    let (next_key, next_version) = page.next.clone().unzip();
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(prefixes.collect()),
        delete_markers: Some(markers),
        delimiter: delimiter.map(|text| encoding.write(&text)),
        encoding_type: encoding.told(),
        is_truncated: Some(page.next.is_some()),
        key_marker: Some(encoding.write(&input.key_marker.unwrap_or_default())),
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        name: Some(input.bucket),
        next_key_marker: next_key.map(|text| encoding.write(&text)),
        next_version_id_marker: next_version.flatten().map(|stamp| stamp.to_string()),
        prefix: Some(encoding.write(&prefix)),
        request_charged: None,
        version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
        versions: Some(versions),
    }))
}
