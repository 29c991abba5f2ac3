//! `enfilade cluster init`: creates a cluster of the metadata processes that a file names. Beside a
//! fresh `up` the only thing that does (PROTOCOLS 10).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use enfilade_cluster::env::Env;
use enfilade_placement::Profile;
use enfilade_placement::units::ByteSize;
use serde::{Deserialize, Serialize};

use crate::admin::client::AdminClient;
use crate::admin::commands::say;
use crate::admin::model;
use crate::cli::InitArgs;
use crate::credentials::{RootCredentials, Token};
use crate::files;
use crate::role::meta::OPEN_VOLUMES;
use crate::settings::Capacity;

/// At this size of a shard its volume is sealed, unless the file says otherwise.
const VOLUME_TARGET: ByteSize = ByteSize::gib(64);

/// What a cluster is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InitConfig {
    /// Its erasure code, `k+m`.
    profile: String,
    /// Bytes of a shard at which its volume is sealed.
    #[serde(default)]
    volume_target: Option<Capacity>,
    /// How many volumes are kept open.
    #[serde(default)]
    open_volumes: Option<u32>,
    /// Where the token is kept, or is to be: copy it to all nodes.
    token_file: PathBuf,
    /// The root credentials; `ENFILADE_ROOT_*` go before it.
    #[serde(default)]
    credentials_file: Option<PathBuf>,
    /// The enclosures that hold the first metadata replicas. Empty: only make the token.
    #[serde(default)]
    replicas: Vec<Founder>,
}

/// An enclosure that holds a first metadata replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Founder {
    /// Its id.
    enclosure: u32,
    /// Where its metadata service is reached, `host:port`.
    address: String,
    /// Its admin API, `http://host:port`.
    admin: String,
}

/// What was made, as JSON.
#[derive(Debug, Serialize)]
struct Made {
    cluster: String,
    token: String,
    born: bool,
}

/// Makes the token unless it is there; and when replicas are named, has them begin the cluster.
///
/// # Errors
/// When the file does not hold together, or a process does not answer or refuses.
pub(crate) async fn run(args: InitArgs) -> Result<()> {
    let config = load(&args.config)?;
    let token = match Token::from_file(&config.token_file)? {
        Some(token) => token,
        None => {
            let token = Token::generate(&Env::real());
            token.write(&config.token_file)?;
            token
        }
    };
    let born = !config.replicas.is_empty();
    if born {
        begin(&config).await?;
    }
    let made = Made {
        cluster: token.cluster.to_string(),
        token: token.text(),
        born,
    };
    if args.json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&made)?));
    }
    let cluster = &made.cluster;
    let news = if born {
        format!("cluster {cluster} is born; nodes join with this token:")
    } else {
        format!("the token of cluster {cluster}, which is not born yet:")
    };
    say(&format!("{news}\n{}\n", made.token))
}

fn load(path: &Path) -> Result<InitConfig> {
    let text = files::read_if_there(path)?;
    let text = text.with_context(|| format!("there is no {}", path.display()))?;
    let mut config: InitConfig =
        toml::from_str(&text).with_context(|| path.display().to_string())?;
    config
        .profile
        .parse::<Profile>()
        .with_context(|| path.display().to_string())?;
    let even = !config.replicas.is_empty() && config.replicas.len().is_multiple_of(2);
    ensure!(!even, "{}: name an odd number of replicas", path.display());
    let base = path.parent().unwrap_or(Path::new(""));
    config.token_file = base.join(&config.token_file);
    config.credentials_file = config.credentials_file.map(|file| base.join(file));
    Ok(config)
}

async fn begin(config: &InitConfig) -> Result<()> {
    let file = config.credentials_file.clone().unwrap_or_default();
    let credentials = RootCredentials::find(&file)?;
    let first = config.replicas.first().context("no replica is named")?;
    let birth = model::Birth {
        profile: config.profile.clone(),
        volume_target: config
            .volume_target
            .map_or(VOLUME_TARGET, |target| target.0)
            .get(),
        open_volumes: config.open_volumes.unwrap_or(OPEN_VOLUMES),
        replicas: config
            .replicas
            .iter()
            .map(|founder| model::Founder {
                id: founder.enclosure,
                meta: founder.address.clone(),
            })
            .collect(),
    };
    let client = AdminClient::new(&first.admin, &credentials)?;
    client
        .post::<serde_json::Value>("birth", &birth)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_token_is_made_once_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.toml");
        std::fs::write(&path, "profile = \"4+2\"\ntoken_file = \"token\"\n").unwrap();
        let args = || InitArgs {
            config: path.clone(),
            json: true,
        };
        run(args()).await.unwrap();
        let made = Token::from_file(&folder.path().join("token"))
            .unwrap()
            .unwrap();
        run(args()).await.unwrap();
        assert_eq!(
            Token::from_file(&folder.path().join("token")).unwrap(),
            Some(made)
        );
        for (text, part) in [
            ("profile = \"4-2\"\ntoken_file = \"t\"\n", "4-2"),
            ("profile = \"4+2\"\ntoken = \"t\"\n", "token"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", run(args()).await.unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
