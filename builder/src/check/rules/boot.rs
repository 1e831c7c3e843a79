//! Boot partition, command line, and the root file system as such.

use std::collections::BTreeSet;

use crate::{check::Evidence, units::Bytes};

/// What journal, logs and keys of a first boot need before the file system grows, with room to spare.
const FIRST_BOOT: Bytes = Bytes(32 * Bytes::MIB);

pub(super) fn readable(evidence: &Evidence) -> Vec<String> {
    evidence.boot.as_ref().err().map(|error| format!("the boot partition: {error}")).into_iter().collect()
}

pub(super) fn root_readable(evidence: &Evidence) -> Vec<String> {
    evidence.root.as_ref().err().map(|error| format!("the root file system: {error}")).into_iter().collect()
}

pub(super) fn firmware(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    let mut findings = Vec::new();
    for start in evidence.starts() {
        let missing: Vec<&str> = start.firmware.iter().map(String::as_str).filter(|file| !boot.has(file)).collect();
        if !missing.is_empty() {
            findings.push(format!(
                "{} missing on the boot partition: a {} does not start without; they come with raspi-firmware",
                missing.join(", "),
                start.board
            ));
        }
    }
    findings
}

pub(super) fn overrides(evidence: &Evidence) -> Vec<String> {
    let reason = evidence.boot().and_then(|boot| boot.bad_overrides.as_ref());
    reason.map(|reason| format!("the node will stop at it: {reason}")).into_iter().collect()
}

pub(super) fn config(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    if boot.config.is_none() && !boot.starts.is_empty() {
        return vec!["config.txt is missing: the firmware's defaults apply".to_owned()];
    }
    let complaints: BTreeSet<&String> = boot.starts.iter().flat_map(|(config, _)| &config.complaints).collect();
    complaints.into_iter().cloned().collect()
}

pub(super) fn device_tree(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    if evidence.boards.is_empty() {
        return vec!["no device tree of any board that we know is on the boot partition".to_owned()];
    }
    evidence
        .starts()
        .filter(|start| !start.device_trees.iter().any(|file| boot.has(file)))
        .map(|start| {
            format!(
                "{} is missing on the boot partition: Linux does not start on a {}; copy it from the kernel's package",
                start.device_trees.join(" or "),
                start.board
            )
        })
        .collect()
}

pub(super) fn cmdline(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    if boot.cmdlines.is_empty() {
        return vec!["cmdline.txt is missing on the boot partition: the kernel would not know its root".to_owned()];
    }
    let lines = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
    boot.cmdlines
        .iter()
        .filter(|(_, text)| lines(text) != 1)
        .map(|(name, text)| format!("{name} has {} lines: the firmware reads the first only, put all on it", lines(text)))
        .collect()
}

pub(super) fn root(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    let mut findings = Vec::new();
    let no_initrd = evidence.starts().any(|start| start.initramfs.is_empty());
    for (name, line) in evidence.cmdlines() {
        let Some(spec) = line.value("root") else {
            findings.push(format!("{name} has no root=: the kernel would not know its root; add root=PARTUUID=…"));
            continue;
        };
        let own = evidence.table.as_ref().and_then(|table| table.partuuid(system.number)).unwrap_or_default();
        match evidence.resolve(spec) {
            Some(number) if number == system.number => {
                let udev = ["LABEL=", "UUID=", "/dev/disk/"].iter().any(|prefix| spec.starts_with(prefix));
                if udev && no_initrd {
                    findings.push(format!(
                        "{name} says root={spec} and there is no initrd: the kernel alone knows root=PARTUUID={own}"
                    ));
                }
            }
            Some(number) => findings.push(format!(
                "{name} says root={spec}, which is partition {number}; the system is on {} (PARTUUID={own})",
                system.number
            )),
            None => findings
                .push(format!("{name} says root={spec}, which is nowhere in this image; its root partition is PARTUUID={own}")),
        }
    }
    findings
}

