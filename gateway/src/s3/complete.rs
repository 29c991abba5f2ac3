//! Completing a multipart upload: what the client names, what the parts say, what follows.

use enfilade_cluster::api::command::{ChosenPart, KeyOp, KeyReply};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::PartsQuery;
use enfilade_cluster::api::record::{Checksum, ChecksumAlgorithm, ChecksumScope, PartRecord};
use enfilade_placement::UploadId;
use md5::{Digest, Md5};
use s3s::dto::{CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::s3::checksum::{self, named_checksums, scope_type, tell_checksum};
use crate::s3::conditions::{on_write, strong};
use crate::s3::multipart::{PARTS_MAX, UploadChecksum, upload_id};
use crate::s3::{Front, errors, object, whole};

pub(crate) async fn upload(
    front: &Front,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    whole::verify_whole_md5(&req)?;
    let input = req.input;
    let bucket = front
        .bucket(&input.bucket, input.expected_bucket_owner.as_deref())
        .await?;
    let upload = upload_id(&input.upload_id)?;
    let named = input
        .multipart_upload
        .as_ref()
        .and_then(|named| named.parts.as_deref());
    let named = chosen_parts(named.unwrap_or_default())?;
    let at = ObjectKey::new(bucket.id, &input.key);
    // Gone when the upload was completed already: then the state machine repeats its answer.
    let made = match parts_of(front, &at, upload).await? {
        Some((chosen, parts)) => Made::of(&named, &parts, chosen)?,
        None => Made {
            len: None,
            checksum: None,
        },
    };
    made.check(&input)?;
    let op = KeyOp::CompleteUpload {
        upload,
        etag: etag_of_parts(named.iter().map(|part| part.chosen.etag.as_str()))?,
        parts: named.into_iter().map(|part| part.chosen).collect(),
        checksum: made.checksum,
        modified_ms: front.env.clock.wall_ms(),
        conditions: on_write(input.if_match, input.if_none_match),
    };
    let reply = front
        .commit(&bucket, &input.key, front.request(), op)
        .await?;
    let version_id = object::put_version(&bucket, &reply);
    let KeyReply::Completed { etag, checksum, .. } = reply else {
        return Err(errors::internal(
            "a completion was answered as something else",
            upload,
        ));
    };
    let mut answer = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        e_tag: Some(strong(etag)),
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        key: Some(input.key),
        version_id,
        ..CompleteMultipartUploadOutput::default()
    };
    if let Some(checksum) = checksum {
        answer.checksum_type = Some(scope_type(checksum.scope));
        tell_checksum!(answer, checksum.algorithm, checksum.value);
    }
    Ok(S3Response::new(answer))
}

/// A part as a completion names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedPart {
    chosen: ChosenPart,
    algorithm: Option<ChecksumAlgorithm>,
}

/// Reads the parts that a completion names.
///
/// # Errors
/// `MalformedXML` when there is none, or too many, or one lacks number or ETag; `InvalidPartOrder`;
/// `InvalidPart` for a number out of range.
fn chosen_parts(named: &[CompletedPart]) -> S3Result<Vec<NamedPart>> {
    if named.is_empty() || named.len() > PARTS_MAX {
        let text = format!("A completion names 1 to {PARTS_MAX} parts");
        return Err(errors::error(S3ErrorCode::MalformedXML, text));
    }
    let mut parts: Vec<NamedPart> = Vec::with_capacity(named.len());
    for part in named {
        let (Some(number), Some(etag)) = (part.part_number, &part.e_tag) else {
            let text = "A part lacks its number or its ETag";
            return Err(errors::error(S3ErrorCode::MalformedXML, text));
        };
        let number = u16::try_from(number)
            .ok()
            .filter(|number| usize::from(*number) <= PARTS_MAX);
        let Some(number) = number.filter(|number| *number > 0) else {
            return Err(invalid_part("a part number is out of range"));
        };
        if parts
            .last()
            .is_some_and(|last| last.chosen.number >= number)
        {
            let text = "The list of parts was not in ascending order";
            return Err(errors::error(S3ErrorCode::InvalidPartOrder, text));
        }
        let mut given = named_checksums!(part).into_iter();
        let given = given.find_map(|(algorithm, value)| value.map(|value| (algorithm, value)));
        parts.push(NamedPart {
            chosen: ChosenPart {
                number,
                etag: etag.value().to_owned(),
                checksum: given.map(|(_, value)| value.clone()),
            },
            algorithm: given.map(|(algorithm, _)| algorithm),
        });
    }
    Ok(parts)
}

fn invalid_part(why: &str) -> S3Error {
    let text =
        format!("One or more of the specified parts could not be found or did not match: {why}");
    errors::error(S3ErrorCode::InvalidPart, text)
}

