//! A small image with all that `check` looks at: boot partition by `mkfs.vfat` and mtools, root by `mke2fs`.
//!
//! [`Fixture::new`] is right in every respect; a test changes what it wants to see refused.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use hcl_image::{
    engine_store,
    image::{
        ext4,
        overlay::Overlay,
        table::{Layout, PartitionTable, TableKind},
    },
    manifest::Board,
    oci::{ContainerImage, Layer, Packing},
    units::{Bytes, Digest},
};
use uuid::Uuid;

/// The kernel that everything in the fixture belongs to.
pub const KERNEL: &str = "6.12.43+deb13-arm64";
/// UUID of the root file system.
pub const ROOT_UUID: &str = "a1b2c3d4-0000-4000-8000-000000000002";
/// The cluster key in the image.
pub const CLUSTER_KEY: &str = "00a1b2c3d4e5f60718293a4b5c6d7e8f00a1b2c3d4e5f60718293a4b5c6d7e8f";
const MIB: u64 = Bytes::MIB;

/// A file or link of the root file system.
#[derive(Clone, Debug)]
pub enum Item {
    /// Mode and content.
    File(u32, Vec<u8>),
    /// Target.
    Link(String),
    /// An empty folder.
    Folder,
}

/// What is changed in the finished image, as no tool would make it so.
pub type Damage = fn(&Path);

/// The recipe of an image.
#[derive(Clone, Debug)]
pub struct Fixture {
    pub boards: Vec<Board>,
    pub gpt: bool,
    pub root_size: Bytes,
    pub mke2fs: Vec<String>,
    pub boot: BTreeMap<String, Vec<u8>>,
    pub root: BTreeMap<String, Item>,
    /// Container images in the engine's store: name and archives of the layers.
    pub images: Vec<(&'static str, Vec<Vec<u8>>)>,
    pub damage: Vec<Damage>,
}

impl Fixture {
    /// An image that passes every check for a Pi 3, a Zero 2 W and a Pi 4.
    pub fn new() -> Self {
        let mut fixture = Self {
            boards: vec![Board::Pi3, Board::Zero2W, Board::Pi4],
            gpt: false,
            root_size: Bytes(64 * MIB),
            mke2fs: Vec::new(),
            boot: BTreeMap::new(),
            root: BTreeMap::new(),
            images: vec![("hcl/consul:1.8.7", layers())],
            damage: Vec::new(),
        };
        fixture.fill_boot();
        fixture.fill_root();
        fixture
    }

    fn fill_boot(&mut self) {
        for name in ["bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat"] {
            self.boot(name, "firmware");
        }
        for board in self.boards.clone() {
            self.boot(board.dtb(), b"\xd0\x0d\xfe\xed".as_slice());
        }
        self.boot(
            "config.txt",
            format!("arm_64bit=1\nenable_uart=1\nupstream_kernel=1\nkernel=vmlinuz-{KERNEL}\ninitramfs initrd.img-{KERNEL} followkernel\n"),
        );
        self.boot("cmdline.txt", "console=tty0 console=ttyS1,115200 root=LABEL=HCLROOT rw rootwait cgroup_enable=memory\n");
        self.boot(&format!("vmlinuz-{KERNEL}"), kernel(KERNEL));
        self.boot(&format!("initrd.img-{KERNEL}"), initrd(&["ext4", "mmc_block", "sdhci-iproc", "virtio_blk"]));
    }

