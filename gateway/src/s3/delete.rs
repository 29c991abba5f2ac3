//! Deleting objects, one or many.

use enfilade_cluster::api::command::{Conditions, KeyOp, KeyReply, Versioning};
use enfilade_cluster::api::root::Bucket;
use futures::{StreamExt, stream};
use s3s::dto::{
    self, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    DeletedObject, ETagCondition, ObjectIdentifier,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::conditions::on_write;
use crate::s3::front::{checked_key, version_of, version_text};
use crate::s3::{Front, errors, whole};

/// The most objects of one multi-delete, as in S3.
const OBJECTS_MAX: usize = 1000;

/// What a delete came to, as S3 tells it.
struct Deleted {
    marker: Option<String>,
}

pub(crate) async fn one(
    front: &Front,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(errors::not_implemented(
            "a delete on condition of time or size",
        ));
    }
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let conditions = on_write(input.if_match, None);
    let version = input.version_id;
    let deleted = delete(front, &bucket, &input.key, version.as_deref(), conditions).await?;
    Ok(S3Response::new(DeleteObjectOutput {
        delete_marker: deleted.marker.as_ref().map(|_| true),
        version_id: deleted.marker.or(version),
        ..DeleteObjectOutput::default()
    }))
}

async fn delete(
    front: &Front,
    bucket: &Bucket,
    key: &str,
    version: Option<&str>,
    conditions: Conditions,
) -> S3Result<Deleted> {
    checked_key(key)?;
    let named = version.map(version_of).transpose()?;
    let modified_ms = front.env.clock.wall_ms();
    let op = KeyOp::Delete {
        version: named,
        conditions,
        modified_ms,
    };
    match front.commit(bucket, key, front.request(), op).await? {
        KeyReply::Deleted { marker, .. } => Ok(Deleted {
            marker: marker.map(|stamp| match version {
                Some(version) => version.to_owned(),
                None => version_text(bucket.versioning == Versioning::Suspended, stamp),
            }),
        }),
        other => Err(errors::internal(
            "a delete was answered as something else",
            format!("{other:?}"),
        )),
    }
}

pub(crate) async fn many(
    front: &Front,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    whole::verify_whole(&req)?;
    let input = req.input;
    let objects = input.delete.objects;
    if objects.is_empty() || objects.len() > OBJECTS_MAX {
        let text = format!("A multi-delete names 1 to {OBJECTS_MAX} objects");
        return Err(errors::error(S3ErrorCode::MalformedXML, text));
    }
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let bucket = &bucket;
    let outcomes: Vec<_> = stream::iter(objects)
        .map(|object| async move {
            let outcome = delete_named(front, bucket, &object).await;
            (object, outcome)
        })
        .buffered(front.settings.deletes_in_flight)
        .collect()
        .await;
    let quiet = input.delete.quiet.unwrap_or(false);
    let mut answer = DeleteObjectsOutput::default();
    for (object, outcome) in outcomes {
        match outcome {
            Ok(_) if quiet => {}
            Ok(deleted) => {
                answer
                    .deleted
                    .get_or_insert_default()
                    .push(told(object, deleted));
            }
            Err(error) => answer
                .errors
                .get_or_insert_default()
                .push(told_error(object, &error)),
        }
    }
    Ok(S3Response::new(answer))
}

async fn delete_named(
    front: &Front,
    bucket: &Bucket,
    object: &ObjectIdentifier,
) -> S3Result<Deleted> {
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(errors::not_implemented(
            "a delete on condition of time or size",
        ));
    }
    let conditions = on_write(object.e_tag.clone().map(ETagCondition::ETag), None);
    delete(
        front,
        bucket,
        &object.key,
        object.version_id.as_deref(),
        conditions,
    )
    .await
}

fn told(object: ObjectIdentifier, deleted: Deleted) -> DeletedObject {
    DeletedObject {
        delete_marker: deleted.marker.as_ref().map(|_| true),
        delete_marker_version_id: deleted.marker,
        key: Some(object.key),
        version_id: object.version_id,
    }
}

fn told_error(object: ObjectIdentifier, error: &S3Error) -> dto::Error {
    dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(object.key),
        message: error.message().map(str::to_owned),
        version_id: object.version_id,
    }
}
