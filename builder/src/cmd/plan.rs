//! `hcl-image plan`.

use std::io::Write;

use anyhow::Context;

use super::build::Input;
use crate::{build, progress::Reporter};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    input: Input,
    /// The lock that the build would write, instead of its steps
    #[arg(long)]
    lock: bool,
}

/// Runs `plan`: resolves what a build would be made of and prints what it would do.
///
/// # Errors
///
/// Whatever would stop the build before its base is made.
pub fn run(args: Args, reporter: &Reporter) -> anyhow::Result<()> {
    let (manifest, options) = args.input.read(Vec::new())?;
    let (lock, plan) = build::plan(&manifest, &options, reporter)?;
    let text = if args.lock { lock.render()? } else { build::describe(&manifest, &options, &lock, &plan) };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}