    fn fill_root(&mut self) {
        for (link, target) in [("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/lib", "usr/lib")] {
            self.root.insert(link.into(), Item::Link(target.into()));
        }
        self.folder("/boot/firmware");
        self.folder("/var/lib/dhcp");
        self.program("/usr/bin/dash", elf(Arm::Armhf, true));
        self.root.insert("/usr/bin/sh".into(), Item::Link("dash".into()));
        self.program("/usr/bin/bash", elf(Arm::Armhf, true));
        self.program("/usr/lib/arm-linux-gnueabihf/libc.so.6", elf(Arm::Armhf, false));
        self.program("/usr/sbin/sshd", elf(Arm::Armhf, true));
        self.program("/usr/sbin/dockerd", elf(Arm::Armhf, true));
        self.program("/usr/sbin/hcl-firstboot", elf(Arm::Armhf, false));
        // For the graphics core, not for ARM: no finding.
        self.program("/usr/lib/raspi-firmware/start.elf", elf(Arm::Other(137), false));
        self.file("/etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n");
        self.file("/etc/hostname", "hcl\n");
        self.file("/etc/fstab", "LABEL=HCLROOT / ext4 rw 0 1\nLABEL=HCLBOOT /boot/firmware vfat rw,nofail 0 2\n");
        self.file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\npi:x:1000:1000::/home/pi:/bin/bash\n");
        self.file("/etc/shadow", "root:*:20000:0:99999:7:::\nsshd:!*:20000::::::\npi:!:20000:0:99999:7:::\n");
        self.file("/home/pi/.ssh/authorized_keys", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVQ user@host\n");
        self.file("/etc/machine-id", "uninitialized\n");
        self.root.insert("/var/lib/dbus/machine-id".into(), Item::Link("/etc/machine-id".into()));
        self.file("/etc/docker/daemon.json", "{\"storage-driver\": \"overlay2\", \"log-driver\": \"local\"}\n");
        self.file("/etc/hcl/node.toml", "vlan = 200\n");
        self.root.insert("/etc/hcl/cluster.key".into(), Item::File(0o600, format!("{CLUSTER_KEY}\n").into()));
        self.file("/usr/share/hcl/image.json", "{\"name\": \"fixture\"}\n");
        self.file(&format!("/usr/lib/modules/{KERNEL}/modules.builtin"), "kernel/fs/fat/vfat.ko\n");
        self.file(&format!("/usr/lib/modules/{KERNEL}/kernel/fs/ext4/ext4.ko.xz"), "module");
        for unit in ["ssh.service", "docker.service", "hcl-firstboot.service", "hcl-cluster.service"] {
            let path = format!("/usr/lib/systemd/system/{unit}");
            self.file(&path, "[Service]\nExecStart=/bin/true\n");
            self.root.insert(format!("/etc/systemd/system/multi-user.target.wants/{unit}"), Item::Link(path));
        }
        self.file("/var/lib/dpkg/status", "Package: docker.io\nStatus: install ok installed\nArchitecture: armhf\nVersion: 26.1.5+dfsg1-9\n\nPackage: libc6\nStatus: install ok installed\nArchitecture: armhf\nVersion: 2.41-12\n");
    }

    pub fn boot(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.boot.insert(name.to_owned(), content.into());
    }

    pub fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.root.insert(path.to_owned(), Item::File(0o644, content.into()));
    }

    pub fn program(&mut self, path: &str, content: Vec<u8>) {
        self.root.insert(path.to_owned(), Item::File(0o755, content));
    }

    pub fn folder(&mut self, path: &str) {
        self.root.insert(path.to_owned(), Item::Folder);
    }

    /// Replaces text in a file of the boot partition.
    pub fn edit_boot(&mut self, name: &str, from: &str, to: &str) {
        let text = String::from_utf8(self.boot[name].clone()).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        self.boot(name, text.replace(from, to));
    }

    pub fn layout(&self) -> Layout {
        Layout {
            kind: if self.gpt {
                TableKind::Gpt { disk_guid: Uuid::from_u128(0xd15c) }
            } else {
                TableKind::Mbr { disk_id: 0x4843_4c01 }
            },
            alignment: Bytes(4 * MIB),
            boot: Bytes(48 * MIB),
            root: self.root_size,
            uuids: [Uuid::from_u128(0xb001), Uuid::from_u128(0x4001)],
        }
    }

