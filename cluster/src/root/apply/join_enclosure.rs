//! Enters an enclosure, or its new addresses.

use enfilade_placement::{Chain, ChainId, Enclosure, EnclosureId, EnclosureState};

use crate::api::moves::Subject;
use crate::api::root::{Addresses, RootReply};
use crate::root::keys::{self, Kind};
use crate::root::state::{State, Stop, not_found};
use crate::rows::Table;
use crate::typed;

/// A known enclosure keeps its place and its state. An id that is not known yet is entered as it
/// is: the first replicas have theirs from before the birth of the cluster.
pub(super) fn apply(
    state: &mut State<'_, '_>,
    id: Option<EnclosureId>,
    chain: ChainId,
    addresses: &Addresses,
) -> Result<RootReply, Stop> {
    let id = id.unwrap_or(EnclosureId::new(state.head.next.enclosure));
    state.refuse_removed(Subject::Enclosure(id))?;
    // The allocator must have a next one.
    let Some(next) = id.get().checked_add(1).filter(|_| id.get() > 0) else {
        return Err(not_found(format!("enclosure: {id}")));
    };
    let known = state.load::<Enclosure>(&keys::enclosure(id))?;
    if known.as_ref().is_some_and(|known| known.chain != chain) {
        return Err(not_found(format!("enclosure: {id} in chain {chain}")));
    }
    let (position, liveness) = match known {
        Some(known) => (known.position, known.state),
        None => (end_of(state, chain)?, EnclosureState::Up),
    };
    let enclosure = Enclosure {
        id,
        chain,
        position,
        state: liveness,
        shard_address: addresses.shard.clone(),
        meta_address: addresses.meta.clone(),
        admin_address: addresses.admin.clone(),
    };
    state.head.next.enclosure = state.head.next.enclosure.max(next);
    state.set(keys::enclosure(id), &enclosure)?;
    if state.load::<Chain>(&keys::chain(chain))?.is_none() {
        let new = Chain {
            id: chain,
            closed: false,
        };
        state.set(keys::chain(chain), &new)?;
    }
    Ok(RootReply::Enclosure(id))
}

/// The first free position after the last enclosure of a chain.
fn end_of(state: &State<'_, '_>, chain: ChainId) -> Result<u32, Stop> {
    let span = keys::all(Kind::Enclosure);
    let all = typed::collect::<Enclosure>(state.rows(), Table::Root, &span, usize::MAX)?;
    let chained = all.iter().filter(|(_, enclosure)| enclosure.chain == chain);
    Ok(chained
        .map(|(_, enclosure)| enclosure.position + 1)
        .max()
        .unwrap_or(0))
}
