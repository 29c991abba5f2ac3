//! The other members of a volume, as sources of what one of them lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use enfilade_cluster::api::root::RootView;
use enfilade_placement::{BlobId, DriveId, Volume};
use futures::future::join_all;

use super::RebuildError;
use crate::api::error::ShardError;
use crate::api::read::{
    FragmentRange, FragmentRead, InventoryBlob, InventoryPage, InventoryRequest, ReadRequest,
};
use crate::api::shape::Shape;
use crate::api::{Cause, Nodes, Owner, ShardAddress, ShardClient};

/// Ranges and bytes of one request stay far below what a node takes.
const RANGES_MAX: usize = 1024;

/// The members of a volume that can be asked, without the one that is repaired.
pub(crate) struct Sources {
    members: Vec<Source>,
    /// Members that should hold their shard and cannot be asked now.
    silent: usize,
    cause: Cause,
}

struct Source {
    member: usize,
    client: Arc<dyn ShardClient>,
    at: ShardAddress,
}

/// What a member holds of a blob.
pub(crate) struct Holding {
    pub(crate) member: usize,
    /// None: nothing.
    pub(crate) held: Option<InventoryBlob>,
    /// Whether it knows all that it was given.
    pub(crate) complete: bool,
}

/// Whom a blob was written for, as far as the other members can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// One of them says.
    Owner(Owner),
    /// All of them answered, and none has the blob.
    Nowhere,
    /// None that answered says; others did not answer.
    Unsure,
}

impl Source {
    /// A member, when it can be asked as far as is known.
    fn of(
        view: &RootView,
        nodes: &dyn Nodes,
        volume: &Volume,
        member: usize,
        drive: DriveId,
    ) -> Option<Self> {
        let drive = view.topology.drives.get(&drive)?;
        let there = view.topology.is_present(drive.id);
        let client = nodes.node(drive.enclosure).filter(|_| there)?;
        let at = ShardAddress {
            cluster: view.cluster,
            incarnation: view.incarnation,
            drive: drive.id,
            generation: drive.generation,
            volume: volume.id,
            epoch: volume.epoch,
            member: u8::try_from(member).ok()?,
        };
        Some(Self { member, client, at })
    }
}

/// The shard that is to move, where it is now.
pub(crate) struct Original {
    source: Source,
    cause: Cause,
}

impl Original {
    /// The shard of a member, when it can be read as far as is known.
    pub(crate) fn of(
        view: &RootView,
        nodes: &dyn Nodes,
        volume: &Volume,
        member: u8,
        cause: Cause,
    ) -> Option<Self> {
        let member = usize::from(member);
        let drive = volume.members.get(member).copied()??;
        let source = Source::of(view, nodes, volume, member, drive)?;
        Some(Self { source, cause })
    }

    /// The next of its blobs after one.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn blobs(
        &self,
        after: Option<BlobId>,
        limit: u32,
    ) -> Result<InventoryPage, ShardError> {
        page(&self.source, after, limit).await
    }

    /// Whole fragments of a blob, given by stripe and length; verified.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) async fn read(
        &self,
        blob: BlobId,
        fragments: &[(u32, u32)],
    ) -> Result<Vec<FragmentRead>, ShardError> {
        let range = |&(stripe, len): &(u32, u32)| FragmentRange {
            stripe,
            offset: 0,
            len,
        };
        let request = ReadRequest {
            at: self.source.at,
            blob,
            ranges: fragments.iter().map(range).collect(),
            cause: self.cause,
        };
        self.source.client.read(request).await
    }
}

impl Sources {
    /// The members of a volume but one.
    pub(crate) fn of(
        view: &RootView,
        nodes: &dyn Nodes,
        volume: &Volume,
        without: u8,
        cause: Cause,
    ) -> Self {
        let (mut members, mut silent) = (Vec::new(), 0);
        for (member, drive) in volume.present() {
            if member == usize::from(without) {
                continue;
            }
            match Source::of(view, nodes, volume, member, drive) {
                Some(source) => members.push(source),
                None => silent += 1,
            }
        }
        Self {
            members,
            silent,
            cause,
        }
    }