    /// Builds the image as `NAME.img` in `folder`.
    pub fn build(&self, folder: &Path, name: &str) -> PathBuf {
        let image = folder.join(format!("{name}.img"));
        let layout = self.layout();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&image).unwrap();
        file.set_len(layout.image_size().unwrap().0).unwrap();
        let table = layout.table().unwrap();
        table.write(&mut file).unwrap();
        drop(file);
        self.build_boot(folder, name, &image, &table);
        self.build_root(folder, name, &image, &table);
        if !self.images.is_empty() {
            edit(&image, |editor| {
                engine_store::write(&self.container_images(folder), editor, 0).unwrap();
            });
        }
        for damage in &self.damage {
            damage(&image);
        }
        image
    }

    fn container_images(&self, folder: &Path) -> Vec<ContainerImage> {
        let image = |(reference, archives): &(&str, Vec<Vec<u8>>)| {
            let layers: Vec<Layer> = archives
                .iter()
                .map(|archive| {
                    let diff_id = Digest::of(archive);
                    let path = folder.join(diff_id.to_string());
                    fs::write(&path, archive).unwrap();
                    Layer { diff_id, size: Bytes(archive.len() as u64), path, packing: Packing::Plain }
                })
                .collect();
            let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
            let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":{diff_ids:?}}}}}"#);
            ContainerImage { reference: (*reference).to_owned(), config: config.into(), layers }
        };
        self.images.iter().map(image).collect()
    }

