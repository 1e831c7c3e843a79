//! `hcl dependencies`: the programs and kernel features that a node needs, and whether they are here.

use std::{
    cell::LazyCell,
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use crate::health::Check;

/// A program: its name, what it is for, the package that has it.
const PROGRAMS: [(&str, &str, &str); 6] = [
    ("nft", "keeps the cluster's subnet off other networks", "nftables"),
    ("systemctl", "starts and stops the node program", "systemd"),
    ("sfdisk", "grows the root partition", "fdisk"),
    ("partx", "tells the kernel the partition's new size", "util-linux"),
    ("resize2fs", "grows the root file system", "e2fsprogs"),
    ("docker", "runs containers", "docker.io"),
];

/// A kernel feature: its name, what it does, its module, and what is there once it is loaded or built in.
type Feature = (&'static str, &'static str, &'static str, Sign);

/// What the network is made with.
const NETWORK: [Feature; 3] = [
    ("VLANs", "carry the cluster beside the home network", VLAN_MODULE, Sign::File("proc/net/vlan")),
    ("packet sockets", "carry ARP, DHCP and mDNS on the cluster's wire", "af_packet", Sign::File("proc/net/packet")),
    ("nftables", "keeps the cluster's subnet off other networks", "nf_tables", Sign::Function("nft_do_chain")),
];

/// What the engine needs for containers and swarm.
const ENGINE: [Feature; 7] = [
    ("overlayfs", "holds images and containers", "overlay", Sign::FileSystem("overlay")),
    ("bridges", "join the containers of a node", "bridge", Sign::Function("br_add_if")),
    ("veth", "connects a container to its network", "veth", Sign::Function("veth_newlink")),
    (
        "bridge filtering",
        "lets the firewall see what containers send each other",
        "br_netfilter",
        Sign::File("proc/sys/net/bridge/bridge-nf-call-iptables"),
    ),
    ("VXLAN", "carries overlay networks between nodes", "vxlan", Sign::Function("vxlan_dev_create")),
    ("IPVS", "shares a service's address among its containers", "ip_vs", Sign::File("proc/net/ip_vs")),
    ("IPsec ESP", "encrypts overlay networks that ask for it", CIPHER_MODULE, Sign::Function("esp_output_head")),
];

/// Not needed with `vlan = "off"`.
const VLAN_MODULE: &str = "8021q";
/// All works without, but overlay networks in the clear only.
const CIPHER_MODULE: &str = "esp4";

/// What shows that a feature is there.
enum Sign {
    /// A file that only it makes.
    File(&'static str),
    /// A function in the kernel's list, which stands there for everybody, if without its address.
    Function(&'static str),
    /// A file system in the kernel's list.
    FileSystem(&'static str),
}

/// What is here.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// Programs by name, with where they lie.
    programs: Vec<(&'static str, PathBuf)>,
    /// Modules of the running kernel: loaded, built in, or to be loaded when needed.
    modules: BTreeSet<&'static str>,
    /// Whether the kernel accounts for memory by control group.
    memory: bool,
    /// The kernel's release.
    release: String,
}

impl Here {
    /// Looks at the machine whose root is `root`.
    pub fn look(root: &Path, release: &str) -> Self {
        // A person's PATH may lack the folders of the system's programs, which the node program has.
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
        let folders: Vec<PathBuf> = folders.filter_map(|folder| Some(root.join(folder.strip_prefix("/").ok()?))).collect();
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| is_program(path));
        let programs = PROGRAMS.iter().filter_map(|(name, ..)| Some((*name, find(name)?))).collect();
        let list = |name: &str| {
            let bytes = fs::read(root.join("lib/modules").join(release).join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let lists = [list("modules.builtin"), list("modules.dep")];
        let known = |module: &str| lists.iter().any(|list| lists_module(list, module));
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        // Megabytes, and seldom needed.
        let functions = LazyCell::new(|| read("proc/kallsyms"));
        let shows = |sign: &Sign| match sign {
            Sign::File(path) => root.join(path).exists(),
            Sign::Function(name) => functions.lines().any(|line| line.split_whitespace().nth(2) == Some(name)),
            Sign::FileSystem(name) => read("proc/filesystems").lines().any(|line| line.split_whitespace().last() == Some(name)),
        };
        let modules = NETWORK.iter().chain(&ENGINE).filter(|(_, _, module, sign)| known(module) || shows(sign));
        // In the unified hierarchy, or in the one of old: name, hierarchy, groups, whether it is switched on.
        let unified = read("sys/fs/cgroup/cgroup.controllers");
        let old = read("proc/cgroups");
        let switched_on = |line: &str| matches!(line.split_whitespace().collect::<Vec<_>>()[..], ["memory", _, _, "1"]);
        let memory = unified.split_whitespace().any(|name| name == "memory") || old.lines().any(switched_on);
        Self { programs, modules: modules.map(|(_, _, module, _)| *module).collect(), memory, release: release.to_owned() }
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Whether a list of modules, one a line up to a colon, has `module`, compressed or not.
fn lists_module(list: &str, module: &str) -> bool {
    let paths = list.lines().map(|line| line.split(':').next().unwrap_or_default());
    let names = paths.filter_map(|path| path.rsplit('/').next()?.split_once(".ko").map(|(name, _)| name));
    // A hyphen and an underscore are the same to the kernel.
    names.map(|name| name.replace('-', "_")).any(|name| name == module)
}

/// Judges what is here, for a node with a VLAN or one without.
pub fn checks(here: &Here, vlan: bool) -> Vec<Check> {
    let programs = PROGRAMS.iter().map(|(name, what, package)| {
        let found = here.programs.iter().find(|(there, _)| there == name);
        let wrong = || format!("there is no `{name}`, which {what}: `sudo apt-get install {package}`");
        Check::new(name, found.map(|(_, path)| format!("{} {what}", path.display())).ok_or_else(wrong))
    });
    programs.chain(NETWORK.iter().map(|feature| judge(here, feature, vlan))).chain(engine(here)).collect()
}

/// What the kernel lacks for the engine, and what to do.
pub fn lacks(here: &Here) -> Vec<Check> {
    engine(here).filter(|check| !check.pass).collect()
}

fn engine(here: &Here) -> impl Iterator<Item = Check> {
    let Here { memory, release, .. } = here;
    let what = "limits and counts the memory of containers";
    let found = match memory {
        true => Ok(format!("kernel {release} has the memory control group, which {what}")),
        false => Err(format!(
            "the memory control group, which {what}, is off: put `cgroup_enable=memory` at the end of the line in /boot/firmware/cmdline.txt and reboot"
        )),
    };
    std::iter::once(Check::new("memory control group", found)).chain(ENGINE.iter().map(|feature| judge(here, feature, true)))
}

fn judge(here: &Here, (name, what, module, _): &Feature, vlan: bool) -> Check {
    let Here { release, modules, .. } = here;
    let found = match (modules.contains(module), *module) {
        (true, _) => Ok(format!("kernel {release} has {name}, which {what}")),
        (false, VLAN_MODULE) if !vlan => Ok(format!("kernel {release} has no {name}, and with `vlan = \"off\"` needs none")),
        (false, VLAN_MODULE) => Err(format!(
            "kernel {release} has no {name} (module {module}), which {what}: use a kernel that has them, or `vlan = \"off\"` in /etc/hcl/node.toml on every node"
        )),
        (false, CIPHER_MODULE) => {
            Ok(format!("kernel {release} has no {name} (module {module}), which {what}: all works but such networks"))
        }
        (false, _) => Err(format!("kernel {release} has no {name} (module {module}), which {what}: use a kernel that has it")),
    };
    Check::new(name, found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A machine that has everything, in files.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for folder in ["usr/sbin", "proc/net", "lib/modules/6.1"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (name, ..) in PROGRAMS {
            fs::write(at("usr/sbin").join(name), "").unwrap();
            fs::set_permissions(at("usr/sbin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(at("proc/net/packet"), "").unwrap();
        fs::write(at("lib/modules/6.1/modules.builtin"), "kernel/net/netfilter/nf_tables.ko\n").unwrap();
        let modules = "kernel/net/8021q/8021q.ko.xz: kernel/net/802/garp.ko.xz\n";
        let of_engine: String = ENGINE.iter().map(|(_, _, module, _)| format!("kernel/{module}.ko.xz:\n")).collect();
        fs::write(at("lib/modules/6.1/modules.dep"), modules.to_owned() + &of_engine).unwrap();
        fs::create_dir_all(at("sys/fs/cgroup")).unwrap();
        fs::write(at("sys/fs/cgroup/cgroup.controllers"), "cpu memory pids\n").unwrap();
        root
    }

    fn failed(root: &tempfile::TempDir) -> Vec<&'static str> {
        let checks = checks(&Here::look(root.path(), "6.1"), true);
        checks.into_iter().filter(|check| !check.pass).map(|check| check.name).collect()
    }

    #[test]
    fn each_that_is_missing_fails_and_no_other() {
        let root = machine();
        assert_eq!(failed(&root), [""; 0]);
        for (name, ..) in PROGRAMS {
            let (path, away) = (root.path().join("usr/sbin").join(name), root.path().join("away"));
            fs::rename(&path, &away).unwrap();
            assert_eq!(failed(&root), [name]);
            fs::rename(&away, &path).unwrap();
        }
        for (feature, file) in [
            ("packet sockets", "proc/net/packet"),
            ("nftables", "lib/modules/6.1/modules.builtin"),
            ("memory control group", "sys/fs/cgroup/cgroup.controllers"),
        ] {
            let (path, away) = (root.path().join(file), root.path().join("away"));
            fs::rename(&path, &away).unwrap();
            assert_eq!(failed(&root), [feature]);
            fs::rename(&away, &path).unwrap();
        }
        let list = root.path().join("lib/modules/6.1/modules.dep");
        let all = fs::read_to_string(&list).unwrap();
        for (name, _, module, _) in NETWORK.iter().take(1).chain(&ENGINE) {
            let others: String =
                all.lines().filter(|line| !line.contains(&format!("/{module}."))).map(|line| format!("{line}\n")).collect();
            fs::write(&list, others).unwrap();
            assert_eq!(failed(&root), if *module == CIPHER_MODULE { vec![] } else { vec![*name] });
            if *module == VLAN_MODULE {
                assert!(
                    checks(&Here::look(root.path(), "6.1"), false).iter().all(|check| check.pass),
                    "no VLAN, no module for it"
                );
            }
        }
    }

    #[test]
    fn a_kernel_without_lists_of_modules() {
        let root = machine();
        fs::remove_dir_all(root.path().join("lib")).unwrap();
        let missing = ["VLANs", "nftables", "overlayfs", "bridges", "veth", "bridge filtering", "VXLAN", "IPVS"];
        assert_eq!(failed(&root), missing);
        let functions = |names: &[&str]| names.iter().map(|name| format!("0000 T {name}\t[module]\n")).collect::<String>();
        fs::write(root.path().join("proc/kallsyms"), functions(&["nft_do_chain_arp", "br_add_iff"])).unwrap();
        fs::write(root.path().join("proc/filesystems"), "nodev\toverlayfs\n").unwrap();
        assert_eq!(failed(&root), missing);
        fs::create_dir_all(root.path().join("proc/net/vlan")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys/net/bridge")).unwrap();
        for file in ["proc/net/ip_vs", "proc/sys/net/bridge/bridge-nf-call-iptables"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        fs::write(root.path().join("proc/filesystems"), "nodev\toverlay\n\text4\n").unwrap();
        let all = functions(&["nft_do_chain", "br_add_if", "veth_newlink", "vxlan_dev_create"]);
        fs::write(root.path().join("proc/kallsyms"), all).unwrap();
        assert_eq!(failed(&root), [""; 0]);
        // Not one that nobody may run.
        fs::set_permissions(root.path().join("usr/sbin/nft"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(failed(&root), ["nft"]);
    }

    #[test]
    fn the_memory_control_group_of_old() {
        let root = machine();
        fs::remove_file(root.path().join("sys/fs/cgroup/cgroup.controllers")).unwrap();
        for (line, missing) in [("memory\t4\t70\t1", 0), ("memory\t0\t70\t0", 1), ("memory_recursiveprot\t4\t70\t1", 1)] {
            fs::write(root.path().join("proc/cgroups"), format!("#subsys_name\n{line}\n")).unwrap();
            assert_eq!(failed(&root).len(), missing, "{line}");
        }
    }

    #[test]
    fn lists_of_modules() {
        let list = "kernel/net/8021q/8021q.ko.zst: kernel/net/garp.ko.zst\nkernel/net/nf-tables.ko:\n";
        assert!(lists_module(list, "8021q") && lists_module(list, "nf_tables"));
        assert!(!lists_module(list, "garp") && !lists_module(list, "021q") && !lists_module("", "8021q"));
    }
}
