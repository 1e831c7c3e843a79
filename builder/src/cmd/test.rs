//! `hcl-image test`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use hcl_firstboot::config::{self, Addresses, NodeConfig};
use sha2::Digest as _;

use super::up::LabArgs;
use crate::{
    error::Refused,
    image::disk::{Disk, Tree},
    lab::{
        login, process,
        report::{Assertion, Report},
        signals::Signals,
        trial::{self, Plan},
    },
    progress::{Mode, Reporter},
    units::{Bytes, Digest},
};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Boots the image, waits for each node, logs in by SSH, asserts, powers off, and looks at what was on the wire. \
The report is a folder: report.html for people, report.json for programs, the consoles, and wire.pcapng.

Exit code: 0 all assertions hold, 1 one does not or a node did not come up, 2 wrong options.

Examples:
  hcl-image test out/hcl-debian-trixie-armhf.img
  hcl-image test my.img --nodes 3 --report out/three
  hcl-image test my.img --machine raspi3b       # slow: a Pi 3 with its own device tree")]
pub struct Args {
    /// What to boot, and how
    #[command(flatten)]
    pub lab: LabArgs,
    /// Where the report goes [default: out/test-NAME of the image]
    #[arg(long, value_name = "FOLDER")]
    pub report: Option<PathBuf>,
    /// Architecture that the userland must have, as Debian calls it
    #[arg(long, default_value = "armhf", value_name = "ARCH")]
    pub userland: String,
    /// VLAN that must be up
    #[arg(long, default_value_t = 200, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub vlan: u16,
    /// Seconds from start to login [default: 360 and 150 for each further node; raspi3b 1200 and 900]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
}

/// Runs `test`.
///
/// # Errors
///
/// [`Refused`] when an assertion does not hold; else whatever kept the test from being made.
pub fn run(args: Args, reporter: &Reporter) -> anyhow::Result<()> {
    let signals = Signals::watch()?;
    let image = args.lab.image()?;
    let name = image.file_stem().map_or_else(|| "image".into(), |stem| stem.to_string_lossy().into_owned());
    let folder = args.report.clone().unwrap_or_else(|| Path::new("out").join(format!("test-{name}")));
    let disk = Disk::open(&image, reporter)?;
    let login = login::find(&disk, &args.lab.wish())?;
    let addresses = addresses(&disk)?;
    clear(&folder)?;
    let patience = args.patience.unwrap_or_else(|| args.lab.machine.patience(args.lab.nodes));
    let plan = Plan {
        spec: args.lab.spec(image.clone(), folder.clone(), false),
        login,
        userland: args.userland,
        vlan: args.vlan,
        addresses,
        patience: Duration::from_secs(patience),
    };
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let before = Fingerprint::of(&image, reporter)?;
    let mut report = trial::run(&plan, disk, &signals, reporter)?;
    let after = Fingerprint::of(&image, reporter)?;
    report.assertions.insert(0, untouched(&before, &after));
    report.passed &= before == after;
    report.sha256 = before.digest.to_string();
    report.started = rfc3339(started);
    report.qemu = qemu_version().unwrap_or_else(|| "unknown".into());
    let page = report.write(&folder)?;
    tell(&report, &page, reporter);
    match refusal(&report) {
        None => Ok(()),
        Some(why) => Err(anyhow::Error::new(Refused(format!("{why}; see {}", page.display())))),
    }
}

/// The cluster's addresses, as the image's configuration has them; an image without one is judged by the default.
fn addresses(disk: &Disk) -> anyhow::Result<Addresses> {
    let Ok(Some(root)) = disk.root() else { return Ok(Addresses::DEFAULT) };
    let Some(text) = root.try_text(config::PATH)? else { return Ok(Addresses::DEFAULT) };
    let config = NodeConfig::parse(&text, config::PATH).with_context(|| format!("reading {} in the image", config::PATH))?;
    Ok(config.addresses)
}

/// The last test's files go, and nothing else that may lie there.
fn clear(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    for entry in fs::read_dir(folder).with_context(|| format!("reading the folder {}", folder.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = ["report.json", "report.html", "wire.pcapng"].contains(&name.as_str())
            || (name.starts_with("node-") && name.ends_with(".log"));
        if ours {
            fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    digest: Digest,
    size: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    fn of(image: &Path, reporter: &Reporter) -> anyhow::Result<Self> {
        let context = || format!("reading {}", image.display());
        let mut file = fs::File::open(image).with_context(context)?;
        let metadata = file.metadata().with_context(context)?;
        let step = reporter.bytes("SHA-256 of the image", Bytes(metadata.len()));
        let mut hasher = sha2::Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            let count = std::io::Read::read(&mut file, &mut block).with_context(context)?;
            if count == 0 {
                break;
            }
            hasher.update(&block[..count]);
            step.advance(count as u64);
        }
        let digest = Digest::finish(hasher);
        step.done(digest.short());
        Ok(Self { digest, size: metadata.len(), modified: metadata.modified().ok() })
    }
}

fn untouched(before: &Fingerprint, after: &Fingerprint) -> Assertion {
    Assertion {
        name: "image untouched".into(),
        node: None,
        wanted: "SHA-256, size and time of the image are the same before and after".into(),
        seen: if before == after { format!("sha256 {}", after.digest.short()) } else { format!("{before:?}, then {after:?}") },
        passed: before == after,
        seconds: None,
    }
}

fn refusal(report: &Report) -> Option<String> {
    if let Some(failure) = &report.failure {
        return Some(failure.clone());
    }
    let failed: Vec<_> = report.failed().collect();
    let first = failed.first()?;
    let node = first.node.as_deref().unwrap_or("lab");
    let first = format!("{node}: {}: {}", first.name, first.seen);
    Some(match failed.len() {
        1 => first,
        count => format!("{count} of {} assertions failed, the first: {first}", report.assertions.len()),
    })
}

fn tell(report: &Report, page: &Path, reporter: &Reporter) {
    reporter.emit(&serde_json::json!({"event": "report", "passed": report.passed, "page": page, "report": report}));
    if reporter.mode() != Mode::Text {
        return;
    }
    for assertion in &report.assertions {
        let mark = if assertion.passed { "✓" } else { "✗" };
        let node = assertion.node.as_deref().unwrap_or("lab");
        let seen: String = assertion.seen.chars().take(if assertion.passed { 80 } else { 2000 }).collect();
        reporter.note(format!("  {mark} {node:8} {:22} {seen}", assertion.name));
    }
    let verdict = if report.passed { "all assertions hold" } else { "failed" };
    reporter.note(format!("{verdict} after {:.0} s; the report: {}", report.seconds, page.display()));
}

fn qemu_version() -> Option<String> {
    let program = process::find("qemu-system-aarch64", "qemu-system-arm").ok()?;
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next()?.split("version ").nth(1).map(|version| version.split_whitespace().next().unwrap_or(version).to_owned())
}

/// Seconds since 1970 as RFC 3339, in UTC (days to date as Howard Hinnant's `civil_from_days`).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = ((seconds / 86400) as i64 + 719_468, seconds % 86400);
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_494_344, "2026-11-24T04:25:44Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn only_our_own_files_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["report.html", "node-1.console.log", "wire.pcapng", "notes.txt", "node-1.qcow2"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        clear(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["node-1.qcow2", "notes.txt"]);
    }
}
