//! Repair of single fragments of one blob.

use enfilade_cluster::api::record::{Blob, Extent, Place};
use enfilade_placement::BlobId;

use super::{Left, Patient};
use crate::agent::Context;
use crate::agent::orphans::outside;
use crate::api::Owner;
use crate::api::read::InventoryBlob;
use crate::api::shape::Shape;
use crate::rebuild::{Known, Rebuild, Subject};

/// What is known of a blob.
enum Reference {
    /// It is referenced, by this.
    Held(Box<Blob>, Owner),
    /// It was committed, and its owner does not reference it any more: it is dead.
    Dead,
    /// Its owner does not reference it: it is dead, or not committed yet.
    Not(Box<Owner>),
    /// No member has anything of it, so that nobody can tell whom to ask.
    Nowhere,
}

impl Patient {
    /// Makes runs of stripes of a blob whole, as far as its committed extents have them in this
    /// shard; whatever else there is of them is dropped (PROTOCOLS 13).
    pub(super) async fn repair_blob(
        &self,
        context: &Context,
        rebuild: &Rebuild,
        id: BlobId,
        runs: &[(u32, u32)],
    ) -> Result<(), Left> {
        let (engine, key) = (&self.target.engine, self.target.key);
        let here = self.here(id).await?;
        let (blob, owner) = match self.reference(context, id, here.as_ref()).await? {
            // Lost, or dropped everywhere: who drops it takes it out of the ledger.
            Reference::Nowhere => return Err(Left::Nowhere(id)),
            Reference::Held(blob, owner) => (blob, owner),
            // Nothing of it is missing. What is corrupt is told no more, until it is dropped.
            Reference::Dead => {
                context.ledger.set_aside(engine.id(), key, id);
                return Ok(());
            }
            // What is known to be corrupt here is known for good, in the log, and is entered again
            // when the blob is committed after all. What is missing is known by the ledger alone.
            Reference::Not(owner) => {
                let known = |run: &(u32, u32)| {
                    let bad = here.iter().flat_map(|here| &here.bad);
                    bad.filter(|stripe| (run.0..=run.1).contains(*stripe))
                        .count() as u64
                        == u64::from(run.1 - run.0) + 1
                };
                if !runs.iter().all(known) {
                    let blob = (id, owner);
                    return self.repair_unreferenced(context, rebuild, blob, runs).await;
                }
                context.ledger.set_aside(engine.id(), key, id);
                return Ok(());
            }
        };
        let extents = self.extents(&blob);
        for (first, last) in runs.iter().flat_map(|run| inside(*run, &extents)) {
            let subject = Subject {
                blob: &blob,
                owner: &owner,
            };
            let stripes = first..=last;
            let work = rebuild.restore(&self.target, &self.sources, &subject, stripes);
            let work = work.await?;
            if work.rebuilt > 0 {
                tracing::info!(drive = %engine.id(), ?key, blob = %id, first, last,
                    rebuilt = work.rebuilt, "fragments were rebuilt");
            }
        }
        let needless = outside(engine, key, id, &extents).await?;
        if !needless.is_empty() {
            engine.delete(key, id, needless).await?;
        }
        Ok(())
    }

    /// What this shard holds of a blob.
    pub(super) async fn here(&self, id: BlobId) -> Result<Option<InventoryBlob>, Left> {
        let Some(before) = id.get().checked_sub(1) else {
            return Ok(None);
        };
        let after = Some(BlobId::new(before));
        let (blobs, _) = self
            .target
            .engine
            .inventory(self.target.key, after, 1)
            .await?;
        Ok(blobs.into_iter().find(|held| held.blob == id))
    }

    /// Asks the owner of a blob whether it references it (PROTOCOLS 20).
    async fn reference(
        &self,
        context: &Context,
        id: BlobId,
        here: Option<&InventoryBlob>,
    ) -> Result<Reference, Left> {
        let owner = match here.and_then(|here| here.owner.clone()) {
            Some(owner) => owner,
            None => match self.sources.owner(id).await {
                Known::Owner(owner) => owner,
                Known::Nowhere if here.is_none() => return Ok(Reference::Nowhere),
                Known::Nowhere | Known::Unsure => return Err(Left::OwnerUnknown(id)),
            },
        };
        if let Some(blob) = context.metadata.blob(&owner.at, id).await? {
            return Ok(Reference::Held(Box::new(blob), owner));
        }
        // A mark is set by who knows of the commit: what has one was referenced.
        let marked = here.is_some_and(|here| here.committed) || self.is_marked(id).await;
        Ok(match marked {
            true => Reference::Dead,
            false => Reference::Not(Box::new(owner)),
        })
    }

    /// Whether another member knows that a blob was committed.
    async fn is_marked(&self, id: BlobId) -> bool {
        let after = id.get().checked_sub(1).map(BlobId::new);
        let (others, ..) = self.sources.inventory(after, 1).await;
        others.iter().any(|held| held.blob == id && held.committed)
    }

    /// Whether a blob that was not referenced when others still held it is known to be dead by now:
    /// it has been dropped everywhere, and its owner does not reference it. Whoever drops it takes
    /// it out of the ledger, but it was not in there then.
    pub(super) async fn is_gone(
        &self,
        context: &Context,
        id: BlobId,
        owner: &Owner,
    ) -> Result<bool, Left> {
        let here = self.here(id).await?;
        if here.is_some() || self.sources.owner(id).await != Known::Nowhere {
            return Ok(false);
        }
        Ok(context.metadata.blob(&owner.at, id).await?.is_none())
    }

    /// The extents of a blob of which this shard is to hold fragments.
    pub(super) fn extents(&self, blob: &Blob) -> Vec<Extent> {
        let member = usize::from(self.target.key.member);
        let stores = Shape::of(blob).is_some_and(|shape| shape.stores(member));
        match &blob.place {
            Place::Striped { extents, .. } if stores => {
                let here = |extent: &&Extent| extent.volume == self.volume.id;
                extents.iter().filter(here).copied().collect()
            }
            Place::Striped { .. } | Place::Inline => Vec::new(),
        }
    }
}

/// The parts of a run of stripes (first and last) that are in extents.
fn inside((first, last): (u32, u32), extents: &[Extent]) -> Vec<(u32, u32)> {
    let part = |extent: &Extent| {
        let end = extent.first_stripe.checked_add(extent.stripes)?;
        let part = (
            first.max(extent.first_stripe),
            last.min(end.checked_sub(1)?),
        );
        (part.0 <= part.1).then_some(part)
    };
    extents.iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use enfilade_placement::VolumeId;

    #[test]
    fn the_parts_of_a_run_in_extents_are_found() {
        let extent = |first_stripe, stripes| Extent {
            volume: VolumeId::new(1),
            first_stripe,
            stripes,
        };
        let extents = [extent(0, 3), extent(5, 2), extent(9, 0)];
        assert_eq!(inside((0, 20), &extents), [(0, 2), (5, 6)]);
        assert_eq!(inside((2, 5), &extents), [(2, 2), (5, 5)]);
        assert_eq!(inside((3, 4), &extents), []);
        assert_eq!(inside((6, 6), &extents), [(6, 6)]);
    }
}
