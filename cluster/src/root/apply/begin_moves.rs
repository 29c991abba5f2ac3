//! Begins moves of members of sealed volumes (PROTOCOLS 12 and 21).

use enfilade_placement::{DriveId, DriveState, EnclosureState, IntentId, Volume};

use crate::api::moves::{Intent, MoveOrder, Reason, Stage, may_move};
use crate::api::root::RootReply;
use crate::root::keys::{self, Kind};
use crate::root::state::{self, DriveRow, State, Stop};
use crate::rows::Table;
use crate::typed;

/// Begins those that are fit: what a plan was made for may have changed since, and the rest of it
/// is as good as before.
pub(super) fn apply(state: &mut State<'_, '_>, orders: &[MoveOrder]) -> Result<RootReply, Stop> {
    let span = keys::all(Kind::Intent);
    let under_way = typed::collect::<Intent>(state.rows(), Table::Root, &span, usize::MAX)?;
    let making = || under_way.iter().filter(|(_, one)| one.stage == Stage::Make);
    let now = state::clock(state.rows())?.now;
    if making().next().is_none() {
        state.head.work.begin(now);
    }
    if !making().any(|(_, one)| one.reason == Reason::Repair) {
        state.head.repair.begin(now);
    }
    let mut begun = Vec::new();
    for order in orders {
        let Some(from) = fit(state, order)? else {
            continue;
        };
        let intent = Intent {
            id: IntentId::new(state.head.next.intent),
            volume: order.volume,
            member: order.member,
            from,
            to: order.to,
            reason: order.reason,
            stage: Stage::Make,
        };
        state.head.next.intent += 1;
        state.set(keys::intent(order.volume, order.member), &intent)?;
        begun.push(intent);
    }
    Ok(RootReply::Intents(begun))
}

/// The drive that has the member now (none: vacant), when the move can be begun.
fn fit(state: &State<'_, '_>, order: &MoveOrder) -> Result<Option<Option<DriveId>>, Stop> {
    let key = keys::volume(order.volume);
    let Some(volume) = state.load::<Volume>(&key)? else {
        return Ok(None);
    };
    let Some(from) = volume.members.get(usize::from(order.member)).copied() else {
        return Ok(None);
    };
    let current = may_move(&volume) && from == order.from;
    let new = volume.member_of(order.to).is_none() && state.takes_volumes(order.to)?;
    if !current || !new {
        return Ok(None);
    }
    let span = keys::intents_of_volume(order.volume);
    let intents = typed::collect::<Intent>(state.rows(), Table::Root, &span, usize::MAX)?;
    // What is lost is not given up lightly: its node may be back by now.
    let lost = match from {
        None => true,
        Some(drive) => !is_there(state, drive)?,
    };
    if order.reason == Reason::Repair && !lost {
        return Ok(None);
    }
    // One that is to be looked through and is lost again is replaced by this.
    let taken = |(_, one): &(_, Intent)| {
        let over = lost && one.stage == Stage::Check;
        one.to == order.to || (one.member == order.member && !over)
    };
    Ok((!intents.iter().any(taken)).then_some(from))
}

/// Whether a drive has what it had, as far as is known.
fn is_there(state: &State<'_, '_>, id: DriveId) -> Result<bool, Stop> {
    let Some(row) = state.load::<DriveRow>(&keys::drive(id))? else {
        return Ok(false);
    };
    let enclosure = state.enclosure(row.drive.enclosure)?.state;
    let answers = matches!(enclosure, EnclosureState::Up | EnclosureState::Suspect);
    let own = row.drive.state != DriveState::Returned;
    Ok(row.drive.state.is_served() && own && answers)
}