    /// How many members can be asked.
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// Exactly as many fragments of each stripe as decoding needs, verified. A fragment that cannot
    /// be had is replaced by another, for its stripe only.
    pub(super) async fn gather(
        &self,
        shape: Shape,
        stripes: &[(u32, u32)],
    ) -> Result<Vec<Vec<(usize, Bytes)>>, RebuildError> {
        let mut order: Vec<&Source> = self
            .members
            .iter()
            .filter(|source| shape.stores(source.member))
            .collect();
        // Blobs begin at different members, so that all drives share the reading.
        let turn = usize::try_from(shape.blob.get() % order.len().max(1) as u128).unwrap_or(0);
        order.rotate_left(turn);
        let mut found: Vec<Vec<(usize, Bytes)>> = vec![Vec::new(); stripes.len()];
        let mut tried = vec![0; stripes.len()];
        loop {
            let mut asks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (place, found) in found.iter().enumerate() {
                for _ in found.len()..shape.needed() {
                    if tried[place] == order.len() {
                        return Err(RebuildError::TooFew {
                            blob: shape.blob,
                            stripe: stripes[place].0,
                            present: found.len(),
                            needed: shape.needed(),
                        });
                    }
                    asks.entry(tried[place]).or_default().push(place);
                    tried[place] += 1;
                }
            }
            if asks.is_empty() {
                return Ok(found);
            }
            let reads = asks.into_iter().map(|(which, places)| {
                let source = order[which];
                async move {
                    let read = self.read(source, shape.blob, stripes, &places).await;
                    (source.member, places, read)
                }
            });
            for (member, places, read) in join_all(reads).await {
                for (place, read) in places.into_iter().zip(read) {
                    let whole = |bytes: &Bytes| bytes.len() == stripes[place].1 as usize;
                    if let Some(bytes) = read.ok().filter(whole) {
                        found[place].push((member, bytes));
                    }
                }
            }
        }
    }

    /// Reads whole fragments of some of the stripes; as many answers as places, or none at all.
    async fn read(
        &self,
        source: &Source,
        blob: BlobId,
        stripes: &[(u32, u32)],
        places: &[usize],
    ) -> Vec<FragmentRead> {
        let mut answers = Vec::with_capacity(places.len());
        for places in places.chunks(RANGES_MAX) {
            let range = |place: &usize| FragmentRange {
                stripe: stripes[*place].0,
                offset: 0,
                len: stripes[*place].1,
            };
            let request = ReadRequest {
                at: source.at,
                blob,
                ranges: places.iter().map(range).collect(),
                cause: self.cause,
            };
            match source.client.read(request).await {
                Ok(read) => answers.extend(read),
                Err(error) => {
                    let (volume, member) = (source.at.volume, source.member);
                    tracing::debug!(%volume, member, %error, "a source does not answer");
                    return Vec::new();
                }
            }
        }
        answers
    }

    /// Asks the members whom a blob was written for.
    pub(crate) async fn owner(&self, blob: BlobId) -> Known {
        let Some(before) = blob.get().checked_sub(1) else {
            return Known::Unsure;
        };
        let after = Some(BlobId::new(before));
        let pages = self.members.iter().map(|source| page(source, after, 1));
        let (mut unsure, mut seen) = (self.silent > 0, false);
        for page in join_all(pages).await {
            let Ok(page) = page else {
                unsure = true;
                continue;
            };
            for held in page.blobs.into_iter().filter(|held| held.blob == blob) {
                seen = true;
                if let Some(owner) = held.owner {
                    return Known::Owner(owner);
                }
            }
        }
        if unsure || seen {
            Known::Unsure
        } else {
            Known::Nowhere
        }
    }

    /// What each member that answers holds of a blob.
    pub(crate) async fn holdings(&self, blob: BlobId) -> Vec<Holding> {
        let Some(before) = blob.get().checked_sub(1) else {
            return Vec::new();
        };
        let after = Some(BlobId::new(before));
        let pages = self.members.iter().map(|source| async move {
            let page = page(source, after, 1).await.ok()?;
            Some(Holding {
                member: source.member,
                held: page.blobs.into_iter().find(|held| held.blob == blob),
                complete: page.complete,
            })
        });
        join_all(pages).await.into_iter().flatten().collect()
    }

    /// What the members hold of the next blobs after one, the last blob that this tells of all (no
    /// blob when there are no more), and how many of them know all that they were given.
    pub(crate) async fn inventory(
        &self,
        after: Option<BlobId>,
        limit: u32,
    ) -> (Vec<InventoryBlob>, Option<BlobId>, usize) {
        let pages = self.members.iter().map(|source| page(source, after, limit));
        let pages: Vec<InventoryPage> = join_all(pages).await.into_iter().flatten().collect();
        let complete = pages.iter().filter(|page| page.complete).count();
        let ends = pages.iter().filter(|page| page.more);
        let end = ends
            .filter_map(|page| page.blobs.last())
            .map(|b| b.blob)
            .min();
        let blobs = pages.into_iter().flat_map(|page| page.blobs);
        let told = blobs.filter(|held| end.is_none_or(|end| held.blob <= end));
        (told.collect(), end, complete)
    }
}

async fn page(
    source: &Source,
    after: Option<BlobId>,
    limit: u32,
) -> Result<InventoryPage, ShardError> {
    let at = source.at;
    let request = InventoryRequest { at, after, limit };
    source.client.inventory(request).await
}
