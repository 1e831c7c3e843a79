//! `hcl stop` and `hcl start`.

use std::{fmt::Display, process::Command};

use crate::{
    config::NodeConfig,
    driver::{self, Options},
    status::Status,
};

const UNIT: &str = "hcl-firstboot.service";

/// Stops the program and takes back what it left; each line goes to `say` as it comes.
///
/// # Errors
///
/// What did not work and what to do; what could be done is done.
pub(super) fn stop(options: &Options, say: impl Fn(&dyn Display)) -> Result<(), String> {
    as_root("stop")?;
    let config = NodeConfig::read(&options.config)
        .map_err(|error| format!("{error}: with a wrong configuration nobody knows what to take back; nothing was done"))?;
    // Before systemd removes it.
    let read = || Status::read(&options.run_dir).ok().flatten();
    let last = read();
    let stopped = systemctl("stop");
    if read().is_some_and(|status| status.is_alive()) {
        // Whatever was taken would come back.
        return Err(format!("the program still runs, nothing was taken back: {}", stopped.err().unwrap_or_default()));
    }
    match &stopped {
        Ok(()) => say(&"stopped hcl-firstboot"),
        Err(error) => say(&format_args!("hcl-firstboot does not run ({error})")),
    }
    let mut failed = Vec::new();
    for line in driver::undo(&config, last.as_ref(), &options.etc) {
        match line {
            Ok(line) => say(&line),
            Err(line) => failed.push(line),
        }
    }
    say(&"the host name stays; the next boot or `sudo hcl start` starts hcl-firstboot again");
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// Starts the program.
///
/// # Errors
///
/// What did not work and what to do.
pub(super) fn start(say: impl Fn(&dyn Display)) -> Result<(), String> {
    as_root("start")?;
    systemctl("start")?;
    say(&"started hcl-firstboot: `hcl status` shows what it does");
    Ok(())
}

fn as_root(command: &str) -> Result<(), String> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(format!("{command} needs root: `sudo hcl {command}`")) }
}

fn systemctl(verb: &str) -> Result<(), String> {
    let output = Command::new("systemctl").args([verb, UNIT]).output().map_err(|error| format!("systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("systemctl {verb} {UNIT}: {}", text.lines().next().unwrap_or("no reason given")))
}
