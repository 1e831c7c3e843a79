//! `hcl-image build`.

use crate::progress::Reporter;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `build`.
pub fn run(_args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
