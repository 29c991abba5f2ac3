//! Which open volume takes the next bytes, and what becomes of one that failed.
//!
//! Two volumes are drawn at random and the one with the less loaded members wins (power of two
//! choices): almost as even as the best of all, and gateways need not know of one another. A volume
//! or member that failed is passed over for a while, and its volume reported, so that the root
//! group takes it out of service for all (PROTOCOLS 14).

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::{RootCommand, RootView};
use enfilade_cluster::env::Env;
use enfilade_placement::{DriveId, Profile, RequestId, Volume, VolumeId, VolumeState};
use tokio::task::JoinSet;

use crate::view::View;

/// Reports of failed volumes that are under way at the same time.
const REPORTS_MAX: usize = 64;

/// What an append that failed says about the volume and the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The volume takes no appends under that epoch; the member is well.
    Closed,
    /// The member is well but has too much to do.
    Overloaded,
    /// The member is late, gone or broken.
    Member,
}

/// Chooses volumes for one process.
pub struct Volumes {
    env: Env,
    metadata: Arc<dyn MetadataClient>,
    view: Arc<View>,
    volumes: Shunned<VolumeId>,
    drives: Shunned<DriveId>,
    load: Mutex<HashMap<DriveId, u64>>,
    reports: Mutex<JoinSet<()>>,
}

/// Bytes under way to the members of a volume; ends when dropped.
pub struct Load {
    volumes: Arc<Volumes>,
    drives: Vec<DriveId>,
    bytes: u64,
}

impl Volumes {
    /// A chooser that passes over for `shun_time` what failed.
    pub fn new(
        env: Env,
        metadata: Arc<dyn MetadataClient>,
        view: Arc<View>,
        shun_time: Duration,
    ) -> Self {
        Self {
            volumes: Shunned::new(shun_time),
            drives: Shunned::new(shun_time),
            load: Mutex::default(),
            reports: Mutex::default(),
            env,
            metadata,
            view,
        }
    }

    /// An open volume of a profile whose members are all well as far as is known here; waits for
    /// one. `None` when there is none within `wait`.
    pub async fn choose(&self, profile: Profile, wait: Duration) -> Option<Arc<Volume>> {
        let mut changes = self.view.changes();
        let until = self.env.clock.now() + wait;
        loop {
            let root = Arc::clone(&changes.borrow_and_update());
            if let Some(volume) = self.pick(&root, profile) {
                return Some(Arc::new(volume.clone()));
            }
            let now = self.env.clock.now();
            if now >= until {
                return None;
            }
            // What is shunned may be all that there is: look again when that ends.
            let retry = self
                .next_end()
                .unwrap_or(until)
                .min(until)
                .saturating_sub(now);
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = self.env.clock.sleep(retry.max(Duration::from_millis(1))) => {}
            }
        }
    }

    /// Whether a volume may take more: it is still open under that epoch, and did not fail.
    pub fn still_usable(&self, volume: &Volume) -> bool {
        let root = self.view.root();
        let same = |now: &Volume| now.epoch == volume.epoch;
        root.volumes
            .get(&volume.id)
            .is_some_and(|now| same(now) && self.is_usable(&root, now))
    }

    /// Counts bytes under way to the members of a volume.
    pub fn begin(self: &Arc<Self>, volume: &Volume, bytes_per_member: u64) -> Load {
        let drives: Vec<DriveId> = volume.present().map(|(_, drive)| drive).collect();
        let mut load = lock(&self.load);
        for drive in &drives {
            *load.entry(*drive).or_default() += bytes_per_member;
        }
        Load {
            volumes: Arc::clone(self),
            drives,
            bytes: bytes_per_member,
        }
    }

    /// Notes that an append failed: passes over what is at fault for a while, and reports the
    /// volume to the root group when a member is.
    pub fn failed(&self, volume: &Volume, drive: Option<DriveId>, fault: Fault) {
        let now = self.env.clock.now();
        let known = self.volumes.add(volume.id, now);
        if fault == Fault::Closed {
            return;
        }
        if let Some(drive) = drive {
            self.drives.add(drive, now);
        }
        if fault == Fault::Member && !known {
            self.report(volume);
        }
    }

    /// Asks the root group to suspend a volume. Best effort: the next failure asks again.
    fn report(&self, volume: &Volume) {
        let mut reports = lock(&self.reports);
        while reports.try_join_next().is_some() {}
        if reports.len() >= REPORTS_MAX {
            return;
        }
        let metadata = Arc::clone(&self.metadata);
        let request = RequestId::new(self.env.random.next_u128());
        let (volume, epoch) = (volume.id, volume.epoch);
        reports.spawn(async move {
            let command = RootCommand::SuspendVolume { volume, epoch };
            match metadata.root(request, command).await {
                Ok(Ok(_)) => tracing::info!(%volume, %epoch, "suspended a volume"),
                Ok(Err(refusal)) => tracing::debug!(%volume, %refusal, "a volume is not suspended"),
                Err(error) => tracing::warn!(%volume, %error, "a failed volume is not reported"),
            }
        });
    }

    fn pick<'a>(&self, root: &'a RootView, profile: Profile) -> Option<&'a Volume> {
        let usable = |volume: &&Volume| volume.profile == profile && self.is_usable(root, volume);
        let candidates: Vec<&Volume> = root.volumes.values().filter(usable).collect();
        let draw = || {
            let count = u64::try_from(candidates.len()).ok()?;
            let index = self.env.random.next_u64().checked_rem(count)?;
            candidates.get(usize::try_from(index).ok()?).copied()
        };
        let (one, other) = (draw()?, draw()?);
        let load = lock(&self.load);
        Some(if most_loaded(&load, other) < most_loaded(&load, one) {
            other
        } else {
            one
        })
    }

    fn is_usable(&self, root: &RootView, volume: &Volume) -> bool {
        let now = self.env.clock.now();
        let well = |drive| root.topology.is_present(drive) && !self.drives.contains(&drive, now);
        volume.state == VolumeState::Open
            && volume.present().count() >= volume.profile.ack_floor()
            && !self.volumes.contains(&volume.id, now)
            && volume.present().all(|(_, drive)| well(drive))
    }

    /// When the first of what is passed over is looked at again.
    fn next_end(&self) -> Option<Duration> {
        let now = self.env.clock.now();
        [self.volumes.next_end(now), self.drives.next_end(now)]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut load = lock(&self.volumes.load);
        for drive in &self.drives {
            let left = load
                .get(drive)
                .map_or(0, |bytes| bytes.saturating_sub(self.bytes));
            if left == 0 {
                load.remove(drive);
            } else {
                load.insert(*drive, left);
            }
        }
    }
}

