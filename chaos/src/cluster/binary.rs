//! Where the program under test is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The named program, else the `enfilade` beside this one; built first when it is not there.
pub(crate) fn find(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        ensure!(path.is_file(), "there is no program {}", path.display());
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("the path of this program")?;
    let mut folder = own.parent().context("the folder of this program")?;
    if folder.ends_with("deps") {
        // A test is one folder further down.
        folder = folder.parent().context("the folder of this program")?;
    }
    let path = folder.join("enfilade");
    if !path.is_file() {
        build(folder)?;
    }
    ensure!(path.is_file(), "the build left no {}", path.display());
    Ok(path)
}

fn build(folder: &Path) -> anyhow::Result<()> {
    let target = folder.parent().context("the target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building enfilade into {}", target.display());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--locked",
            "-p",
            "enfilade",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}
