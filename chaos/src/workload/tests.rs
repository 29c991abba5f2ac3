//! Load, audit and checks together, against stores in memory that lie or do not.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Load;
use super::audit::{Audit, Audited};
use super::ops::Plan;
use crate::check::{self, Finding, Kind};
use crate::client::Store;
use crate::client::memory::{Lie, Memory};
use crate::history::History;

const OPERATIONS: usize = 1500;

async fn run(lie: Lie) -> (Vec<Finding>, Audited) {
    let folder = tempfile::tempdir().unwrap();
    let history = Arc::new(History::create(&folder.path().join("history.jsonl")).unwrap());
    let store: Arc<dyn Store> = Arc::new(Memory::new(lie));
    let plan = Plan {
        seed: 11,
        round: 1,
        writers: 6,
        keys: 30,
        shared: 4,
        largest: 4000,
        pause: Duration::ZERO,
    };
    let load = Load::start(&store, &history, plan);
    while history.count() < OPERATIONS {
        tokio::task::yield_now().await;
    }
    let audit = Audit {
        seed: plan.seed,
        prefix: "",
        readers: 4,
        patience: Duration::ZERO,
        gave_up: AtomicBool::new(false),
    };
    let rest = load.rest().await;
    let at_rest = history.count();
    let audited = audit.run(&store, &history).await.unwrap();
    let audits = audited.objects + audited.absent;
    let audits = usize::try_from(audits).unwrap() + audited.findings.len();
    assert_eq!(
        history.count(),
        at_rest + audits + 1,
        "nothing else went on"
    );
    drop(rest);
    assert_eq!(load.stop().await.len(), 2);
    let mut findings = check::all(&history.operations().unwrap());
    findings.extend(audited.findings.clone());
    (findings, audited)
}

#[tokio::test]
async fn a_sound_store_passes() {
    let (findings, audited) = run(Lie::None).await;
    assert_eq!(findings, []);
    assert!(audited.objects > 20 && audited.absent > 0, "{audited:?}");
}

#[tokio::test]
async fn a_store_that_leaves_outcomes_open_passes() {
    assert_eq!(run(Lie::Doubtful).await.0, []);
}

#[tokio::test]
async fn every_lie_is_found() {
    let lies = [
        (Lie::LosesAcks, Kind::NotLinearizable),
        (Lie::ReadsStale, Kind::StaleRead),
        (Lie::TurnsBits, Kind::WrongBytes),
        (Lie::ShortLists, Kind::LostAck),
        (Lie::IgnoresConditions, Kind::NotLinearizable),
    ];
    for (lie, kind) in lies {
        let (findings, _) = run(lie).await;
        let found = findings.iter().any(|finding| finding.kind == kind);
        assert!(found, "{lie:?}: {findings:?}");
    }
}
