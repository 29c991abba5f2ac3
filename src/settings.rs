//! The configuration of a node: a TOML file, overridden by environment variables, validated before
//! anything is opened.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use enfilade_placement::units::ByteSize;
use enfilade_placement::{ChainId, DriveId, EnclosureId};
use serde::{Deserialize, Serialize};

use crate::credentials::Token;
use crate::files;

/// `ENFILADE_NODE_META__LISTEN=127.0.0.1:7001` overrides `listen` in `[meta]`.
pub(crate) const OVERRIDE_PREFIX: &str = "ENFILADE_NODE_";

/// One part of what a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Metadata replicas.
    Meta,
    /// Drives.
    Node,
    /// S3.
    Gateway,
}

/// The configuration of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// What the process keeps for itself: its lock and its identity.
    pub(crate) folder: PathBuf,
    /// What it runs.
    pub(crate) roles: BTreeSet<Role>,
    /// The chain that its enclosure is linked into.
    #[serde(default = "first_chain")]
    pub(crate) chain: ChainId,
    /// Its enclosure's id, for enclosures that hold the first metadata replicas; others get theirs
    /// when they join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enclosure: Option<EnclosureId>,
    /// The first metadata replicas, the same in all configurations of a cluster. Others are learnt
    /// from these.
    pub(crate) metadata: Vec<MetaAddress>,
    /// A file with the token of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself; meant for the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// A file with the root credentials; `ENFILADE_ROOT_*` go before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credentials_file: Option<PathBuf>,
    /// Metrics, health and the admin API.
    pub(crate) admin: Listen,
    /// Settings of the role `meta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<MetaConfig>,
    /// Settings of the role `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<DrivesConfig>,
    /// Settings of the role `gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<GatewayConfig>,
}

/// Where a metadata replica is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaAddress {
    /// The enclosure that holds it.
    pub(crate) enclosure: EnclosureId,
    /// `host:port`.
    pub(crate) address: String,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// The address to listen on.
    pub(crate) listen: SocketAddr,
    /// The address under which others reach it, `host:port`; the same unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<String>,
}

/// Settings of the role `meta`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaConfig {
    /// The address to listen on.
    pub(crate) listen: SocketAddr,
    /// The address under which others reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<String>,
    /// Where replicas are kept.
    pub(crate) folder: PathBuf,
}

/// Settings of the role `node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrivesConfig {
    /// The address to listen on.
    pub(crate) listen: SocketAddr,
    /// The address under which others reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advertise: Option<String>,
    /// The drives, by slot.
    #[serde(default)]
    pub(crate) drives: Vec<DriveConfig>,
    /// A folder of folders: every drive of the cluster that is, or comes, into one is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shelf: Option<PathBuf>,
    /// How much each drive on the shelf may hold, when that is less than its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shelf_capacity: Option<Capacity>,
}

/// A drive. Named by its UUID: another or an empty folder there is a drive that is gone
/// (PROTOCOLS 26).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DriveConfig {
    /// Where it is mounted.
    pub(crate) folder: PathBuf,
    /// The UUID in its superblock.
    pub(crate) uuid: DriveId,
    /// How much it may hold, when that is less than the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) capacity: Option<Capacity>,
}

/// A size, as text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Capacity(pub(crate) ByteSize);

impl TryFrom<String> for Capacity {
    type Error = enfilade_placement::units::ParseSizeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Capacity> for String {
    fn from(capacity: Capacity) -> Self {
        capacity.0.get().to_string()
    }
}

/// Settings of the role `gateway`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Where S3 is served.
    pub(crate) listen: SocketAddr,
    /// Host name under which buckets are also sub-domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<String>,
}

fn first_chain() -> ChainId {
    ChainId::new(1)
}

