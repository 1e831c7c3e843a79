//! What a build will do to its base, computed without doing it.
//!
//! A [`Plan`] is a list of [`Edit`]s in the order in which they are made. It is a pure function of the
//! manifest and of [`Inputs`], and it is what `hcl-image plan` prints.

mod show;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use hcl_firstboot::{
    blackbox::{self, BlackBox},
    config::{OVERRIDES, Overrides, pools},
};

use crate::{
    accounts::Account,
    image::tree::{Content, Entry, Meta, Node},
    manifest::{EngineKind, FileEntry, FileKind, Manifest},
    oci::ContainerImage,
    units::Digest,
};

/// Days in seconds since 1970, as shadow(5) counts.
const DAY: u64 = 86_400;
/// The one user's number: the first that Debian gives to people.
const USER_ID: u32 = 1000;
/// Groups that a user of the lab needs: read the journal, use the engine, the serial port, the hardware.
const GROUPS: [&str; 7] = ["adm", "dialout", "docker", "gpio", "i2c", "systemd-journal", "video"];

/// What stood in no manifest but goes into the image.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The node program's binary on the host.
    pub node_program: PathBuf,
    /// Its digest.
    pub node_program_digest: Digest,
    /// The overlays' entries, by name, in the order in which they are laid.
    pub overlays: Vec<(String, Vec<Entry>)>,
    /// The file with the cluster's key on the host, which before the first build may not be there yet; none for an image to share.
    pub cluster_key: Option<PathBuf>,
    /// Lines for `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// For a bootstrapped base: what its package sources shall say.
    pub package_sources: Option<PackageSources>,
    /// The time that everything carries, in seconds since 1970.
    pub epoch: u64,
}

/// Where the image's own apt gets packages from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSources {
    /// The archive.
    pub mirror: String,
    /// The archive of security updates, where the building machine knows one.
    pub security: Option<String>,
    /// Code name of the release.
    pub codename: String,
    /// Components.
    pub components: Vec<String>,
}

/// One change of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Something stands at a path of the root file system.
    Put(Entry),
    /// Owner, permissions, time or attributes of what is there change; `None` leaves them.
    Adjust {
        /// Where.
        path: PathBuf,
        /// Permission bits.
        mode: Option<u16>,
        /// Owner.
        uid: Option<u32>,
        /// Group.
        gid: Option<u32>,
        /// Time of last change.
        mtime: Option<u32>,
        /// Extended attributes to set.
        xattrs: Vec<(String, Vec<u8>)>,
    },
    /// Nothing stands at a path any more.
    Remove(PathBuf),
    /// Nothing in a folder has a name that starts and ends so any more.
    RemoveMatching {
        /// The folder.
        folder: PathBuf,
        /// Start of the name.
        prefix: String,
        /// End of the name.
        suffix: String,
    },
    /// A person can log in.
    User(Account),
    /// The kernel's command line holds these words.
    KernelParameters(Vec<String>),
    /// `config.txt` holds these lines for every board.
    FirmwareSettings(Vec<String>),
    /// The engine's store holds these images.
    Images(Vec<ContainerImage>),
    /// These images lie in the image as archives, for the node to load.
    Archives(Vec<ContainerImage>),
}

/// All changes of the base, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is done.
    pub edits: Vec<Edit>,
}

/// Words that every image's kernel gets, whatever its base: Pi kernels switch the memory cgroup off by default,
/// and without it the engine cannot limit a container.
pub fn kernel_parameters() -> Vec<String> {
    vec!["cgroup_enable=memory".to_owned()]
}

impl Plan {
    /// The plan for `manifest` and `inputs`.
    pub fn new(manifest: &Manifest, inputs: &Inputs) -> Self {
        let mut edits = Builder { edits: Vec::new(), epoch: inputs.epoch };
        edits.card(manifest);
        edits.overlays(inputs);
        edits.node(manifest, inputs);
        edits.user(manifest, inputs);
        edits.engine(manifest);
        edits.boot();
        if let Some(sources) = &inputs.package_sources {
            edits.system(sources);
        }
        edits.unique();
        edits.files(manifest);
        Self { edits: edits.edits }
    }
}

