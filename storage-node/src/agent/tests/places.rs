//! Drives that are unplugged, moved and replaced while their nodes run.

use std::path::{Path, PathBuf};

use super::*;
use crate::drive::file::FileDrive;
use enfilade_placement::Drive as DriveRow;

/// Two enclosures, each with a shelf.
struct Hall {
    folder: tempfile::TempDir,
    root: Arc<FakeRoot>,
    nodes: Vec<(Arc<StorageNode>, Agent)>,
}

const DRIVE: DriveId = DriveId::new(1);

fn format(folder: &Path, drive: DriveId) {
    drop(FileDrive::format(folder, &block(drive)).unwrap());
}

impl Hall {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for enclosure in ["1", "2"] {
            std::fs::create_dir(folder.path().join(enclosure)).unwrap();
        }
        let root = Arc::new(FakeRoot::default());
        root.set_volume(volume(1, VolumeState::Open));
        let nodes = Vec::new();
        Self {
            folder,
            root,
            nodes,
        }
    }

    fn at(&self, place: &str) -> PathBuf {
        self.folder.path().join(place)
    }

    async fn start(&mut self, enclosure: u32, specs: Vec<DriveSpec>) {
        let metadata: Arc<dyn MetadataClient> = Arc::clone(&self.root) as Arc<dyn MetadataClient>;
        let identity = Identity {
            enclosure: EnclosureId::new(enclosure),
            ..identity()
        };
        let host = Host::new(Env::seeded(u64::from(enclosure)), fast());
        let node = StorageNode::new(host, identity, Arc::clone(&metadata));
        let shelf = Shelf {
            folder: self.at(&enclosure.to_string()),
            capacity: None,
        };
        let nodes = Arc::new(crate::client::in_process::LocalNodes::default());
        let mut agent =
            Agent::start_with_shelf(Arc::clone(&node), metadata, nodes, specs, Some(shelf));
        agent.ready().await;
        self.nodes.push((node, agent));
    }

    fn row(&self) -> Option<DriveRow> {
        self.root.drive(DRIVE)
    }

    fn state(&self, node: usize, drive: DriveId) -> Option<DriveState> {
        let conditions = self.nodes[node].1.conditions();
        conditions.get(&drive).map(|condition| condition.state)
    }

    fn address(&self) -> ShardAddress {
        ShardAddress {
            cluster: CLUSTER,
            incarnation: Incarnation::new(1),
            drive: DRIVE,
            generation: self.root.generation(DRIVE),
            volume: VOLUME,
            epoch: Epoch::FIRST,
            member: 0,
        }
    }

    async fn append(&self, node: usize, blob: u128) -> Result<(), ShardError> {
        let request = append_of(self.address(), BlobId::new(blob), 0, &sample(0..4, 4096));
        self.nodes[node].0.append(request).await.map(|_| ())
    }

    /// The first bytes of a blob, by a node.
    async fn read(&self, node: usize, blob: u128) -> Result<bool, ShardError> {
        let ranges = vec![crate::api::read::FragmentRange {
            stripe: 1,
            offset: 0,
            len: 4096,
        }];
        let request = crate::api::read::ReadRequest {
            at: self.address(),
            blob: BlobId::new(blob),
            ranges,
            cause: crate::api::Cause::Get,
        };
        let answers = self.nodes[node].0.read(request).await?;
        Ok(answers[0].as_ref() == Ok(&sample(0..4, 4096)[1]))
    }

    async fn stop(self) {
        for (_, agent) in self.nodes {
            agent.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_drive_that_is_moved_to_another_enclosure_is_served_there_and_refused_here() {
    let mut hall = Hall::new();
    format(&hall.at("1/0"), DRIVE);
    hall.start(1, Vec::new()).await;
    hall.start(2, Vec::new()).await;
    until(async || hall.state(0, DRIVE) == Some(DriveState::Healthy)).await;
    hall.append(0, 1).await.unwrap();
    std::fs::rename(hall.at("1/0"), hall.at("2/7")).unwrap();
    until(async || hall.row().unwrap().enclosure == EnclosureId::new(2)).await;
    until(async || hall.state(1, DRIVE) == Some(DriveState::Healthy)).await;
    let row = hall.row().unwrap();
    assert_eq!((row.slot, row.generation), (7, Generation::new(2)));
    // Nothing was copied, nothing is lost, and it goes on.
    assert_eq!(hall.read(1, 1).await, Ok(true));
    hall.append(1, 2).await.unwrap();
    assert!(matches!(
        hall.append(0, 3).await,
        Err(ShardError::NotHere(_))
    ));
    until(async || hall.state(0, DRIVE).is_none()).await;
    // And back, while the node that had it is away.
    let (_, agent) = hall.nodes.remove(1);
    agent.shutdown().await;
    std::fs::rename(hall.at("2/7"), hall.at("1/3")).unwrap();
    until(async || hall.row().unwrap().enclosure == EnclosureId::new(1)).await;
    until(async || hall.state(0, DRIVE) == Some(DriveState::Healthy)).await;
    assert_eq!(hall.row().unwrap().generation, Generation::new(3));
    for blob in [1, 2] {
        assert_eq!(hall.read(0, blob).await, Ok(true));
    }
    hall.stop().await;
}

#[tokio::test]
async fn a_drive_that_is_unplugged_is_gone_and_comes_back_under_a_new_generation() {
    let mut hall = Hall::new();
    let place = hall.at("bay");
    format(&place, DRIVE);
    let spec = DriveSpec::folder(DRIVE, 4, place.clone(), None);
    hall.start(1, vec![spec]).await;
    hall.append(0, 1).await.unwrap();
    std::fs::rename(&place, hall.at("hand")).unwrap();
    until(async || hall.state(0, DRIVE) == Some(DriveState::Gone)).await;
    let gone = |beat: &enfilade_cluster::api::heartbeat::Heartbeat| {
        let mut drives = beat.drives.iter();
        drives.any(|drive| drive.state == DriveState::Gone && drive.capacity > 0)
    };
    until(async || hall.root.beats().iter().any(gone)).await;
    assert!(hall.append(0, 2).await.is_err());
    // An empty folder, as of a file system that is not mounted, is never initialised.
    std::fs::create_dir(&place).unwrap();
    let beats = hall.root.beats().len();
    until(async || hall.root.beats().len() > beats + 10).await;
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    // Another drive of the cluster is not taken for it, and is left alone.
    std::fs::remove_dir(&place).unwrap();
    format(&place, DriveId::new(2));
    until(async || hall.state(0, DRIVE) == Some(DriveState::Foreign)).await;
    assert_eq!(hall.root.generation(DriveId::new(2)), Generation::new(0));
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(hall.at("hand"), &place).unwrap();
    until(async || hall.state(0, DRIVE) == Some(DriveState::Healthy)).await;
    assert_eq!(hall.root.generation(DRIVE), Generation::new(2));
    assert_eq!(hall.read(0, 1).await, Ok(true));
    hall.append(0, 2).await.unwrap();
    hall.stop().await;
}

#[tokio::test]
async fn a_drive_in_the_place_of_one_that_was_given_up_is_served() {
    let mut hall = Hall::new();
    let place = hall.at("bay");
    format(&place, DRIVE);
    let spec = DriveSpec::folder(DRIVE, 4, place.clone(), None);
    hall.start(1, vec![spec]).await;
    std::fs::rename(&place, hall.at("bin")).unwrap();
    let new = DriveId::new(2);
    format(&place, new);
    until(async || hall.state(0, DRIVE) == Some(DriveState::Foreign)).await;
    assert_eq!(hall.state(0, new), None);
    hall.root.set_state(DRIVE, DriveState::Replaced);
    until(async || hall.state(0, new) == Some(DriveState::Healthy)).await;
    assert_eq!(hall.root.drive(new).unwrap().slot, 4);
    until(async || hall.state(0, DRIVE).is_none()).await;
    hall.stop().await;
}

#[tokio::test]
async fn one_of_two_copies_of_a_drive_is_served_and_the_other_refused() {
    let mut hall = Hall::new();
    format(&hall.at("1/0"), DRIVE);
    hall.start(1, Vec::new()).await;
    until(async || hall.state(0, DRIVE) == Some(DriveState::Healthy)).await;
    let generation = hall.root.generation(DRIVE);
    // As an operator might, from a running drive.
    std::fs::create_dir(hall.at("2/0")).unwrap();
    for name in ["superblock", "superblock.copy", "lock"] {
        std::fs::copy(hall.at("1/0").join(name), hall.at("2/0").join(name)).unwrap();
    }
    // The original is served on when the copy comes first, and the copy is not, or the other way
    // round: never both.
    hall.start(2, Vec::new()).await;
    until(async || hall.root.generation(DRIVE) > generation || hall.state(1, DRIVE).is_some())
        .await;
    let beats = hall.root.beats().len();
    until(async || hall.root.beats().len() > beats + 40).await;
    let served = |node: usize| hall.nodes[node].0.engines().len();
    until(async || served(0) + served(1) == 1).await;
    let refused = usize::from(served(0) == 1);
    until(async || hall.state(refused, DRIVE) == Some(DriveState::Foreign)).await;
    let generation = hall.root.generation(DRIVE);
    let beats = hall.root.beats().len();
    until(async || hall.root.beats().len() > beats + 40).await;
    assert_eq!(hall.root.generation(DRIVE), generation, "they do not fight");
    // The one that is refused is told, with the enclosure that it is in.
    let refused = EnclosureId::new(u32::try_from(refused).unwrap() + 1);
    let beats = hall.root.beats();
    let beat = beats.iter().rev().find(|beat| beat.enclosure == refused);
    let twin = &beat.unwrap().drives[0].twin;
    assert!(twin.contains("a copy of it"), "{twin}");
    hall.stop().await;
}

#[tokio::test]
async fn two_folders_with_one_drive_on_a_shelf_are_told_as_long_as_there_are_two() {
    let mut hall = Hall::new();
    format(&hall.at("1/0"), DRIVE);
    hall.start(1, Vec::new()).await;
    until(async || hall.state(0, DRIVE) == Some(DriveState::Healthy)).await;
    let twin = |hall: &Hall| {
        let beat = hall.root.beats().pop().unwrap();
        beat.drives.first().map(|drive| drive.twin.clone())
    };
    let (generation, copy) = (hall.root.generation(DRIVE), hall.at("1/copy"));
    until(async || twin(&hall).as_deref() == Some("")).await;
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(hall.at("1/0/superblock"), copy.join("superblock")).unwrap();
    let path = copy.display().to_string();
    until(async || twin(&hall).is_some_and(|twin| twin.contains(&path))).await;
    assert_eq!(hall.state(0, DRIVE), Some(DriveState::Healthy));
    assert_eq!(hall.root.generation(DRIVE), generation);
    std::fs::remove_dir_all(&copy).unwrap();
    until(async || twin(&hall).as_deref() == Some("")).await;
    hall.stop().await;
}
