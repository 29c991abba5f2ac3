//! The agent of a node: attaches its drives, tells the root leader that it lives, and pulls its
//! work: fences, garbage, orphans, faults to report. The metadata service never calls a node.

mod absent;
mod attach;
mod beat;
mod drives;
mod faults;
mod fence;
mod garbage;
mod health;
mod moves;
mod orphans;
mod references;
mod repair;
mod returned;
mod shelf;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::heartbeat::ScrubBeat;
use enfilade_cluster::api::root::RootView;
use enfilade_placement::units::ByteSize;
use enfilade_placement::{DriveId, DriveState, Generation, RequestId, Volume, VolumeId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Nodes;
use crate::drive::Drive;
use crate::drive::file::{FileDrive, OpenError};
use crate::drive::superblock::Superblock;
use crate::engine::{Engine, ShardKey};
use crate::server::StorageNode;

pub use self::shelf::Shelf;

/// How long a view is waited for at a time.
const WATCH_WAIT: Duration = Duration::from_secs(10);
/// The pause after the root group did not answer.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// How long a shutdown waits for the last requests, and how often it looks.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
const SHUTDOWN_PAUSE: Duration = Duration::from_millis(5);

/// A drive that was opened, with its superblock.
type Opened = Result<(Arc<dyn Drive>, Superblock), OpenError>;

/// What opens a drive where it is expected, or in another folder; or anything else in tests.
type OpenDrive = Arc<dyn Fn(Option<&Path>) -> Opened + Send + Sync + 'static>;

/// A drive that a node is to serve.
#[derive(Clone)]
pub struct DriveSpec {
    id: DriveId,
    slot: u32,
    capacity: Option<ByteSize>,
    folder: Option<PathBuf>,
    open: OpenDrive,
}

impl DriveSpec {
    /// The drive with this UUID, expected in a folder. `capacity` bounds what it may use; none:
    /// all of its file system.
    pub fn folder(id: DriveId, slot: u32, folder: PathBuf, capacity: Option<ByteSize>) -> Self {
        let expected = folder.clone();
        let open = move |elsewhere: Option<&Path>| {
            let (drive, superblock) = FileDrive::open(elsewhere.unwrap_or(&expected), id)?;
            Ok((Arc::new(drive) as Arc<dyn Drive>, superblock))
        };
        Self {
            id,
            slot,
            capacity,
            folder: Some(folder),
            open: Arc::new(open),
        }
    }

    /// A drive in memory, with a superblock.
    #[cfg(any(test, feature = "test-util"))]
    pub fn memory(id: DriveId, slot: u32, drive: &crate::drive::memory::MemoryDrive) -> Self {
        let drive = drive.clone();
        let open = move |_: Option<&Path>| {
            let superblock =
                crate::drive::superblock::load(&drive).map_err(|source| OpenError::Superblock {
                    path: PathBuf::from("memory"),
                    source,
                })?;
            Ok((Arc::new(drive.clone()) as Arc<dyn Drive>, superblock))
        };
        Self {
            id,
            slot,
            capacity: None,
            folder: None,
            open: Arc::new(open),
        }
    }
}

/// How a drive is, as far as its node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its state.
    pub state: DriveState,
    /// Why it is not healthy, for people.
    pub reason: Option<String>,
    /// Whether this is, or was, one of two drives with the same UUID (PROTOCOLS 26).
    pub twice: bool,
    /// Bytes that it can hold.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
}

/// A running agent.
pub struct Agent {
    context: Arc<Context>,
    tried: watch::Receiver<usize>,
    drives: usize,
    tasks: JoinSet<()>,
}

/// What the tasks of an agent share.
struct Context {
    node: Arc<StorageNode>,
    metadata: Arc<dyn MetadataClient>,
    nodes: Arc<dyn Nodes>,
    ledger: faults::LedgerNotes,
    claims: moves::Claims,
    conditions: Mutex<BTreeMap<DriveId, Condition>>,
    /// Where drives were found last.
    places: Mutex<BTreeMap<DriveId, PathBuf>>,
    /// Drives that were found in more than one folder, and in which.
    twins: Mutex<BTreeMap<DriveId, String>>,
    /// How far the scrub of drives that are served is.
    scrubs: Mutex<BTreeMap<DriveId, ScrubBeat>>,
    view: watch::Sender<Arc<RootView>>,
    stop: CancellationToken,
}

impl Agent {
    /// Starts the agent of a node: every drive is attached and served, or tried again now and then.
    /// What it repairs it reads from other nodes.
    pub fn start(
        node: Arc<StorageNode>,
        metadata: Arc<dyn MetadataClient>,
        nodes: Arc<dyn Nodes>,
        drives: Vec<DriveSpec>,
    ) -> Self {
        Self::start_with_shelf(node, metadata, nodes, drives, None)
    }

