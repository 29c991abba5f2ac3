//! Buckets.

use std::time::Duration;

use enfilade_cluster::api::command::Versioning;
use enfilade_cluster::api::root::{RootCommand, RootRefusal};
use s3s::dto::{
    self, BucketCannedACL, BucketLocationConstraint, BucketVersioningStatus, CreateBucketInput,
    CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, HeadBucketInput,
    HeadBucketOutput, ListBucketsInput, ListBucketsOutput, MFADelete, ObjectOwnership,
    PutBucketVersioningInput, PutBucketVersioningOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::conditions::timestamp;
use crate::s3::{Front, errors, text, whole};

/// The region in which S3 has no location constraint.
const CLASSIC: &str = "us-east-1";

/// How long a client waits for the end of a bucket's deletion; it goes on beyond that.
const DELETE_WAIT: Duration = Duration::from_secs(20);

/// How often its end is asked for.
const DELETE_POLL: Duration = Duration::from_millis(25);

/// The most buckets of one page.
const PAGE_MAX: i32 = 10_000;

pub(crate) async fn create(
    front: &Front,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    whole::verify_whole(&req)?;
    let input = req.input;
    private(input.acl.as_ref().map(BucketCannedACL::as_str))?;
    match input.object_ownership.as_ref().map(ObjectOwnership::as_str) {
        None | Some(ObjectOwnership::BUCKET_OWNER_ENFORCED) => {}
        Some(_) => return Err(errors::not_implemented("x-amz-object-ownership")),
    }
    // Any location constraint is accepted: there is one location.
    let directory = input.create_bucket_configuration.as_ref();
    if directory.is_some_and(|made| made.bucket.is_some() || made.location.is_some()) {
        return Err(errors::not_implemented("a directory bucket"));
    }
    let command = RootCommand::CreateBucket {
        name: input.bucket.clone(),
        owner: front.settings.access_key.clone(),
        created_ms: front.env.clock.wall_ms(),
    };
    propose(front, command).await?;
    let location = Some(format!("/{}", input.bucket));
    Ok(S3Response::new(CreateBucketOutput { location }))
}

fn private(acl: Option<&str>) -> S3Result<()> {
    match acl {
        None | Some("private") => Ok(()),
        Some(_) => Err(errors::not_implemented("x-amz-acl")),
    }
}

/// Proposes a command to the root group, and hears of its effect.
async fn propose(front: &Front, command: RootCommand) -> S3Result<()> {
    let outcome = front.metadata.root(front.request(), command).await;
    let outcome = outcome.map_err(errors::metadata)?;
    front.root().await?;
    outcome.map(|_| ()).map_err(errors::root_refusal)
}

pub(crate) async fn head(
    front: &Front,
    req: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    front
        .bucket(
            &req.input.bucket,
            req.input.expected_bucket_owner.as_deref(),
        )
        .await?;
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region: Some(front.settings.region.clone()),
        ..HeadBucketOutput::default()
    }))
}

pub(crate) async fn delete(
    front: &Front,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let expected = req.input.expected_bucket_owner.as_deref();
    let bucket = front.bucket(&req.input.bucket, expected).await?;
    // The metadata service fences, looks and removes, and goes on with it after any crash
    // (PROTOCOLS 6); its end shows in the root state.
    propose(
        front,
        RootCommand::BeginDeleteBucket {
            name: bucket.name.clone(),
        },
    )
    .await?;
    let began = front.env.clock.now();
    loop {
        let root = front.root().await?;
        match root
            .buckets
            .get(&bucket.name)
            .filter(|now| now.id == bucket.id)
        {
            None => return Ok(S3Response::new(DeleteBucketOutput {})),
            Some(now) if !now.deleting => {
                return Err(errors::root_refusal(RootRefusal::BucketNotEmpty));
            }
            Some(_) if front.env.clock.now() - began > DELETE_WAIT => {
                return Err(errors::root_refusal(RootRefusal::BucketBusy));
            }
            Some(_) => front.env.clock.sleep(DELETE_POLL).await,
        }
    }
}

pub(crate) async fn location(
    front: &Front,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    front
        .bucket(
            &req.input.bucket,
            req.input.expected_bucket_owner.as_deref(),
        )
        .await?;
    let region = &front.settings.region;
    let location_constraint =
        (region != CLASSIC).then(|| BucketLocationConstraint::from(region.clone()));
    Ok(S3Response::new(GetBucketLocationOutput {
        location_constraint,
    }))
}

pub(crate) async fn versioning(
    front: &Front,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let expected = req.input.expected_bucket_owner.as_deref();
    let bucket = front.bucket(&req.input.bucket, expected).await?;
    let status = match bucket.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    Ok(S3Response::new(GetBucketVersioningOutput {
        status: status.map(BucketVersioningStatus::from_static),
        ..GetBucketVersioningOutput::default()
    }))
}

pub(crate) async fn set_versioning(
    front: &Front,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    whole::verify_whole(&req)?;
    let input = req.input;
    let wanted = input.versioning_configuration;
    if wanted
        .mfa_delete
        .is_some_and(|mfa| mfa.as_str() == MFADelete::ENABLED)
    {
        return Err(errors::not_implemented("MFA delete"));
    }
    let versioning = match wanted.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => {
            let text = "The versioning status must be Enabled or Suspended";
            return Err(errors::error(S3ErrorCode::MalformedXML, text));
        }
    };
    let expected = input.expected_bucket_owner.as_deref();
    let name = front.bucket(&input.bucket, expected).await?.name;
    // Answered when every partition of the bucket has heard of it (PROTOCOLS 6).
    propose(front, RootCommand::SetVersioning { name, versioning }).await?;
    Ok(S3Response::new(PutBucketVersioningOutput {}))
}

pub(crate) async fn list(
    front: &Front,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let input = req.input;
    let max = input.max_buckets.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&max) {
        return Err(errors::invalid_argument(
            "max-buckets must be from 1 to 10000",
        ));
    }
    let after = input
        .continuation_token
        .as_deref()
        .map(text::place)
        .transpose()?;
    let root = front.root().await?;
    let elsewhere = input
        .bucket_region
        .is_some_and(|region| region != front.settings.region);
    let prefix = input.prefix.clone().unwrap_or_default();
    let mut buckets: Vec<dto::Bucket> = root
        .buckets
        .values()
        .filter(|bucket| !elsewhere && bucket.name.starts_with(&prefix))
        .filter(|bucket| after.as_ref().is_none_or(|after| bucket.name > *after))
        .take(usize::try_from(max).unwrap_or(0) + 1)
        .map(|bucket| dto::Bucket {
            bucket_region: Some(front.settings.region.clone()),
            creation_date: Some(timestamp(bucket.created_ms)),
            name: Some(bucket.name.clone()),
        })
        .collect();
    let more = buckets.len() > usize::try_from(max).unwrap_or(0);
    if more {
        buckets.pop();
    }
    let last = buckets.last().and_then(|bucket| bucket.name.as_deref());
    Ok(S3Response::new(ListBucketsOutput {
        continuation_token: last.filter(|_| more).map(text::token),
        buckets: Some(buckets),
        owner: Some(front.owner()),
        prefix: input.prefix,
    }))
}
