//! What runs at each stage of the installation, as shell scripts for mmdebstrap.
//!
//! Each gets the root as its first argument and runs inside the namespace, outside the root.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Settings;

/// Where stand-ins lie inside the root while packages are installed: first in `PATH`, gone at the end.
pub(super) const NATIVE: &str = "/usr/local/hcl-native";

/// Packages for the building machine, whose `dpkg-deb` and `depmod` stand in for emulated ones.
///
/// `dpkg-deb` decompresses every package and `depmod` reads every kernel module; both only turn
/// input into output, so that the result does not depend on which architecture they run on.
pub const TOOL_PACKAGES: [&str; 9] =
    ["dpkg", "kmod", "libc6", "libbz2-1.0", "liblzma5", "libmd0", "libzstd1", "zlib1g", "libssl3t64"];

/// Kernel modules that the initrd must hold: what finds the root file system on each board and in QEMU.
///
/// The automatic choice of initramfs-tools is not used: with a 32-bit userland emulated on ext4 it
/// silently loses most drivers (directory offsets of 64 bits do not fit its `readdir`).
const INITRD_MODULES: [&str; 33] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "ext4",
    "vfat",
    "nls_ascii",
    "nls_cp437",
    "sdhci-iproc",
    "bcm2835",
    "mmc_block",
    "dwc2",
    "usbhid",
    "usb_storage",
    "uas",
    "xhci-pci",
    "pcie-brcmstb",
    "smsc95xx",
    "lan78xx",
    "genet",
    "cdc_ether",
    "asix",
    "ax88179_178a",
    "r8152",
    "bcm2835-dma",
    "clk-raspberrypi",
    "raspberrypi-cpufreq",
    "gpio-raspberrypi-exp",
    "reset-raspberrypi",
    "phy-generic",
    "af_packet",
    "8021q",
];

/// Writes the hooks `extract`, `essential` and `customize` into `folder`, beside `native/`.
pub(super) fn write(folder: &Path, settings: &Settings, with_stand_ins: bool) -> Result<()> {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, format!("set -eu\nroot=$1\n{text}")).with_context(|| format!("writing {}", path.display()))
    };
    write("extract", extract(folder, with_stand_ins))?;
    write("essential", essential(settings))?;
    write("customize", customize(settings))
}

/// After the essential packages were unpacked, before the first script runs: the stand-ins.
fn extract(folder: &Path, with_stand_ins: bool) -> String {
    // The kernel package, its trigger and raspi-firmware would each make an initrd, at a minute a
    // time under emulation; `customize` makes the one that counts.
    let mut script = format!(
        "mkdir -p \"$root{NATIVE}\"\nprintf '#!/bin/sh\\nexit 0\\n' > \"$root{NATIVE}/update-initramfs\"\nchmod 755 \"$root{NATIVE}/update-initramfs\"\n"
    );
    if with_stand_ins {
        script.push_str(&format!(
            "native={}/native\ncp \"$native/usr/bin/dpkg-deb\" \"$native/usr/bin/kmod\" \"$root{NATIVE}/\"\nln -s kmod \"$root{NATIVE}/depmod\"\n\
             for library in \"$native\"/usr/lib/*-linux-gnu; do cp -a \"$library\" \"$root/usr/lib/\"; done\n\
             test ! -d \"$native/usr/lib64\" || {{ mkdir -p \"$root/usr/lib64\"; cp -L \"$native\"/usr/lib64/* \"$root/usr/lib64/\"; ln -s usr/lib64 \"$root/lib64\"; }}\n",
            folder.display()
        ));
    }
    script
}

/// Once the essential packages work: settings that others read while they are configured.
fn essential(settings: &Settings) -> String {
    let modules = INITRD_MODULES.join("\n");
    format!(
        "mkdir -p \"$root/etc/initramfs-tools/conf.d\" \"$root/etc/default\"\n\
         printf 'MODULES=list\\n' > \"$root/etc/initramfs-tools/conf.d/hcl\"\n\
         cat > \"$root/etc/initramfs-tools/modules\" <<'EOF'\n\
         # What finds the root file system on each board and in QEMU.\n{modules}\nEOF\n\
         cat > \"$root/etc/default/raspi-firmware\" <<'EOF'\n\
         # Read by /etc/kernel/postinst.d/z50-raspi-firmware whenever it writes /boot/firmware.\n\
         KERNEL_ARCH={}\nROOTPART=LABEL={}\nCONSOLES=\"tty0 ttyS1,115200\"\nCMA=0\nEOF\n\
         printf '%s\\n' '{}' > \"$root/etc/default/raspi-extra-cmdline\"\n",
        settings.kernel_architecture,
        settings.root_label,
        settings.kernel_parameters.join(" "),
    )
}

/// When everything is installed: the initrd, and nothing left behind that is of this build or of this machine.
fn customize(settings: &Settings) -> String {
    format!(
        "rm -rf \"$root{NATIVE}\"\n\
         chroot \"$root\" update-initramfs -c -k all\n\
         rm -rf \"$root/lib64\" \"$root/usr/lib64\"\n\
         for library in x86_64-linux-gnu aarch64-linux-gnu; do\n\
         test -e \"$root/var/lib/dpkg/info/libc6:arm64.list\" -a $library = aarch64-linux-gnu || rm -rf \"$root/usr/lib/$library\"\ndone\n\
         rm -f \"$root\"/etc/ssh/ssh_host_* \"$root/var/lib/systemd/random-seed\" \"$root/var/lib/dbus/machine-id\" \"$root\"/boot/*.dpkg-bak \"$root/etc/hostname\" \"$root/etc/resolv.conf\"\n\
         : > \"$root/etc/machine-id\"\n\
         rm -rf \"$root\"/var/lib/apt/lists/* \"$root\"/var/cache/apt/*.bin \"$root/var/cache/debconf\"/*-old \"$root/var/cache/ldconfig/aux-cache\" \"$root\"/var/lib/dpkg/*-old \"$root\"/tmp/* \"$root\"/var/tmp/*\n\
         find \"$root/var/log\" -type f -delete\n\
         find \"$root\" -xdev -newermt '@{}' -exec touch -h -d '@{}' {{}} +\n",
        settings.epoch, settings.epoch
    )
}
