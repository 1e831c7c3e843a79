//! `hcl dependencies`: the programs and kernel features that a node needs, and whether they are here.

use std::{
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

/// A kernel feature: its name, what it does, its module, and what is there once it is loaded or built in: a file, or a function.
const FEATURES: [(&str, &str, &str, Sign); 3] = [
    ("VLANs", "carry the cluster beside the home network", VLAN_MODULE, Sign::File("proc/net/vlan")),
    ("packet sockets", "carry ARP, DHCP and mDNS on the cluster's wire", "af_packet", Sign::File("proc/net/packet")),
    ("nftables", "keeps the cluster's subnet off other networks", "nf_tables", Sign::Function("nft_do_chain")),
];

/// Not needed with `vlan = "off"`.
const VLAN_MODULE: &str = "8021q";

/// What shows that a feature is there.
enum Sign {
    /// A file that only it makes.
    File(&'static str),
    /// A function in the kernel's list, which stands there for everybody, if without its address.
    Function(&'static str),
}

/// What is here.
#[derive(Clone, Debug, Default)]
pub struct Here {
    /// Programs by name, with where they lie.
    programs: Vec<(&'static str, PathBuf)>,
    /// Modules of the running kernel: loaded, built in, or to be loaded when needed.
    modules: BTreeSet<&'static str>,
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
        let functions = fs::read_to_string(root.join("proc/kallsyms")).unwrap_or_default();
        let shows = |sign: &Sign| match sign {
            Sign::File(path) => root.join(path).exists(),
            Sign::Function(name) => functions.lines().any(|line| line.split_whitespace().nth(2) == Some(name)),
        };
        let modules = FEATURES.iter().filter(|(_, _, module, sign)| known(module) || shows(sign));
        Self { programs, modules: modules.map(|(_, _, module, _)| *module).collect(), release: release.to_owned() }
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
    let features = FEATURES.iter().map(|(name, what, module, _)| {
        let Here { release, modules, .. } = here;
        let off = *module == VLAN_MODULE && !vlan;
        Check::new(
            name,
            match modules.contains(module) {
                true => Ok(format!("kernel {release} has {name}, which {what}")),
                false if off => Ok(format!("kernel {release} has no {name}, and with `vlan = \"off\"` needs none")),
                false if *module == VLAN_MODULE => Err(format!(
                    "kernel {release} has no {name} (module {module}), which {what}: use a kernel that has them, or `vlan = \"off\"` in /etc/hcl/node.toml on every node"
                )),
                false => Err(format!("kernel {release} has no {name} (module {module}), which {what}: use a kernel that has it")),
            },
        )
    });
    programs.chain(features).collect()
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
        fs::write(at("lib/modules/6.1/modules.dep"), modules).unwrap();
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
            ("VLANs", "lib/modules/6.1/modules.dep"),
            ("packet sockets", "proc/net/packet"),
            ("nftables", "lib/modules/6.1/modules.builtin"),
        ] {
            let (path, away) = (root.path().join(file), root.path().join("away"));
            fs::rename(&path, &away).unwrap();
            assert_eq!(failed(&root), [feature]);
            fs::rename(&away, &path).unwrap();
        }
        fs::rename(root.path().join("lib/modules/6.1/modules.dep"), root.path().join("away")).unwrap();
        assert!(checks(&Here::look(root.path(), "6.1"), false).iter().all(|check| check.pass), "no VLAN, no module for it");
        fs::rename(root.path().join("away"), root.path().join("lib/modules/6.1/modules.dep")).unwrap();
        // A kernel of its own, without lists of modules.
        fs::remove_dir_all(root.path().join("lib")).unwrap();
        assert_eq!(failed(&root), ["VLANs", "nftables"]);
        fs::write(root.path().join("proc/kallsyms"), "0000 t nft_do_chain_arp\n").unwrap();
        assert_eq!(failed(&root), ["VLANs", "nftables"]);
        fs::create_dir(root.path().join("proc/net/vlan")).unwrap();
        fs::write(root.path().join("proc/kallsyms"), "0000 T nft_do_chain\t[nf_tables]\n").unwrap();
        assert_eq!(failed(&root), [""; 0]);
        // Not one that nobody may run.
        fs::set_permissions(root.path().join("usr/sbin/nft"), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(failed(&root), ["nft"]);
    }

    #[test]
    fn lists_of_modules() {
        let list = "kernel/net/8021q/8021q.ko.zst: kernel/net/garp.ko.zst\nkernel/net/nf-tables.ko:\n";
        assert!(lists_module(list, "8021q") && lists_module(list, "nf_tables"));
        assert!(!lists_module(list, "garp") && !lists_module(list, "021q") && !lists_module("", "8021q"));
    }
}
