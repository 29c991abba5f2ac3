//! Operators' commands that keep a cluster up: maintenance, failing, removing, settings.

use anyhow::Result;
use enfilade_placement::units::ByteSize;

use crate::admin::commands::{client, print, show};
use crate::admin::model::{MoveAnswer, MoveAsk, Tuning};
use crate::admin::moves;
use crate::cli::AdminArgs;
use crate::cli::moves::{
    FailDriveArgs, MaintenanceArgs, RemoveDriveArgs, RemoveEnclosureArgs, SettingsCommand,
};

/// `enfilade enclosure maintenance`.
pub(crate) async fn maintenance(args: &MaintenanceArgs) -> Result<()> {
    let ask = MoveAsk {
        undo: args.end,
        for_seconds: args.seconds,
        ..MoveAsk::default()
    };
    let path = format!("enclosures/{}/maintenance", args.id);
    let answer: MoveAnswer = client(&args.admin)?.post(&path, &ask).await?;
    print(&args.admin, &answer, || match args.seconds {
        Some(seconds) => format!(
            "enclosure {} is not given up for {} minutes\n",
            args.id,
            seconds.div_ceil(60)
        ),
        None => format!("maintenance of enclosure {} has ended\n", args.id),
    })
}

/// `enfilade drive fail`.
pub(crate) async fn fail_drive(args: &FailDriveArgs) -> Result<()> {
    let ask = MoveAsk {
        force: args.force,
        ..MoveAsk::default()
    };
    let path = format!("drives/{}/fail", args.id);
    let answer: MoveAnswer = client(&args.admin)?.post(&path, &ask).await?;
    print(&args.admin, &answer, || {
        let plan = answer.plan.clone().unwrap_or_default();
        format!("drive {} is given up\n{}", args.id, moves::shown(&plan))
    })
}

/// `enfilade drive remove`.
pub(crate) async fn remove_drive(args: &RemoveDriveArgs) -> Result<()> {
    let (path, what) = (
        format!("drives/{}/remove", args.id),
        format!("drive {}", args.id),
    );
    remove(&args.admin, &path, &what).await
}

/// `enfilade enclosure remove`.
pub(crate) async fn remove_enclosure(args: &RemoveEnclosureArgs) -> Result<()> {
    let path = format!("enclosures/{}/remove", args.id);
    remove(&args.admin, &path, &format!("enclosure {}", args.id)).await
}

async fn remove(args: &AdminArgs, path: &str, what: &str) -> Result<()> {
    let answer: MoveAnswer = client(args)?.post(path, &MoveAsk::default()).await?;
    print(args, &answer, || format!("{what} is removed for good\n"))
}

/// `enfilade settings ...`.
pub(crate) async fn settings(command: &SettingsCommand) -> Result<()> {
    match command {
        SettingsCommand::Show(args) => show(args, "settings", shown).await,
        SettingsCommand::Set(args) => {
            let wanted = Tuning {
                drive_failures_ppm: args.drive_failures,
                enclosure_losses_ppm: args.enclosure_losses,
                repair_rate: args.repair_rate.map(ByteSize::get),
                pace_floor: args.pace_floor.map(ByteSize::get),
                pace_ceiling: args.pace_ceiling.map(ByteSize::get),
            };
            let set: Tuning = client(&args.admin)?.post("settings", &wanted).await?;
            print(&args.admin, &set, || shown(&set))
        }
    }
}

fn shown(tuning: &Tuning) -> String {
    let percent = |ppm: Option<u32>| format!("{} %", f64::from(ppm.unwrap_or(0)) / 10_000.0);
    let rate = |bytes: Option<u64>| format!("{}/s", ByteSize::bytes(bytes.unwrap_or(0)));
    let lines = [
        ("drive failures a year", percent(tuning.drive_failures_ppm)),
        (
            "enclosure losses a year",
            percent(tuning.enclosure_losses_ppm),
        ),
        ("assumed repair a drive", rate(tuning.repair_rate)),
        ("pace of moves, least", rate(tuning.pace_floor)),
        ("pace of moves, most", rate(tuning.pace_ceiling)),
    ];
    lines
        .iter()
        .map(|(name, value)| format!("{name:<24} {value}\n"))
        .collect()
}
