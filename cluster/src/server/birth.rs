//! The birth of a cluster: only when asked for (PROTOCOLS 10).

use std::collections::BTreeMap;
use std::time::Duration;

use enfilade_placement::{EnclosureId, PartitionId, RequestId};

use super::MetadataService;
use crate::api::Result;
use crate::api::command::GroupTime;
use crate::api::error::MetadataError;
use crate::api::root::{Birth, RootCommand, RootEnvelope, RootRefusal};
use crate::raft::groups::FIRST_PARTITION;
use crate::root::DEADLINE_MS;

/// The longest that a birth takes: all replicas must be reached.
const BIRTH_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the replicas have joined.
const LOOK: Duration = Duration::from_millis(50);

impl MetadataService {
    /// Creates the cluster: this replica becomes the first of the root group and of partition 1,
    /// and takes in the other replicas that `birth` names, at the addresses of `members` (all but
    /// this one's must be there). Returns when every replica votes. Made again after a crash, it
    /// goes on where it stopped.
    ///
    /// # Errors
    /// [`MetadataError::Invalid`] when this folder holds another cluster, or this replica is not
    /// one of the first; [`MetadataError::Unavailable`] when not all replicas could be reached in
    /// time: the cluster is born then, and goes on to take them in.
    pub async fn bootstrap(
        &self,
        birth: Birth,
        members: &BTreeMap<EnclosureId, String>,
    ) -> Result<()> {
        self.check_birth(&birth, members)?;
        for (member, address) in members {
            self.0.peers.learn(*member, address);
        }
        let end = self.0.env.clock.now().saturating_add(BIRTH_MAX);
        let storage = |error: std::io::Error| MetadataError::Unavailable(error.to_string());
        let root = self
            .0
            .groups
            .hold(PartitionId::ROOT)
            .await
            .map_err(storage)?;
        root.begin(&self.0.address).await?;
        let voters = birth.replicas.clone();
        self.enter(birth, end).await?;
        let first = self.0.groups.hold(FIRST_PARTITION).await.map_err(storage)?;
        first.begin(&self.0.address).await?;
        loop {
            let complete = |group: &crate::raft::groups::Group| {
                // Not only proposed: the loss of this replica would take an uncommitted one along.
                let state = group.metrics();
                let members = state.committed_membership_config.membership();
                voters
                    .iter()
                    .all(|v| members.voter_ids().any(|m| m == u64::from(v.get())))
            };
            if complete(&root) && complete(&first) {
                return Ok(());
            }
            self.look_again(end, "not all replicas could be reached")
                .await?;
        }
    }

    fn check_birth(&self, birth: &Birth, members: &BTreeMap<EnclosureId, String>) -> Result<()> {
        let invalid = |text: String| Err(MetadataError::Invalid(text));
        if !birth.replicas.contains(&self.0.replica) {
            return invalid(format!(
                "enclosure {} is none of the replicas",
                self.0.replica
            ));
        }
        if birth.cluster != self.0.peers.identity().cluster {
            return invalid("the credential is of another cluster".to_owned());
        }
        let absent = |id: &&EnclosureId| **id != self.0.replica && !members.contains_key(*id);
        if let Some(absent) = birth.replicas.iter().find(absent) {
            return invalid(format!("the address of replica {absent} is not given"));
        }
        if birth.replicas.len() > 1 && self.0.address.is_empty() {
            return invalid("the own address is empty, but there are other replicas".to_owned());
        }
        Ok(())
    }

    /// Proposes the birth until it is committed.
    async fn enter(&self, birth: Birth, end: Duration) -> Result<()> {
        let cluster = birth.cluster;
        let request = RequestId::new(self.0.env.random.next_u128());
        let deadline = GroupTime(DEADLINE_MS);
        let envelope = RootEnvelope {
            request,
            deadline,
            command: RootCommand::Init(birth),
        };
        loop {
            match self.propose_root(&envelope).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(RootRefusal::Born(born))) if born == cluster => return Ok(()),
                Ok(Err(refusal)) => return Err(MetadataError::Invalid(refusal.to_string())),
                Err(error) => {
                    tracing::debug!(%error, "the birth of the cluster is proposed again");
                    self.look_again(end, "the root group has no leader").await?;
                }
            }
        }
    }

    async fn look_again(&self, end: Duration, why: &str) -> Result<()> {
        if self.0.env.clock.now() >= end || !self.pause(LOOK).await {
            return Err(MetadataError::Unavailable(why.to_owned()));
        }
        Ok(())
    }
}