struct Builder {
    edits: Vec<Edit>,
    epoch: u64,
}

impl Builder {
    fn put(&mut self, path: impl AsRef<Path>, node: Node, mode: u16) {
        let meta = Meta::root(mode, self.epoch as i64);
        self.edits.push(Edit::Put(Entry { path: path.as_ref().to_owned(), node, meta }));
    }

    fn text(&mut self, path: impl AsRef<Path>, text: impl Into<String>, mode: u16) {
        self.put(path, Node::File(Content::Bytes(text.into().into_bytes())), mode);
    }

    fn link(&mut self, path: impl AsRef<Path>, target: &str) {
        self.put(path, Node::Symlink(target.as_bytes().to_vec()), 0o777);
    }

    /// What a laptop changes and reads on the card. First, so that a file of the user's own takes the place of ours.
    fn card(&mut self, manifest: &Manifest) {
        let boot = Path::new(crate::image::base::BOOT);
        self.text(boot.join(OVERRIDES), Overrides::template(&manifest.node), 0o644);
        self.put(boot.join(blackbox::FILE), Node::File(Content::Bytes(BlackBox::blank())), 0o644);
    }

    fn overlays(&mut self, inputs: &Inputs) {
        for (_, entries) in &inputs.overlays {
            self.edits.extend(entries.iter().cloned().map(Edit::Put));
        }
    }

    fn node(&mut self, manifest: &Manifest, inputs: &Inputs) {
        self.put("/usr/sbin/hcl-firstboot", Node::File(Content::Host(inputs.node_program.clone())), 0o755);
        self.link("/usr/bin/hcl", "../sbin/hcl-firstboot");
        self.text(hcl_firstboot::config::PATH, manifest.node.to_toml(), 0o644);
        // By its path on the host: nothing that shows a plan can show the secret.
        if let Some(key) = &inputs.cluster_key {
            self.put(hcl_firstboot::key::PATH, Node::File(Content::Host(key.clone())), 0o600);
        }
    }

    fn user(&mut self, manifest: &Manifest, inputs: &Inputs) {
        let user = &manifest.user;
        let name = user.name.to_string();
        let mut groups: Vec<String> = GROUPS.map(str::to_owned).to_vec();
        if user.sudo {
            groups.push("sudo".to_owned());
            // There is no password to ask for.
            self.text(format!("/etc/sudoers.d/010-{name}"), format!("{name} ALL=(ALL) NOPASSWD: ALL\n"), 0o440);
        }
        let password = user.password_hash.as_ref().map(|hash| hash.for_shadow().to_owned());
        self.edits.push(Edit::User(Account {
            name: name.clone(),
            id: USER_ID,
            groups,
            password,
            day: (self.epoch / DAY).max(1),
        }));
        let home = PathBuf::from(format!("/home/{name}"));
        let mut own = |path: PathBuf, node: Node, mode: u16| {
            let meta = Meta { mode, uid: USER_ID, gid: USER_ID, mtime: self.epoch as i64, xattrs: Vec::new() };
            self.edits.push(Edit::Put(Entry { path, node, meta }));
        };
        own(home.clone(), Node::Dir, 0o750);
        if !inputs.ssh_keys.is_empty() {
            own(home.join(".ssh"), Node::Dir, 0o700);
            let lines = inputs.ssh_keys.join("\n") + "\n";
            own(home.join(".ssh/authorized_keys"), Node::File(Content::Bytes(lines.into_bytes())), 0o600);
        }
        self.skeleton(&home, USER_ID, inputs);
        self.skeleton(Path::new("/root"), 0, inputs);
    }

