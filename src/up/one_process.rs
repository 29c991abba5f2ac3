//! An embedded cluster in one process: one metadata replica, and a node for each enclosure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::{Addresses, Birth, RootRefusal};
use enfilade_cluster::env::Env;
use enfilade_cluster::server::Replica;
use enfilade_gateway::Gateway;
use enfilade_placement::EnclosureId;
use enfilade_storage_node::client::in_process::LocalNodes;
use enfilade_storage_node::host::Host;

use crate::admin::{ActError, Enclosures, model};
use crate::credentials::RootCredentials;
use crate::files;
use crate::role::drives::{self, Bays, EmbeddedDrive, Node};
use crate::role::gateway;
use crate::role::meta::{self, Meta, OPEN_VOLUMES};
use crate::up::Basis;
use crate::up::births::{Ground, join};
use crate::up::description::Member;
use crate::up::run_file::{ProcessState, RunEnclosure};

/// The enclosure whose folder holds the metadata.
const META: EnclosureId = EnclosureId::new(1);

/// A cluster in this process.
pub(crate) struct OneProcess {
    env: Env,
    metadata: Arc<dyn MetadataClient>,
    host: Host,
    local: LocalNodes,
    meta: Mutex<Option<Meta>>,
    nodes: Mutex<BTreeMap<EnclosureId, Node>>,
    ground: tokio::sync::Mutex<Ground>,
}

impl OneProcess {
    /// Starts, or resumes, and returns when data can be written.
    pub(super) async fn start(
        basis: &Basis,
        ground: Ground,
        credentials: &RootCredentials,
    ) -> Result<(Arc<Self>, Gateway)> {
        let env = &basis.env;
        ground.check_metadata()?;
        let started = start_meta(env, &ground).await?;
        let metadata = started.client();
        // Set once; a second time is impossible here.
        let _ = basis.admin.metadata.set(Arc::clone(&metadata));
        let host = drives::host(env, &basis.admin.registry)?;
        let one = Arc::new(Self {
            env: env.clone(),
            metadata: Arc::clone(&metadata),
            host,
            local: LocalNodes::default(),
            meta: Mutex::new(Some(started)),
            nodes: Mutex::default(),
            ground: tokio::sync::Mutex::new(ground),
        });
        let begun = one.begin(basis, credentials).await;
        let gateway = match begun {
            Ok(gateway) => gateway,
            Err(error) => {
                one.stop().await;
                return Err(error);
            }
        };
        let _ = basis
            .admin
            .enclosures
            .set(Arc::clone(&one) as Arc<dyn Enclosures>);
        Ok((one, gateway))
    }

    async fn begin(&self, basis: &Basis, credentials: &RootCredentials) -> Result<Gateway> {
        let mut ground = self.ground.lock().await;
        ground.format_new()?;
        // One after another, so that their places in the chains follow their ids.
        let mut removed = Vec::new();
        for member in &ground.description.members {
            match self.join(&ground, member).await {
                Ok(()) => {}
                // The crash came before it was forgotten here.
                Err(error) if is_removed(&error) => removed.push(member.id),
                Err(error) => return Err(error),
            }
        }
        for id in removed {
            ground.forget(id)?;
        }
        let members = ground.description.members.iter();
        let starts = members.map(|member| self.start_node(&ground, member));
        futures::future::try_join_all(starts).await?;
        ground.all_joined()?;
        let gateway = gateway::build(
            credentials,
            basis.args.domain.as_ref(),
            self.env.clone(),
            Arc::clone(&self.metadata),
            Arc::new(self.local.clone()),
            &basis.admin.registry,
        )?;
        gateway::wait_ready(&gateway).await?;
        write_run_file(&ground)?;
        Ok(gateway)
    }

    /// Enters an enclosure.
    async fn join(&self, ground: &Ground, member: &Member) -> Result<()> {
        let (id, chain) = (Some(member.id), member.chain);
        let addresses = Addresses {
            admin: ground.admin.to_string(),
            ..Addresses::default()
        };
        join(self.metadata.as_ref(), &self.env, id, chain, addresses)
            .await
            .map(drop)
    }

    /// Serves the drives of an enclosure that has joined.
    async fn start_node(&self, ground: &Ground, member: &Member) -> Result<()> {
        let id = member.id;
        let identity = drives::identity(ground.token.cluster, id);
        let specs = ground
            .drives(member)
            .into_iter()
            .map(EmbeddedDrive::spec)
            .collect();
        let nodes = Arc::new(self.local.clone());
        let bays = Bays {
            specs,
            shelf: Some(ground.shelf(member)),
        };
        let node = Node::start(&self.host, identity, &self.metadata, nodes, bays, None).await?;
        self.local.insert(node.service());
        lock(&self.nodes).insert(id, node);
        Ok(())
    }

