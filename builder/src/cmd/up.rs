//! `hcl-image up`.

use crate::progress::Reporter;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `up`.
pub fn run(_args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