pub(super) fn fstab(evidence: &Evidence) -> Vec<String> {
    let (Some(system), Some(text)) = (evidence.system(), evidence.system().and_then(|system| system.fstab.as_ref())) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for Mount { spec, on, options } in mounts(text) {
        let wanted = match on {
            "/" => Some(system.number),
            _ if BOOT_MOUNTS.contains(&on) => evidence.boot().map(|boot| boot.number),
            _ => continue,
        };
        if has(options, "noauto") || spec == "/dev/root" {
            continue;
        }
        let outcome = if has(options, "nofail") { "it is not mounted" } else { "booting stops in emergency mode" };
        match evidence.resolve(spec) {
            Some(number) if Some(number) == wanted => {}
            Some(number) => {
                findings.push(format!("/etc/fstab mounts {spec} on {on}, which is partition {number}: name the right one"))
            }
            None => findings.push(format!("/etc/fstab mounts {spec} on {on}, which is nowhere in this image: {outcome}")),
        }
    }
    findings
}

pub(super) fn fstab_boot(evidence: &Evidence) -> Vec<String> {
    let text = evidence.system().and_then(|system| system.fstab.as_deref()).unwrap_or_default();
    let strict = mounts(text)
        .filter(|mount| BOOT_MOUNTS.contains(&mount.on) && !has(mount.options, "nofail") && !has(mount.options, "noauto"));
    strict
        .map(|mount| {
            format!(
                "/etc/fstab mounts {} without `nofail`: a slow or broken boot partition stops the boot in emergency mode; add `nofail`",
                mount.on
            )
        })
        .collect()
}

/// Where the boot partition is mounted, by us and by older systems.
const BOOT_MOUNTS: [&str; 2] = ["/boot", "/boot/firmware"];

/// A line of fstab, as far as it matters here.
struct Mount<'a> {
    spec: &'a str,
    on: &'a str,
    options: &'a str,
}

fn mounts(fstab: &str) -> impl Iterator<Item = Mount<'_>> {
    fstab.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (spec, on) = (fields.next()?, fields.next()?);
        Some(Mount { spec, on, options: fields.nth(1).unwrap_or("defaults") })
    })
}

fn has(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

pub(super) fn cgroup_memory(evidence: &Evidence) -> Vec<String> {
    let lacking = evidence.cmdlines().filter(|(_, line)| line.memory_controller().0.is_none());
    lacking
        .map(|(name, _)| {
            format!("{name} lacks cgroup_enable=memory: the Pi's device tree disables it, memory limits fail; add it")
        })
        .collect()
}

pub(super) fn cgroup_order(evidence: &Evidence) -> Vec<String> {
    let undone = evidence.cmdlines().filter(|(_, line)| {
        let (enable, disable) = line.memory_controller();
        enable.is_some() && disable > enable
    });
    undone
        .map(|(name, _)| format!("{name} has cgroup_disable=memory behind cgroup_enable=memory: the last one wins, remove it"))
        .collect()
}

pub(super) fn secrets(evidence: &Evidence) -> Vec<String> {
    let secrets = evidence.boot().into_iter().flat_map(|boot| &boot.secrets);
    secrets
        .map(|path| format!("{path} on the boot partition is a private key: whoever holds the card has it; remove it"))
        .collect()
}

pub(super) fn cluster_key(evidence: &Evidence) -> Vec<String> {
    let files = evidence.boot().into_iter().flat_map(|boot| &boot.cluster_keys);
    files
        .map(|path| {
            format!("{path} on the boot partition holds a cluster key: whoever holds the card could join the cluster; remove it")
        })
        .collect()
}

pub(super) fn root_clean(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    if system.superblock.needs_recovery {
        return vec!["the root file system's journal was not replayed: run e2fsck -fp on it".to_owned()];
    }
    if !system.superblock.clean {
        return vec!["the root file system was not unmounted cleanly or has errors: run e2fsck -f on it".to_owned()];
    }
    Vec::new()
}

pub(super) fn root_space(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    let free = system.superblock.free();
    if free >= FIRST_BOOT {
        return Vec::new();
    }
    vec![format!("the root file system has {free} free: a first boot needs {FIRST_BOOT}; make the root partition larger")]
}