    /// As [`Agent::start`]; serves every drive of the cluster that is, or comes, on a shelf, too.
    pub fn start_with_shelf(
        node: Arc<StorageNode>,
        metadata: Arc<dyn MetadataClient>,
        nodes: Arc<dyn Nodes>,
        drives: Vec<DriveSpec>,
        shelf: Option<Shelf>,
    ) -> Self {
        let context = Arc::new(Context {
            node,
            metadata,
            nodes,
            ledger: faults::LedgerNotes::default(),
            claims: moves::Claims::default(),
            conditions: Mutex::default(),
            places: Mutex::default(),
            twins: Mutex::default(),
            scrubs: Mutex::default(),
            view: watch::Sender::new(Arc::default()),
            stop: CancellationToken::new(),
        });
        let (tried_sender, tried) = watch::channel(0);
        let tried_sender = Arc::new(tried_sender);
        let mut tasks = JoinSet::new();
        let count = drives.len();
        tasks.spawn(shelf::scan(Arc::clone(&context), shelf, drives.clone()));
        for spec in drives {
            let tried = Arc::clone(&tried_sender);
            tasks.spawn(drives::keep(Arc::clone(&context), spec, tried));
        }
        tasks.spawn(watch_root(Arc::clone(&context)));
        tasks.spawn(beat::beat(Arc::clone(&context)));
        tasks.spawn(fence::follow(Arc::clone(&context)));
        tasks.spawn(fence::reconcile(Arc::clone(&context)));
        tasks.spawn(garbage::collect(Arc::clone(&context)));
        tasks.spawn(orphans::condemn(Arc::clone(&context)));
        tasks.spawn(faults::report(Arc::clone(&context)));
        tasks.spawn(repair::repair(Arc::clone(&context)));
        tasks.spawn(moves::carry_out(Arc::clone(&context)));
        tasks.spawn(returned::reconcile(Arc::clone(&context)));
        tasks.spawn(drives::checkpoint(Arc::clone(&context)));
        tasks.spawn(upkeep::compact(Arc::clone(&context)));
        tasks.spawn(upkeep::scrub(Arc::clone(&context)));
        tasks.spawn(references::check(Arc::clone(&context)));
        tasks.spawn(absent::look(Arc::clone(&context)));
        tasks.spawn(upkeep::watch_scrub(Arc::clone(&context)));
        Self {
            context,
            tried,
            drives: count,
            tasks,
        }
    }

    /// Waits until every drive is served, or was found not to work.
    pub async fn ready(&mut self) {
        let drives = self.drives;
        // The sender lives as long as the tasks do.
        let _ = self.tried.wait_for(|tried| *tried >= drives).await;
    }

    /// How the drives are; one that was not tried yet is left out.
    pub fn conditions(&self) -> BTreeMap<DriveId, Condition> {
        self.context.conditions()
    }

    /// The root state as it hears of it.
    pub fn view(&self) -> watch::Receiver<Arc<RootView>> {
        self.context.view.subscribe()
    }

    /// Ends all work, makes the indexes durable, and lets go of the drives.
    pub async fn shutdown(mut self) {
        self.context.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let node = &self.context.node;
        let clock = Arc::clone(&node.host().env.clock);
        for engine in node.engines() {
            node.withdraw(engine.id());
            if let Err(error) = engine.close().await {
                tracing::warn!(drive = %engine.id(), %error, "not closed cleanly");
            }
            // Requests that still run hold the drive, which is locked until they end.
            let deadline = clock.now() + SHUTDOWN_WAIT;
            while Arc::strong_count(&engine) > 1 && clock.now() < deadline {
                clock.sleep(SHUTDOWN_PAUSE).await;
            }
        }
    }
}

impl Context {
    fn conditions(&self) -> BTreeMap<DriveId, Condition> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_condition(&self, drive: DriveId, condition: Condition) {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(drive, condition);
    }

    /// Keeps what is known of a drive's room when it is not served any more.
    fn set_lost(&self, drive: DriveId, state: DriveState, reason: String, twice: bool) {
        let old = self.conditions().remove(&drive);
        let (capacity, used) = old.map_or((0, 0), |old| (old.capacity, old.used));
        let reason = Some(reason);
        let condition = Condition {
            state,
            reason,
            twice,
            capacity,
            used,
        };
        self.set_condition(drive, condition);
    }