fn most_loaded(load: &HashMap<DriveId, u64>, volume: &Volume) -> u64 {
    volume
        .present()
        .filter_map(|(_, drive)| load.get(&drive).copied())
        .max()
        .unwrap_or(0)
}

/// Things that failed, until when they are passed over.
pub(crate) struct Shunned<T> {
    time: Duration,
    until: Mutex<BTreeMap<T, Duration>>,
}

impl<T: Copy + Eq + Hash + Ord> Shunned<T> {
    pub(crate) fn new(time: Duration) -> Self {
        Self {
            time,
            until: Mutex::default(),
        }
    }

    /// Whether it was passed over already.
    pub(crate) fn add(&self, what: T, now: Duration) -> bool {
        let mut until = lock(&self.until);
        until.retain(|_, end| *end > now);
        until.insert(what, now + self.time).is_some()
    }

    pub(crate) fn contains(&self, what: &T, now: Duration) -> bool {
        lock(&self.until).get(what).is_some_and(|end| *end > now)
    }

    fn next_end(&self, now: Duration) -> Option<Duration> {
        lock(&self.until)
            .values()
            .copied()
            .filter(|end| *end > now)
            .min()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::{Cluster, profile};

    fn chooser(cluster: &Cluster) -> Arc<Volumes> {
        let (metadata, view) = (cluster.metadata.clone(), Arc::clone(&cluster.view));
        Arc::new(Volumes::new(
            Env::seeded(5),
            metadata,
            view,
            Duration::from_millis(50),
        ))
    }

    #[tokio::test]
    async fn the_less_loaded_of_two_volumes_is_chosen_most_of_the_time() {
        let cluster = Cluster::bare(profile("2+1"), 6, |_| {}).await;
        let (busy, idle) = (cluster.open(0, &[]).await, cluster.open(3, &[]).await);
        cluster.view.refresh().await.unwrap();
        let volumes = chooser(&cluster);
        let share_of_idle = async || {
            let mut count = 0;
            for _ in 0..400 {
                let chosen = volumes
                    .choose(cluster.profile, Duration::ZERO)
                    .await
                    .unwrap();
                count += u32::from(chosen.id == idle.id);
            }
            count
        };
        let load = volumes.begin(&busy, 1 << 20);
        let loaded = share_of_idle().await;
        drop(load);
        let even = share_of_idle().await;
        assert!(
            (270..330).contains(&loaded) && (160..240).contains(&even),
            "{loaded} {even}"
        );
        assert!(lock(&volumes.load).is_empty());
    }

    #[tokio::test]
    async fn what_failed_is_passed_over_for_a_while() {
        let cluster = Cluster::bare(profile("2+1"), 6, |_| {}).await;
        let (bad, good) = (cluster.open(0, &[]).await, cluster.open(3, &[]).await);
        let beside = cluster.open(1, &[]).await;
        cluster.view.refresh().await.unwrap();
        let volumes = chooser(&cluster);
        // The drive is a member of two of the volumes, so that only one is left.
        volumes.failed(&bad, bad.members[1], Fault::Overloaded);
        assert!(!volumes.still_usable(&bad) && !volumes.still_usable(&beside));
        for _ in 0..20 {
            let chosen = volumes
                .choose(cluster.profile, Duration::ZERO)
                .await
                .unwrap();
            assert_eq!(chosen.id, good.id);
        }
        volumes.failed(&good, None, Fault::Closed);
        assert!(
            volumes
                .choose(cluster.profile, Duration::ZERO)
                .await
                .is_none()
        );
        // It ends by itself, without a change of the view.
        assert!(
            volumes
                .choose(cluster.profile, Duration::from_secs(20))
                .await
                .is_some()
        );
    }

    #[tokio::test]
    async fn a_drive_that_is_not_present_takes_its_volumes_out() {
        let cluster = Cluster::bare(profile("2+1"), 3, |_| {}).await;
        let volume = cluster.open(0, &[]).await;
        cluster.view.refresh().await.unwrap();
        let volumes = chooser(&cluster);
        assert!(volumes.still_usable(&volume));
        let (drive, state) = (
            volume.members[0].unwrap(),
            enfilade_placement::DriveState::Failing,
        );
        cluster.root(RootCommand::SetDrive { drive, state }).await;
        cluster.view.refresh().await.unwrap();
        assert!(!volumes.still_usable(&volume));
    }
}
