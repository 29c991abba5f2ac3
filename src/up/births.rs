//! What both forms of an embedded cluster need to come into being, and to grow.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::{Addresses, RootCommand, RootReply};
use enfilade_cluster::env::Env;
use enfilade_placement::units::ByteSize;
use enfilade_placement::{ChainId, DriveId, EnclosureId, RequestId};
use enfilade_storage_node::agent::Shelf;

use crate::credentials::Token;
use crate::files;
use crate::os;
use crate::role::drives::{self, EmbeddedDrive};
use crate::up::description::{Description, Member};
use crate::up::layout::Layout;
use crate::up::run_file::{ProcessState, RunEnclosure, RunFile};

/// At this size of a shard its volume is sealed. Embedded clusters are small; 64 GiB is for those
/// of real drives.
pub(crate) const VOLUME_TARGET: ByteSize = ByteSize::gib(1);

/// The folder of a cluster, what it is to be, and where it is served.
pub(crate) struct Ground {
    /// Bytes of a shard at which its volume is sealed.
    pub(crate) volume_target: ByteSize,
    pub(crate) layout: Layout,
    pub(crate) description: Description,
    pub(crate) token: Token,
    pub(crate) s3: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Ground {
    /// Formats the drives of enclosures that have not joined. Nothing is formatted after that: an
    /// empty folder is a drive that is gone (PROTOCOLS 26).
    ///
    /// # Errors
    /// When a folder cannot be made, or holds something else.
    pub(crate) fn format_new(&self) -> Result<()> {
        for member in self
            .description
            .members
            .iter()
            .filter(|member| !member.joined)
        {
            self.format(member)?;
        }
        Ok(())
    }

    fn format(&self, member: &Member) -> Result<()> {
        files::make_folder(&self.layout.shelf(member.id))?;
        for (slot, drive) in member.drives.iter().enumerate() {
            let folder = self.layout.drive(member.id, slot);
            drives::format(&folder, *drive, self.token.cluster)?;
        }
        Ok(())
    }

    /// Refuses a cluster whose metadata is gone: it would wait for itself for ever.
    ///
    /// # Errors
    /// Names the folder.
    pub(crate) fn check_metadata(&self) -> Result<()> {
        if !self.description.born {
            return Ok(());
        }
        let metas = self.description.members.iter().filter(|member| member.meta);
        let folders: Vec<_> = metas.map(|member| self.layout.meta(member.id)).collect();
        let gone = folders.iter().filter(|folder| !folder.exists()).count();
        if gone > folders.len().saturating_sub(1) / 2 {
            let first = folders.iter().find(|folder| !folder.exists());
            let first = first
                .map(|folder| folder.display().to_string())
                .unwrap_or_default();
            bail!(
                "{gone} of {} metadata folders are gone, such as {first}",
                folders.len()
            );
        }
        Ok(())
    }

    /// The drives of an enclosure, as its node opens them.
    pub(crate) fn drives(&self, member: &Member) -> Vec<EmbeddedDrive> {
        let capacity = self.capacity();
        let spec = |(slot, id): (usize, &DriveId)| EmbeddedDrive {
            folder: self.layout.drive(member.id, slot),
            id: *id,
            slot: u32::try_from(slot).unwrap_or(u32::MAX),
            capacity,
        };
        member.drives.iter().enumerate().map(spec).collect()
    }

    /// Where drives that are added, or moved here, are found.
    pub(crate) fn shelf(&self, member: &Member) -> Shelf {
        Shelf {
            folder: self.layout.shelf(member.id),
            capacity: self.capacity(),
        }
    }

    /// The share that each drive has of the file system that holds them all: the one that it had at
    /// the cluster's birth. Were it another at each start, drives would seem to shrink whenever
    /// others come, and shards be moved for it.
    fn capacity(&self) -> Option<ByteSize> {
        if let Some(bytes) = self.description.drive_bytes {
            return Some(ByteSize::bytes(bytes));
        }
        let total = os::file_system_size(self.layout.root()).ok()?;
        let count = self.description.drive_count().max(1) as u64;
        Some(ByteSize::bytes(total / count))
    }

    /// What `run.json` says of an enclosure that does not run yet.
    pub(crate) fn run_enclosure(&self, member: &Member) -> RunEnclosure {
        RunEnclosure {
            id: member.id.get(),
            chain: member.chain.get(),
            pid: None,
            started: None,
            admin: self.admin.to_string(),
            state: ProcessState::Stopped,
            meta: member.meta,
            meta_address: String::new(),
            shard_address: String::new(),
            folder: self.layout.enclosure(member.id).display().to_string(),
        }
    }

    /// What `run.json` says of us, with these enclosures.
    pub(crate) fn run_file(&self, enclosures: Vec<RunEnclosure>) -> RunFile {
        let pid = std::process::id();
        RunFile {
            pid,
            started: os::process_start(pid),
            s3: self.s3,
            admin: self.admin,
            processes: self.description.processes,
            enclosures,
        }
    }

    /// Notes that the cluster is born, and all its enclosures have joined.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn all_joined(&mut self) -> Result<()> {
        let whole = self.description.born && self.description.members.iter().all(|m| m.joined);
        if whole {
            return Ok(());
        }
        self.description.born = true;
        self.description
            .members
            .iter_mut()
            .for_each(|member| member.joined = true);
        self.description.write(&self.layout)
    }

    /// Describes an enclosure no more that was removed. Its folder stays.
    ///
    /// # Errors
    /// When the folder of the cluster cannot be written.
    pub(crate) fn forget(&mut self, id: EnclosureId) -> Result<()> {
        let mut left = self.description.clone();
        left.members.retain(|member| member.id != id);
        left.removed.push(id);
        left.write(&self.layout)?;
        self.description = left;
        Ok(())
    }

    /// Describes one more enclosure, which has not joined yet. Written down before anything is
    /// made, so that a crash leaves nothing that is not known.
    ///
    /// # Errors
    /// When there is no such chain, or the folder cannot be written.
    pub(crate) fn describe_new(
        &mut self,
        drives: Option<u32>,
        chain: Option<u32>,
        env: &Env,
    ) -> Result<Member> {
        let known = 1..=self.description.chains + 1;
        let chain = match chain {
            None => self.description.shortest_chain(),
            Some(chain) if known.contains(&chain) => ChainId::new(chain),
            Some(chain) => bail!(
                "there is no chain {chain}; {} would be a new one",
                known.end()
            ),
        };
        let drives = drives.unwrap_or(self.description.drives);
        let id = self.description.next_id();
        let member = Member::new(id, chain, drives, env);
        self.description.members.push(member.clone());
        self.description.chains = self.description.chains.max(chain.get());
        if let Err(error) = self.description.write(&self.layout) {
            self.description.members.pop();
            return Err(error);
        }
        self.format(&member)?;
        Ok(member)
    }
}

/// Enters an enclosure, or its new addresses.
///
/// # Errors
/// When the metadata service refuses it or does not answer.
pub(crate) async fn join(
    metadata: &dyn MetadataClient,
    env: &Env,
    id: Option<EnclosureId>,
    chain: ChainId,
    addresses: Addresses,
) -> Result<EnclosureId> {
    let request = RequestId::new(env.random.next_u128());
    let command = RootCommand::JoinEnclosure {
        id,
        chain,
        addresses,
    };
    let outcome = metadata
        .root(request, command)
        .await
        .context("joining the cluster")?;
    match outcome.context("joining the cluster")? {
        RootReply::Enclosure(id) => Ok(id),
        other => bail!("joining the cluster was answered with {other:?}"),
    }
}
