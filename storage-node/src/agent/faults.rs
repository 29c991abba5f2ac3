//! Reporting what was found corrupt, until the ledger takes it (PROTOCOLS 22).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enfilade_cluster::api::root::{LedgerRange, LedgerRow, RootCommand};
use enfilade_placement::DriveId;

use super::Context;
use crate::engine::{Fault, ShardKey};

/// Beyond so many corrupt fragments the shard counts as whole.
const FRAGMENTS_PER_SHARD: usize = 1000;
/// Rows of one report.
const ROWS_PER_REPORT: usize = 500;

/// Reports faults until the agent stops.
pub(super) async fn report(context: Arc<Context>) {
    // Reported again after a restart, which the ledger does not mind.
    let mut known: BTreeSet<LedgerRow> = BTreeSet::new();
    let mut reported = Vec::new();
    while context.pause(context.node.host().settings.heartbeat).await {
        let counts: Vec<(DriveId, u64)> = context
            .engines()
            .values()
            .map(|e| (e.id(), e.faults_found()))
            .collect();
        if counts != reported {
            let mut done = false;
            let report = async { done = report_once(&context, &mut known).await };
            context.unless_stopped(report).await;
            reported = if done { counts } else { Vec::new() };
        }
    }
}

/// Reports what the ledger has not taken yet; whether it took everything.
async fn report_once(context: &Context, known: &mut BTreeSet<LedgerRow>) -> bool {
    let rows = rows(context);

    known.retain(|row| rows.contains(row));
    let new: Vec<LedgerRow> = rows.difference(known).cloned().collect();
    for rows in new.chunks(ROWS_PER_REPORT) {
        let command = RootCommand::ReportFaults(rows.to_vec());
        match context.metadata.root(context.request(), command).await {
            Ok(Ok(_)) => known.extend(rows.iter().cloned()),
            Ok(Err(refusal)) => {
                tracing::warn!(%refusal, "the ledger refused faults");
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "faults are not reported yet");
                return false;
            }
        }
    }
    true
}

fn rows(context: &Context) -> BTreeSet<LedgerRow> {
    let mut faults: BTreeMap<ShardKey, Vec<LedgerRange>> = BTreeMap::new();
    for engine in context.engines().into_values() {
        let Ok(found) = engine.faults(FRAGMENTS_PER_SHARD + 1) else {
            continue;
        };
        for Fault { key, fragment } in found {
            faults.entry(key).or_default().push(match fragment {
                Some((blob, stripe)) => LedgerRange::stripes(blob, stripe..=stripe),
                None => LedgerRange::Whole,
            });
        }
    }
    let mut rows = BTreeSet::new();
    for (key, mut ranges) in faults {
        if ranges.len() > FRAGMENTS_PER_SHARD || ranges.contains(&LedgerRange::Whole) {
            ranges = vec![LedgerRange::Whole];
        }
        let row = |what| LedgerRow {
            volume: key.volume,
            member: key.member,
            what,
        };
        rows.extend(ranges.into_iter().map(row));
    }
    rows
}