    fn build_boot(&self, folder: &Path, name: &str, image: &Path, table: &PartitionTable) {
        let boot = table.partition(1).unwrap();
        let offset = boot.offset();
        let sectors = boot.start.to_string();
        let blocks = (boot.size.bytes().0 / 1024).to_string();
        let image_path = image.to_str().unwrap();
        run(
            "mkfs.vfat",
            "dosfstools",
            &["-F", "32", "-s", "1", "-n", "HCLBOOT", "-i", "1A2B3C4D", "--offset", &sectors, image_path, &blocks],
        );
        let files = folder.join(format!("{name}.boot"));
        fs::create_dir(&files).unwrap();
        let at = format!("{image_path}@@{offset}");
        let mut arguments = vec!["-Q".to_owned(), "-i".into(), at];
        for (name, content) in &self.boot {
            fs::write(files.join(name), content).unwrap();
            arguments.push(files.join(name).to_str().unwrap().to_owned());
        }
        arguments.push("::".into());
        run("mcopy", "mtools", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn build_root(&self, folder: &Path, name: &str, image: &Path, table: &PartitionTable) {
        let tree = folder.join(format!("{name}.root"));
        fs::create_dir(&tree).unwrap();
        for (path, item) in &self.root {
            let path = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match item {
                Item::Folder => fs::create_dir_all(&path).unwrap(),
                Item::Link(target) => symlink(target, &path).unwrap(),
                Item::File(mode, content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
        let root = table.partition(2).unwrap();
        let offset = format!("offset={},root_owner=0:0", root.offset());
        let size = format!("{}k", root.size.bytes().0 / 1024);
        let mut arguments = vec!["-q", "-F", "-t", "ext4", "-L", "HCLROOT", "-U", ROOT_UUID, "-E", &offset, "-d"];
        arguments.push(tree.to_str().unwrap());
        arguments.extend(self.mke2fs.iter().map(String::as_str));
        arguments.extend([image.to_str().unwrap(), &size]);
        run("mke2fs", "e2fsprogs", &arguments);
        // mke2fs takes owners as they are here; the key's owner matters.
        if self.root.contains_key("/etc/hcl/cluster.key") && fs::metadata(&tree).unwrap().uid() != 0 {
            let device = format!("{}?offset={}", image.display(), root.offset());
            run("debugfs", "e2fsprogs", &["-w", "-R", "set_inode_field /etc/hcl/cluster.key uid 0", &device]);
        }
    }
}

/// Two layers: one with a setuid program and a file, and one that removes the file.
fn layers() -> Vec<Vec<u8>> {
    let archive = |members: &[(&str, u32, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, mode, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            tar.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    vec![archive(&[("bin/consul", 0o4755, "program"), ("etc/gone", 0o644, "gone")]), archive(&[("etc/.wh.gone", 0o644, "")])]
}

/// Edits the root file system of an image.
pub fn edit(image: &Path, change: impl FnOnce(&mut ext4::Editor)) {
    let file = Arc::new(OpenOptions::new().read(true).write(true).open(image).unwrap());
    let root = table(image).partition(2).unwrap().clone();
    let overlay = Overlay::new(file, root.offset(), root.size.bytes().0).unwrap();
    let mut editor = ext4::Editor::open(Arc::new(overlay), 0).unwrap();
    change(&mut editor);
    editor.finish().unwrap();
}

/// Runs a tool; a missing one says what to install.
pub fn run(tool: &str, package: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(tool)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{tool} is missing ({error}): apt-get install {package}"));
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Overwrites bytes of an image.
pub fn overwrite(image: &Path, offset: u64, data: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(image).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(data).unwrap();
}

/// The table of an image.
pub fn table(image: &Path) -> PartitionTable {
    PartitionTable::read(&mut File::open(image).unwrap()).unwrap().unwrap()
}

/// Machines of [`elf`].
#[derive(Clone, Copy)]
pub enum Arm {
    Armhf,
    Arm64,
    Other(u16),
}

/// A small ELF file with correct headers, and a loader's name where it is `dynamic`.
pub fn elf(machine: Arm, dynamic: bool) -> Vec<u8> {
    let (wide, number, flags, loader): (bool, u16, u32, &[u8]) = match machine {
        Arm::Armhf => (false, 40, 0x0500_0400, b"/lib/ld-linux-armhf.so.3\0"),
        Arm::Arm64 => (true, 183, 0, b"/lib/ld-linux-aarch64.so.1\0"),
        Arm::Other(number) => (false, number, 0, b"/loader\0"),
    };
    let header = if wide { 64_u64 } else { 52 };
    let entry = if wide { 56_u16 } else { 32 };
    let mut file = b"\x7fELF".to_vec();
    file.extend([if wide { 2 } else { 1 }, 1, 1]);
    file.resize(16, 0);
    let word = |file: &mut Vec<u8>, value: u64| {
        let bytes = value.to_le_bytes();
        file.extend(&bytes[..if wide { 8 } else { 4 }]);
    };
    file.extend(2_u16.to_le_bytes());
    file.extend(number.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    word(&mut file, 0x10000);
    word(&mut file, header);
    word(&mut file, 0);
    file.extend(flags.to_le_bytes());
    for half in [header as u16, entry, u16::from(dynamic), 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    if dynamic {
        let at = header + u64::from(entry);
        let length = loader.len() as u64;
        file.extend(3_u32.to_le_bytes());
        if wide {
            file.extend(4_u32.to_le_bytes());
        }
        for value in [at, at, at, length, length] {
            word(&mut file, value);
        }
        file.resize(at as usize, 0);
        file.extend(loader);
    }
    file.resize(256, 0);
    file
}

/// A 64-bit kernel `Image`, as far as magic and banner go.
pub fn kernel(version: &str) -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[..4].copy_from_slice(b"MZ\0\x91");
    image[56..60].copy_from_slice(b"ARM\x64");
    image.extend(format!("Linux version {version} (debian) #1 SMP\0").into_bytes());
    image
}

/// A 32-bit `zImage`, as far as its magic goes.
pub fn zimage() -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[36..40].copy_from_slice(&0x016f_2818_u32.to_le_bytes());
    image
}

/// An initrd as initramfs-tools makes it, holding some modules.
pub fn initrd(modules: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    let paths = modules.iter().map(|name| format!("usr/lib/modules/{KERNEL}/kernel/{name}.ko"));
    for name in paths.chain(["TRAILER!!!".to_owned()]) {
        let mut fields = [0; 13];
        fields[1] = 0o100_644;
        fields[11] = name.len() + 1;
        archive.extend(b"070701");
        for field in fields {
            archive.extend(format!("{field:08X}").into_bytes());
        }
        archive.extend(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    zstd::encode_all(archive.as_slice(), 1).unwrap()
}