    /// What it consists of, for people.
    pub(crate) fn shape(&self) -> String {
        let nodes = lock(&self.nodes);
        let drives: usize = nodes.values().map(Node::drive_count).sum();
        format!(
            "{} enclosures with {drives} drives in one process",
            nodes.len()
        )
    }

    /// Stops nodes, then metadata.
    pub(crate) async fn stop(&self) {
        let nodes = std::mem::take(&mut *lock(&self.nodes));
        futures::future::join_all(nodes.into_values().map(Node::stop)).await;
        let meta = lock(&self.meta).take();
        if let Some(meta) = meta {
            meta.stop().await;
        }
        let ground = self.ground.lock().await;
        let stopped = ground
            .description
            .members
            .iter()
            .map(|member| ground.run_enclosure(member));
        if let Err(error) = ground.run_file(stopped.collect()).write(&ground.layout) {
            tracing::error!(error = format!("{error:#}"), "cannot note the stop");
        }
    }

    async fn grow(&self, new: &model::AddEnclosure) -> Result<model::Acted> {
        let mut ground = self.ground.lock().await;
        let member = ground.describe_new(new.drives, new.chain, &self.env)?;
        self.join(&ground, &member).await?;
        self.start_node(&ground, &member).await?;
        ground.all_joined()?;
        write_run_file(&ground)?;
        let (state, pid) = ("running".to_owned(), Some(std::process::id()));
        Ok(model::Acted {
            id: member.id.get(),
            state,
            pid,
        })
    }
}

/// Whether the cluster refuses an enclosure because it was removed for good.
fn is_removed(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<RootRefusal>();
    matches!(refusal, Some(RootRefusal::Removed(_)))
}

/// Resumes the one replica; in a new cluster it begins.
async fn start_meta(env: &Env, ground: &Ground) -> Result<Meta> {
    let folder = ground.layout.meta(META);
    files::make_folder(&folder)?;
    let peers = meta::peers(&ground.token, [])?;
    let replica = Replica {
        id: META,
        address: String::new(),
    };
    let started = Meta::start(&folder, replica, peers, env.clone(), None).await?;
    if !ground.description.born {
        let birth = Birth {
            cluster: ground.token.cluster,
            profile: ground.description.profile,
            volume_target: ground.volume_target.get(),
            open_volumes: OPEN_VOLUMES,
            replicas: vec![META],
        };
        let born = started.service().bootstrap(birth, &BTreeMap::new()).await;
        born.context("the cluster could not be created")?;
    }
    Ok(started)
}

fn write_run_file(ground: &Ground) -> Result<()> {
    let ours = |member: &Member| {
        let mut enclosure: RunEnclosure = ground.run_enclosure(member);
        enclosure.pid = Some(std::process::id());
        enclosure.started = crate::os::process_start(std::process::id());
        enclosure.state = ProcessState::Running;
        enclosure
    };
    let enclosures = ground.description.members.iter().map(ours).collect();
    ground.run_file(enclosures).write(&ground.layout)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unsupported(what: &str) -> ActError {
    ActError::Unsupported(format!(
        "an enclosure cannot be {what} by itself when all run in one process: use `up --processes`"
    ))
}

#[async_trait]
impl Enclosures for OneProcess {
    fn processes(&self) -> Vec<model::Process> {
        // No process but ours, which answers.
        Vec::new()
    }

    async fn start(&self, _: u32) -> Result<model::Acted, ActError> {
        Err(unsupported("started"))
    }

    async fn stop(&self, _: u32, _: model::StopEnclosure) -> Result<model::Acted, ActError> {
        Err(unsupported("stopped"))
    }

    async fn add(&self, new: model::AddEnclosure) -> Result<model::Acted, ActError> {
        Ok(self.grow(&new).await?)
    }

    async fn forget(&self, id: u32) -> Result<(), ActError> {
        let id = EnclosureId::new(id);
        let mut ground = self.ground.lock().await;
        ground.forget(id)?;
        let node = lock(&self.nodes).remove(&id);
        if let Some(node) = node {
            self.local.remove(id);
            node.stop().await;
        }
        Ok(write_run_file(&ground)?)
    }
}
