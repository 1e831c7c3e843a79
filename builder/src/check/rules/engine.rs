//! Programs: architecture, node program, engine.

use crate::{
    check::{Evidence, NODE_PROGRAM, System},
    inspect::elf::Machine,
};

/// Whether a program for `program` runs in this image.
fn runs(evidence: &Evidence, system: &System, program: Machine) -> bool {
    let wide_kernel =
        evidence.boot().is_some_and(|boot| boot.kernels.values().any(|kernel| kernel.kind.is_64bit() == Some(true)));
    let foreign = |name: &str| {
        system.packages.iter().any(|package| package.name == "libc6" && package.architecture == name && package.is_present())
    };
    match (system.machine, program) {
        (Some(Machine::Armhf | Machine::Arm), Machine::Armhf | Machine::Arm) | (Some(Machine::Arm64), Machine::Arm64) => true,
        (Some(Machine::Arm64), Machine::Armhf | Machine::Arm) => foreign("armhf"),
        (Some(Machine::Armhf | Machine::Arm), Machine::Arm64) => wide_kernel && foreign("arm64"),
        _ => false,
    }
}

pub(super) fn architecture(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    match system.machine {
        None => {
            return vec!["there is no shell or systemd whose architecture could be told: is this a root file system?".to_owned()];
        }
        Some(Machine::Armhf | Machine::Arm | Machine::Arm64) => {}
        Some(other) => return vec![format!("the userland is {other}: a Pi runs armhf or arm64")],
    }
    let wrong = system.programs.values().filter(|(machine, ..)| !runs(evidence, system, *machine));
    wrong
        .map(|(machine, count, examples)| {
            let userland = system.machine.map(|machine| machine.to_string()).unwrap_or_default();
            let more = if *count > examples.len() { format!(" and {} more", count - examples.len()) } else { String::new() };
            format!("{}{more}: for {machine}, the userland is {userland}; take the package for {userland}", examples.join(", "))
        })
        .collect()
}

pub(super) fn node_program(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    let problem = match &system.node {
        None if system.node_exists => "is no program".to_owned(),
        None => "is missing: the node would not cluster; build the image with it".to_owned(),
        Some(elf) if !matches!(elf.machine, Machine::Armhf | Machine::Arm | Machine::Arm64) => {
            format!("is for {}: compile it for ARM", elf.machine)
        }
        Some(elf) if elf.machine == Machine::Arm64 && system.machine != Some(Machine::Arm64) => {
            "is for arm64, the userland is armhf: compile it for armv7".to_owned()
        }
        Some(elf) if !elf.is_static() => {
            "is dynamically linked: it must run before anything is configured, link it statically".to_owned()
        }
        Some(_) => return Vec::new(),
    };
    vec![format!("{NODE_PROGRAM} {problem}")]
}

pub(super) fn node_unit(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    let wrong = |unit: &&str| {
        if system.is_enabled(unit) {
            return None;
        }
        let why = if system.masked.contains(*unit) {
            "is masked"
        } else if system.units.contains(*unit) {
            "is not enabled: link it into /etc/systemd/system/multi-user.target.wants"
        } else {
            "is missing"
        };
        Some(format!("{unit} {why}"))
    };
    ["hcl-firstboot.service", "hcl-cluster.service"].iter().filter_map(wrong).collect()
}

pub(super) fn present(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    match &system.engine {
        None => vec!["there is no Docker engine (dockerd): install docker.io".to_owned()],
        Some((path, None)) => vec![format!("{path} is no program: install docker.io")],
        Some((path, Some(elf))) if !runs(evidence, system, elf.machine) => {
            vec![format!("{path} is for {}: the userland cannot run it", elf.machine)]
        }
        Some(_) => Vec::new(),
    }
}

pub(super) fn enabled(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    if system.engine.is_none() || system.is_enabled("docker.service") || system.is_enabled("docker.socket") {
        return Vec::new();
    }
    vec!["neither docker.service nor docker.socket is enabled: systemctl enable docker".to_owned()]
}

/// A default that newer engines have changed.
const OPEN: &str = "/etc/docker/daemon.json does not say which store: engines from version 29 on take containerd's and would ignore \
                    the preloaded images; write `\"features\": {\"containerd-snapshotter\": false}` into it";

pub(super) fn store(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system().filter(|system| system.engine.is_some()) else { return Vec::new() };
    let mut findings = Vec::new();
    let preloaded = system.store.as_ref().is_some_and(|store| !store.images.is_empty());
    if preloaded && system.daemon_json.is_none() {
        findings.push(OPEN.to_owned());
    }
    if let Some(text) = &system.daemon_json {
        match serde_json::from_str::<serde_json::Value>(text) {
            Err(error) => findings.push(format!("/etc/docker/daemon.json is no JSON ({error}): the engine does not start")),
            Ok(config) => {
                if config["features"]["containerd-snapshotter"] == true {
                    findings.push(
                        "/etc/docker/daemon.json turns containerd-snapshotter on: the preloaded images are ignored; remove it"
                            .to_owned(),
                    );
                } else if preloaded
                    && config["features"]["containerd-snapshotter"] != false
                    && config["storage-driver"] != "overlay2"
                {
                    findings.push(OPEN.to_owned());
                }
                if let Some(driver) = config["storage-driver"].as_str().filter(|driver| *driver != "overlay2") {
                    findings.push(format!(
                        "/etc/docker/daemon.json names storage-driver {driver}: the images are stored for overlay2"
                    ));
                }
            }
        }
    }
    let option = system.engine_unit.lines().filter(|line| line.trim_start().starts_with("ExecStart=")).any(|line| {
        let mut words = line.split_whitespace();
        words.any(|word| word.contains("containerd-snapshotter=true"))
            || line.contains("--storage-driver=") && !line.contains("--storage-driver=overlay2")
    });
    if option {
        findings.push("docker.service starts the engine with another store than overlay2: remove the option".to_owned());
    }
    findings
}
