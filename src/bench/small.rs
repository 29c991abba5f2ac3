//! `enfilade bench small`: what small blobs cost in the full and in the shortened code, from which
//! the limit between the two is chosen (PROTOCOLS 17).
//!
//! Every member of the profile is a drive in a folder of its own, with a committer of its own, as
//! if each were a device. Blobs are encoded, appended to all members that store something of them,
//! and read back, as gateway and nodes do, without the network between them.

mod drives;

use anyhow::{Context as _, Result};
use enfilade_cluster::api::record::Layout;
use enfilade_placement::Profile;
use enfilade_storage_node::api::shape::Shape;
use serde::Serialize;

use self::drives::{Cost, Drives};
use super::table;
use crate::cli::BenchSmallArgs;

/// Writers that share commit groups, and those that do not.
const WRITERS: [u32; 2] = [1, 16];

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    profile: String,
    layout: &'static str,
    /// Bytes of a blob.
    blob: u32,
    /// Drives that store something of a blob, and those that a read of it all asks.
    drives: usize,
    read_drives: usize,
    /// By one writer, and by many at once.
    alone: Cost,
    together: Cost,
}

/// Measures, and prints.
///
/// # Errors
/// When the folder cannot be used.
pub(crate) fn run(args: &BenchSmallArgs) -> Result<()> {
    let folder = tempfile_in(&args.folder)?;
    let measured = measure(args, &folder);
    let removed = std::fs::remove_dir_all(&folder);
    let lines = measured?;
    removed.with_context(|| format!("cannot remove {}", folder.display()))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print!("{}", text(&lines, args.blobs));
    }
    Ok(())
}

fn tempfile_in(folder: &std::path::Path) -> Result<std::path::PathBuf> {
    let path = folder.join(format!("enfilade-bench-small-{}", std::process::id()));
    std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

fn measure(args: &BenchSmallArgs, folder: &std::path::Path) -> Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut lines = Vec::new();
    for &profile in &args.profile {
        for &kib in &args.kib {
            for layout in [Layout::Shortened, Layout::Full] {
                let blob = kib * 1024;
                let cost = |writers| {
                    let drives = Drives::create(folder, profile)?;
                    let cost = drives.cost(&runtime, layout, blob, (writers, args.blobs));
                    drives.remove(&runtime)?;
                    cost
                };
                lines.push(line(profile, layout, blob, WRITERS.map(cost))?);
            }
        }
    }
    Ok(lines)
}

fn line(
    profile: Profile,
    layout: Layout,
    blob: u32,
    [alone, together]: [Result<Cost>; 2],
) -> Result<Line> {
    let shape = drives::shape(0, profile, layout);
    Ok(Line {
        profile: profile.to_string(),
        layout: name(layout),
        blob,
        drives: shape.stored().count(),
        read_drives: read_drives(shape, blob),
        alone: alone?,
        together: together?,
    })
}

fn name(layout: Layout) -> &'static str {
    match layout {
        Layout::Full => "full",
        Layout::Shortened => "shortened",
    }
}

/// The drives that hold the bytes of a blob of one stripe.
fn read_drives(shape: Shape, blob: u32) -> usize {
    shape
        .fragments_of(shape.unit_for(u64::from(blob)), 0..blob)
        .count()
}

/// A row for each size and layout; the rows of a profile and size stand together.
fn text(lines: &[Line], blobs: u32) -> String {
    let row = |line: &Line| {
        let of_blob = |bytes: f64| format!("{:.2}", bytes / f64::from(line.blob));
        let micros = |micros: f64| format!("{micros:.0}");
        let mut row = vec![
            line.profile.clone(),
            line.layout.to_owned(),
            (line.blob / 1024).to_string(),
            line.drives.to_string(),
            line.read_drives.to_string(),
        ];
        for cost in [&line.alone, &line.together] {
            row.extend([
                of_blob(cost.bytes),
                format!("{:.2}", cost.syncs),
                micros(cost.put_micros),
                micros(cost.get_micros),
            ]);
        }
        row
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let headings = [
        "profile",
        "layout",
        "KiB",
        "drives",
        "read",
        "bytes x",
        "syncs",
        "put µs",
        "get µs",
        "16: bytes x",
        "syncs",
        "put µs",
        "get µs",
    ];
    format!(
        "a blob: drives that store it and that a read asks; then, by one writer and by 16 at once, \
         bytes on drives by those of the blob, syncs, and CPU time of the process to write and to \
         read it; {blobs} blobs each\n\n{}",
        table(&headings, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_blob_takes_half_the_drives_and_is_read_from_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = BenchSmallArgs {
            folder: folder.path().to_owned(),
            profile: vec![Profile::new(4, 2).expect("a profile")],
            kib: vec![32],
            blobs: 16,
            json: false,
        };
        let lines = measure(&args, folder.path()).expect("it runs");
        let [short, full] = lines.as_slice() else {
            panic!("two layouts: {lines:?}");
        };
        assert_eq!((short.drives, short.read_drives), (3, 1));
        assert_eq!((full.drives, full.read_drives), (6, 4));
        assert!(short.alone.bytes > full.alone.bytes);
        // A writer that waits shares its syncs with nobody.
        assert!((short.alone.syncs - 3.0).abs() < 0.01, "{short:?}");
        assert!((full.alone.syncs - 6.0).abs() < 0.01, "{full:?}");
        assert!(full.together.syncs < 6.0, "{full:?}");
        let text = text(&lines, args.blobs);
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
