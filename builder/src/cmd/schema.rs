//! `hcl-image schema`.

use crate::progress::Reporter;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `schema`.
pub fn run(_args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
