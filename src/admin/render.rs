//! The admin API's answers as text for people.

use std::fmt::Write as _;

use enfilade_placement::units::ByteSize;

use crate::admin::model::{BucketUsage, Drive, Enclosure, Fault, Group, Scrub, Status, Volume};
use crate::admin::safety;
use crate::admin::status::{duration, group_name};

/// The text of `enfilade status`.
pub(crate) fn status(status: &Status) -> String {
    let mut text = String::new();
    let verdict = if status.healthy {
        "healthy"
    } else {
        "NOT HEALTHY"
    };
    line(&mut text, "status", verdict);
    status
        .reasons
        .iter()
        .for_each(|reason| line(&mut text, "", &format!("- {reason}")));
    status
        .warnings
        .iter()
        .for_each(|warning| line(&mut text, "warning", warning));
    if !status.metadata {
        return text;
    }
    let tolerance = &status.tolerance;
    line(
        &mut text,
        "cluster",
        &format!("{}, profile {}", status.cluster, status.profile),
    );
    line(
        &mut text,
        "survives",
        &format!(
            "m = {} lost members of a volume, f = {} lost metadata replicas",
            tolerance.m, tolerance.f
        ),
    );
    for chain in &status.chains {
        let enclosures: Vec<String> = chain.enclosures.iter().map(u32::to_string).collect();
        let kind = if chain.closed { "ring" } else { "chain" };
        let inside = enclosures.join(" - ");
        line(
            &mut text,
            &format!("{kind} {}", chain.id),
            &format!("enclosures {inside}"),
        );
    }
    data(&mut text, status);
    leaders(&mut text, status);
    text.push('\n');
    text.push_str(&enclosures(&status.enclosures));
    text
}

/// What there is of drives and volumes, and what is missing.
fn data(text: &mut String, status: &Status) {
    let drives = &status.drives;
    let conditions = counted(drives.by_state.iter());
    let capacity = ByteSize::bytes(drives.capacity);
    line(
        text,
        "drives",
        &format!("{} ({conditions}), {capacity}", drives.total),
    );
    if let Some(scrub) = &drives.scrub {
        line(text, "scrub", &scrub_line(scrub));
    }
    let volumes = &status.volumes;
    line(
        text,
        "volumes",
        &format!(
            "{} ({}): {} whole, {} degraded, {} at risk, {} unreadable",
            volumes.total,
            counted(volumes.by_state.iter()),
            volumes.whole,
            volumes.degraded,
            volumes.at_risk,
            volumes.unreadable
        ),
    );
    let missing = &status.missing;
    line(
        text,
        "missing",
        &format!(
            "{} whole shards (at most {}), {} ranges of fragments",
            missing.shards,
            ByteSize::bytes(missing.shard_bytes),
            missing.ranges
        ),
    );
    line(text, "durability", &safety::shown(&status.durability));
}

/// How far scrub is on the drive that is furthest behind.
fn scrub_line(scrub: &Scrub) -> String {
    let complete = match scrub.complete {
        Some(age) => format!("everything within {}", duration(age)),
        None if scrub.oldest == 0 => "there is nothing yet".to_owned(),
        None => format!("not everything yet, after {}", duration(scrub.oldest)),
    };
    let (period, percent) = (duration(scrub.period), scrub.percent);
    format!("{complete}; {percent} % of the drive furthest behind is not due (period {period})")
}

/// Who leads the metadata groups.
fn leaders(text: &mut String, status: &Status) {
    for group in &status.groups {
        let leader = group
            .leader
            .map_or("no leader".to_owned(), |id| format!("led by {id}"));
        let answering = group.voters.len() - group.silent.len();
        let name = group_name(group.id);
        let voters = group.voters.len();
        line(
            text,
            name.trim_start_matches("the "),
            &format!(
                "{leader}, {answering} of {voters} replicas answer, term {}",
                group.term
            ),
        );
    }
}

