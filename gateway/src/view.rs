//! What the gateway knows of the root state, and how sure it is of it.
//!
//! One task asks the metadata service for changes all the time. Each answer confirms the view from
//! the moment at which the question was sent; a view that was not confirmed within the lease must
//! not be acted on, since a bucket, policy or volume may have changed meanwhile (PROTOCOLS 6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::error::MetadataError;
use enfilade_cluster::api::root::RootView;
use enfilade_cluster::env::Env;
use enfilade_placement::{Epoch, Volume, VolumeId};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::settings::ViewSettings;

/// The view was not confirmed in time: refuse the request (S3: 503).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the metadata service has not confirmed the cluster's state for {0:?}")]
pub struct StaleView(pub Duration);

/// The root state as last heard, and the volumes that it leaves out.
pub struct View {
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    settings: ViewSettings,
    env: Env,
    metadata: Arc<dyn MetadataClient>,
    root: watch::Sender<Arc<RootView>>,
    /// When the question was sent whose answer was the last.
    confirmed: Mutex<Option<Duration>>,
    volumes: Mutex<Remembered>,
}

impl View {
    /// Begins to follow the root state. The task ends when the view is dropped.
    ///
    /// Must be called within a tokio runtime.
    pub fn start(settings: ViewSettings, env: Env, metadata: Arc<dyn MetadataClient>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            volumes: Mutex::new(Remembered::new(settings.volumes_max)),
            settings,
            env,
            metadata,
            root: watch::Sender::new(Arc::default()),
            confirmed: Mutex::default(),
        });
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        Arc::new(Self {
            shared,
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// The root state as last heard, however old; revision 0 when none was heard yet.
    pub fn root(&self) -> Arc<RootView> {
        Arc::clone(&self.shared.root.borrow())
    }

    /// The root state, when it was confirmed within the lease.
    ///
    /// # Errors
    /// When it was not: nothing may be decided by it (PROTOCOLS 6).
    pub fn fresh(&self) -> Result<Arc<RootView>, StaleView> {
        let confirmed = *lock(&self.shared.confirmed);
        let now = self.shared.env.clock.now();
        let age = confirmed.map_or(Duration::MAX, |at| now.saturating_sub(at));
        if age > self.shared.settings.lease {
            Err(StaleView(age))
        } else {
            Ok(self.root())
        }
    }

    /// Changes of the root state, as they are heard.
    pub fn changes(&self) -> watch::Receiver<Arc<RootView>> {
        self.shared.root.subscribe()
    }

    /// Reads the root state anew, now.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn refresh(&self) -> Result<Arc<RootView>, MetadataError> {
        self.shared.ask(0, Duration::ZERO).await?;
        Ok(self.root())
    }

    /// A volume in any state; `None` when there never was one of that id.
    ///
    /// # Errors
    /// When it is not known here and the metadata service does not answer.
    pub async fn volume(&self, id: VolumeId) -> Result<Option<Arc<Volume>>, MetadataError> {
        if let Some(volume) = self.known(id) {
            return Ok(Some(volume));
        }
        self.fetch(id).await
    }

    /// The same after a node has said that `epoch` is not the newest, or that a member is not where
    /// it was: asks the metadata service unless something newer is known already.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn volume_after(
        &self,
        id: VolumeId,
        epoch: Epoch,
    ) -> Result<Option<Arc<Volume>>, MetadataError> {
        match self.known(id) {
            Some(volume) if volume.epoch > epoch => Ok(Some(volume)),
            _ => self.fetch(id).await,
        }
    }

    fn known(&self, id: VolumeId) -> Option<Arc<Volume>> {
        let open = self.shared.root.borrow().volumes.get(&id).cloned();
        let remembered = lock(&self.shared.volumes).get(id);
        match (open, remembered) {
            (Some(open), Some(other)) if other.epoch > open.epoch => Some(other),
            (Some(open), _) => Some(Arc::new(open)),
            (None, other) => other,
        }
    }

    async fn fetch(&self, id: VolumeId) -> Result<Option<Arc<Volume>>, MetadataError> {
        let found = self.shared.metadata.volumes(&[id]).await?;
        let Some(volume) = found.into_iter().find(|volume| volume.id == id) else {
            return Ok(None);
        };
        let volume = Arc::new(volume);
        lock(&self.shared.volumes).insert(Arc::clone(&volume));
        Ok(Some(volume))
    }
}

impl Shared {
    /// Asks for a root state newer than `since`, and takes over what comes.
    async fn ask(&self, since: u64, wait: Duration) -> Result<(), MetadataError> {
        let asked = self.env.clock.now();
        let heard = Arc::new(self.metadata.watch(since, wait).await?);
        let order = |root: &RootView| (root.incarnation, root.revision);
        let mut current = false;
        self.root.send_if_modified(|root| {
            let change = order(&heard).cmp(&order(root));
            current = change.is_ge();
            if change.is_gt() {
                *root = heard;
            }
            change.is_gt()
        });
        if current {
            let mut confirmed = lock(&self.confirmed);
            *confirmed = (*confirmed).max(Some(asked));
        }
        Ok(())
    }
}

