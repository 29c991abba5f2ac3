//! Rules for the dependencies, read from `cargo metadata`: what a build on this platform would use.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use super::{Finding, licence, root};

/// For each of our packages the ones of ours that it may depend on. The arrows point one way:
/// placement <- cluster <- storage-node <- gateway <- enfilade; nothing depends on chaos.
const ARROWS: [(&str, &[&str]); 6] = [
    ("placement", &[]),
    ("cluster", &["placement"]),
    ("storage-node", &["placement", "cluster"]),
    ("gateway", &["placement", "cluster", "storage-node"]),
    ("", &["placement", "cluster", "storage-node", "gateway"]),
    (
        "chaos",
        &["placement", "cluster", "storage-node", "gateway", ""],
    ),
];

/// Crates that a folder must do without, because their work is another folder's.
const FOREIGN: [(&str, &[&str]); 4] = [
    (
        "placement",
        &[
            "anyhow", "hyper", "openraft", "rocksdb", "s3s", "tokio", "tonic", "tracing",
        ],
    ),
    ("cluster", &["anyhow", "reed-solomon-simd", "s3s"]),
    ("storage-node", &["anyhow", "openraft", "s3s"]),
    ("gateway", &["anyhow", "openraft", "rocksdb"]),
];

/// What cargo says about the workspace, asked once.
pub(crate) fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let host = stdout(Command::new("rustc").arg("-vV"));
        let host = host.lines().find_map(|line| line.strip_prefix("host: "));
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(cargo);
        command
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", host.expect("rustc names its host")])
            .current_dir(root());
        serde_json::from_str(&stdout(&mut command)).expect("cargo speaks JSON")
    })
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().expect("the toolchain runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).expect("text")
}

/// One of our packages.
struct Member<'a> {
    /// Folder from the root of the workspace; empty for the root package.
    folder: String,
    manifest: String,
    package: &'a Value,
}

impl Member<'_> {
    /// Names and, for packages of the workspace, folders of the direct dependencies of some kinds.
    fn dependencies(&self, kinds: &[&str]) -> Vec<(String, Option<String>)> {
        let all = self.package["dependencies"].as_array();
        all.into_iter()
            .flatten()
            .filter(|dependency| kinds.contains(&dependency["kind"].as_str().unwrap_or("normal")))
            .map(|dependency| {
                let folder = dependency["path"].as_str().map(folder_of);
                (text(&dependency["name"]), folder)
            })
            .collect()
    }
}

fn members(metadata: &Value) -> Vec<Member<'_>> {
    let ids = metadata["workspace_members"].as_array();
    let ids: Vec<&Value> = ids.into_iter().flatten().collect();
    let packages = metadata["packages"].as_array();
    packages
        .into_iter()
        .flatten()
        .filter(|package| ids.contains(&&package["id"]))
        .map(|package| {
            let manifest = text(&package["manifest_path"]);
            let folder = folder_of(manifest.trim_end_matches("Cargo.toml"));
            let name = format!("{folder}/Cargo.toml");
            Member {
                folder,
                manifest: name.trim_start_matches('/').to_owned(),
                package,
            }
        })
        .collect()
}

fn folder_of(path: &str) -> String {
    let root = root().to_string_lossy();
    let folder = path.strip_prefix(root.as_ref()).unwrap_or(path);
    folder.trim_matches('/').to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Arrows between our crates that the architecture does not have.
pub(crate) fn direction(metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members(metadata) {
        let Some((_, allowed)) = ARROWS.iter().find(|(folder, _)| *folder == member.folder) else {
            let text = "a crate that the architecture does not know";
            findings.push(Finding::new(&member.manifest, 0, text));
            continue;
        };
        for (name, folder) in member.dependencies(&["normal", "build", "dev"]) {
            let Some(folder) = folder else { continue };
            // A crate may name itself in [dev-dependencies] to switch on `test-util`.
            if folder != member.folder && !allowed.contains(&folder.as_str()) {
                let text = format!("must not depend on {name}");
                findings.push(Finding::new(&member.manifest, 0, text));
            }
        }
    }
    findings
}

/// Third-party crates in folders that must do without them.
pub(crate) fn foreign(metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members(metadata) {
        let banned = FOREIGN.iter().find(|(folder, _)| *folder == member.folder);
        let Some((_, banned)) = banned else { continue };
        for (name, _) in member.dependencies(&["normal", "build"]) {
            if banned.contains(&name.as_str()) {
                let text = format!("must do without {name}");
                findings.push(Finding::new(&member.manifest, 0, text));
            }
        }
    }
    findings
}

/// Packages, ours and others', whose licence is absent or not on the list.
pub(crate) fn licences(metadata: &Value) -> Vec<Finding> {
    let packages = metadata["packages"].as_array();
    packages
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let expression = text(&package["license"]);
            if licence::is_allowed(&expression) {
                return None;
            }
            let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
            let text =
                format!("licence '{expression}' is not on the list of tests/tidy/licence.rs");
            Some(Finding::new(&name, 0, text))
        })
        .collect()
}

/// Members that do not take `[workspace.lints]`.
pub(crate) fn lints(root: &Path) -> Vec<Finding> {
    let manifests = ARROWS.iter().map(|(folder, _)| {
        let path = format!("{folder}/Cargo.toml");
        path.trim_start_matches('/').to_owned()
    });
    manifests
        .filter(|path| {
            let text = fs::read_to_string(root.join(path)).unwrap_or_default();
            !text.contains("[lints]\nworkspace = true\n")
        })
        .map(|path| Finding::new(&path, 0, "lacks `[lints] workspace = true`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, name: &str, dependencies: Value) -> Value {
        let manifest = root().join(folder).join("Cargo.toml");
        serde_json::json!({
            "id": name, "name": name, "version": "1.0.0", "license": "Apache-2.0",
            "manifest_path": manifest, "dependencies": dependencies,
        })
    }

    fn workspace(package: Value) -> Value {
        serde_json::json!({ "workspace_members": [package["id"]], "packages": [package] })
    }

    #[test]
    fn an_arrow_against_the_direction_is_found() {
        let upwards = serde_json::json!([{
            "name": "enfilade-gateway", "kind": null, "path": root().join("gateway"),
        }]);
        let found = direction(&workspace(package(
            "cluster",
            "enfilade-cluster",
            upwards.clone(),
        )));
        let text = "must not depend on enfilade-gateway";
        assert_eq!(found, [Finding::new("cluster/Cargo.toml", 0, text)]);
        assert_eq!(direction(&workspace(package("", "enfilade", upwards))), []);
    }

    #[test]
    fn a_crate_that_is_anothers_work_is_found() {
        let raft = serde_json::json!([{ "name": "openraft", "kind": null }]);
        let found = foreign(&workspace(package(
            "gateway",
            "enfilade-gateway",
            raft.clone(),
        )));
        assert_eq!(found.len(), 1);
        assert_eq!(
            foreign(&workspace(package("cluster", "enfilade-cluster", raft))),
            []
        );
    }

    #[test]
    fn a_licence_off_the_list_is_found_with_the_package() {
        let mut copyleft = package("cluster", "enfilade-cluster", serde_json::json!([]));
        copyleft["license"] = "AGPL-3.0-only".into();
        let found = licences(&workspace(copyleft));
        assert!(found[0].path == "enfilade-cluster 1.0.0" && found[0].text.contains("AGPL"));
    }
}
