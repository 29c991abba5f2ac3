//! Operators' commands about moves: `rebalance`, `plan`, `drain`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use enfilade_placement::units::ByteSize;

use crate::admin::commands::{client, print, say};
use crate::admin::model::{MoveAnswer, MoveAsk, Moves, Plan};
use crate::admin::safety;
use crate::cli::moves::{
    DrainArgs, DrainDriveArgs, DrainEnclosureArgs, PlanCommand, RebalanceCommand,
};
use crate::cli::{AdminArgs, EnclosureOutArgs};

/// How often a watched status is shown.
const PERIOD: Duration = Duration::from_secs(1);
/// Characters of the progress bar.
const BAR: usize = 40;

/// `enfilade rebalance ...`.
pub(crate) async fn rebalance(command: &RebalanceCommand) -> Result<()> {
    match command {
        RebalanceCommand::Status(args) if args.watch => watch(&args.admin).await,
        RebalanceCommand::Status(args) => {
            let moves: Moves = client(&args.admin)?.get("moves").await?;
            print(&args.admin, &moves, || status(&moves))
        }
        RebalanceCommand::Pause(args) => {
            act(args, "moves/pause", |_| {
                "moves are paused; repair goes on\n".to_owned()
            })
            .await
        }
        RebalanceCommand::Resume(args) => {
            act(args, "moves/resume", |_| "moves go on\n".to_owned()).await
        }
        RebalanceCommand::Cancel(args) => {
            act(args, "moves/cancel", |answer| {
                format!(
                    "{} moves are given up, and moves are paused\n",
                    answer.cancelled
                )
            })
            .await
        }
    }
}

async fn act(args: &AdminArgs, path: &str, text: impl FnOnce(&MoveAnswer) -> String) -> Result<()> {
    let answer: MoveAnswer = client(args)?.post(path, &MoveAsk::default()).await?;
    print(args, &answer, || text(&answer))
}

/// Shows the status anew until nothing is left to do; in JSON a line a turn.
async fn watch(args: &AdminArgs) -> Result<()> {
    let client = client(args)?;
    let mut last: Option<u64> = None;
    loop {
        let moves: Moves = client.get("moves").await?;
        let total = moves.rebuilt_bytes_total + moves.moved_bytes_total;
        let rate = last.map_or(0, |last| total.saturating_sub(last)) / PERIOD.as_secs();
        last = Some(total);
        if args.json {
            say(&format!("{}\n", serde_json::to_string(&moves)?))?;
        } else {
            say(&format!("{}\n", bar(&moves, rate)))?;
        }
        if moves.under_way.is_empty() && moves.backlog_bytes == 0 {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// One line of progress: a bar, bytes, rate and time left.
fn bar(moves: &Moves, rate: u64) -> String {
    let part = u128::from(moves.moved_bytes) * BAR as u128;
    let filled = part
        .checked_div(u128::from(moves.plan_bytes))
        .unwrap_or(BAR as u128);
    let filled = usize::try_from(filled).unwrap_or(BAR).min(BAR);
    let left = moves.backlog_bytes.checked_div(rate).map_or_else(
        || "-".to_owned(),
        |seconds| {
            format!(
                "{}:{:02}:{:02}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60
            )
        },
    );
    format!(
        "[{}{}] {} of {}, {}/s, {left} left, {} under way{}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        ByteSize::bytes(moves.moved_bytes),
        ByteSize::bytes(moves.plan_bytes),
        ByteSize::bytes(rate),
        moves.under_way.len(),
        if moves.paused { ", PAUSED" } else { "" }
    )
}

fn status(moves: &Moves) -> String {
    let mut text = format!("{}\n", bar(moves, moves.rate));
    let bound = ByteSize::bytes(moves.bound_bytes);
    let _ = writeln!(text, "least that any plan must move: {bound}");
    for (what, rate) in [
        ("moved and rebuilt", moves.rate),
        ("rebuilt", moves.repair_rate),
    ] {
        if rate > 0 {
            let rate = ByteSize::bytes(rate);
            let _ = writeln!(text, "{what} lately: {rate}/s");
        }
    }
    if moves.unplaced > 0 {
        let count = moves.unplaced;
        let _ = writeln!(text, "{count} shards have nowhere to go: add drives");
    }
    if moves.unreadable > 0 {
        let count = moves.unreadable;
        let _ = writeln!(
            text,
            "{count} volumes cannot be rebuilt: too little of them is readable"
        );
    }
    for drain in &moves.drains {
        let what = match (&drain.drive, drain.enclosure) {
            (Some(drive), _) => format!("drive {drive}"),
            (None, enclosure) => format!("enclosure {}", enclosure.unwrap_or(0)),
        };
        let left = match drain.shards {
            0 => "holds no shards any more".to_owned(),
            shards => format!("still holds {shards} shards"),
        };
        let _ = writeln!(text, "{what} {left}");
    }
    for one in &moves.under_way {
        let from = one.from.as_deref().unwrap_or("nowhere");
        let _ = writeln!(
            text,
            "volume {} member {}: {} from {from} to {} ({})",
            one.volume, one.member, one.reason, one.to, one.stage
        );
    }
    text
}

/// `enfilade plan ...`.
pub(crate) async fn plan(command: &PlanCommand) -> Result<()> {
    let (path, args, ask) = match command {
        PlanCommand::Add(args) => {
            let ask = MoveAsk {
                drives: Some(args.drives),
                capacity: args.capacity.map(ByteSize::get),
                chain: args.chain.map(|chain| chain.get()),
                ..MoveAsk::default()
            };
            ("plan/add", &args.admin, ask)
        }
        PlanCommand::Drain(args) | PlanCommand::Fail(args) | PlanCommand::Remove(args) => {
            let ask = MoveAsk {
                drive: args.drive.map(|drive| drive.to_string()),
                enclosure: args.enclosure.map(|id| id.get()),
                ..MoveAsk::default()
            };
            let path = match command {
                PlanCommand::Fail(_) => "plan/fail",
                PlanCommand::Remove(_) => "plan/remove",
                _ => "plan/drain",
            };
            (path, &args.admin, ask)
        }
    };
    let answer: MoveAnswer = client(args)?.post(path, &ask).await?;
    let plan = answer.plan.unwrap_or_default();
    print(args, &plan, || shown(&plan))
}

/// A plan, for people.
pub(crate) fn shown(plan: &Plan) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<22} {value}");
    };
    let bytes = |bytes: u64| ByteSize::bytes(bytes).to_string();
    line("moves", plan.moves.to_string());
    line(
        "bytes",
        format!(
            "{} ({} rebuilt)",
            bytes(plan.bytes),
            bytes(plan.rebuilt_bytes)
        ),
    );
    line("least any plan moves", bytes(plan.bound_bytes));
    let time = |seconds: u64| {
        format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    };
    line(
        "time",
        plan.seconds
            .map_or("no rate is known yet".to_owned(), |seconds| {
                format!("{} at the present {}/s", time(seconds), bytes(plan.rate))
            }),
    );
    line("volumes sealed for it", plan.seals.to_string());
    let sides = |name: &str, of: fn(&crate::admin::model::PlanSide) -> usize| {
        (
            name.to_owned(),
            format!("{} before, {} after", of(&plan.before), of(&plan.after)),
        )
    };
    for (name, value) in [
        sides("two in one enclosure", |side| side.enclosure_violations),
        sides("too many in a chain", |side| side.chain_violations),
        sides("lost with 1 enclosure", |side| side.one_enclosure_loses),
    ] {
        line(&name, value);
    }
    let percent = |millionths: u64| format!("{}.{} %", millionths / 10_000, millionths / 1000 % 10);
    line(
        "fill of drives",
        format!(
            "{} to {} before, {} to {} after",
            percent(plan.before.emptiest),
            percent(plan.before.fullest),
            percent(plan.after.emptiest),
            percent(plan.after.fullest)
        ),
    );
    line("durability before", safety::shown(&plan.before.durability));
    line("durability after", safety::shown(&plan.after.durability));
    for refusal in &plan.refusals {
        line("WOULD BE REFUSED", refusal.clone());
    }
    if plan.unplaced > 0 {
        line("NOWHERE TO GO", format!("{} shards", plan.unplaced));
    }
    if plan.overflow_bytes > 0 {
        line("DO NOT FIT", bytes(plan.overflow_bytes));
    }
    if plan.unreadable > 0 {
        line("UNREADABLE", format!("{} volumes", plan.unreadable));
    }
    text
}