/// MD5 over the parts' ETags, be they MD5s or not, and their number.
///
/// # Errors
/// `InvalidPart` when an ETag is none of a part.
fn etag_of_parts<'a>(etags: impl Iterator<Item = &'a str>) -> S3Result<String> {
    let (mut md5, mut count) = (Md5::new(), 0_usize);
    for etag in etags {
        let digits = etag.strip_suffix("-1").unwrap_or(etag);
        let part = hex::decode(digits).ok().filter(|part| part.len() == 16);
        md5.update(part.ok_or_else(|| invalid_part("an ETag is malformed"))?);
        count += 1;
    }
    Ok(format!("{}-{count}", hex::encode(md5.finalize())))
}

/// The choice of an upload and all its parts; none when there is no such upload.
async fn parts_of(
    front: &Front,
    at: &ObjectKey,
    upload: UploadId,
) -> S3Result<Option<(Option<UploadChecksum>, Vec<PartRecord>)>> {
    let mut all: Vec<PartRecord> = Vec::new();
    loop {
        let after = all.last().map_or(0, |part| part.number);
        let query = PartsQuery {
            upload,
            after,
            limit: 1000,
        };
        let page = front
            .metadata
            .parts(at, query)
            .await
            .map_err(errors::metadata)?;
        let Some(page) = page else { return Ok(None) };
        let got = page.parts.len();
        all.extend(page.parts);
        if !page.more || got == 0 {
            return Ok(Some((page.checksum, all)));
        }
    }
}

/// What follows from the parts.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    len: Option<u64>,
    checksum: Option<Checksum>,
}

impl Made {
    fn of(
        named: &[NamedPart],
        parts: &[PartRecord],
        chosen: Option<UploadChecksum>,
    ) -> S3Result<Self> {
        let mut found = Vec::with_capacity(named.len());
        for part in named {
            let at = parts.binary_search_by_key(&part.chosen.number, |part| part.number);
            let record = at.ok().and_then(|at| parts.get(at));
            let Some(record) = record.filter(|record| record.etag == part.chosen.etag) else {
                return Err(invalid_part(&format!("part {}", part.chosen.number)));
            };
            let stored = record.checksum.as_ref().map(|checksum| checksum.algorithm);
            if part.algorithm.is_some() && part.algorithm != stored {
                return Err(invalid_part(&format!(
                    "checksum of part {}",
                    part.chosen.number
                )));
            }
            found.push(record);
        }
        let checksum = match chosen {
            None => {
                let crc = |part: &&PartRecord| part.blob.crc64.to_be_bytes().to_vec();
                let parts: Vec<_> = found
                    .iter()
                    .map(|part| (crc(part), part.blob.len))
                    .collect();
                checksum::combined(ChecksumAlgorithm::Crc64Nvme, &parts)
            }
            Some((algorithm, scope)) => {
                let parts = found.iter().map(|part| raw_of(part, algorithm));
                let parts: Vec<(Vec<u8>, u64)> = parts.collect::<S3Result<_>>()?;
                match scope {
                    ChecksumScope::FullObject => checksum::combined(algorithm, &parts),
                    ChecksumScope::Composite => {
                        let raw: Vec<_> = parts.into_iter().map(|(raw, _)| raw).collect();
                        Some(checksum::composite(algorithm, &raw))
                    }
                }
            }
        };
        let len = found.iter().map(|part| part.blob.len).sum();
        Ok(Self {
            len: Some(len),
            checksum,
        })
    }

    /// Compares with what the client says of the object.
    fn check(&self, input: &CompleteMultipartUploadInput) -> S3Result<()> {
        let size = input.mpu_object_size.map(u64::try_from);
        if let (Some(size), Some(len)) = (size, self.len)
            && size != Ok(len)
        {
            let text = "The provided x-amz-mp-object-size does not match the sum of the parts";
            return Err(errors::invalid_request(text));
        }
        let Some(made) = &self.checksum else {
            return Ok(());
        };
        let scope = scope_type(made.scope);
        if input
            .checksum_type
            .as_ref()
            .is_some_and(|named| named.as_str() != scope.as_str())
        {
            let text = "The upload was created with another checksum type";
            return Err(errors::invalid_request(text));
        }
        for (algorithm, value) in named_checksums!(input) {
            let Some(value) = value else { continue };
            if algorithm != made.algorithm {
                let text = "The upload was created with another checksum algorithm";
                return Err(errors::invalid_request(text));
            }
            // A composite may be named with or without its number of parts.
            let bare = made.value.split('-').next();
            if *value != made.value && Some(value.as_str()) != bare {
                let name = checksum::name(algorithm);
                let text = format!("The {name} you specified did not match what we received");
                return Err(errors::error(S3ErrorCode::BadDigest, text));
            }
        }
        Ok(())
    }
}

/// A part's checksum of that algorithm, raw, and its length.
fn raw_of(part: &PartRecord, algorithm: ChecksumAlgorithm) -> S3Result<(Vec<u8>, u64)> {
    let stored = part
        .checksum
        .as_ref()
        .filter(|checksum| checksum.algorithm == algorithm);
    let raw = stored.and_then(|checksum| checksum::raw(algorithm, &checksum.value));
    let missing = || invalid_part(&format!("part {} has no such checksum", part.number));
    Ok((raw.ok_or_else(missing)?, part.blob.len))
}

#[cfg(test)]
mod tests;
