//! `hcl-image plan`.

use crate::progress::Reporter;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `plan`.
pub fn run(_args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
