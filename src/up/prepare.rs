//! Everything that can go wrong before anything is created or changed, and then the first files.

use std::fs;
use std::io;

use anyhow::{Context as _, Result, bail};
use enfilade_cluster::env::Env;
use tokio::net::TcpListener;

use crate::admin::server::bind;
use crate::cli::UpArgs;
use crate::credentials::{RootCredentials, Token};
use crate::files;
use crate::os;
use crate::up::description::{Description, Wish};
use crate::up::layout::Layout;
use crate::up::lock::{FolderLock, refuse_survivors};

/// What may lie in a folder that holds no cluster yet: left-overs of a start that broke off early.
const EARLY: [&str; 4] = ["lock", "credentials", "token", "run.json"];

/// A folder that is ours, with a description of the cluster in it, and the sockets to serve on.
pub(crate) struct Prepared {
    /// Where things are.
    pub(crate) layout: Layout,
    /// Held as long as the cluster runs.
    pub(crate) lock: FolderLock,
    /// What the cluster is.
    pub(crate) description: Description,
    /// Its token.
    pub(crate) token: Token,
    /// The root user.
    pub(crate) credentials: RootCredentials,
    /// Whether the credentials were made just now, and must be shown.
    pub(crate) generated: bool,
    /// For S3.
    pub(crate) s3: TcpListener,
    /// For the admin API.
    pub(crate) admin: TcpListener,
}

/// Checks flags, folder and ports, takes them, and writes down what a new cluster is to be.
///
/// # Errors
/// What cannot be, in words; nothing was created or changed then, but for what a full or failing
/// device lets half be done.
pub(crate) async fn prepare(args: &UpArgs, env: &Env) -> Result<Prepared> {
    let layout = Layout::new(&args.data);
    let wish = Wish::from(args);
    let from_environment = RootCredentials::from_environment()?;
    let mut lock = None;
    if layout.lock().exists() {
        lock = Some(FolderLock::acquire(&layout.lock())?);
        refuse_survivors(&layout)?;
    }
    let described = Description::read(&layout)?;
    let kept = Token::from_file(&layout.token())?;
    let (mut description, token) = match (described, kept) {
        (Some(description), Some(token)) => {
            description.agree(wish)?;
            if token.cluster != description.cluster {
                bail!("{} is of another cluster", layout.token().display());
            }
            (description, token)
        }
        (Some(_), None) => bail!("{} is gone", layout.token().display()),
        (None, kept) => {
            refuse_foreign(&layout)?;
            let token = kept.unwrap_or_else(|| Token::generate(env));
            (Description::new(wish, token.cluster, env)?, token)
        }
    };
    let in_file = RootCredentials::from_file(&layout.credentials())?;
    let s3 = bind("S3", args.s3).await?;
    let admin = bind("the admin API", args.admin).await?;

    files::make_folder(layout.root())?;
    let lock = match lock {
        Some(lock) => lock,
        None => FolderLock::acquire(&layout.lock())?,
    };
    let generated = from_environment.is_none() && in_file.is_none();
    let credentials = from_environment
        .or(in_file)
        .unwrap_or_else(|| RootCredentials::generate(env));
    if generated {
        credentials.write(&layout.credentials())?;
    }
    token.write(&layout.token())?;
    if !description.born && description.drive_bytes.is_none() {
        let count = description.drive_count().max(1) as u64;
        let size = os::file_system_size(layout.root()).ok();
        description.drive_bytes = size.map(|size| size / count);
    }
    description.write(&layout)?;
    Ok(Prepared {
        layout,
        lock,
        description,
        token,
        credentials,
        generated,
        s3,
        admin,
    })
}

/// Refuses to make a cluster among files of others.
fn refuse_foreign(layout: &Layout) -> Result<()> {
    let root = layout.root().display();
    let entries = match fs::read_dir(layout.root()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {root}")),
    };
    for entry in entries {
        let name = entry
            .with_context(|| format!("cannot read {root}"))?
            .file_name();
        let name = name.to_string_lossy();
        let temporary = name.starts_with('.') && EARLY.iter().any(|early| name.contains(early));
        if !temporary && !EARLY.contains(&name.as_ref()) {
            bail!("{root} holds no cluster, and is not empty ('{name}'): name another folder");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &[&str]) -> UpArgs {
        let line = [
            "enfilade",
            "up",
            "--s3",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ]
        .iter()
        .chain(line);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Up(args) => args,
            other => unreachable!("{other:?}"),
        }
    }

    async fn complaint(line: &[&str]) -> String {
        match prepare(&args(line), &Env::seeded(1)).await {
            Ok(_) => "none".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[tokio::test]
    async fn a_folder_is_resumed_as_it_is_and_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/b");
        let data = data.to_str().unwrap();
        let first = prepare(&args(&["--data", data]), &Env::seeded(1))
            .await
            .unwrap();
        assert!(first.generated);
        let error = complaint(&["--data", data]).await;
        assert!(error.contains("in use by process"), "{error}");
        let (description, credentials) = (first.description.clone(), first.credentials.clone());
        drop(first);
        let second = prepare(&args(&["--data", data]), &Env::seeded(2))
            .await
            .unwrap();
        assert_eq!(second.description, description);
        assert!(!second.generated && second.credentials == credentials);
        drop(second);
        let error = complaint(&["--data", data, "--drives", "9"]).await;
        assert!(error.contains("--drives 9 (it has 4)"), "{error}");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let text = data.to_str().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().to_string();
        let wide = complaint(&["--data", text, "--enclosures", "1", "--drives", "5"]).await;
        assert!(wide.contains("needs 6 drives"), "{wide}");
        let busy = complaint(&["--data", text, "--domain", "x"]).await;
        assert_eq!(busy, "none");
        fs::remove_dir_all(&data).unwrap();
        let mut line = args(&["--data", text]);
        line.s3 = port.parse().unwrap();
        let error = prepare(&line, &Env::seeded(1)).await.err().unwrap();
        assert!(
            format!("{error:#}").contains(&format!("cannot serve S3 on {port}")),
            "{error:#}"
        );
        assert!(!data.exists(), "nothing was made");
    }

    #[tokio::test]
    async fn files_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        fs::write(folder.path().join("thesis.txt"), b"mine").unwrap();
        let error = complaint(&["--data", text]).await;
        assert!(error.contains("thesis.txt"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let file = folder.path().join("thesis.txt");
        let error = complaint(&["--data", file.to_str().unwrap()]).await;
        assert!(error.contains("thesis.txt"), "{error}");
    }
}