/// The text of `enfilade enclosure list`.
pub(crate) fn enclosures(enclosures: &[Enclosure]) -> String {
    let header = [
        "ENCLOSURE",
        "CHAIN",
        "STATE",
        "DRIVES",
        "CAPACITY",
        "SHARDS",
        "META",
        "PROCESS",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for enclosure in enclosures {
        let process = enclosure
            .process
            .as_ref()
            .map_or_else(String::new, |process| {
                let pid = process.pid.map(|pid| format!(" {pid}")).unwrap_or_default();
                format!("{}{pid}", process.state)
            });
        rows.push(vec![
            enclosure.id.to_string(),
            format!("{}.{}", enclosure.chain, enclosure.position),
            enclosure.state.clone(),
            format!("{}/{}", enclosure.drives_healthy, enclosure.drives),
            ByteSize::bytes(enclosure.capacity).to_string(),
            enclosure.shards.to_string(),
            if enclosure.meta { "yes" } else { "no" }.to_owned(),
            process,
        ]);
    }
    table(&rows)
}

/// The text of `enfilade drive list`.
pub(crate) fn drives(drives: &[Drive]) -> String {
    let header = [
        "DRIVE", "PLACE", "STATE", "CAPACITY", "SHARDS", "ATTACHED", "SCRUBBED", "WHY",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for drive in drives {
        let state = match drive.present {
            true => drive.state.clone(),
            false => format!("{} (absent)", drive.state),
        };
        rows.push(vec![
            drive.id.clone(),
            format!("{}.{}", drive.enclosure, drive.slot),
            state,
            ByteSize::bytes(drive.capacity).to_string(),
            drive.shards.to_string(),
            format!("{} times", drive.generation),
            drive.scrub.as_ref().map_or("-".to_owned(), scrubbed),
            why(drive),
        ]);
    }
    table(&rows)
}

/// When everything on a drive had been scrubbed last, and how much is not due.
fn scrubbed(scrub: &Scrub) -> String {
    match scrub.complete {
        Some(age) => format!("{} ago, {} %", duration(age), scrub.percent),
        None => format!("never, {} %", scrub.percent),
    }
}

/// Why a drive is not as it should be.
fn why(drive: &Drive) -> String {
    let twins = drive.twins.iter();
    let twins = twins.map(|twin| format!("ALARM: another one has its UUID: {twin}"));
    let reason = Some(drive.reason.clone()).filter(|reason| !reason.is_empty());
    let all: Vec<String> = reason.into_iter().chain(twins).collect();
    all.join("; ")
}

/// The text of `enfilade volume list`.
pub(crate) fn volumes(volumes: &[Volume]) -> String {
    let header = [
        "VOLUME",
        "STATE",
        "PROFILE",
        "EPOCH",
        "BYTES",
        "MISSING",
        "ENCLOSURES",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for volume in volumes {
        let place = |member: &Option<crate::admin::model::Member>| {
            let enclosure = member.as_ref().and_then(|member| member.enclosure);
            enclosure.map_or("-".to_owned(), |id| id.to_string())
        };
        let places: Vec<String> = volume.members.iter().map(place).collect();
        rows.push(vec![
            volume.id.to_string(),
            volume.state.clone(),
            volume.profile.clone(),
            volume.epoch.to_string(),
            ByteSize::bytes(volume.bytes).to_string(),
            volume.missing.len().to_string(),
            places.join(" "),
        ]);
    }
    table(&rows)
}

/// The text of `enfilade partition list`.
pub(crate) fn groups(groups: &[Group]) -> String {
    let header = [
        "GROUP", "FROM", "TO", "EPOCH", "LEADER", "VOTERS", "LEARNERS", "MOVES TO", "OBJECTS",
        "BYTES",
    ];
    let list = |ids: &[u32]| {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        if ids.is_empty() {
            "-".to_owned()
        } else {
            ids.join(" ")
        }
    };
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for group in groups {
        let end = |name: &String| match name.is_empty() {
            true => "-".to_owned(),
            false => name.clone(),
        };
        let bytes = u64::try_from(group.bytes).unwrap_or(0);
        rows.push(vec![
            match group.id {
                0 => "root".to_owned(),
                id => id.to_string(),
            },
            end(&group.range.0),
            end(&group.range.1),
            group.epoch.to_string(),
            group.leader.map_or("-".to_owned(), |id| id.to_string()),
            list(&group.voters),
            list(&group.learners),
            list(&group.moving_to),
            group.objects.to_string(),
            ByteSize::bytes(bytes).to_string(),
        ]);
    }
    table(&rows)
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<12} {value}");
}

fn counted<'a>(counts: impl Iterator<Item = (&'a String, &'a usize)>) -> String {
    let parts: Vec<String> = counts
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    }
}

/// Known faults, a line each.
pub(crate) fn ledger(faults: &[Fault]) -> String {
    let head = ["VOLUME", "MEMBER", "BLOB", "STRIPES"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(faults.iter().map(|fault| {
        let stripes = fault.stripes.map(|(first, last)| format!("{first}-{last}"));
        vec![
            fault.volume.to_string(),
            fault.member.to_string(),
            fault.blob.clone().unwrap_or_else(|| "all".to_owned()),
            stripes.unwrap_or_else(|| "all".to_owned()),
        ]
    }));
    table(&rows)
}

/// What a bucket holds.
pub(crate) fn usage(usage: &BucketUsage) -> String {
    let row = |what: &str, count: i64, bytes: Option<i64>| {
        let bytes = bytes.map_or(String::new(), |bytes| format!("{bytes} bytes"));
        vec![what.to_owned(), count.to_string(), bytes]
    };
    table(&[
        row("objects", usage.objects, Some(usage.bytes)),
        row(
            "older versions",
            usage.older_versions,
            Some(usage.older_bytes),
        ),
        row("delete markers", usage.delete_markers, None),
        row("open uploads", usage.uploads, None),
        row("their parts", usage.parts, Some(usage.part_bytes)),
    ])
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let cells: Vec<String> = cells.collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::unknown;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["A", "LONG"]), row(["word", "x"])]),
            "A     LONG\nword  x\n"
        );
    }

    #[test]
    fn a_status_without_metadata_shows_the_reasons_and_invents_nothing() {
        let text = status(&unknown("it is away", &[]));
        assert!(
            text.contains("NOT HEALTHY") && text.contains("it is away"),
            "{text}"
        );
        assert!(!text.contains("volumes"), "{text}");
    }
}
