//! A root group in memory that is checked after every command.

use enfilade_placement::{
    ChainId, ClusterId, DriveId, EnclosureId, Epoch, Generation, Profile, RequestId, Volume,
    VolumeId,
};

use crate::api::command::GroupTime;
use crate::api::root::{
    Addresses, Birth, RootCommand, RootEnvelope, RootOutcome, RootReply, RootView,
};
use crate::root::{DEADLINE_MS, check, read};
use crate::rows::{MemoryRows, Rows, Table, Txn};

pub(super) const CHAIN: ChainId = ChainId::new(1);

pub(super) struct Root {
    pub(super) rows: MemoryRows,
    requests: u128,
}

impl Root {
    /// Before its birth.
    pub(super) fn unborn() -> Self {
        let (rows, requests) = (MemoryRows::default(), 0);
        Self { rows, requests }
    }

    pub(super) fn new() -> Self {
        let mut root = Self::unborn();
        assert_eq!(
            root.command(RootCommand::Init(birth())),
            Ok(RootReply::Done)
        );
        root
    }

    /// With enclosures 1 to 6 of two drives each, 1 to 12.
    pub(super) fn with_drives() -> Self {
        let mut root = Self::new();
        for id in 1..=6 {
            assert_eq!(
                root.join(None),
                Ok(RootReply::Enclosure(EnclosureId::new(id)))
            );
            for drive in [2 * u128::from(id) - 1, 2 * u128::from(id)] {
                let attached = root.attach(drive, id, 0);
                assert_eq!(attached, Ok(RootReply::Attached(Generation::new(1))));
            }
        }
        root
    }

    pub(super) fn view(&self) -> RootView {
        read::view(&self.rows).unwrap()
    }

    pub(super) fn envelope(&mut self, command: RootCommand) -> RootEnvelope {
        self.requests += 1;
        RootEnvelope {
            request: RequestId::new(self.requests),
            deadline: GroupTime(read::time(&self.rows).unwrap().0 + DEADLINE_MS),
            command,
        }
    }

    /// Applies, commits, and checks what must hold: the revision is raised by one exactly when
    /// something other than time and results changed.
    pub(super) fn apply(&mut self, envelope: &RootEnvelope) -> RootOutcome {
        let (before, revision) = (facts(&self.rows), read::revision(&self.rows).unwrap());
        let mut txn = Txn::new(&self.rows);
        let outcome = crate::root::apply(&mut txn, envelope).unwrap();
        let writes = txn.into_writes();
        self.rows.commit(writes);
        let wrong = check::check(&self.rows).unwrap();
        assert!(wrong.is_empty(), "after {envelope:?}: {wrong:#?}");
        let changed = facts(&self.rows) != before;
        assert!(!changed || outcome.is_ok(), "{outcome:?} changed something");
        let raised = read::revision(&self.rows).unwrap();
        assert_eq!(raised, revision + u64::from(changed), "after {envelope:?}");
        outcome
    }

    pub(super) fn command(&mut self, command: RootCommand) -> RootOutcome {
        let envelope = self.envelope(command);
        self.apply(&envelope)
    }

    /// A command that must change nothing.
    pub(super) fn idle(&mut self, command: RootCommand) -> RootOutcome {
        let revision = self.view().revision;
        let outcome = self.command(command);
        assert_eq!(self.view().revision, revision);
        outcome
    }

    pub(super) fn join(&mut self, id: Option<u32>) -> RootOutcome {
        self.command(RootCommand::JoinEnclosure {
            id: id.map(EnclosureId::new),
            chain: CHAIN,
            addresses: Addresses::default(),
        })
    }

    pub(super) fn attach(&mut self, drive: u128, enclosure: u32, generation: u32) -> RootOutcome {
        self.command(attach(drive, enclosure, generation))
    }

    pub(super) fn open(&mut self, members: &[u128]) -> RootOutcome {
        self.command(open(members))
    }

    /// A volume over drives 1, 3, 5, 7, 9, 11.
    pub(super) fn volume(&mut self) -> Volume {
        match self.open(&[1, 3, 5, 7, 9, 11]) {
            Ok(RootReply::Volume(volume)) => volume,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sealed(&mut self) -> Volume {
        let volume = self.volume();
        let (volume, epoch) = (volume.id, volume.epoch);
        assert!(
            self.command(RootCommand::SealVolume { volume, epoch })
                .is_ok()
        );
        match self.command(fenced(volume, epoch.next(), 0, 10)) {
            Ok(RootReply::Volume(volume)) => volume,
            other => panic!("{other:?}"),
        }
    }
}

/// All rows except time and results, and the head's revision left out.
fn facts(rows: &dyn Rows) -> Vec<(Vec<u8>, Vec<u8>)> {
    use crate::root::keys::{Kind, single};
    use crate::root::state;
    let mut all = Vec::new();
    rows.scan(Table::Root, &[], None, &mut |key, value| {
        let passing = [Kind::Clock, Kind::Result, Kind::Expiry, Kind::Head].map(|kind| kind as u8);
        if !passing.contains(&key[0]) {
            all.push((key.to_vec(), value.to_vec()));
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    if let Some(mut head) = state::head(rows).unwrap() {
        head.revision = 0;
        all.push((single(Kind::Head), crate::api::encoding::encode(&head)));
    }
    all
}

pub(super) fn birth() -> Birth {
    Birth {
        cluster: ClusterId::new(5),
        profile: Profile::new(4, 2).unwrap(),
        volume_target: 1 << 30,
        open_volumes: 3,
        replicas: vec![EnclosureId::new(1)],
    }
}

pub(super) fn attach(drive: u128, enclosure: u32, generation: u32) -> RootCommand {
    RootCommand::AttachDrive {
        drive: DriveId::new(drive),
        enclosure: EnclosureId::new(enclosure),
        slot: 0,
        capacity: 1 << 40,
        generation: Generation::new(generation),
    }
}

/// Drive 0 stands for a vacant member.
pub(super) fn open(members: &[u128]) -> RootCommand {
    let member = |drive: &u128| (*drive > 0).then_some(DriveId::new(*drive));
    RootCommand::OpenVolume {
        profile: Profile::new(4, 2).unwrap(),
        members: members.iter().map(member).collect(),
        violation: false,
    }
}

pub(super) fn fenced(volume: VolumeId, epoch: Epoch, member: u8, bytes: u64) -> RootCommand {
    RootCommand::VolumeFenced {
        volume,
        epoch,
        member,
        bytes,
    }
}
