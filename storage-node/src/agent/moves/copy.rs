//! Copying a shard from the drive that has it.

use bytes::Bytes;

use crate::agent::repair::{Left, Patient};
use crate::api::read::InventoryBlob;
use crate::rebuild::{Label, Original, Rebuild};

/// Blobs of one page of an inventory.
const PAGE: u32 = 512;
/// Bytes and fragments of one step, unless a single fragment is longer.
const STEP_BYTES: u64 = 1024 * 1024;
const STEP_FRAGMENTS: usize = 512;

/// Copies what the shard has and can be read; what cannot is left to be rebuilt.
pub(super) async fn copy(
    rebuild: &Rebuild,
    patient: &Patient,
    original: &Original,
) -> Result<(), Left> {
    let mut after = None;
    loop {
        let page = original.blobs(after, PAGE).await?;
        for held in &page.blobs {
            copy_blob(rebuild, patient, original, held).await?;
        }
        after = page.blobs.last().map(|held| held.blob);
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

async fn copy_blob(
    rebuild: &Rebuild,
    patient: &Patient,
    original: &Original,
    held: &InventoryBlob,
) -> Result<(), Left> {
    let runs = held.stripes.iter().copied().collect();
    let lacking = patient.lacking(held.blob, runs).await?;
    let lacks = |stripe: u32| lacking.iter().any(|(a, b)| (*a..=*b).contains(&stripe));
    let wanted: Vec<(u32, u32)> = held
        .fragments()
        .filter(|(stripe, _)| lacks(*stripe) && !held.bad.contains(stripe))
        .collect();
    for run in wanted.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
        let mut rest = run;
        while !rest.is_empty() {
            let (step, left) = rest.split_at(step(rest));
            copy_step(rebuild, patient, original, held, step).await?;
            rest = left;
        }
    }
    Ok(())
}

/// How many of the next fragments are copied together.
fn step(fragments: &[(u32, u32)]) -> usize {
    let mut bytes = 0;
    let fits = fragments.iter().take_while(|(_, len)| {
        bytes += u64::from(*len);
        bytes <= STEP_BYTES
    });
    fits.take(STEP_FRAGMENTS).count().max(1)
}

async fn copy_step(
    rebuild: &Rebuild,
    patient: &Patient,
    original: &Original,
    held: &InventoryBlob,
    step: &[(u32, u32)],
) -> Result<(), Left> {
    let bytes = step.iter().map(|(_, len)| u64::from(*len)).sum();
    let _lease = rebuild.host.repairs.lease(bytes).await;
    let read = original.read(held.blob, step).await?;
    let label = Label {
        blob: held.blob,
        owner: held.owner.as_ref(),
        committed: held.committed,
    };
    let mut good: Vec<((u32, u32), Bytes)> = Vec::new();
    for (fragment, bytes) in step.iter().zip(read) {
        // What is corrupt there is entered by its node, and rebuilt here from others.
        good.extend(bytes.ok().map(|bytes| (*fragment, bytes)));
    }
    for run in good.chunk_by(|a, b| a.0.0.checked_add(1) == Some(b.0.0)) {
        let (places, fragments): (Vec<_>, Vec<_>) = run.iter().cloned().unzip();
        rebuild
            .store(&patient.target, &label, &places, &fragments)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_bounded_in_bytes_and_never_empty() {
        assert_eq!(step(&[(0, 4096); 3]), 3);
        assert_eq!(step(&[(0, 512 * 1024); 3]), 2);
        assert_eq!(step(&[(0, 2 * 1024 * 1024), (1, 4096)]), 1);
        assert_eq!(step(&[(0, 128); 2000]), STEP_FRAGMENTS);
    }
}