/// Follows the root state until the task is aborted.
async fn follow(shared: Arc<Shared>) {
    loop {
        let since = shared.root.borrow().revision;
        if let Err(error) = shared.ask(since, shared.settings.poll).await {
            tracing::warn!(%error, "the metadata service does not confirm the cluster's state");
            shared.env.clock.sleep(shared.settings.retry).await;
        }
    }
}

/// Volumes that were asked for, at most so many: two generations, of which the older is forgotten
/// when the younger is full.
struct Remembered {
    half: usize,
    young: HashMap<VolumeId, Arc<Volume>>,
    old: HashMap<VolumeId, Arc<Volume>>,
}

impl Remembered {
    fn new(max: usize) -> Self {
        Self {
            half: (max / 2).max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    fn get(&mut self, id: VolumeId) -> Option<Arc<Volume>> {
        if let Some(volume) = self.young.get(&id) {
            return Some(Arc::clone(volume));
        }
        let volume = self.old.remove(&id)?;
        self.insert(Arc::clone(&volume));
        Some(volume)
    }

    /// Keeps the newest epoch.
    fn insert(&mut self, volume: Arc<Volume>) {
        let known = self
            .young
            .get(&volume.id)
            .or_else(|| self.old.get(&volume.id));
        if known.is_some_and(|known| known.epoch > volume.epoch) {
            return;
        }
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(volume.id, volume);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::{Cluster, profile, until};
    use enfilade_cluster::api::root::RootCommand;
    use enfilade_placement::Profile;
    use std::sync::atomic::Ordering;

    fn volume(id: u64, epoch: u64) -> Arc<Volume> {
        Arc::new(Volume {
            id: VolumeId::new(id),
            profile: Profile::new(2, 1).unwrap(),
            members: vec![None; 3],
            epoch: Epoch::new(epoch),
            state: enfilade_placement::VolumeState::Sealed,
            bytes: 0,
            violation: false,
        })
    }

    #[test]
    fn remembered_volumes_are_bounded_and_those_in_use_stay() {
        let mut remembered = Remembered::new(8);
        for id in 0..100 {
            remembered.insert(volume(id, 1));
            assert!(remembered.get(VolumeId::new(0)).is_some(), "{id}");
            assert!(remembered.young.len() + remembered.old.len() <= 8);
        }
        assert!(remembered.get(VolumeId::new(50)).is_none());
    }

    #[test]
    fn an_older_epoch_does_not_replace_a_newer() {
        let mut remembered = Remembered::new(8);
        remembered.insert(volume(1, 3));
        remembered.insert(volume(1, 2));
        assert_eq!(
            remembered.get(VolumeId::new(1)).unwrap().epoch,
            Epoch::new(3)
        );
    }

    #[tokio::test]
    async fn a_view_that_is_not_confirmed_in_time_is_refused_until_it_is_again() {
        let cluster = Cluster::bare(profile("2+1"), 3, |_| {}).await;
        let settings = ViewSettings {
            poll: Duration::from_millis(10),
            retry: Duration::from_millis(5),
            lease: Duration::from_millis(300),
            ..ViewSettings::default()
        };
        let view = View::start(settings, Env::real(), cluster.metadata.clone());
        assert!(view.fresh().is_err());
        until(|| view.fresh().is_ok()).await;
        cluster.metadata.silent.store(true, Ordering::SeqCst);
        until(|| view.fresh().is_err()).await;
        assert!(view.root().revision > 0);
        cluster.metadata.silent.store(false, Ordering::SeqCst);
        until(|| view.fresh().is_ok()).await;
    }

    #[tokio::test]
    async fn changes_are_heard_and_volumes_that_left_the_view_are_asked_for() {
        let cluster = Cluster::bare(profile("2+1"), 3, |_| {}).await;
        let opened = cluster.open(0, &[]).await;
        until(|| cluster.view.root().volumes.contains_key(&opened.id)).await;
        cluster
            .root(RootCommand::SealVolume {
                volume: opened.id,
                epoch: opened.epoch,
            })
            .await;
        let (volume, epoch) = (opened.id, opened.epoch.next());
        cluster
            .root(RootCommand::VolumeFenced {
                volume,
                epoch,
                member: 0,
                bytes: 1,
            })
            .await;
        until(|| !cluster.view.root().volumes.contains_key(&opened.id)).await;
        let sealed = cluster.view.volume(opened.id).await.unwrap().unwrap();
        assert_eq!(
            (sealed.epoch, sealed.members.clone()),
            (epoch, opened.members)
        );
        assert_eq!(cluster.view.volume(VolumeId::new(99)).await.unwrap(), None);
        cluster.metadata.silent.store(true, Ordering::SeqCst);
        assert_eq!(cluster.view.volume(opened.id).await.unwrap(), Some(sealed));
        assert!(cluster.view.volume_after(opened.id, epoch).await.is_err());
    }
}
