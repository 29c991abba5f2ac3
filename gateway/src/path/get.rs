//! Reading: an object's pieces, a few ahead of the client, as a stream of verified bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use enfilade_cluster::api::key::ObjectKey;
use enfilade_cluster::api::record::VersionKind;
use enfilade_placement::BlobId;
use futures::stream;
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::Inner;
use super::budget::Lease;
use super::hedge::read_group;
use super::pieces::{Check, Piece, Pieces, What};
use super::types::{ReadContent, ReadError, ReadStream};

/// Opens a range of an object; see [`super::DataPath::read`].
pub(super) async fn read(
    inner: Arc<Inner>,
    at: ObjectKey,
    content: ReadContent,
    range: Range<u64>,
) -> Result<ReadStream, ReadError> {
    let metadata = Arc::clone(&inner.metadata);
    let pieces = Pieces::new(metadata, at, &content, range);
    let (window, out, crc) = (VecDeque::new(), VecDeque::new(), new_crc());
    let inline = content.inline;
    let mut reader = Reader {
        inner,
        pieces,
        inline,
        ahead: None,
        window,
        out,
        lease: None,
        crc,
    };
    let first = reader.next().await?;
    let rest = stream::try_unfold(reader, |mut reader| async {
        let chunk = reader.next().await?;
        Ok(chunk.map(|chunk| (chunk, reader)))
    });
    let first = stream::iter(first.map(Ok));
    Ok(first.chain(rest.into_stream()).boxed())
}

/// A read under way.
struct Reader {
    inner: Arc<Inner>,
    pieces: Pieces,
    /// The bytes of an inline blob, when they came with the record.
    inline: Bytes,
    /// The next piece, when it was taken but found no budget.
    ahead: Option<Piece>,
    /// Pieces that are being fetched.
    window: VecDeque<Fetch>,
    /// Bytes that were fetched and verified.
    out: VecDeque<Bytes>,
    /// What `out` holds of the budget.
    lease: Option<Lease>,
    crc: Digest,
}

struct Fetch {
    blob: BlobId,
    check: Option<Check>,
    lease: Lease,
    chunks: AbortOnDropHandle<Result<Vec<Bytes>, ReadError>>,
}