    /// What overlays lay into /etc/skel is in the homes that there are, too: a new user's is made from it on the node.
    fn skeleton(&mut self, home: &Path, owner: u32, inputs: &Inputs) {
        for (_, entries) in &inputs.overlays {
            for entry in entries {
                let Ok(inside) = entry.path.strip_prefix("/etc/skel") else { continue };
                if inside.as_os_str().is_empty() {
                    continue;
                }
                let meta = Meta { uid: owner, gid: owner, ..entry.meta.clone() };
                self.edits.push(Edit::Put(Entry { path: home.join(inside), node: entry.node.clone(), meta }));
            }
        }
    }

    fn engine(&mut self, manifest: &Manifest) {
        if manifest.engine.kind == EngineKind::None {
            return;
        }
        let configuration = serde_json::json!({
            // The graph driver whose store is filled before the first boot; containerd's would not see it.
            "storage-driver": "overlay2",
            "features": { "containerd-snapshotter": false },
            // It and swarm mode exclude each other.
            "live-restore": false,
            // The engine's own pools have 192.168.192.0/20 in them, and so the cluster's subnet.
            "default-address-pools": [{
                "base": pools::containers(manifest.node.addresses.subnet()).to_string(),
                "size": pools::NETWORK_PREFIX,
            }],
            // An SD card is small and wears out: container logs are cut.
            "log-driver": "local",
            // More at a time only makes a card seek.
            "max-concurrent-downloads": 2,
            "log-opts": {
                "max-size": format!("{}k", manifest.engine.log_size.0 / 1024),
                "max-file": manifest.engine.log_files.to_string(),
            },
        });
        self.text("/etc/docker/daemon.json", format!("{configuration:#}\n"), 0o644);
        self.text("/etc/sudoers.d/020-hcl-docker", SUDOERS, 0o440);
        self.link("/etc/systemd/system/multi-user.target.wants/docker.service", "/usr/lib/systemd/system/docker.service");
        self.images(manifest);
    }

    fn boot(&mut self) {
        self.edits.push(Edit::KernelParameters(kernel_parameters()));
        self.edits.push(Edit::FirmwareSettings(vec!["enable_uart=1".to_owned()]));
    }

    /// What Debian leaves to an installer.
    fn system(&mut self, sources: &PackageSources) {
        let PackageSources { mirror, security, codename, components } = sources;
        let components = components.join(" ");
        let stanza = |url: &str, suites: &str| {
            format!(
                "Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: {components}\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp\n"
            )
        };
        let mut text = stanza(mirror, &format!("{codename} {codename}-updates"));
        if let Some(security) = security {
            text.push('\n');
            text.push_str(&stanza(security, &format!("{codename}-security")));
        }
        self.edits.push(Edit::Remove(PathBuf::from("/etc/apt/sources.list")));
        self.edits.push(Edit::RemoveMatching {
            folder: "/etc/apt/sources.list.d".into(),
            prefix: String::new(),
            suffix: String::new(),
        });
        self.text("/etc/apt/sources.list.d/debian.sources", text, 0o644);
        self.text(
            "/etc/fstab",
            format!(
                "# Found by label, so that the card works in any reader. noatime: reading must not wear the card.\n\
                 # nofail: a node whose boot partition is damaged since the start does its work all the same, 90 s later.\n\
                 LABEL={ROOT_LABEL} / ext4 defaults,noatime 0 1\n\
                 LABEL={BOOT_LABEL} {} vfat defaults,noatime,umask=0077,nofail 0 2\n",
                crate::image::base::BOOT
            ),
            0o644,
        );
        self.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
        self.text("/etc/default/locale", "LANG=C.UTF-8\n", 0o644);
    }

