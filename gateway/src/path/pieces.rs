//! An object's bytes as pieces to fetch, one after another, over all its blobs.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::query::BlobAt;
use enfilade_cluster::api::record::{Blob, Content, Place};
use enfilade_placement::{BlobId, Stamp};

use super::plan::{Group, Striped};
use super::types::{ReadContent, ReadError};

/// Blobs that are fetched in one page, when they are in rows.
const PAGE: usize = 256;

/// A piece of an object.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) blob: BlobId,
    pub(super) what: What,
    /// Set when the whole blob is read: how this piece counts for its CRC-64.
    pub(super) check: Option<Check>,
}

/// What to fetch.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// Stripes.
    Group(Group),
    /// The bytes `range` of an inline blob of `len` bytes.
    Inline { len: u64, range: Range<u64> },
}

/// Where a piece stands in a blob that is read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) first: bool,
    /// On the last piece: what the CRC-64/NVME must be.
    pub(super) last: Option<u64>,
}

/// Goes over the blobs of an object.
pub(super) struct Pieces {
    metadata: Arc<dyn MetadataClient>,
    at: ObjectKey,
    stamp: Stamp,
    /// What is left of the object's range.
    range: Range<u64>,
    blobs: VecDeque<BlobAt>,
    /// Whether more blobs are in rows.
    rows: bool,
    current: Option<Current>,
}

/// The blob under way.
struct Current {
    blob: Blob,
    striped: Option<Striped>,
    /// What is left of the blob's range.
    range: Range<u64>,
    whole: bool,
    first: bool,
}

impl Pieces {
    pub(super) fn new(
        metadata: Arc<dyn MetadataClient>,
        at: ObjectKey,
        content: &ReadContent,
        range: Range<u64>,
    ) -> Self {
        let mut offset = 0;
        let place = |blob: &Blob| {
            let at = BlobAt {
                offset,
                blob: blob.clone(),
            };
            offset += blob.len;
            at
        };
        let (blobs, rows) = match &content.content {
            Content::Blobs(blobs) => (blobs.iter().map(place).collect(), false),
            Content::Rows { .. } => (VecDeque::new(), true),
        };
        Self {
            metadata,
            at,
            stamp: content.stamp,
            range,
            blobs,
            rows,
            current: None,
        }
    }

    /// The object and version that is read.
    pub(super) fn object(&self) -> (&ObjectKey, Stamp) {
        (&self.at, self.stamp)
    }

    /// The next piece: at most `max` bytes of each fragment.
    ///
    /// # Errors
    /// When a page of blobs cannot be had, or the record names no place for a stripe.
    pub(super) async fn next(&mut self, max: u64) -> Result<Option<Piece>, ReadError> {
        loop {
            if let Some(current) = &mut self.current {
                if let Some(piece) = current.next(max)? {
                    return Ok(Some(piece));
                }
                self.current = None;
            }
            if self.range.start >= self.range.end {
                return Ok(None);
            }
            let Some(next) = self.next_blob().await? else {
                return Ok(None);
            };
            let end = next.offset + next.blob.len;
            let part = self.range.start.max(next.offset)..self.range.end.min(end);
            if part.start < part.end {
                self.range.start = part.end;
                let within = part.start - next.offset..part.end - next.offset;
                self.current = Some(Current::new(next.blob, within));
            }
        }
    }

    async fn next_blob(&mut self) -> Result<Option<BlobAt>, ReadError> {
        if self.blobs.is_empty() && self.rows {
            let (at, from) = (&self.at, self.range.start);
            let page = self.metadata.blobs(at, self.stamp, from, PAGE).await;
            self.blobs = page.map_err(ReadError::Metadata)?.into();
            self.rows = !self.blobs.is_empty();
        }
        Ok(self.blobs.pop_front())
    }
}

impl Current {
    fn new(blob: Blob, range: Range<u64>) -> Self {
        let striped = match &blob.place {
            Place::Inline => None,
            Place::Striped {
                profile,
                layout,
                extents,
            } => Some(Striped::new(
                blob.id,
                blob.len,
                (*profile, *layout),
                extents.clone(),
            )),
        };
        let whole = range == (0..blob.len);
        Self {
            blob,
            striped,
            range,
            whole,
            first: true,
        }
    }

    fn next(&mut self, max: u64) -> Result<Option<Piece>, ReadError> {
        let blob = self.blob.id;
        let what = match &self.striped {
            Some(striped) => {
                let unit = u64::from(striped.shape.profile.unit());
                let stripes = u32::try_from(max / unit).unwrap_or(u32::MAX);
                let group = striped.next_group(&mut self.range, stripes);
                let (k, m) = (striped.shape.needed(), 0);
                let lost = |stripe| ReadError::Lost {
                    blob,
                    stripe,
                    present: m,
                    needed: k,
                };
                group.map_err(|no| lost(no.0))?.map(What::Group)
            }
            None if self.range.start < self.range.end => {
                let range = self.range.clone();
                self.range.start = range.end;
                Some(What::Inline {
                    len: self.blob.len,
                    range,
                })
            }
            None => None,
        };
        let Some(what) = what else { return Ok(None) };
        let last = (self.range.start >= self.range.end).then_some(self.blob.crc64);
        let check = self.whole.then_some(Check {
            first: self.first,
            last,
        });
        self.first = false;
        Ok(Some(Piece { blob, what, check }))
    }
}
