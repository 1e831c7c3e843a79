//! The commands, one file each. `main` is one `match` over [`Command`].

pub mod build;
pub mod check;
pub mod env;
pub mod inspect;
pub mod key;
pub mod lab;
pub mod plan;
pub mod schema;
pub mod ssh;
pub mod test;
pub mod up;
pub mod why;

use clap::{Parser, Subcommand};

use crate::progress::{Mode, Reporter};

/// Builds, inspects, checks and boots SD card images for a Hypriot Cluster Lab.
#[derive(Debug, Parser)]
#[command(name = "hcl-image", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Say nothing but errors and what was asked for
    #[arg(long, short, global = true, conflicts_with = "json")]
    pub quiet: bool,
    /// One JSON object a line on standard output instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// One variant a command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a flashable image from a manifest
    Build(build::Args),
    /// Print what a build would do, without doing it
    Plan(plan::Args),
    /// Show what is in an image: partitions, system, packages, engine, files
    Inspect(inspect::Args),
    /// Find what would keep an image from booting or clustering
    Check(check::Args),
    /// Lay the cluster key into a finished image or a card, or another key in its place
    Key(key::Args),
    /// Log in to a node, whose host key is known by the cluster key
    Ssh(ssh::Args),
    /// Print what makes `docker` on this machine be about the whole cluster
    Env(env::Args),
    /// Say why a card did not come up: what it wrote on its boot partition
    Why(why::Args),
    /// Boot nodes of an image in QEMU and leave them running until Ctrl-C
    Up(up::Args),
    /// Give an order to a lab that runs in another terminal
    Lab(lab::Args),
    /// Boot nodes of an image in QEMU unattended, assert, and write a report
    Test(test::Args),
    /// Print the JSON Schema of manifests
    Schema(schema::Args),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// Whatever failed, with context; see [`crate::error`] for the exit code that follows.
    pub fn run(self) -> anyhow::Result<()> {
        let mode = match (self.quiet, self.json) {
            (_, true) => Mode::Json,
            (true, _) => Mode::Quiet,
            _ => Mode::Text,
        };
        let reporter = Reporter::new(mode);
        match self.command {
            Command::Build(args) => build::run(args, &reporter),
            Command::Plan(args) => plan::run(args, &reporter),
            Command::Inspect(args) => inspect::run(args, &reporter),
            Command::Check(args) => check::run(args, &reporter),
            Command::Key(args) => key::run(args, &reporter),
            Command::Ssh(args) => ssh::run(&args),
            Command::Env(args) => env::run(args, &reporter),
            Command::Why(args) => why::run(args, &reporter),
            Command::Up(args) => up::run(args, &reporter),
            Command::Lab(args) => lab::run(&args, &reporter),
            Command::Test(args) => test::run(args, &reporter),
            Command::Schema(args) => schema::run(args, &reporter),
        }
    }
}
