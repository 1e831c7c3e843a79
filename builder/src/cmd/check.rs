//! `hcl-image check`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use serde_json::json;

use crate::{
    check::{self, Evidence, Finding, RULES, Severity},
    error::{Refused, UsageError},
    image::disk::Disk,
    manifest::{Board, Ethernet},
    progress::{Mode, Reporter},
};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Image file (raw, xz, zstd or gzip) or block device
    #[arg(required_unless_present = "list")]
    image: Option<PathBuf>,
    /// A board it must boot on; may be given again. Without: every board whose device tree is in the image
    #[arg(long = "board", short, value_name = "BOARD", value_parser = board)]
    boards: Vec<Board>,
    /// Print all rules as a table in Markdown
    #[arg(long)]
    list: bool,
}

fn board(name: &str) -> Result<Board, String> {
    let known = || Board::ALL.map(Board::id).join(", ");
    Board::ALL.into_iter().find(|board| board.id() == name).ok_or_else(|| format!("known boards are {}", known()))
}

/// Runs `check`.
///
/// # Errors
///
/// [`Refused`] if a rule found an error; else whatever failed.
pub fn run(args: Args, reporter: &Reporter) -> Result<()> {
    if args.list {
        return quiet(io::stdout().write_all(check::table().as_bytes()));
    }
    let image = args.image.ok_or_else(|| UsageError::new("name an image to check"))?;
    let disk = Disk::open(&image, reporter)?;
    let evidence = Evidence::gather(&disk, &args.boards, reporter)?;
    let findings = check::run(&evidence);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if reporter.mode() == Mode::Json {
        reporter.emit(&json!({
            "image": image,
            "boards": evidence.boards,
            "rules": RULES.len(),
            "errors": errors,
            "warnings": findings.len() - errors,
            "findings": findings,
        }));
    } else {
        quiet(print(&evidence, &findings, errors, reporter.mode()))?;
    }
    if errors > 0 {
        return Err(
            Refused(format!("{}: {}, this image should not be flashed", image.display(), counted(errors, "error"))).into()
        );
    }
    Ok(())
}

/// A reader of our output that went away is no failure.
fn quiet(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// `1 error`, `2 errors`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn print(evidence: &Evidence, findings: &[Finding], errors: usize, mode: Mode) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for rule in RULES {
        let of_rule: Vec<&Finding> = findings.iter().filter(|finding| finding.rule == rule.id).collect();
        let verdict = match (of_rule.is_empty(), rule.severity) {
            (true, _) => "[PASS]",
            (false, Severity::Error) => "[FAIL]",
            (false, Severity::Warning) => "[WARN]",
        };
        if of_rule.is_empty() && mode == Mode::Text {
            writeln!(out, "{verdict} {}", rule.id)?;
        }
        for finding in of_rule {
            writeln!(out, "{verdict} {:22} {}", finding.rule, finding.message)?;
        }
    }
    if mode == Mode::Text {
        let shown = |board: &Board| match board.ethernet() {
            Ethernet::NoDriver(what) => format!("{board} (starts, and cannot join: no driver for its {what})"),
            _ => board.to_string(),
        };
        let boards: Vec<String> = evidence.boards.iter().map(shown).collect();
        let how = if evidence.boards_named { "" } else { " (by their device trees)" };
        writeln!(
            out,
            "\n{} rules for {}{how}: {}, {}",
            RULES.len(),
            if boards.is_empty() { "no board".to_owned() } else { boards.join(", ") },
            counted(errors, "error"),
            counted(findings.len() - errors, "warning")
        )?;
    }
    Ok(())
}
