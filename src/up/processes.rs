//! An embedded cluster in processes: one for each enclosure. This one is their parent and a
//! gateway without state; it starts none again by itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use enfilade_cluster::api::MetadataClient;
use enfilade_cluster::api::root::Addresses;
use enfilade_cluster::env::Env;
use enfilade_gateway::Gateway;
use enfilade_placement::EnclosureId;

use crate::admin::{ActError, Enclosures, model};
use crate::credentials::RootCredentials;
use crate::files::{self, Secrecy};
use crate::role::drives::DistantNodes;
use crate::role::gateway;
use crate::role::meta::{self, OPEN_VOLUMES};
use crate::settings::{
    Capacity, DriveConfig, DrivesConfig, Listen, MetaAddress, MetaConfig, NodeConfig, Role,
};
use crate::up::Basis;
use crate::up::births::{Ground, join};
use crate::up::children::{Children, Stop};
use crate::up::description::Member;
use crate::up::ports;
use crate::up::run_file::{ProcessState, RunEnclosure};

/// The processes of a cluster.
pub(crate) struct Processes {
    env: Env,
    children: Arc<Children>,
    metadata: OnceLock<Arc<dyn MetadataClient>>,
    /// Held while something is done to enclosures: one thing at a time.
    ground: tokio::sync::Mutex<Ground>,
}

impl Processes {
    /// Starts all enclosures, and returns when data can be written.
    pub(super) async fn start(
        basis: &Basis,
        ground: Ground,
        credentials: &RootCredentials,
    ) -> Result<(Arc<Self>, Gateway)> {
        ground.check_metadata()?;
        ground.format_new()?;
        let configs = configure(&ground, &basis.env)?;
        let described = ground.description.members.iter().zip(&configs);
        let enclosures = described.map(|(member, config)| entry(&ground, member, config));
        let run = ground.run_file(enclosures.collect::<Result<_>>()?);
        run.write(&ground.layout)?;
        let children = Children::new(ground.layout.clone(), credentials.clone(), run)?;
        let many = Arc::new(Self {
            env: basis.env.clone(),
            children: Arc::new(children),
            metadata: OnceLock::new(),
            ground: tokio::sync::Mutex::new(ground),
        });
        match many.begin(basis, credentials, &configs).await {
            Ok(gateway) => {
                // Set once; a second time is impossible here.
                let _ = basis
                    .admin
                    .enclosures
                    .set(Arc::clone(&many) as Arc<dyn Enclosures>);
                Ok((many, gateway))
            }
            Err(error) => {
                many.stop().await;
                Err(error)
            }
        }
    }

    async fn begin(
        &self,
        basis: &Basis,
        credentials: &RootCredentials,
        configs: &[NodeConfig],
    ) -> Result<Gateway> {
        let mut ground = self.ground.lock().await;
        let ids: Vec<u32> = ground
            .description
            .members
            .iter()
            .map(|m| m.id.get())
            .collect();
        for id in &ids {
            self.children.spawn(*id)?;
        }
        if !ground.description.born {
            self.bear(&ground, configs).await?;
        }
        let replicas = replicas(configs);
        let addresses = replicas
            .into_iter()
            .map(|replica| (replica.enclosure, replica.address));
        let peers = meta::peers(&ground.token, addresses)?;
        let metadata: Arc<dyn MetadataClient> = meta::remote_client(peers, self.env.clone());
        let _ = basis.admin.metadata.set(Arc::clone(&metadata));
        let _ = self.metadata.set(Arc::clone(&metadata));
        self.enter_new(&ground, metadata.as_ref(), configs).await?;
        let fresh = !ground.description.born;
        let waits = ids.iter().map(|id| self.children.wait_ready(*id));
        for (id, ready) in ids.iter().zip(futures::future::join_all(waits).await) {
            match ready {
                // A cluster that exists does without some of its enclosures, and says so.
                Err(error) if !fresh => {
                    tracing::error!(id, error = format!("{error:#}"), "an enclosure is missing");
                }
                other => other?,
            }
        }
        ground.all_joined()?;
        let nodes = Arc::new(DistantNodes::default());
        let gateway = gateway::build(
            credentials,
            basis.args.domain.as_ref(),
            self.env.clone(),
            metadata,
            Arc::clone(&nodes) as _,
            &basis.admin.registry,
        )?;
        nodes.follow(gateway.view().changes(), &ground.token)?;
        gateway::wait_ready(&gateway).await?;
        Ok(gateway)
    }