    fn forget_condition(&self, drive: DriveId) {
        let conditions = self.conditions.lock();
        conditions
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&drive);
        self.hide(drive);
    }

    /// Notes where a drive was found.
    fn found(&self, drive: DriveId, folder: PathBuf) {
        let places = self.places.lock();
        places
            .unwrap_or_else(PoisonError::into_inner)
            .insert(drive, folder);
    }

    /// Where a drive was found last.
    fn place(&self, drive: DriveId) -> Option<PathBuf> {
        let places = self.places.lock();
        let places = places.unwrap_or_else(PoisonError::into_inner);
        places.get(&drive).cloned()
    }

    /// Drives that were found in more than one folder, and in which.
    fn twins(&self) -> BTreeMap<DriveId, String> {
        let twins = self.twins.lock();
        twins.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_twins(&self, twins: BTreeMap<DriveId, String>) {
        *self.twins.lock().unwrap_or_else(PoisonError::into_inner) = twins;
    }

    /// How far the scrub of drives that are served is.
    fn scrubs(&self) -> BTreeMap<DriveId, ScrubBeat> {
        let scrubs = self.scrubs.lock();
        scrubs.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_scrubs(&self, scrubs: BTreeMap<DriveId, ScrubBeat>) {
        *self.scrubs.lock().unwrap_or_else(PoisonError::into_inner) = scrubs;
    }

    /// Who attached a drive after it was attached here, if anybody did: it is theirs now.
    fn attached_since(&self, drive: DriveId, generation: Generation) -> Option<String> {
        let view = self.view();
        let known = view.topology.drives.get(&drive)?;
        (known.generation > generation).then(|| {
            format!(
                "it was attached again, with generation {}, by enclosure {}",
                known.generation, known.enclosure
            )
        })
    }

    /// Whether a drive is attached to another enclosure.
    fn is_elsewhere(&self, drive: DriveId) -> bool {
        let view = self.view();
        let known = view.topology.drives.get(&drive);
        known.is_some_and(|known| known.enclosure != self.node.identity().enclosure)
    }

    /// Whether a drive was given up.
    fn is_replaced(&self, drive: DriveId) -> bool {
        let view = self.view();
        let known = view.topology.drives.get(&drive);
        known.is_some_and(|known| known.state == DriveState::Replaced)
    }

    fn now(&self) -> Duration {
        self.node.host().env.clock.now()
    }

    fn view(&self) -> Arc<RootView> {
        Arc::clone(&self.view.borrow())
    }

    fn request(&self) -> RequestId {
        RequestId::new(self.node.host().env.random.next_u128())
    }

    /// Waits; `false` when the agent is to stop.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = self.node.host().env.clock.sleep(time) => true,
        }
    }

    /// Does something that may be broken off when the agent is to stop.
    async fn unless_stopped(&self, act: impl Future<Output = ()>) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = act => {}
        }
    }

    /// Does something that takes long with an engine, and is broken off when the engine fails or is
    /// to be let go; none then.
    async fn while_served<T>(&self, engine: &Engine, act: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = engine.ended() => None,
            done = act => Some(done),
        }
    }

    /// The shards that volumes of the view have on our drives, with their volume and drive.
    fn shards_in_view(&self) -> Vec<(ShardKey, Volume, DriveId)> {
        let (view, engines) = (self.view(), self.engines());
        let mut shards = Vec::new();
        for volume in view.volumes.values() {
            for (member, drive) in volume.present() {
                if let (true, Ok(member)) = (engines.contains_key(&drive), u8::try_from(member)) {
                    let key = ShardKey {
                        volume: volume.id,
                        member,
                    };
                    shards.push((key, volume.clone(), drive));
                }
            }
        }
        shards
    }

    /// The engine of a drive, unless it has failed.
    fn engine(&self, drive: DriveId) -> Option<Arc<Engine>> {
        let engine = self.node.engine_of(drive)?;
        engine.failure().is_none().then_some(engine)
    }

    /// The drives whose engines have not failed.
    fn drives(&self) -> Vec<DriveId> {
        self.engines().into_keys().collect()
    }

    /// Engines that have not failed. Whoever keeps them keeps their drives locked, so that one that
    /// fails meanwhile is not opened again: no longer than a moment.
    fn engines(&self) -> BTreeMap<DriveId, Arc<Engine>> {
        let engines = self.node.engines().into_iter();
        engines
            .filter(|engine| engine.failure().is_none())
            .map(|e| (e.id(), e))
            .collect()
    }

    /// Volumes by id, as the root group has them now.
    async fn volumes(&self, ids: &BTreeSet<VolumeId>) -> Option<BTreeMap<VolumeId, Volume>> {
        let ids: Vec<VolumeId> = ids.iter().copied().collect();
        let mut volumes = BTreeMap::new();
        for ids in ids.chunks(256) {
            match self.metadata.volumes(ids).await {
                Ok(found) => volumes.extend(found.into_iter().map(|volume| (volume.id, volume))),
                Err(error) => {
                    tracing::debug!(%error, "the root group does not tell about volumes");
                    return None;
                }
            }
        }
        Some(volumes)
    }
}

/// Follows the root state.
async fn watch_root(context: Arc<Context>) {
    loop {
        let since = context.view().revision;
        let watched = tokio::select! {
            () = context.stop.cancelled() => return,
            watched = context.metadata.watch(since, WATCH_WAIT) => watched,
        };
        match watched {
            Ok(view) if view.revision > since => {
                let view = Arc::new(view);
                context.node.learn(Arc::clone(&view));
                context.view.send_replace(view);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the root group does not answer");
                if !context.pause(WATCH_PAUSE).await {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
