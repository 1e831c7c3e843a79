//! `hcl stop` and `hcl start`.

use std::{fmt::Display, process::Command, time::Duration};

use crate::{
    config::NodeConfig,
    consul::container::NAME as CONSUL,
    driver::{self, Options},
    endpoint::container::{JOIN, MANAGE},
    engine::{self, Engine},
    http::Client,
    status::Status,
};

/// What makes the network.
pub(super) const NETWORK: &str = "hcl-firstboot.service";
/// What brings engine, Consul and swarm in.
pub(super) const CLUSTER: &str = "hcl-cluster.service";
/// How long each of the cluster's own containers has to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the program and takes back what it left; each line goes to `say` as it comes.
///
/// # Errors
///
/// What did not work and what to do; what could be done is done.
pub(super) fn stop(options: &Options, say: impl Fn(&dyn Display)) -> Result<(), String> {
    let (config, _) = NodeConfig::on_node(&options.config, &options.boot)
        .map_err(|error| format!("nothing was done, since nobody knows what to take back: {error}"))?;
    let last = || Status::read(&options.run_dir).ok().flatten();
    let running = || last().is_some_and(|status| status.is_alive());
    let ran = running();
    let mut failed = Vec::new();
    // First what needs the network, then the network.
    failed.extend(systemctl("stop", CLUSTER).err());
    failed.extend(stop_containers(&say).err());
    let stopped = systemctl("stop", NETWORK);
    if running() {
        // Whatever was taken would come back.
        return Err(format!("hcl-firstboot still runs, so nothing was taken back: {}", stopped.err().unwrap_or_default()));
    }
    say(if ran { &"stopped hcl-firstboot" } else { &"hcl-firstboot was not running" });
    let mut taken = 0;
    for line in driver::undo(&config, last().as_ref(), &options.etc) {
        match line {
            Ok(line) => {
                taken += 1;
                say(&line);
            }
            Err(line) => failed.push(line),
        }
    }
    if taken == 0 && failed.is_empty() {
        say(&"there was nothing to take back");
    } else {
        // Nobody else writes it now; that it cannot be written takes nothing from what was done.
        let _ = driver::tell(&options.run_dir, "`hcl stop` took back what was left of the cluster");
    }
    if !failed.is_empty() {
        return Err(format!("not everything was taken back: {}", failed.join("; ")));
    }
    say(&"the host name stays; the next boot or `sudo hcl start` brings the node back");
    Ok(())
}

/// Starts the program.
///
/// # Errors
///
/// What did not work and what to do.
pub(super) fn start(options: &Options, say: impl Fn(&dyn Display)) -> Result<(), String> {
    NodeConfig::on_node(&options.config, &options.boot)
        .map_err(|error| format!("not started, the configuration is wrong: {error}"))?;
    if Status::read(&options.run_dir).ok().flatten().is_some_and(|status| status.is_alive()) {
        say(&"hcl-firstboot runs already: `hcl status` shows what it does");
        return Ok(());
    }
    systemctl("start", NETWORK)?;
    systemctl("start", CLUSTER)?;
    say(&"started hcl-firstboot: `hcl status` shows what it does");
    Ok(())
}

/// The cluster's own containers end, those first that need the others; Consul's data stay. An engine that does not answer runs none.
fn stop_containers(say: &impl Fn(&dyn Display)) -> Result<(), String> {
    let Ok(engine) = Engine::connect(Client::unix(engine::SOCKET)) else { return Ok(()) };
    for (name, what) in [(MANAGE, "the cluster's Docker endpoint"), (JOIN, "the engine's port for nodes"), (CONSUL, "Consul")] {
        let found = engine.container(name).map_err(|error| error.to_string())?;
        if found.is_some_and(|found| found.is_ours() && found.state.running) {
            engine.stop_container(name, PATIENCE).map_err(|error| error.to_string())?;
            say(&format_args!("stopped {what}"));
        }
    }
    Ok(())
}

pub(super) fn systemctl(verb: &str, unit: &str) -> Result<(), String> {
    let output = Command::new("systemctl").args([verb, unit]).output().map_err(|error| format!("systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("`systemctl {verb} {unit}`: {}", text.lines().next().unwrap_or("no reason given")))
}
