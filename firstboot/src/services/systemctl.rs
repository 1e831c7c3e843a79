//! What systemd is told to do. No shell, and no word of it comes from outside.

use std::{path::Path, process::Command};

/// Runs `program`, systemctl but for tests, with these arguments. It does not wait for the end of what it starts.
///
/// # Errors
///
/// It is not there, or refuses, and why.
pub(super) fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let arguments = [&["--no-block"], arguments].concat();
    let output = Command::new(program).args(&arguments).output().map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("`systemctl {}`: {}", arguments.join(" "), text.lines().next().unwrap_or("no reason given")))
}

/// Runs systemctl with these arguments.
///
/// # Errors
///
/// As for [`run`].
pub(super) fn systemctl(arguments: &[&str]) -> Result<(), String> {
    run(Path::new("systemctl"), arguments)
}
