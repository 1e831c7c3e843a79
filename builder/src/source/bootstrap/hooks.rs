//! What runs at each stage of the installation, as shell scripts for mmdebstrap.
//!
//! Each gets the root as its first argument and runs inside the namespace, outside the root.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Settings;

/// Where stand-ins lie inside the root while packages are installed: first in `PATH`, gone at the end.
pub(super) const NATIVE: &str = "/usr/local/hcl-native";

/// Packages for the building machine whose programs stand in for emulated ones, and what they need to run.
///
/// Package scripts are shell and Perl that call small text tools by the thousand: emulated, that was
/// two thirds of a bootstrap's time. All of these only turn input into output, so that the result does
/// not depend on which architecture they run on; they come from the suite that is installed, and the
/// lock names them. What knows its own architecture (`dpkg`, `uname`) stays emulated.
pub const TOOL_PACKAGES: [&str; 26] = [
    "coreutils",
    "cpio",
    "dash",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "kmod",
    "mawk",
    "perl-base",
    "sed",
    "tar",
    "libacl1",
    "libattr1",
    "libbz2-1.0",
    "libc6",
    "libcap2",
    "libcrypt1",
    "libgmp10",
    "liblzma5",
    "libmd0",
    "libpcre2-8-0",
    "libselinux1",
    "libssl3t64",
    "libzstd1",
    "zlib1g",
];

/// Programs called by absolute path, so that `PATH` does not help: replaced while packages are configured.
const REPLACED: [&str; 2] = ["dash", "perl"];

/// Programs that do nothing while packages are configured.
const DEFERRED: [&str; 2] = ["update-initramfs", "ssh-keygen"];

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
    write("essential", essential(settings, with_stand_ins))?;
    write("customize", customize(with_stand_ins))
}

/// After the essential packages were unpacked, before the first script runs: the stand-ins.
pub(super) fn extract(folder: &Path, with_stand_ins: bool) -> String {
    // The kernel package, its trigger and raspi-firmware would each make an initrd, at half a minute a
    // time under emulation; `customize` makes the one that counts. Host keys belong to a card, not to an image.
    let mut script = format!("mkdir -p \"$root{NATIVE}\"\n");
    for program in DEFERRED {
        script.push_str(&format!(
            "printf '#!/bin/sh\\nexit 0\\n' > \"$root{NATIVE}/{program}\"\nchmod 755 \"$root{NATIVE}/{program}\"\n"
        ));
    }
    if with_stand_ins {
        script.push_str(&format!(
            "native={}/native\n\
             cp -a \"$native\"/usr/bin/* \"$root{NATIVE}/\"\n\
             rm -f \"$root{NATIVE}/uname\" \"$root{NATIVE}/arch\" \"$root{NATIVE}\"/dpkg* \"$root{NATIVE}\"/update-alternatives\n\
             cp \"$native/usr/bin/dpkg-deb\" \"$native/usr/bin/dpkg-split\" \"$root{NATIVE}/\"\n\
             ln -sf kmod \"$root{NATIVE}/depmod\"\nln -sf mawk \"$root{NATIVE}/awk\"\n\
             for library in \"$native\"/usr/lib/*-linux-gnu; do cp -a \"$library\" \"$root/usr/lib/\"; done\n\
             if test -d \"$native/usr/lib64\"; then\nmkdir -p \"$root/usr/lib64\"\ncp -L \"$native\"/usr/lib64/* \"$root/usr/lib64/\"\nln -s usr/lib64 \"$root/lib64\"\nfi\n",
            folder.display()
        ));
    }
    script
}

/// Once the essential packages work: settings that others read while they are configured.
pub(super) fn essential(settings: &Settings, with_stand_ins: bool) -> String {
    let modules = INITRD_MODULES.join("\n");
    let mut script = String::new();
    if with_stand_ins {
        for program in REPLACED {
            script.push_str(&format!(
                "mkdir -p \"$root{NATIVE}/emulated\"\ncp -a \"$root/usr/bin/{program}\" \"$root{NATIVE}/emulated/\"\n\
                 cp --remove-destination \"$root{NATIVE}/{program}\" \"$root/usr/bin/{program}\"\n"
            ));
        }
    }
    script
        + &format!(
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
pub(super) fn customize(with_stand_ins: bool) -> String {
    // The real one, found behind the stand-in of the same name; its tools are still the fast ones.
    let mut script = format!(
        "rm \"$root{NATIVE}/update-initramfs\" \"$root{NATIVE}/ssh-keygen\"\nPATH={NATIVE}:$PATH chroot \"$root\" update-initramfs -c -k all\n"
    );
    if with_stand_ins {
        for program in REPLACED {
            script.push_str(&format!(
                "cp -a --remove-destination \"$root{NATIVE}/emulated/{program}\" \"$root/usr/bin/{program}\"\n"
            ));
        }
        // Nothing that is installed lives in these folders unless a package of that architecture says so.
        script.push_str(
            "rm -rf \"$root/lib64\" \"$root/usr/lib64\"\n\
             for triplet in x86_64-linux-gnu:amd64 aarch64-linux-gnu:arm64; do\n\
             test -e \"$root/var/lib/dpkg/info/libc6:${triplet#*:}.list\" || rm -rf \"$root/usr/lib/${triplet%:*}\"\ndone\n",
        );
    }
    // Not /tmp: mmdebstrap's own apt configuration lies there until it has cleaned up, and without it that
    // apt would take the building machine's lists for the image's.
    script.push_str(&format!("rm -rf \"$root{NATIVE}\"\n"));
    script.push_str(
        "rm -f \"$root\"/etc/ssh/ssh_host_* \"$root/var/lib/systemd/random-seed\" \"$root/var/lib/dbus/machine-id\"\n\
         rm -f \"$root\"/boot/*.dpkg-bak \"$root/etc/hostname\" \"$root/etc/resolv.conf\" \"$root/etc/apt/sources.list\"\n\
         : > \"$root/etc/machine-id\"\n\
         rm -rf \"$root\"/var/lib/apt/lists/* \"$root\"/var/cache/apt/*.bin \"$root\"/var/cache/apt/archives/*.deb \"$root\"/var/cache/debconf/*-old\n\
         rm -rf \"$root/var/cache/ldconfig/aux-cache\" \"$root\"/var/lib/dpkg/*-old \"$root\"/var/tmp/*\n\
         find \"$root/var/log\" -type f -delete\n",
    );
    script
}
