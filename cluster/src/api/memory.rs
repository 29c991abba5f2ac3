//! The metadata service in memory: the state machines and the client's own logic, without Raft.
//!
//! For tests of the crates above. Linearizable, because one lock holds everything; durable not at
//! all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use enfilade_placement::{EnclosureId, Epoch, PartitionId, RequestId};
use tokio::sync::watch;

use super::Result;
use super::command::{GroupTime, PartitionCommand, PartitionEnvelope};
use super::error::MetadataError;
use super::heartbeat::HeartbeatReply;
use super::query::{GroupStatus, Usage};
use super::root::{Birth, RootCommand, RootEnvelope};
use crate::call::{Answer, Call};
use crate::client::{Client, ClientSettings, Transport};
use crate::env::Env;
use crate::partition::{self, GARBAGE_GRACE_MS};
use crate::root;
use crate::rows::{MemoryRows, Rows, RowsError, Txn};
use crate::server::beats::Beats;
use crate::server::read::{self, ReadSettings};

/// A metadata service in memory, as its users see it.
pub type MemoryMetadata = Client<MemoryGroups>;

/// All groups of a cluster, in one map of rows.
pub struct MemoryGroups {
    rows: Mutex<MemoryRows>,
    beats: Beats,
    revision: watch::Sender<u64>,
}

/// The one replica there is.
const REPLICA: EnclosureId = EnclosureId::new(1);

impl MemoryMetadata {
    /// A cluster that has just been born. It has no enclosures yet: enter them with
    /// [`RootCommand::JoinEnclosure`], as nodes do.
    ///
    /// # Panics
    /// When the birth is refused: a defect of the test that asks for it.
    pub fn born(birth: Birth, env: Env) -> Self {
        let groups = MemoryGroups {
            rows: Mutex::default(),
            beats: Beats::default(),
            revision: watch::Sender::new(0),
        };
        let request = RequestId::new(env.random.next_u128());
        let deadline = GroupTime(root::DEADLINE_MS);
        let command = RootCommand::Init(birth);
        let born = groups.root(&RootEnvelope {
            request,
            deadline,
            command,
        });
        born.expect("rows in memory can be read")
            .expect("a new cluster can be born");
        Self::new(groups, env, ClientSettings::default())
    }

    /// Lets time of all groups pass, as the leaders' ticks do.
    ///
    /// # Panics
    /// Never: rows in memory can be read.
    pub fn advance(&self, elapsed: Duration) {
        self.transport
            .advance(elapsed)
            .expect("rows in memory can be read");
        // Deadlines must follow time at once.
        self.forget_times();
    }
}

impl MemoryGroups {
    fn rows(&self) -> MutexGuard<'_, MemoryRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies through a transaction and commits.
    fn commit<R>(
        &self,
        apply: impl FnOnce(&mut Txn<'_>) -> std::result::Result<R, RowsError>,
    ) -> Result<R> {
        let mut rows = self.rows();
        let mut txn = Txn::new(&*rows);
        let applied = apply(&mut txn).map_err(read::failed)?;
        let writes = txn.into_writes();
        rows.commit(writes);
        let revision = root::read::revision(&*rows).map_err(read::failed)?;
        self.revision.send_replace(revision);
        Ok(applied)
    }

    fn root(&self, envelope: &RootEnvelope) -> Result<super::root::RootOutcome> {
        self.commit(|txn| {
            let outcome = root::apply(txn, envelope)?;
            for partition in root::read::view(txn)?.partitions.values() {
                partition::create(txn, partition)?;
            }
            Ok(outcome)
        })
    }

    fn advance(&self, elapsed: Duration) -> Result<()> {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let partitions = root::read::view(&*self.rows())
            .map_err(read::failed)?
            .partitions;
        let request = RequestId::new(0);
        let deadline = GroupTime(u64::MAX);
        let command = RootCommand::Tick { elapsed_ms };
        self.commit(|txn| {
            root::apply(
                txn,
                &RootEnvelope {
                    request,
                    deadline,
                    command,
                },
            )
        })?
        .map_err(|refusal| MetadataError::Invalid(refusal.to_string()))?;
        for (id, partition) in partitions {
            let command = PartitionCommand::Tick { elapsed_ms };
            let envelope = PartitionEnvelope {
                request,
                deadline,
                epoch: partition.epoch,
                command,
            };
            self.commit(|txn| partition::apply(txn, id, &envelope))?
                .map_err(|refusal| MetadataError::Invalid(refusal.to_string()))?;
        }
        Ok(())
    }

    async fn watch(&self, since: u64, wait: Duration) -> Result<Answer> {
        let mut revision = self.revision.subscribe();
        // Whether it is newer or the time has passed: the view as it then is.
        let _ = tokio::time::timeout(wait, revision.wait_for(|now| *now > since)).await;
        Ok(Answer::View(
            root::read::view(&*self.rows()).map_err(read::failed)?,
        ))
    }

    fn groups(&self) -> Result<Vec<GroupStatus>> {
        let rows = self.rows();
        let view = root::read::view(&*rows).map_err(read::failed)?;
        let status = |group: PartitionId, epoch: Epoch| GroupStatus {
            group,
            replica: REPLICA,
            leader: Some(REPLICA),
            term: 1,
            applied: view.revision,
            voters: vec![REPLICA],
            learners: Vec::new(),
            usage: Usage::default(),
            epoch,
            votes: true,
        };
        let partitions = view.partitions.values().map(|p| status(p.id, p.epoch));
        Ok([status(PartitionId::ROOT, Epoch::FIRST)]
            .into_iter()
            .chain(partitions)
            .collect())
    }
}

#[async_trait]
impl Transport for MemoryGroups {
    fn replicas(&self) -> Vec<EnclosureId> {
        vec![REPLICA]
    }

    async fn call(&self, _replica: EnclosureId, call: &Call, _limit: Duration) -> Result<Answer> {
        match call {
            Call::Propose {
                partition,
                envelope,
            } => self
                .commit(|txn| partition::apply(txn, *partition, envelope))
                .map(Answer::Outcome),
            Call::Root(envelope) => self.root(envelope).map(Answer::Root),
            Call::Watch { since, wait } => self.watch(*since, *wait).await,
            Call::Heartbeat(beat) => {
                self.beats.hear(beat.clone(), Duration::ZERO);
                Ok(Answer::Heartbeat(HeartbeatReply {
                    revision: *self.revision.borrow(),
                }))
            }
            Call::DriveReports => Ok(Answer::DriveReports(self.beats.drives(Duration::ZERO))),
            Call::Groups => self.groups().map(Answer::Groups),
            _ => {
                let settings = ReadSettings {
                    garbage_grace_ms: GARBAGE_GRACE_MS,
                };
                let rows = self.rows();
                let rows: &dyn Rows = &*rows;
                read::answer(rows, settings, call)?.ok_or_else(|| {
                    MetadataError::Invalid(format!("{} is not a question", call.name()))
                })
            }
        }
    }
}
