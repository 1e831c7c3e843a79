//! `hcl-image check`.

use crate::progress::Reporter;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `check`.
pub fn run(_args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
