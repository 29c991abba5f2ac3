//! The store over S3, by the client library that most users have.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::{Bytes, BytesMut};

use super::connector::Connector;
use super::{Condition, Failure, Store};
use crate::cluster::Login;
use crate::history::{Entry, Value};
use crate::workload::body::{Body, Reading};

/// One bucket of one cluster.
#[derive(Debug)]
pub(crate) struct S3 {
    bucket: String,
    login: Login,
    /// For one operation, multipart uploads as a whole.
    deadline: Duration,
    client: RwLock<Client>,
}

impl S3 {
    pub(crate) fn new(bucket: &str, login: Login, s3: SocketAddr, deadline: Duration) -> S3 {
        let client = RwLock::new(connect(&login, s3));
        S3 {
            bucket: bucket.to_owned(),
            login,
            deadline,
            client,
        }
    }

    /// Another bucket of the same cluster, which may not be there yet.
    pub(crate) fn beside(&self, bucket: &str) -> S3 {
        S3 {
            bucket: bucket.to_owned(),
            login: self.login.clone(),
            deadline: self.deadline,
            client: RwLock::new(self.client()),
        }
    }

    /// From now on the cluster is found elsewhere; running operations go on where they are.
    pub(crate) fn retarget(&self, s3: SocketAddr) {
        let client = connect(&self.login, s3);
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Makes the bucket.
    pub(crate) async fn create_bucket(&self) -> Result<(), Failure> {
        let request = self.client().create_bucket().bucket(&self.bucket).send();
        self.within(async { request.await.map(|_| ()).map_err(failure) })
            .await
    }

    /// Where an object can be written without credentials for some time: path and query.
    ///
    /// # Errors
    /// When that cannot be signed.
    pub(crate) async fn signed_put(&self, key: &str) -> anyhow::Result<String> {
        let request = self.client().put_object().bucket(&self.bucket).key(key);
        let signed = request.presigned(soon()?).await?;
        target(signed.uri())
    }

    /// Where an object can be read without credentials for some time: path and query.
    ///
    /// # Errors
    /// When that cannot be signed.
    pub(crate) async fn signed_get(&self, key: &str) -> anyhow::Result<String> {
        let request = self.client().get_object().bucket(&self.bucket).key(key);
        let signed = request.presigned(soon()?).await?;
        target(signed.uri())
    }

    fn client(&self) -> Client {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }

    async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let deadline = self.deadline;
        tokio::time::timeout(deadline, operation)
            .await
            .unwrap_or_else(|_| Err(Failure::Unknown(format!("no answer in {deadline:?}"))))
    }

    async fn put_whole(
        &self,
        key: &str,
        bytes: Bytes,
        condition: Condition,
    ) -> Result<String, Failure> {
        let client = self.client();
        let mut request = client.put_object().bucket(&self.bucket).key(key);
        if condition == Condition::Absent {
            request = request.if_none_match("*");
        }
        let answer = request.body(ByteStream::from(bytes)).send().await;
        etag(answer.map_err(failure)?.e_tag())
    }

    async fn put_parts(
        &self,
        key: &str,
        parts: Vec<Bytes>,
        condition: Condition,
    ) -> Result<String, Failure> {
        let client = self.client();
        let create = client.create_multipart_upload().bucket(&self.bucket);
        // Nothing is visible before the upload is complete.
        let created = create.key(key).send().await.map_err(invisible)?;
        let Some(upload) = created.upload_id() else {
            let why = "the upload was created without an id";
            return Err(Failure::Refused(why.to_owned()));
        };
        let mut completed = CompletedMultipartUpload::builder();
        for (number, part) in (1..).zip(parts) {
            let request = client.upload_part().bucket(&self.bucket).key(key);
            let request = request.upload_id(upload).part_number(number);
            let sent = request.body(ByteStream::from(part)).send().await;
            match sent
                .map_err(invisible)
                .and_then(|answer| etag(answer.e_tag()))
            {
                Ok(etag) => {
                    let part = CompletedPart::builder().part_number(number).e_tag(etag);
                    completed = completed.parts(part.build());
                }
                Err(error) => {
                    let abort = client.abort_multipart_upload().bucket(&self.bucket);
                    // What is left of the upload is the cluster's to collect.
                    let _ = abort.key(key).upload_id(upload).send().await;
                    return Err(error);
                }
            }
        }
        let complete = client.complete_multipart_upload().bucket(&self.bucket);
        let mut complete = complete.key(key).upload_id(upload);
        if condition == Condition::Absent {
            complete = complete.if_none_match("*");
        }
        let complete = complete.multipart_upload(completed.build());
        etag(complete.send().await.map_err(failure)?.e_tag())
    }

