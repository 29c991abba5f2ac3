//! Listings of objects: ListObjects, and its second version.

use enfilade_cluster::api::query::{ListEntry, ListQuery, ListedObject, PAGE_MAX};
use enfilade_cluster::api::root::Bucket;
use s3s::dto::{
    ChecksumAlgorithm, CommonPrefix, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, ObjectStorageClass, Owner,
};
use s3s::{S3Request, S3Response, S3Result};

use crate::s3::attributes::signed;
use crate::s3::checksum;
use crate::s3::conditions::{strong, timestamp};
use crate::s3::text::{self, Encoding};
use crate::s3::{Front, errors};

/// A whole answer's worth of entries, and where the next one begins.
struct Listing {
    entries: Vec<ListEntry>,
    next: Option<String>,
    /// As [`ListQuery::inside`] of the next one.
    inside: bool,
}

/// How many pages one answer is gathered from: pages are short where much was deleted, and then the
/// answer is too.
pub(crate) const PAGES_MAX: usize = 50;

/// The number of entries that a request allows, at most [`PAGE_MAX`].
///
/// # Errors
/// `InvalidArgument` when it is negative.
pub(crate) fn limit(max: Option<i32>) -> S3Result<u32> {
    let text = "Argument maxKeys must be an integer between 0 and 2147483647";
    let max = u32::try_from(max.unwrap_or(1000)).map_err(|_| errors::invalid_argument(text))?;
    Ok(max.min(PAGE_MAX))
}

/// Empty text counts as none.
pub(crate) fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Gathers pages, which may be short or empty, until the answer is full, the end is reached, or
/// there were many. Without `tokens` it does not end inside a prefix: a key could not say so.
async fn gather(
    front: &Front,
    bucket: &Bucket,
    mut query: ListQuery,
    tokens: bool,
) -> S3Result<Listing> {
    let mut listing = Listing {
        entries: Vec::new(),
        next: None,
        inside: false,
    };
    if query.limit == 0 {
        return Ok(listing);
    }
    for turn in 1.. {
        let left = query.limit;
        let page = front.metadata.list(bucket.id, query.clone()).await;
        let page = page.map_err(errors::metadata)?;
        let got = u32::try_from(page.entries.len()).unwrap_or(u32::MAX);
        listing.entries.extend(page.entries);
        (listing.next, listing.inside) = (page.next, page.inside);
        query.limit = left.saturating_sub(got);
        let enough = turn >= PAGES_MAX && (tokens || !listing.inside);
        if listing.next.is_none() || query.limit == 0 || enough {
            break;
        }
        // A page that began inside a prefix may end with that prefix itself, which is less.
        if listing.next <= query.after && (listing.inside || !query.inside) {
            return Err(errors::internal("a listing does not go on", "pages repeat"));
        }
        query.after.clone_from(&listing.next);
        query.inside = listing.inside;
    }
    Ok(listing)
}

/// The entries as S3 tells them, in its two lists.
fn told(
    entries: Vec<ListEntry>,
    encoding: Encoding,
    owner: Option<&Owner>,
) -> (Vec<Object>, Vec<CommonPrefix>) {
    let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            ListEntry::Object(listed) => objects.push(told_object(listed, encoding, owner)),
            ListEntry::Prefix(prefix) => {
                prefixes.push(CommonPrefix {
                    prefix: Some(encoding.write(&prefix)),
                });
            }
        }
    }
    (objects, prefixes)
}

pub(crate) fn told_object(
    listed: ListedObject,
    encoding: Encoding,
    owner: Option<&Owner>,
) -> Object {
    let algorithm = listed
        .checksum
        .map(|(algorithm, _)| checksum::name(algorithm));
    Object {
        checksum_algorithm: algorithm.map(|name| vec![ChecksumAlgorithm::from_static(name)]),
        checksum_type: listed
            .checksum
            .map(|(_, scope)| checksum::scope_type(scope)),
        e_tag: Some(strong(listed.etag)),
        key: Some(encoding.write(&listed.key)),
        last_modified: Some(timestamp(listed.modified_ms)),
        owner: owner.cloned(),
        restore_status: None,
        size: Some(signed(listed.len)),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
    }
}

pub(crate) async fn objects(
    front: &Front,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let (delimiter, prefix) = (some(input.delimiter), input.prefix.unwrap_or_default());
    let query = ListQuery {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        after: some(input.marker.clone()),
        inside: false,
        limit,
    };
    let Listing { entries, next, .. } = gather(front, &bucket, query, false).await?;
    let owner = front.owner();
    let (contents, prefixes) = told(entries, encoding, Some(&owner));
    Ok(S3Response::new(ListObjectsOutput {
        name: Some(input.bucket),
        prefix: Some(encoding.write(&prefix)),
        marker: Some(encoding.write(&input.marker.unwrap_or_default())),
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        is_truncated: Some(next.is_some()),
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        delimiter: delimiter.map(|text| encoding.write(&text)),
        next_marker: next.map(|text| encoding.write(&text)),
        encoding_type: encoding.told(),
        request_charged: None,
    }))
}

pub(crate) async fn objects_v2(
    front: &Front,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let limit = limit(input.max_keys)?;
    let token = some(input.continuation_token);
    let (after, inside) = match &token {
        Some(token) => text::place_inside(token)?,
        None => (some(input.start_after.clone()), false),
    };
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let (delimiter, prefix) = (some(input.delimiter), input.prefix.unwrap_or_default());
    let query = ListQuery {
        prefix: prefix.clone(),
        delimiter: delimiter.clone(),
        after,
        inside,
        limit,
    };
    let Listing {
        entries,
        next,
        inside,
    } = gather(front, &bucket, query, true).await?;
    let count = i32::try_from(entries.len()).unwrap_or(i32::MAX);
    let owner = input.fetch_owner.unwrap_or(false).then(|| front.owner());
    let (contents, prefixes) = told(entries, encoding, owner.as_ref());
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encoding.write(&prefix)),
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        key_count: Some(count),
        continuation_token: token,
        is_truncated: Some(next.is_some()),
        next_continuation_token: next.as_deref().map(|next| text::token_inside(next, inside)),
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        delimiter: delimiter.map(|text| encoding.write(&text)),
        encoding_type: encoding.told(),
        start_after: input.start_after.map(|text| encoding.write(&text)),
        request_charged: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_negative_and_never_more_than_a_page() {
        assert_eq!(limit(None).unwrap(), 1000);
        assert_eq!(limit(Some(i32::MAX)).unwrap(), PAGE_MAX);
        assert_eq!(limit(Some(0)).unwrap(), 0);
        assert!(limit(Some(-1)).is_err());
    }
}
