//! `hcl-image why`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::json;

use crate::{
    error::{Refused, one_line},
    image::disk::Disk,
    progress::{Mode, Reporter},
    why::{Report, Verdict},
};

/// Arguments of `why`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The card's device, such as /dev/sdX, its boot partition, or an image file (raw, xz, zstd or gzip)
    card: PathBuf,
}

/// Runs `why`.
///
/// # Errors
///
/// [`Refused`] unless the last boot was ready; else whatever failed.
pub fn run(args: Args, reporter: &Reporter) -> Result<()> {
    let name = args.card.display().to_string();
    let disk = Disk::open(&args.card, reporter).map_err(|error| hinted(error, &name))?;
    let report = Report::gather(&disk).with_context(|| format!("looking why {name} did not come up"))?;
    if reporter.mode() == Mode::Json {
        let mut value = serde_json::to_value(&report)?;
        value["card"] = json!(name);
        reporter.emit(&value);
    } else {
        match io::stdout().lock().write_all(report.render(&name).as_bytes()) {
            // A reader that went away is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
    }
    let short = match report.verdict {
        Verdict::Ready => return Ok(()),
        Verdict::Failed => "the last boot of this card failed",
        Verdict::NeverBooted => "this card never booted",
        Verdict::NeverReported => "the node program never ran on this card",
        Verdict::Damaged => "the black box of this card cannot be read",
        Verdict::NoBlackBox => "there is no black box on this card",
    };
    Err(Refused(short.to_owned()).into())
}

/// What to do where the card cannot be opened.
fn hinted(error: anyhow::Error, name: &str) -> anyhow::Error {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    let hint = match cause.map(|cause| (cause.kind(), cause.raw_os_error())) {
        Some((io::ErrorKind::NotFound, _)) => {
            "there is no such file or device: put the card in, `lsblk` shows its name".to_owned()
        }
        Some((io::ErrorKind::PermissionDenied, _)) => {
            format!(
                "you may not read it; a card's device and an image with a key are for root and their owner: `sudo hcl-image why {name}`"
            )
        }
        // ENOMEDIUM.
        Some((_, Some(123))) => "the reader has no card in it".to_owned(),
        _ => return error,
    };
    anyhow::anyhow!("{}: {hint}", one_line(&error))
}