    /// Enters the enclosures that have not joined, one after another, so that their places in the
    /// chains follow their ids. Their processes wait for it.
    async fn enter_new(
        &self,
        ground: &Ground,
        metadata: &dyn MetadataClient,
        configs: &[NodeConfig],
    ) -> Result<()> {
        for (member, config) in ground.description.members.iter().zip(configs) {
            if !member.joined {
                let [shard, meta, admin] = config.addresses()?;
                let addresses = Addresses { shard, meta, admin };
                join(
                    metadata,
                    &self.env,
                    Some(member.id),
                    member.chain,
                    addresses,
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Has the first replica begin the cluster (PROTOCOLS 10).
    async fn bear(&self, ground: &Ground, configs: &[NodeConfig]) -> Result<()> {
        let metas = ground
            .description
            .members
            .iter()
            .filter(|member| member.meta);
        let metas: Vec<u32> = metas.map(|member| member.id.get()).collect();
        let waits = metas.iter().map(|id| self.children.wait_for(*id, "live"));
        futures::future::try_join_all(waits).await?;
        let first = metas
            .first()
            .context("no enclosure holds metadata replicas")?;
        let founder = |replica: MetaAddress| model::Founder {
            id: replica.enclosure.get(),
            meta: replica.address,
        };
        let birth = model::Birth {
            profile: ground.description.profile.to_string(),
            volume_target: ground.volume_target.get(),
            open_volumes: OPEN_VOLUMES,
            replicas: replicas(configs)
                .into_iter()
                .filter(|replica| metas.contains(&replica.enclosure.get()))
                .map(founder)
                .collect(),
        };
        let born = self
            .children
            .client(*first)?
            .post::<serde_json::Value>("birth", &birth)
            .await;
        born.map(drop).context("the cluster could not be created")
    }

    fn metadata(&self) -> Result<&dyn MetadataClient> {
        self.metadata
            .get()
            .map(AsRef::as_ref)
            .context("the cluster is starting")
    }

    /// What it consists of, for people.
    pub(crate) fn shape(&self) -> String {
        let run = self.children.run();
        let all = run.enclosures.len();
        let running = run
            .enclosures
            .iter()
            .filter(|e| e.state == ProcessState::Running)
            .count();
        if running == all {
            format!("{all} enclosures, each in a process of its own")
        } else {
            format!("{running} of {all} enclosures, each in a process of its own")
        }
    }

    /// Stops all processes.
    pub(crate) async fn stop(&self) {
        self.children.stop_all().await;
    }

    async fn grow(&self, new: &model::AddEnclosure) -> Result<model::Acted> {
        let mut ground = self.ground.lock().await;
        let member = ground.describe_new(new.drives, new.chain, &self.env)?;
        let configs = configure(&ground, &self.env)?;
        let config = configs
            .last()
            .context("the enclosure has no configuration")?;
        self.children.enter(entry(&ground, &member, config)?)?;
        let id = member.id.get();
        let pid = self.children.spawn(id)?;
        self.enter_new(&ground, self.metadata()?, &configs).await?;
        self.children.wait_ready(id).await?;
        ground.all_joined()?;
        Ok(model::Acted {
            id,
            state: "running".to_owned(),
            pid: Some(pid),
        })
    }
}

/// The metadata services, as all configurations name them.
fn replicas(configs: &[NodeConfig]) -> Vec<MetaAddress> {
    configs
        .first()
        .map(|config| config.metadata.clone())
        .unwrap_or_default()
}

fn entry(ground: &Ground, member: &Member, config: &NodeConfig) -> Result<RunEnclosure> {
    let [shard_address, meta_address, admin] = config.addresses()?;
    Ok(RunEnclosure {
        admin,
        meta_address,
        shard_address,
        ..ground.run_enclosure(member)
    })
}

/// Writes the configurations of all enclosures. Ports are asked for once, and kept in them.
fn configure(ground: &Ground, env: &Env) -> Result<Vec<NodeConfig>> {
    let mut sockets = Vec::new();
    for member in &ground.description.members {
        let path = ground.layout.node_config(member.id);
        sockets.push(if path.exists() {
            let kept = NodeConfig::load_file(&path)?;
            let node = kept.node.as_ref().map(|node| node.listen);
            let meta = match &kept.meta {
                Some(meta) => meta.listen,
                None => ports::free(1, env)?[0],
            };
            (
                kept.admin.listen,
                node.context("node.listen is gone")?,
                meta,
            )
        } else {
            let free = ports::free(3, env)?;
            (free[0], free[1], free[2])
        });
    }
    let metas = ground.description.members.iter().zip(&sockets);
    // All run the metadata service: replicas come and go.
    let metadata: Vec<MetaAddress> = metas
        .map(|(member, (_, _, meta))| MetaAddress {
            enclosure: member.id,
            address: meta.to_string(),
        })
        .collect();
    let mut configs = Vec::new();
    for (member, (admin, node, meta)) in ground.description.members.iter().zip(sockets) {
        let shelf_capacity = ground.shelf(member).capacity.map(Capacity);
        let drives = ground.drives(member).into_iter().map(|drive| DriveConfig {
            // Relative to the configuration, so that the whole folder can be moved.
            folder: PathBuf::from("drives").join(drive.slot.to_string()),
            uuid: drive.id,
            capacity: drive.capacity.map(Capacity),
        });
        let config = NodeConfig {
            folder: PathBuf::from("."),
            roles: BTreeSet::from([Role::Node, Role::Meta]),
            chain: member.chain,
            enclosure: Some(member.id),
            metadata: metadata.clone(),
            token_file: Some(PathBuf::from("../../token")),
            token: None,
            credentials_file: Some(PathBuf::from("../../credentials")),
            admin: Listen {
                listen: admin,
                advertise: None,
            },
            meta: Some(MetaConfig {
                listen: meta,
                advertise: None,
                folder: PathBuf::from("meta"),
            }),
            node: Some(DrivesConfig {
                listen: node,
                advertise: None,
                drives: drives.collect(),
                shelf: Some(PathBuf::from("drives")),
                shelf_capacity,
            }),
            gateway: None,
        };
        let path = ground.layout.node_config(member.id);
        files::replace(&path, config.text()?.as_bytes(), Secrecy::Public)?;
        configs.push(config);
    }
    Ok(configs)
}

#[async_trait]
impl Enclosures for Processes {
    fn processes(&self) -> Vec<model::Process> {
        let process = |enclosure: RunEnclosure| model::Process {
            id: enclosure.id,
            pid: enclosure.pid,
            state: crate::admin::status::word(enclosure.state),
        };
        self.children
            .run()
            .enclosures
            .into_iter()
            .map(process)
            .collect()
    }

    async fn start(&self, id: u32) -> Result<model::Acted, ActError> {
        let _one_at_a_time = self.ground.lock().await;
        match self.children.lives(id) {
            None => return Err(ActError::NotFound(id)),
            Some(true) => return Err(ActError::Conflict(format!("enclosure {id} runs already"))),
            Some(false) => {}
        }
        let pid = self.children.spawn(id)?;
        self.children.wait_ready(id).await?;
        Ok(model::Acted {
            id,
            state: "running".to_owned(),
            pid: Some(pid),
        })
    }

    async fn stop(&self, id: u32, how: model::StopEnclosure) -> Result<model::Acted, ActError> {
        // Not under the lock: an enclosure that does not come up must be stoppable.
        match self.children.lives(id) {
            None => return Err(ActError::NotFound(id)),
            Some(false) => {
                return Err(ActError::Conflict(format!("enclosure {id} does not run")));
            }
            Some(true) => {}
        }
        self.children
            .stop(id, if how.kill { Stop::Kill } else { Stop::Ask })
            .await;
        Ok(model::Acted {
            id,
            state: "stopped".to_owned(),
            pid: None,
        })
    }

    async fn add(&self, new: model::AddEnclosure) -> Result<model::Acted, ActError> {
        Ok(self.grow(&new).await?)
    }

    async fn forget(&self, id: u32) -> Result<(), ActError> {
        let mut ground = self.ground.lock().await;
        ground.forget(EnclosureId::new(id))?;
        self.children.stop(id, Stop::Ask).await;
        Ok(self.children.forget(id)?)
    }
}
