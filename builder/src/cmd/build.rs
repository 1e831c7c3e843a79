//! `hcl-image build`.

use std::path::PathBuf;

use crate::{
    build::{self, Options},
    lock::Lock,
    manifest::Manifest,
    progress::Reporter,
};

/// The manifest that is built where none is named, below the project's folder.
pub(super) const DEFAULT: &str = "manifests/debian-trixie-armhf.toml";

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) input: Input,
    /// The image to write, instead of out/hcl-NAME.img
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also write a compressed image; stands for --set output.compress=…
    #[arg(long, value_name = "xz|zstd")]
    compress: Option<String>,
}

/// What decides the contents of an image; `build` and `plan` share it.
#[derive(Debug, clap::Args)]
pub struct Input {
    /// Manifest of the image
    #[arg(default_value = DEFAULT)]
    manifest: PathBuf,
    /// Set a key of the manifest, such as node.vlan=201; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Build exactly what this NAME.lock of an earlier build says
    #[arg(long, value_name = "FILE")]
    locked: Option<PathBuf>,
    /// Debian mirror, instead of the one that this machine uses
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Folder of the clusters' keys, instead of the one in your configuration folder
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Lay no cluster key and no login into the image, so that it can be shared; `hcl-image key` adds them
    #[arg(long)]
    no_key: bool,
    /// Folder for what is downloaded and made once, instead of the one in your cache folder
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The node program's binary, instead of the one that `make node` builds
    #[arg(long, value_name = "FILE")]
    node_program: Option<PathBuf>,
    /// The binary of hcl-swarm, instead of the one beside the node program
    #[arg(long, value_name = "FILE")]
    swarm_program: Option<PathBuf>,
}

impl Input {
    /// Manifest and options, `more` sets on top.
    pub(super) fn read(self, more: Vec<String>) -> anyhow::Result<(Manifest, Options)> {
        let sets: Vec<String> = self.sets.into_iter().chain(more).collect();
        let manifest = Manifest::load(&self.manifest, &sets)?;
        let locked = self.locked.as_deref().map(Lock::load).transpose()?;
        let options = Options {
            output: None,
            cache: self.cache,
            keys: self.keys,
            no_key: self.no_key,
            node_program: self.node_program,
            swarm_program: self.swarm_program,
            mirror: self.mirror,
            locked,
        };
        Ok((manifest, options))
    }
}

/// Runs `build`.
///
/// # Errors
///
/// As [`build::build`].
pub fn run(args: Args, reporter: &Reporter) -> anyhow::Result<()> {
    let compress = args.compress.map(|kind| format!("output.compress={kind}"));
    let (manifest, mut options) = args.input.read(compress.into_iter().collect())?;
    options.output = args.output;
    build::build(&manifest, &options, reporter)?.print(reporter);
    Ok(())
}
