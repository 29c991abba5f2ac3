//! The operations of S3: what a client asks, told to the data path and the metadata service.
//!
//! This file holds the one `impl S3`; each operation is in the file of its subject. What is not
//! here answers `NotImplemented`, the default of s3s.

mod attributes;
mod body;
mod bucket;
pub(crate) mod checksum;
mod complete;
mod conditions;
mod copy;
mod delete;
pub(crate) mod errors;
mod front;
mod list;
mod multipart;
mod object;
mod parts;
mod range;
mod settings;
mod text;
mod versions;
pub(crate) mod whole;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
    DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput,
    GetBucketVersioningOutput, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput,
    GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput,
    HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, PostObjectInput, PostObjectOutput,
    PutBucketVersioningInput, PutBucketVersioningOutput, PutObjectInput, PutObjectOutput,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result};

pub use body::BodyTimes;
pub(crate) use front::Front;
pub use settings::S3Settings;

/// Writes methods that hand their request to a function of this folder.
macro_rules! operations {
    ($($method:ident, $input:ty, $output:ty => $function:path;)*) => {
        #[async_trait::async_trait]
        impl S3 for Front {
            $(
                async fn $method(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    $function(self, req).await
                }
            )*
        }
    };
}

operations! {
    create_bucket, CreateBucketInput, CreateBucketOutput => bucket::create;
    head_bucket, HeadBucketInput, HeadBucketOutput => bucket::head;
    list_buckets, ListBucketsInput, ListBucketsOutput => bucket::list;
    delete_bucket, DeleteBucketInput, DeleteBucketOutput => bucket::delete;
    get_bucket_location, GetBucketLocationInput, GetBucketLocationOutput => bucket::location;
    get_bucket_versioning, GetBucketVersioningInput, GetBucketVersioningOutput
        => bucket::versioning;
    put_bucket_versioning, PutBucketVersioningInput, PutBucketVersioningOutput
        => bucket::set_versioning;
    put_object, PutObjectInput, PutObjectOutput => object::put;
    post_object, PostObjectInput, PostObjectOutput => object::post;
    get_object, GetObjectInput, GetObjectOutput => object::get;
    head_object, HeadObjectInput, HeadObjectOutput => object::head;
    get_object_attributes, GetObjectAttributesInput, GetObjectAttributesOutput
        => object::attributes;
    get_object_tagging, GetObjectTaggingInput, GetObjectTaggingOutput => object::tagging;
    copy_object, CopyObjectInput, CopyObjectOutput => copy::object;
    delete_object, DeleteObjectInput, DeleteObjectOutput => delete::one;
    delete_objects, DeleteObjectsInput, DeleteObjectsOutput => delete::many;
    list_objects, ListObjectsInput, ListObjectsOutput => list::objects;
    list_objects_v2, ListObjectsV2Input, ListObjectsV2Output => list::objects_v2;
    list_object_versions, ListObjectVersionsInput, ListObjectVersionsOutput => versions::list;
    create_multipart_upload, CreateMultipartUploadInput, CreateMultipartUploadOutput
        => multipart::create;
    complete_multipart_upload, CompleteMultipartUploadInput, CompleteMultipartUploadOutput
        => complete::upload;
    abort_multipart_upload, AbortMultipartUploadInput, AbortMultipartUploadOutput
        => multipart::abort;
    list_multipart_uploads, ListMultipartUploadsInput, ListMultipartUploadsOutput
        => multipart::list;
    upload_part, UploadPartInput, UploadPartOutput => parts::put;
    upload_part_copy, UploadPartCopyInput, UploadPartCopyOutput => copy::part;
    list_parts, ListPartsInput, ListPartsOutput => parts::list;
}