/// `enfilade enclosure out`.
pub(crate) async fn out(args: &EnclosureOutArgs) -> Result<()> {
    let path = format!("enclosures/{}/out", args.id);
    let answer: MoveAnswer = client(&args.admin)?
        .post(&path, &MoveAsk::default())
        .await?;
    print(&args.admin, &answer, || {
        let plan = answer.plan.clone().unwrap_or_default();
        format!("enclosure {} is given up\n{}", args.id, shown(&plan))
    })
}

/// `enfilade drive drain`.
pub(crate) async fn drain_drive(args: &DrainDriveArgs) -> Result<()> {
    drain(
        &format!("drives/{}", args.id),
        &format!("drive {}", args.id),
        &args.how,
    )
    .await
}

/// `enfilade enclosure drain`.
pub(crate) async fn drain_enclosure(args: &DrainEnclosureArgs) -> Result<()> {
    let (path, what) = (
        format!("enclosures/{}", args.id),
        format!("enclosure {}", args.id),
    );
    drain(&path, &what, &args.how).await
}

async fn drain(path: &str, what: &str, how: &DrainArgs) -> Result<()> {
    let ask = MoveAsk {
        undo: how.undo,
        force: how.force,
        ..MoveAsk::default()
    };
    let answer: MoveAnswer = client(&how.admin)?
        .post(&format!("{path}/drain"), &ask)
        .await?;
    print(&how.admin, &answer, || match &answer.plan {
        Some(plan) => format!("{what} is being emptied\n{}", shown(plan)),
        None => format!("{what} stays\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_bytes_rate_and_time_left() {
        let moves = Moves {
            plan_bytes: 400 << 20,
            moved_bytes: 100 << 20,
            backlog_bytes: 300 << 20,
            ..Moves::default()
        };
        let text = bar(&moves, 1 << 20);
        assert!(text.starts_with("[##########......"), "{text}");
        assert!(text.contains("0:05:00 left"), "{text}");
        let done = bar(&Moves::default(), 0);
        assert!(
            done.contains("########]") && done.contains("- left"),
            "{done}"
        );
    }
}
