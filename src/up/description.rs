//! What an embedded cluster is, as its folder says: written before anything is formatted, and from
//! then on stronger than flags.

use anyhow::{Context as _, Result, bail, ensure};
use enfilade_cluster::env::Env;
use enfilade_placement::{ChainId, ClusterId, DriveId, EnclosureId, Profile};
use serde::{Deserialize, Serialize};

use crate::cli::UpArgs;
use crate::files::{self, Secrecy};
use crate::up::layout::Layout;

const FORMAT: u32 = 1;
const ENCLOSURES_DEFAULT: u32 = 6;
const DRIVES_DEFAULT: u32 = 4;
const CHAINS_DEFAULT: u32 = 1;
const PROFILE_DEFAULT: (u8, u8) = (4, 2);

/// The cluster of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The version of this file.
    format: u32,
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// Its erasure code.
    #[serde(with = "profile_text")]
    pub(crate) profile: Profile,
    /// Whether every enclosure is a process of its own.
    pub(crate) processes: bool,
    /// How many enclosures it began with.
    pub(crate) enclosures: u32,
    /// How many drives each of them has.
    pub(crate) drives: u32,
    /// Over how many chains they are spread.
    pub(crate) chains: u32,
    /// Whether its birth is complete. Until then drives are formatted at the next start; after it
    /// an empty folder is a drive that is gone (PROTOCOLS 26).
    pub(crate) born: bool,
    /// Bytes that each drive takes for its own: all share one file system. None: a share of it by
    /// the number of drives that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drive_bytes: Option<u64>,
    /// Enclosures that it had: their ids are not given again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) removed: Vec<EnclosureId>,
    /// The enclosures that it has.
    #[serde(rename = "enclosure")]
    pub(crate) members: Vec<Member>,
}

/// One enclosure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Its id.
    pub(crate) id: EnclosureId,
    /// Its chain.
    pub(crate) chain: ChainId,
    /// Whether it was given metadata replicas at the cluster's birth.
    pub(crate) meta: bool,
    /// Whether its drives were formatted.
    pub(crate) joined: bool,
    /// Its drives, by slot.
    pub(crate) drives: Vec<DriveId>,
}

/// What the flags of `up` ask for; nothing where they are silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wish {
    /// Enclosures.
    pub(crate) enclosures: Option<u32>,
    /// Drives each.
    pub(crate) drives: Option<u32>,
    /// Chains.
    pub(crate) chains: Option<u32>,
    /// Erasure code.
    pub(crate) profile: Option<Profile>,
    /// A process for each enclosure.
    pub(crate) processes: bool,
}

impl From<&UpArgs> for Wish {
    fn from(args: &UpArgs) -> Self {
        Self {
            enclosures: args.enclosures,
            drives: args.drives,
            chains: args.chains,
            profile: args.profile,
            processes: args.processes,
        }
    }
}

impl Description {
    /// The description in a folder; None when it holds no cluster.
    ///
    /// # Errors
    /// When it cannot be read, or is of a newer version.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.description();
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        let format = table.get("format").and_then(toml::Value::as_integer);
        ensure!(
            format == Some(i64::from(FORMAT)),
            "{}: format {format:?} is not the one of this version, {FORMAT}",
            path.display()
        );
        let read: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        read.check().with_context(|| path.display().to_string())?;
        Ok(Some(read))
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write(&self, layout: &Layout) -> Result<()> {
        let text = toml::to_string(self).context("cannot encode the description")?;
        let text = format!("# What this cluster is. Written by `enfilade`; do not edit.\n{text}");
        files::replace(&layout.description(), text.as_bytes(), Secrecy::Public)
    }

    /// A new cluster, as wished or by default.
    ///
    /// # Errors
    /// When the topology cannot hold the profile.
    pub(crate) fn new(wish: Wish, cluster: ClusterId, env: &Env) -> Result<Self> {
        let (k, m) = PROFILE_DEFAULT;
        let profile = wish.profile.map_or_else(|| Profile::new(k, m), Ok)?;
        let mut new = Self {
            format: FORMAT,
            cluster,
            profile,
            processes: wish.processes,
            enclosures: wish.enclosures.unwrap_or(ENCLOSURES_DEFAULT),
            drives: wish.drives.unwrap_or(DRIVES_DEFAULT),
            chains: wish.chains.unwrap_or(CHAINS_DEFAULT),
            born: false,
            drive_bytes: None,
            removed: Vec::new(),
            members: Vec::new(),
        };
        for index in 0..new.enclosures {
            let id = EnclosureId::new(index + 1);
            let chain = ChainId::new(index % new.chains.max(1) + 1);
            new.members.push(Member::new(id, chain, new.drives, env));
        }
        new.check()?;
        for member in crate::up::plan::replicas(&new) {
            new.members
                .iter_mut()
                .filter(|m| m.id == member)
                .for_each(|m| m.meta = true);
        }
        Ok(new)
    }

