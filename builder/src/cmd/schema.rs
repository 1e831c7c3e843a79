//! `hcl-image schema`.

use std::io::Write;

use anyhow::Context;

use crate::{manifest::schema, progress::Reporter};

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The reference of all keys for people, in Markdown, instead of JSON Schema
    #[arg(long)]
    pub markdown: bool,
}

/// Runs `schema`.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(args: Args, _reporter: &Reporter) -> anyhow::Result<()> {
    let text = if args.markdown { schema::markdown() } else { format!("{:#}\n", schema::json().to_value()) };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output"),
    }
}
