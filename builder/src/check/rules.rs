//! All rules, in the order in which a Pi boots.

mod boot;
mod card;
mod engine;
mod kernel;
mod node;
mod store;
mod table;
mod users;

use super::{Rule, Severity};

const fn error(id: &'static str, holds: &'static str, check: fn(&super::Evidence) -> Vec<String>) -> Rule {
    Rule { id, severity: Severity::Error, holds, check }
}

const fn warning(id: &'static str, holds: &'static str, check: fn(&super::Evidence) -> Vec<String>) -> Rule {
    Rule { id, severity: Severity::Warning, holds, check }
}

/// Every rule there is.
pub static RULES: &[Rule] = &[
    error(
        "table.first-partition",
        "The first partition is a FAT with a type that the boot ROM takes (0x0b, 0x0c, 0x0e; in a GPT basic data or EFI system).",
        table::first_partition,
    ),
    error("table.bounds", "Every partition lies inside the image.", table::bounds),
    error("table.overlap", "No two partitions overlap.", table::overlap),
    warning("table.damage", "The table itself is whole, with its backup where it is a GPT.", table::damage),
    error("table.gpt-board", "A GPT is used only for boards whose boot ROM reads one: not before the Pi 4.", table::gpt_board),
    error("boot.readable", "There is a FAT boot partition, and it can be read.", boot::readable),
    error("boot.firmware", "The firmware files of each board are there.", boot::firmware),
    warning(
        "boot.config",
        "config.txt says only what the firmware understands: known filters, lines of at most 98 characters, included files that exist.",
        boot::config,
    ),
    error("boot.device-tree", "The device tree of each board is there.", boot::device_tree),
    error("boot.cmdline", "The kernel's command line is there, and is one line.", boot::cmdline),
    error(
        "boot.root",
        "`root=` names the root partition of this very image, in a way that works without an initrd where there is none.",
        boot::root,
    ),
    error(
        "boot.cgroup-memory",
        "`cgroup_enable=memory` is on the command line: the Pi's device tree switches the memory controller off, and the engine needs it.",
        boot::cgroup_memory,
    ),
    error("boot.cgroup-order", "No `cgroup_disable=memory` stands behind it: the last one wins.", boot::cgroup_order),
    error("boot.secrets", "No private key lies on the boot partition, which every computer can read.", boot::secrets),
    error("boot.overrides", "hcl.toml, where there is one, has no error: the node stops at one.", boot::overrides),
    error("boot.cluster-key", "No cluster key lies on the boot partition, which every computer can read.", boot::cluster_key),
    error(
        "kernel.present",
        "The kernel that config.txt (or the firmware's default) names is there for each board.",
        kernel::present,
    ),
    error(
        "kernel.architecture",
        "The kernel is one that the firmware starts, its width is what `arm_64bit` says, the board can run it, and it runs the userland.",
        kernel::architecture,
    ),
    error("kernel.modules", "The root partition has the modules of the kernel that is started.", kernel::modules),
    error("initrd.present", "Every initrd that config.txt names is there and can be read.", kernel::initrd_present),
    error(
        "initrd.drivers",
        "ext4, mmc_block and an SD card controller are in the initrd or built into the kernel.",
        kernel::initrd_drivers,
    ),
    warning("initrd.qemu", "virtio_blk is in the initrd or built in, so that the image boots in QEMU too.", kernel::initrd_qemu),
    error("root.readable", "There is an ext4 root partition, and it can be read.", boot::root_readable),
    warning("root.clean", "The root file system is clean: unmounted, no errors, no journal to replay.", boot::root_clean),
    error("root.space", "The root file system has 32 MiB free for the first boot.", boot::root_space),
    error("root.fstab", "What fstab mounts as `/`, `/boot` and `/boot/firmware` is there.", boot::fstab),
    warning(
        "root.fstab-boot",
        "fstab has `nofail` for the boot partition: a node without screen and keyboard must not wait in emergency mode for it.",
        boot::fstab_boot,
    ),
    error("system.architecture", "No program or library is for a machine that the userland cannot run on.", engine::architecture),
    error("node.program", "The node program is there: static, for ARM.", engine::node_program),
    error("node.unit", "hcl-firstboot.service and hcl-cluster.service are enabled.", engine::node_unit),
    error("node.key", "The cluster key is there: 64 hexadecimal digits. A card without it forms no cluster.", node::key),
    error("node.key-mode", "Only root can read the cluster key.", node::key_mode),
    error("engine.present", "The Docker engine is there, for the machine of the userland.", engine::present),
    error("engine.enabled", "docker.service or docker.socket is enabled.", engine::enabled),
    error(
        "engine.store",
        "The engine uses overlay2 and not containerd's store, which would ignore the preloaded images.",
        engine::store,
    ),
    error(
        "store.images",
        "Every name in the engine's store leads to an image whose configuration has the id's digest.",
        store::images,
    ),
    error("store.layers", "Every layer of a preloaded image is known to the store, on top of the right one.", store::known),
    error("store.driver", "overlay2 finds every preloaded layer and those below it.", store::driver),
    error(
        "store.archives",
        "Every preloaded layer can be given out again with its digest, and its files have the owners, permissions and attributes of its archive.",
        store::archives,
    ),
    error("users.login", "Somebody can log in: an SSH key with an SSH server, or a password.", users::login),
    error("users.open", "No account with a shell opens without a password.", users::open),
    error("card.host-keys", "No SSH host keys are baked in.", card::host_keys),
    error("card.machine-id", "/etc/machine-id is empty, `uninitialized` or absent.", card::machine_id),
    error("card.dbus-id", "/var/lib/dbus/machine-id is absent, empty or a link.", card::dbus_id),
    error("card.random-seed", "No random seed is baked in.", card::random_seed),
    error("card.credential-secret", "No systemd credential secret is baked in.", card::credential_secret),
    error("card.engine-id", "No identity of an engine is baked in (engine-id, key.json).", card::engine_id),
    error("card.leases", "No DHCP lease is baked in.", card::leases),
    warning("card.network-secrets", "No password of a network is baked in.", card::network_secrets),
];
