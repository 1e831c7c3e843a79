//! Kernel, modules and initrd.

use std::collections::BTreeSet;

use crate::{
    check::{Boot, Evidence},
    inspect::{
        elf::Machine,
        firmware::Start,
        initrd::has_module,
        kernel::{Kernel, KernelKind},
    },
    manifest::Board,
};

/// Controllers that the SD card of some Pi hangs on; one of them is needed.
const SD_CONTROLLERS: [&str; 4] = ["sdhci-iproc", "bcm2835", "bcm2835-sdhost", "sdhci-brcmstb"];

fn kernel_of<'a>(boot: &'a Boot, start: &Start) -> Option<(&'a String, &'a Kernel)> {
    start.kernels.iter().find_map(|name| boot.kernels.get_key_value(name))
}

pub(super) fn present(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    let missing = evidence.starts().filter(|start| kernel_of(boot, start).is_none());
    distinct(missing.map(|start| {
        format!("{} is missing on the boot partition: it is what a {} starts", start.kernels.join(" or "), start.board)
    }))
}

pub(super) fn architecture(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    let userland = evidence.system().and_then(|system| system.machine);
    let mut findings = Vec::new();
    for start in evidence.starts() {
        let Some((name, kernel)) = kernel_of(boot, start) else { continue };
        let Some(wide) = kernel.kind.is_64bit() else {
            findings.push(format!("{name} is {}: neither a 64-bit Image nor a zImage", kernel.kind));
            continue;
        };
        if kernel.kind == KernelKind::Arm64Efi {
            findings.push(format!("{name} is a {}: the firmware starts an Image, plain or in gzip", kernel.kind));
        } else if wide && start.board == Board::Pi2 {
            findings.push(format!("{name} is a 64-bit kernel: a {} has no 64-bit mode", start.board));
        } else if wide != start.arm_64bit {
            let (is, set) = if wide { ("64-bit", 1) } else { ("32-bit", 0) };
            findings.push(format!(
                "{name} is a {is} kernel, but a {} starts it otherwise: put arm_64bit={set} into config.txt",
                start.board
            ));
        } else if !wide && userland == Some(Machine::Arm64) {
            findings.push(format!("{name} is a 32-bit kernel, the userland is arm64: take a 64-bit kernel"));
        }
    }
    distinct(findings.into_iter())
}

pub(super) fn modules(evidence: &Evidence) -> Vec<String> {
    let (Some(boot), Some(system)) = (evidence.boot(), evidence.system()) else { return Vec::new() };
    if boot.kernels.is_empty() {
        return Vec::new();
    }
    if system.modules.is_empty() {
        return vec!["/usr/lib/modules holds no modules at all: install the kernel's package".to_owned()];
    }
    let versions = boot.kernels.iter().filter_map(|(name, kernel)| Some((name, kernel.version.as_ref()?)));
    distinct(versions.filter(|(_, version)| !system.modules.contains_key(*version)).map(|(name, version)| {
        let there: Vec<&str> = system.modules.keys().map(String::as_str).collect();
        format!("{name} is {version}, but /usr/lib/modules has only {}: kernel and modules differ", there.join(", "))
    }))
}

pub(super) fn initrd_present(evidence: &Evidence) -> Vec<String> {
    let Some(boot) = evidence.boot() else { return Vec::new() };
    let mut findings = Vec::new();
    for start in evidence.starts() {
        for file in &start.initramfs {
            match boot.initrds.get(file) {
                None => findings.push(format!("{file} is missing on the boot partition: config.txt names it as initrd")),
                Some(Err(error)) => findings.push(format!("{file} cannot be read as initrd: {error}")),
                Some(Ok(_)) => {}
            }
        }
    }
    distinct(findings.into_iter())
}

/// Whether a driver is there when the kernel looks for its root: in the initrd or built in.
/// `None` if that cannot be known, since an initrd is missing or unreadable.
fn early(evidence: &Evidence, start: &Start, driver: &str) -> Option<bool> {
    let boot = evidence.boot()?;
    let version = kernel_of(boot, start).and_then(|(_, kernel)| kernel.version.as_ref());
    let builtin = evidence.system().is_some_and(|system| match version.and_then(|version| system.builtin.get(version)) {
        Some(builtin) => has_module(builtin, driver),
        // A kernel that does not tell its version is one of those that are installed.
        None => system.builtin.values().any(|builtin| has_module(builtin, driver)),
    });
    if builtin {
        return Some(true);
    }
    let mut found = false;
    for file in &start.initramfs {
        found |= boot.initrds.get(file)?.as_ref().ok()?.has_module(driver);
    }
    Some(found)
}

pub(super) fn initrd_drivers(evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    for start in evidence.starts() {
        let place =
            if start.initramfs.is_empty() { "the kernel (there is no initrd)".to_owned() } else { start.initramfs.join(", ") };
        let lacks = |driver: &str| early(evidence, start, driver) == Some(false);
        let mut missing: Vec<&str> = ["ext4", "mmc_block"].into_iter().filter(|driver| lacks(driver)).collect();
        if SD_CONTROLLERS.iter().all(|driver| lacks(driver)) {
            missing.push("an SD controller (sdhci-iproc, bcm2835)");
        }
        if !missing.is_empty() {
            findings.push(format!(
                "{place} lacks {}: the root partition is never found; list them in /etc/initramfs-tools/modules",
                missing.join(", ")
            ));
        }
    }
    distinct(findings.into_iter())
}

pub(super) fn initrd_qemu(evidence: &Evidence) -> Vec<String> {
    let lacking = evidence.starts().filter(|start| early(evidence, start, "virtio_blk") == Some(false));
    distinct(lacking.map(|start| {
        let place = if start.initramfs.is_empty() { "the kernel".to_owned() } else { start.initramfs.join(", ") };
        format!("{place} lacks virtio_blk: `hcl-image up` and `test` cannot boot this kernel in QEMU")
    }))
}

/// The same line for many boards is one finding.
fn distinct(findings: impl Iterator<Item = String>) -> Vec<String> {
    findings.collect::<BTreeSet<_>>().into_iter().collect()
}