    async fn open(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<GetObjectOutput>, Failure> {
        let client = self.client();
        let mut request = client.get_object().bucket(&self.bucket).key(key);
        if let Some(range) = range {
            let last = range.end.saturating_sub(1);
            request = request.range(format!("bytes={}-{last}", range.start));
        }
        match request.send().await {
            Ok(answer) => Ok(Some(answer)),
            Err(SdkError::ServiceError(error)) if error.err().is_no_such_key() => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }
}

#[async_trait]
impl Store for S3 {
    async fn put(&self, key: &str, body: Body, condition: Condition) -> Result<String, Failure> {
        match body {
            Body::Whole(bytes) => self.within(self.put_whole(key, bytes, condition)).await,
            Body::Parts(parts) => self.within(self.put_parts(key, parts, condition)).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let client = self.client();
        let request = client.delete_object().bucket(&self.bucket).key(key).send();
        self.within(async { request.await.map(|_| ()).map_err(failure) })
            .await
    }

    async fn get(&self, key: &str) -> Result<Option<Value>, Failure> {
        self.within(async {
            let Some(mut answer) = self.open(key, None).await? else {
                return Ok(None);
            };
            let etag = answer.e_tag().unwrap_or_default().to_owned();
            let mut reading = Reading::default();
            while let Some(piece) = answer.body.next().await {
                let piece = piece.map_err(|error| Failure::Unknown(chain(&error)))?;
                reading.take(&piece);
            }
            Ok(Some(reading.value(&etag)))
        })
        .await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        self.within(async {
            let Some(mut answer) = self.open(key, Some(range)).await? else {
                return Ok(None);
            };
            let mut bytes = BytesMut::new();
            while let Some(piece) = answer.body.next().await {
                let piece = piece.map_err(|error| Failure::Unknown(chain(&error)))?;
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(bytes.freeze()))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Failure> {
        self.within(async {
            let client = self.client();
            let mut entries = Vec::new();
            let mut token = None;
            loop {
                let request = client.list_objects_v2().bucket(&self.bucket);
                let request = request.prefix(prefix).set_continuation_token(token);
                let page = request.send().await.map_err(failure)?;
                for object in page.contents() {
                    entries.push(Entry {
                        key: object.key().unwrap_or_default().to_owned(),
                        length: object
                            .size()
                            .and_then(|size| size.try_into().ok())
                            .unwrap_or(0),
                        etag: object
                            .e_tag()
                            .unwrap_or_default()
                            .trim_matches('"')
                            .to_owned(),
                    });
                }
                token = page.next_continuation_token().map(str::to_owned);
                if token.is_none() {
                    return Ok(entries);
                }
            }
        })
        .await
    }
}

fn connect(login: &Login, s3: SocketAddr) -> Client {
    let credentials = Credentials::new(&login.user, &login.password, None, None, "chaos");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{s3}"))
        .credentials_provider(credentials)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .http_client(Connector::new())
        .build();
    Client::from_conf(config)
}

/// How long a signed URL is good for.
fn soon() -> anyhow::Result<PresigningConfig> {
    Ok(PresigningConfig::expires_in(Duration::from_secs(600))?)
}

/// A URL without scheme and host.
fn target(uri: &str) -> anyhow::Result<String> {
    let (_, rest) = uri.split_once("://").context("a URL")?;
    let (_, path) = rest.split_once('/').context("a URL with a path")?;
    Ok(format!("/{path}"))
}

fn etag(answer: Option<&str>) -> Result<String, Failure> {
    // A success without an ETag is a success: the checks see that the ETag is wrong.
    Ok(answer.unwrap_or_default().trim_matches('"').to_owned())
}

/// Only an answer of the 4xx class says that nothing happened.
fn failure<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let why = match (status, error.as_service_error()) {
        (Some(status), Some(service)) => {
            let (code, message) = (service.code(), service.message());
            format!(
                "{status} {}: {}",
                code.unwrap_or("?"),
                message.unwrap_or("?")
            )
        }
        _ => chain(&error),
    };
    match (status, &error) {
        (Some(412), _) => Failure::Conflict,
        // 408 and 409 are answers about time and concurrency.
        (Some(status), _) if (400..500).contains(&status) && status != 408 && status != 409 => {
            Failure::Refused(why)
        }
        (_, SdkError::ConstructionFailure(_)) => Failure::Refused(why),
        // Our connector's word for a connection that was never made.
        (_, SdkError::DispatchFailure(error)) if error.is_other() => Failure::Refused(why),
        _ => Failure::Unknown(why),
    }
}

/// The failure of a request that nobody could have seen the effect of.
fn invisible<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match failure(error) {
        Failure::Unknown(why) => Failure::Refused(why),
        other => other,
    }
}

/// An error with everything below it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
