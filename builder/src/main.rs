//! The command line of `hcl-image`.

use std::process::ExitCode;

use clap::Parser;
use hcl_image::{cmd::Cli, error};

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hcl-image: {}", error::one_line(&failure));
            error::exit_code(&failure)
        }
    }
}