impl NodeConfig {
    /// Reads a file, with the overrides of this process's environment.
    ///
    /// # Errors
    /// When it cannot be read, names what is not known, or does not hold together.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = files::read_if_there(path)?;
        let text = text.with_context(|| format!("there is no {}", path.display()))?;
        let read = Self::parse(&text, std::env::vars());
        let mut config = read.with_context(|| path.display().to_string())?;
        config.anchor(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads a file as it is: without overrides, its paths as they stand in it.
    ///
    /// # Errors
    /// As those of [`NodeConfig::load`].
    pub(crate) fn load_file(path: &Path) -> Result<Self> {
        let text = files::read_if_there(path)?;
        let text = text.with_context(|| format!("there is no {}", path.display()))?;
        Self::parse(&text, std::iter::empty()).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut table: toml::Table = text.parse()?;
        for (name, value) in variables {
            if let Some(path) = name.strip_prefix(OVERRIDE_PREFIX) {
                let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
                set(&mut table, &keys, literal(&value)).with_context(|| name.clone())?;
            }
        }
        let config: Self = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    /// Takes relative paths to be relative to the file, so that its folder can be moved.
    fn anchor(&mut self, base: &Path) {
        let drives = self.node.iter_mut().flat_map(|node| &mut node.drives);
        let paths = drives.map(|drive| &mut drive.folder);
        let paths = paths.chain(self.meta.iter_mut().map(|meta| &mut meta.folder));
        let paths = paths
            .chain(self.token_file.iter_mut())
            .chain(self.credentials_file.iter_mut());
        for path in paths.chain(std::iter::once(&mut self.folder)) {
            *path = base.join(&*path);
        }
        if let Some(shelf) = self.node.as_mut().and_then(|node| node.shelf.as_mut()) {
            *shelf = base.join(&*shelf);
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            !self.roles.is_empty(),
            "roles: name one of meta, node and gateway at least"
        );
        for (role, there) in [
            (Role::Meta, self.meta.is_some()),
            (Role::Node, self.node.is_some()),
            (Role::Gateway, self.gateway.is_some()),
        ] {
            let wanted = self.roles.contains(&role);
            let name = format!("{role:?}").to_lowercase();
            ensure!(
                !wanted || there,
                "roles names {name}, but there is no [{name}]"
            );
            ensure!(
                wanted || !there,
                "there is a [{name}], but roles does not name {name}"
            );
        }
        ensure!(
            !self.metadata.is_empty(),
            "metadata: name one metadata service at least"
        );
        for replica in &self.metadata {
            check_address("metadata", &replica.address)?;
        }
        let ids: BTreeSet<_> = self
            .metadata
            .iter()
            .map(|replica| replica.enclosure)
            .collect();
        ensure!(
            ids.len() == self.metadata.len(),
            "metadata: an enclosure is named twice"
        );
        // Others are given an id when they join, and replicas when they are wanted.
        let founder = self.roles.contains(&Role::Meta) && {
            let [_, own, _] = self.addresses()?;
            self.metadata.iter().any(|replica| replica.address == own)
        };
        ensure!(
            !founder || self.enclosure.is_some(),
            "who is named in metadata needs the id: enclosure = N"
        );
        ensure!(
            self.token.is_some() != self.token_file.is_some(),
            "name one of token and token_file"
        );
        ensure!(
            self.enclosure != Some(EnclosureId::new(0)),
            "enclosures are numbered from 1"
        );
        if let Some(node) = &self.node {
            let folders: BTreeSet<_> = node.drives.iter().map(|drive| &drive.folder).collect();
            let uuids: BTreeSet<_> = node.drives.iter().map(|drive| drive.uuid).collect();
            let distinct = folders.len().min(uuids.len()) == node.drives.len();
            ensure!(distinct, "node.drives: a folder or uuid is named twice");
        }
        self.addresses().map(drop)
    }

    /// The addresses under which others reach this process: fragments, metadata, admin.
    ///
    /// # Errors
    /// When one is not fit to be reached under.
    pub(crate) fn addresses(&self) -> Result<[String; 3]> {
        let reach = |what: &str, listen: SocketAddr, advertise: Option<&String>| {
            if let Some(address) = advertise {
                check_address(what, address)?;
                return Ok(address.clone());
            }
            if listen.ip().is_unspecified() {
                bail!("{what} listens on all addresses: say with `advertise` how it is reached");
            }
            Ok(listen.to_string())
        };
        let node = self.node.as_ref();
        let meta = self.meta.as_ref();
        Ok([
            node.map_or(Ok(String::new()), |n| {
                reach("node", n.listen, n.advertise.as_ref())
            })?,
            meta.map_or(Ok(String::new()), |m| {
                reach("meta", m.listen, m.advertise.as_ref())
            })?,
            reach("admin", self.admin.listen, self.admin.advertise.as_ref())?,
        ])
    }

    /// The token of the cluster.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub(crate) fn read_token(&self) -> Result<Token> {
        match (&self.token, &self.token_file) {
            (Some(text), _) => text.parse().context("token"),
            (None, Some(path)) => {
                Token::from_file(path)?.with_context(|| format!("there is no {}", path.display()))
            }
            (None, None) => bail!("name one of token and token_file"),
        }
    }

    /// The text of a file that reads back as this.
    ///
    /// # Errors
    /// When a path is no text.
    pub(crate) fn text(&self) -> Result<String> {
        toml::to_string(self).context("cannot encode the configuration")
    }
}

fn check_address(what: &str, address: &str) -> Result<()> {
    let port = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty());
    let port = port
        .and_then(|(_, port)| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    ensure!(port.is_some(), "{what}: '{address}' is not host:port");
    Ok(())
}

/// A value as TOML writes it, else as text.
fn literal(text: &str) -> toml::Value {
    let table = format!("value = {text}").parse::<toml::Table>();
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn set(table: &mut toml::Table, keys: &[String], value: toml::Value) -> Result<()> {
    match keys {
        [] => bail!("names no entry"),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [key, rest @ ..] => {
            let entry = table.entry(key.clone());
            let inner = entry.or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let inner = inner
                .as_table_mut()
                .with_context(|| format!("'{key}' is no section"))?;
            set(inner, rest, value)
        }
    }
}

#[cfg(test)]
mod tests;