    /// Refuses what the flags ask for and the cluster is not.
    ///
    /// # Errors
    /// Names every flag that is in conflict.
    pub(crate) fn agree(&self, wish: Wish) -> Result<()> {
        let mut conflicts = Vec::new();
        let now = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        if let Some(n) = wish
            .enclosures
            .filter(|n| *n != self.enclosures && *n != now)
        {
            conflicts.push(format!("--enclosures {n} (it has {now})"));
        }
        if let Some(n) = wish.drives.filter(|n| *n != self.drives) {
            conflicts.push(format!("--drives {n} (it has {})", self.drives));
        }
        if let Some(n) = wish.chains.filter(|n| *n != self.chains) {
            conflicts.push(format!("--chains {n} (it has {})", self.chains));
        }
        if let Some(profile) = wish.profile.filter(|profile| *profile != self.profile) {
            conflicts.push(format!("--profile {profile} (it has {})", self.profile));
        }
        if wish.processes && !self.processes {
            conflicts.push("--processes (it was created to run in one process)".to_owned());
        }
        if conflicts.is_empty() {
            return Ok(());
        }
        bail!(
            "the folder holds cluster {}, which is not what these flags ask for: {}; leave them \
             out, grow it with `enfilade enclosure add`, or name another folder with --data",
            self.cluster,
            conflicts.join(", ")
        )
    }

    /// Whether the topology can hold the profile.
    fn check(&self) -> Result<()> {
        let drives: usize = self.members.iter().map(|member| member.drives.len()).sum();
        let Self {
            profile,
            enclosures,
            chains,
            ..
        } = self;
        ensure!(
            drives >= profile.width(),
            "profile {profile} needs {} drives at least, {enclosures} enclosures with {} each \
             have {drives}",
            profile.width(),
            self.drives,
        );
        ensure!(
            drives > profile.k(),
            "profile {profile} needs {} drives",
            profile.ack_floor()
        );
        ensure!(
            chains <= enclosures,
            "{chains} chains need {chains} enclosures at least"
        );
        Ok(())
    }

    /// An id that was never given.
    pub(crate) fn next_id(&self) -> EnclosureId {
        let given = self.members.iter().map(|member| member.id);
        let last = given.chain(self.removed.iter().copied()).max();
        last.map_or(EnclosureId::new(1), EnclosureId::next)
    }

    /// All drives.
    pub(crate) fn drive_count(&self) -> usize {
        self.members.iter().map(|member| member.drives.len()).sum()
    }

    /// The chain with the fewest enclosures; the first of them.
    pub(crate) fn shortest_chain(&self) -> ChainId {
        let length = |chain: &u32| {
            self.members
                .iter()
                .filter(|member| member.chain.get() == *chain)
                .count()
        };
        ChainId::new((1..=self.chains.max(1)).min_by_key(length).unwrap_or(1))
    }
}

impl Member {
    /// A new enclosure with new drives.
    pub(crate) fn new(id: EnclosureId, chain: ChainId, drives: u32, env: &Env) -> Self {
        let draw = |_| DriveId::new(env.random.next_u128());
        Self {
            id,
            chain,
            meta: false,
            joined: false,
            drives: (0..drives).map(draw).collect(),
        }
    }
}

mod profile_text {
    use enfilade_placement::Profile;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(profile: &Profile, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(profile)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Profile, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(wish: Wish) -> Result<Description> {
        Description::new(wish, ClusterId::new(7), &Env::seeded(1))
    }

    #[test]
    fn a_description_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(Description::read(&layout).unwrap(), None);
        let mut made = new(Wish {
            chains: Some(2),
            ..Wish::default()
        })
        .unwrap();
        made.born = true;
        made.write(&layout).unwrap();
        assert_eq!(Description::read(&layout).unwrap(), Some(made));
    }

    #[test]
    fn enclosures_go_round_the_chains() {
        let made = new(Wish {
            chains: Some(3),
            ..Wish::default()
        })
        .unwrap();
        let chains: Vec<u32> = made.members.iter().map(|m| m.chain.get()).collect();
        assert_eq!(chains, [1, 2, 3, 1, 2, 3]);
        assert_eq!(made.shortest_chain(), ChainId::new(1));
    }

    #[test]
    fn a_profile_that_the_drives_cannot_hold_is_refused_with_the_numbers() {
        let wide = Wish {
            profile: Some("8+3".parse().unwrap()),
            ..Wish::default()
        };
        assert!(new(wide).is_ok(), "24 drives");
        let few = Wish {
            enclosures: Some(2),
            drives: Some(2),
            ..wide
        };
        let error = new(few).unwrap_err().to_string();
        assert!(
            error.contains("needs 11 drives") && error.contains("have 4"),
            "{error}"
        );
        let chains = new(Wish {
            chains: Some(7),
            ..Wish::default()
        })
        .unwrap_err();
        assert!(chains.to_string().contains("7 chains"), "{chains}");
    }

    #[test]
    fn flags_that_say_otherwise_are_all_named() {
        let made = new(Wish::default()).unwrap();
        made.agree(Wish::default()).unwrap();
        made.agree(Wish {
            enclosures: Some(6),
            drives: Some(4),
            ..Wish::default()
        })
        .unwrap();
        let other = Wish {
            enclosures: Some(7),
            profile: Some("2+1".parse().unwrap()),
            processes: true,
            ..Wish::default()
        };
        let error = made.agree(other).unwrap_err().to_string();
        for part in [
            "--enclosures 7 (it has 6)",
            "--profile 2+1 (it has 4+2)",
            "--processes",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_id_of_an_enclosure_that_was_removed_is_not_given_again() {
        let mut made = new(Wish::default()).unwrap();
        assert_eq!(made.next_id(), EnclosureId::new(7));
        let last = made.members.pop().unwrap();
        made.removed.push(last.id);
        assert_eq!(made.next_id(), EnclosureId::new(7));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        std::fs::write(layout.description(), "format = 9\nnews = true\n").unwrap();
        let error = Description::read(&layout).unwrap_err().to_string();
        assert!(error.contains("format Some(9)"), "{error}");
    }
}
