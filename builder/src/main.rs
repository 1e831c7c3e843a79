//! The command line of `hcl-image`.

use std::process::ExitCode;

use clap::Parser;
use hcl_image::{cmd::Cli, error};

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in error::lines(&failure) {
                eprintln!("hcl-image: {line}");
            }
            error::exit_code(&failure)
        }
    }
}
