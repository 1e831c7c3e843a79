//! `hcl-image test`.

use crate::progress::Reporter;

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `test`.
pub fn run(_args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
