//! `enfilade memory`: what one process may use, as a sum derived from its settings (PROTOCOLS 16).
//!
//! Every part is an upper bound. They are not reached together: in one process the fragments of a
//! body are in the budget of the gateway and in the queue of a node at the same time, but only once
//! in memory.

use anyhow::Result;
use enfilade_cluster::settings::Settings as MetaSettings;
use enfilade_gateway::settings::{PathSettings, ViewSettings};
use enfilade_placement::units::ByteSize;
use enfilade_storage_node::drive::{READ_MEMORY_KEPT, WRITE_MEMORY};
use enfilade_storage_node::settings::Settings as NodeSettings;
use serde::Serialize;

use crate::admin::commands::say;
use crate::cli::MemoryArgs;

/// The program itself, its tables, threads at rest, and what the allocator keeps: measured on an
/// idle process.
const PROGRAM: u64 = 48 << 20;

/// Groups of which a process holds replicas while there are no splits: the root group and one
/// partition.
const GROUPS: u64 = 2;

/// A batch of log entries on its way into RocksDB: our copy and its own.
const LOG_BATCHES: u64 = 2 * (8 << 20);

/// What a drive has beside what all drives share: the engine's rows, RocksDB's versions and files.
const DRIVE: u64 = 1 << 20;

/// A connection of a client with its request: buffers of HTTP, signature, an inline body, a record.
const CLIENT: u64 = 64 << 10;

/// A volume in the view of a gateway.
const VIEWED_VOLUME: u64 = 256;

/// Files of a drive beside its logs and the tables of its index: log, manifest, lock, folders.
const DRIVE_FILES: u64 = 8;

/// Files of the process beside those: sockets, logs, the description of the cluster.
const PROCESS_FILES: u64 = 64;

/// One part of the sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Part {
    /// What it is.
    name: &'static str,
    /// How much, at most.
    amount: u64,
    /// The setting that decides it, or what it is multiplied with.
    from: String,
}

/// What a process may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Sum {
    drives: u32,
    clients: u32,
    memory: u64,
    memory_parts: Vec<Part>,
    files: u64,
    files_parts: Vec<Part>,
}

/// The settings that decide.
struct Basis {
    meta: MetaSettings,
    node: NodeSettings,
    path: PathSettings,
    view: ViewSettings,
}

/// Prints the sum for a process with every role.
///
/// # Errors
/// When it cannot be printed.
pub(crate) fn run(args: &MemoryArgs) -> Result<()> {
    let basis = Basis {
        meta: MetaSettings::default(),
        node: NodeSettings::default(),
        path: PathSettings::default(),
        view: ViewSettings::default(),
    };
    let sum = sum(&basis, args.drives, args.clients);
    if args.json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&sum)?));
    }
    say(&sum.text())
}

fn sum(basis: &Basis, drives: u32, clients: u32) -> Sum {
    let memory_parts = memory_parts(basis, u64::from(drives), u64::from(clients));
    let files_parts = files_parts(basis, u64::from(drives), u64::from(clients));
    let all = |parts: &[Part]| parts.iter().map(|part| part.amount).sum();
    Sum {
        drives,
        clients,
        memory: all(&memory_parts),
        memory_parts,
        files: all(&files_parts),
        files_parts,
    }
}

fn part(name: &'static str, amount: u64, from: impl Into<String>) -> Part {
    let from = from.into();
    Part { name, amount, from }
}

