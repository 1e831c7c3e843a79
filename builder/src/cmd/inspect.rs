//! `hcl-image inspect`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;

use crate::{
    image::disk::Disk,
    inspect::{self, Report},
    progress::{Mode, Reporter},
};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Image file (raw, xz, zstd or gzip) or block device
    image: PathBuf,
    /// A file to print or a folder to list: /etc/fstab, boot:/config.txt, /boot/firmware/config.txt
    path: Option<String>,
}

/// Runs `inspect`.
///
/// # Errors
///
/// If the image cannot be opened, or there is nothing at the path. A reader that went away is no failure.
pub fn run(args: Args, reporter: &Reporter) -> Result<()> {
    let disk = Disk::open(&args.image, reporter)?;
    let mut out = io::BufWriter::with_capacity(256 << 10, io::stdout().lock());
    let shown = match &args.path {
        Some(path) => inspect::listing::show(&disk, path, &mut out),
        None => {
            let report = Report::gather(&disk)?;
            let text = match reporter.mode() {
                Mode::Json => serde_json::to_string(&report)? + "\n",
                Mode::Text | Mode::Quiet => inspect::render(&report),
            };
            out.write_all(text.as_bytes()).map_err(Into::into)
        }
    };
    let closed = |error: &anyhow::Error| {
        error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    match shown.and_then(|()| out.flush().map_err(Into::into)) {
        Err(error) if closed(&error) => {
            // What is still buffered has no reader: drop the buffer without writing it.
            let _ = out.into_parts();
            Ok(())
        }
        result => result,
    }
}