impl Reader {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            if let Some(chunk) = self.out.pop_front() {
                if let Some(lease) = &self.lease {
                    lease.release(chunk.len());
                }
                self.inner.metrics.read_bytes.inc_by(chunk.len() as u64);
                return Ok(Some(chunk));
            }
            self.lease = None;
            self.read_ahead().await?;
            let Some(fetch) = self.window.pop_front() else {
                return Ok(None);
            };
            // A task that ended early: the process is shutting down.
            let chunks = fetch.chunks.await.map_err(|_| ReadError::Busy)?;
            let chunks = match chunks {
                Ok(chunks) => chunks,
                Err(error) => return Err(self.explain(error).await),
            };
            let len: usize = chunks.iter().map(Bytes::len).sum();
            fetch.lease.shrink_to(len as u64);
            self.lease = Some(fetch.lease);
            self.check(fetch.blob, fetch.check, &chunks)?;
            self.out = chunks.into();
        }
    }

    /// Begins to fetch what comes next. Waits for budget only while this read holds none.
    async fn read_ahead(&mut self) -> Result<(), ReadError> {
        let inner = Arc::clone(&self.inner);
        let budget = &inner.read_budget;
        while self.window.len() < inner.settings.groups_ahead.max(1) {
            let piece = match self.ahead.take() {
                Some(piece) => piece,
                None => match self.next_piece().await? {
                    Some(piece) => piece,
                    None => return Ok(()),
                },
            };
            let bytes = piece.bytes_max();
            let lease = match (budget.lease_now(bytes), self.window.is_empty()) {
                (Some(lease), _) => lease,
                (None, false) => {
                    self.ahead = Some(piece);
                    return Ok(());
                }
                (None, true) => {
                    let wait = inner.settings.budget_wait;
                    let lease = budget.lease(&*inner.env.clock, bytes, wait).await;
                    lease.ok_or(ReadError::Busy)?
                }
            };
            self.fetch(piece, lease);
        }
        Ok(())
    }

    /// The next piece: one stripe when the budget is short.
    async fn next_piece(&mut self) -> Result<Option<Piece>, ReadError> {
        let budget = &self.inner.read_budget;
        let short = budget.used() > budget.total() / 2;
        let max = if short {
            0
        } else {
            self.inner.settings.read_bytes
        };
        self.pieces.next(max).await
    }

    fn fetch(&mut self, piece: Piece, lease: Lease) {
        let Piece { blob, what, check } = piece;
        let inner = Arc::clone(&self.inner);
        let chunks = match what {
            What::Group(group) => {
                let at = self.pieces.object().0.clone();
                tokio::spawn(read_group(inner, at, group))
            }
            What::Inline { len, range } => {
                let (at, here) = (self.pieces.object().0.clone(), self.inline.clone());
                tokio::spawn(read_inline(inner, (at, blob), here, (len, range)))
            }
        };
        let chunks = AbortOnDropHandle::new(chunks);
        self.window.push_back(Fetch {
            blob,
            check,
            lease,
            chunks,
        });
    }

    /// Takes bytes into the CRC of a blob that is read whole, and compares it at the blob's end:
    /// before the last bytes go out, so that the client never has all of a wrong object.
    fn check(
        &mut self,
        blob: BlobId,
        check: Option<Check>,
        chunks: &[Bytes],
    ) -> Result<(), ReadError> {
        let Some(check) = check else { return Ok(()) };
        if check.first {
            self.crc = new_crc();
        }
        for chunk in chunks {
            self.crc.update(chunk);
        }
        match check.last {
            Some(expected) if self.crc.finalize() != expected => {
                self.inner.metrics.mismatches.inc();
                tracing::error!(%blob, "a blob does not match the CRC-64 of its record");
                Err(ReadError::Mismatch(blob))
            }
            _ => Ok(()),
        }
    }

    /// Before a stripe is called lost its owner is asked: what is not referenced any more was
    /// deleted, not lost (PROTOCOLS 20).
    async fn explain(&self, error: ReadError) -> ReadError {
        let ReadError::Lost { blob, .. } = &error else {
            return error;
        };
        let (at, stamp) = self.pieces.object();
        match self.inner.metadata.object(at, Some(stamp.into())).await {
            Ok(Some(found)) if found.record.kind == VersionKind::Object => {
                tracing::error!(%error, key = %at, "an object cannot be read");
                error
            }
            Ok(_) => ReadError::Gone(*blob),
            Err(error) => ReadError::Metadata(error),
        }
    }
}

impl Piece {
    fn bytes_max(&self) -> u64 {
        match &self.what {
            What::Group(group) => group.bytes_max(),
            What::Inline { len, .. } => *len,
        }
    }
}

/// The bytes `range` of an inline blob of `len` bytes.
async fn read_inline(
    inner: Arc<Inner>,
    (at, blob): (ObjectKey, BlobId),
    here: Bytes,
    (len, range): (u64, Range<u64>),
) -> Result<Vec<Bytes>, ReadError> {
    let bytes = if here.len() as u64 == len {
        here
    } else {
        let found = inner
            .metadata
            .inline(&at, blob)
            .await
            .map_err(ReadError::Metadata)?;
        found.ok_or(ReadError::Gone(blob))?
    };
    let place = |offset: u64| usize::try_from(offset).ok();
    let part = place(range.start).zip(place(range.end));
    match part.filter(|_| bytes.len() as u64 == len) {
        Some((start, end)) => Ok(vec![bytes.slice(start..end)]),
        None => Err(ReadError::Mismatch(blob)),
    }
}

fn new_crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc64Nvme)
}