fn memory_parts(basis: &Basis, drives: u64, clients: u64) -> Vec<Part> {
    let Basis {
        meta,
        node,
        path,
        view,
    } = basis;
    let recent = meta.raft.cache_bytes as u64 * GROUPS;
    let volumes = view.volumes_max as u64 * VIEWED_VOLUME;
    vec![
        part("program and threads", PROGRAM, "measured"),
        part(
            "metadata: block cache, with write buffers",
            meta.storage.block_cache as u64,
            "meta.storage.block_cache",
        ),
        part(
            "metadata: recent log entries",
            recent,
            format!("meta.raft.cache_bytes x {GROUPS} groups"),
        ),
        part(
            "metadata: log entries being written",
            LOG_BATCHES,
            "2 batches",
        ),
        part(
            "indexes: block cache",
            node.index_cache.get(),
            "node.index_cache",
        ),
        part(
            "indexes: write buffers",
            node.index_buffers.get(),
            "node.index_buffers",
        ),
        part(
            "drives",
            DRIVE * drives,
            format!("{drives} x {}", ByteSize::bytes(DRIVE)),
        ),
        part(
            "writes past the page cache",
            WRITE_MEMORY as u64 * drives,
            format!("{drives} x 2 pieces"),
        ),
        part("memory kept for reads", READ_MEMORY_KEPT as u64, "fixed"),
        part("appends at nodes", node.node_queue.get(), "node.node_queue"),
        part("reads at nodes", node.node_reads.get(), "node.node_reads"),
        part(
            "bodies being written",
            path.write_budget,
            "gateway.write_budget",
        ),
        part("bodies being read", path.read_budget, "gateway.read_budget"),
        part("volumes in view", volumes, "gateway.volumes_max x 256 B"),
        part(
            "clients",
            CLIENT * clients,
            format!("{clients} x {}", ByteSize::bytes(CLIENT)),
        ),
    ]
}

fn files_parts(basis: &Basis, drives: u64, clients: u64) -> Vec<Part> {
    let Basis { meta, node, .. } = basis;
    let (logs, tables) = (u64::from(node.open_logs), u64::from(node.open_index_files));
    vec![
        part(
            "metadata",
            u64::try_from(meta.storage.open_files_max).unwrap_or(0),
            "meta.storage.open_files_max",
        ),
        part(
            "drives",
            drives * (logs + tables + DRIVE_FILES),
            format!("{drives} x (node.open_logs + node.open_index_files + {DRIVE_FILES})"),
        ),
        part("clients", clients, "one connection each"),
        part("process", PROCESS_FILES, "fixed"),
    ]
}

impl Sum {
    fn text(&self) -> String {
        let mut text = format!(
            "a process with every role, {} drives and {} clients uses at most\n\n",
            self.drives, self.clients
        );
        let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
        for part in &self.memory_parts {
            let (name, from) = (part.name, &part.from);
            text.push_str(&format!("  {:>9}  {name:<42} {from}\n", mib(part.amount)));
        }
        text.push_str(&format!("  {:>9}  of memory\n\n", mib(self.memory)));
        for part in &self.files_parts {
            let (name, from) = (part.name, &part.from);
            text.push_str(&format!("  {:>9}  {name:<42} {from}\n", part.amount));
        }
        text.push_str(&format!("  {:>9}  open files\n", self.files));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis() -> Basis {
        Basis {
            meta: MetaSettings::default(),
            node: NodeSettings::default(),
            path: PathSettings::default(),
            view: ViewSettings::default(),
        }
    }

    #[test]
    fn twenty_four_drives_and_512_clients_stay_under_1_gib_and_4096_files() {
        let sum = sum(&basis(), 24, 512);
        assert!(sum.memory < 1 << 30, "{}", sum.text());
        assert!(sum.files < 4096, "{}", sum.text());
    }

    #[test]
    fn the_sum_follows_the_settings() {
        let before = sum(&basis(), 24, 512);
        let mut more = basis();
        more.meta.storage.block_cache += 1 << 20;
        more.meta.raft.cache_bytes += 1 << 20;
        more.node.index_cache = ByteSize::mib(65);
        more.node.node_queue = ByteSize::mib(257);
        more.path.write_budget += 1 << 20;
        more.node.open_logs += 1;
        let after = sum(&more, 24, 512);
        assert_eq!(after.memory - before.memory, 6 << 20);
        assert_eq!(after.files - before.files, 24);
    }

    #[test]
    fn every_part_is_shown_with_where_it_comes_from() {
        let sum = sum(&basis(), 24, 512);
        let text = sum.text();
        for part in sum.memory_parts.iter().chain(&sum.files_parts) {
            assert!(text.contains(part.name) && text.contains(&part.from));
        }
    }
}