    /// What must differ from card to card and therefore must not be in the image.
    fn unique(&mut self) {
        // Empty rather than absent: systemd then fills it in and takes this boot for the first one.
        self.text("/etc/machine-id", "", 0o444);
        self.edits.push(Edit::RemoveMatching { folder: "/etc/ssh".into(), prefix: "ssh_host_".into(), suffix: String::new() });
        for path in [
            "/var/lib/dbus/machine-id",
            "/var/lib/systemd/random-seed",
            "/var/lib/systemd/credential.secret",
            "/var/lib/docker/engine-id",
            "/etc/docker/key.json",
        ] {
            self.edits.push(Edit::Remove(PathBuf::from(path)));
        }
        for folder in ["/var/lib/dhcp", "/var/lib/NetworkManager"] {
            self.edits.push(Edit::RemoveMatching { folder: folder.into(), prefix: String::new(), suffix: ".lease".into() });
        }
        self.edits.push(Edit::RemoveMatching { folder: "/var/lib/dhcp".into(), prefix: String::new(), suffix: ".leases".into() });
    }

    /// Where the node program finds which container image has which reference.
    fn images(&mut self, manifest: &Manifest) {
        let references: BTreeMap<&str, &str> =
            manifest.images.iter().map(|(name, image)| (name.as_str(), image.reference.as_str())).collect();
        self.text(IMAGES, format!("{:#}\n", serde_json::json!(references)), 0o644);
    }

    fn files(&mut self, manifest: &Manifest) {
        for file in &manifest.files {
            let edit = match entry(file, self.epoch) {
                Some(entry) => Edit::Put(entry),
                None => Edit::Adjust {
                    path: PathBuf::from(file.path.to_string()),
                    mode: file.mode.map(|mode| mode.bits()),
                    uid: file.uid,
                    gid: file.gid,
                    mtime: file.mtime,
                    xattrs: xattrs(file),
                },
            };
            self.edits.push(edit);
        }
    }
}

/// What a file of the manifest puts into an image; `None` where it only changes what is there.
pub(crate) fn entry(file: &FileEntry, epoch: u64) -> Option<Entry> {
    let (node, default) = match &file.kind {
        FileKind::Existing => return None,
        FileKind::Content(text) => (Node::File(Content::Bytes(text.clone().into_bytes())), 0o644),
        FileKind::Source(source) => (Node::File(Content::Host(source.path.clone())), 0o644),
        FileKind::Symlink(target) => (Node::Symlink(target.clone().into_bytes()), 0o777),
        FileKind::Hardlink(target) => (Node::HardLink(PathBuf::from(target.to_string())), 0o644),
        FileKind::Directory => (Node::Dir, 0o755),
        FileKind::Device(device) if device.block => (Node::BlockDevice(device.major, device.minor), 0o600),
        FileKind::Device(device) => (Node::CharDevice(device.major, device.minor), 0o600),
        FileKind::Fifo => (Node::Fifo, 0o600),
    };
    let meta = Meta {
        mode: file.mode.map_or(default, |mode| mode.bits()),
        uid: file.uid.unwrap_or(0),
        gid: file.gid.unwrap_or(0),
        mtime: file.mtime.map_or(epoch as i64, i64::from),
        xattrs: xattrs(file),
    };
    Some(Entry { path: PathBuf::from(file.path.to_string()), node, meta })
}

fn xattrs(file: &FileEntry) -> Vec<(String, Vec<u8>)> {
    file.xattrs.iter().map(|(name, value)| (name.clone(), value.bytes().to_vec())).collect()
}

/// So that `sudo docker` asks whom `docker` asks.
const SUDOERS: &str = "Defaults env_keep += \"DOCKER_HOST DOCKER_TLS_VERIFY DOCKER_CERT_PATH\"\n";

/// Which container image has which reference, on a node: a JSON object, name to reference.
const IMAGES: &str = "/etc/hcl/images.json";

/// Label of the root file system in a bootstrapped base.
pub const ROOT_LABEL: &str = "hclroot";
/// Label of the boot partition in a bootstrapped base.
pub const BOOT_LABEL: &str = "HCLBOOT";
