//! A base made of an archive, edited by a plan, grown: foreign readers find everything as it was specified.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use hcl_image::{
    image::{
        base::{self, Settings},
        disk::{Disk, Tree},
        edit, grow,
        table::PartitionTable,
        tree::{Content, Entry, Meta, Node},
    },
    plan::{Edit, Plan},
    progress::{Mode, Reporter},
    units::{Bytes, Digest},
};

#[path = "common/judges.rs"]
mod judges;

const EPOCH: u64 = 1_700_000_000;

fn quiet() -> Reporter {
    Reporter::new(Mode::Quiet)
}

fn settings(gpt: bool) -> Settings {
    Settings {
        gpt,
        boot: Bytes(40 << 20),
        root_free: Bytes(8 << 20),
        boot_label: "BOOT".into(),
        root_label: "root".into(),
        epoch: EPOCH,
        identity: Digest::of(b"test"),
    }
}

/// An archive with one of each kind of entry.
fn archive(folder: &Path) -> PathBuf {
    let path = folder.join("root.tar");
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, owner: u64, content: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        // Younger than the build: must be clamped.
        header.set_mtime(EPOCH + 1000);
        header.set_size(content.len() as u64);
        if kind == tar::EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        match link {
            Some(link) => tar.append_link(&mut header, name, link).unwrap(),
            None => tar.append_data(&mut header, name, content).unwrap(),
        }
    };
    use tar::EntryType as Kind;
    for folder in [
        "./",
        "./boot/",
        "./boot/firmware/",
        "./boot/firmware/overlays/",
        "./boot/firmware/overlays/deep/",
        "./etc/",
        "./usr/",
        "./usr/bin/",
    ] {
        add(folder, Kind::Directory, 0o755, 0, b"", None);
    }
    add("./boot/firmware/cmdline.txt", Kind::Regular, 0o644, 0, b"root=LABEL=root cgroup_disable=memory\n", None);
    add("./boot/firmware/config.txt", Kind::Regular, 0o644, 0, b"arm_64bit=1\n", None);
    add("./boot/firmware/overlays/deep/A long file name.dtbo", Kind::Regular, 0o644, 0, &[7; 9000], None);
    add("./etc/passwd", Kind::Regular, 0o644, 0, b"root:x:0:0:root:/root:/bin/bash\n", None);
    add("./etc/group", Kind::Regular, 0o644, 0, b"root:x:0:\nsudo:x:27:\n", None);
    add("./etc/shadow", Kind::Regular, 0o640, 0, b"root:*:1:0:99999:7:::\n", None);
    add("./etc/gshadow", Kind::Regular, 0o640, 0, b"root:*::\nsudo:*::\n", None);
    add("./usr/bin/setuid", Kind::Regular, 0o4755, 0, &[1; 70_000], None);
    add("./usr/bin/same", Kind::Link, 0o4755, 0, b"", Some("./usr/bin/setuid"));
    add("./bin", Kind::Symlink, 0o777, 0, b"", Some("usr/bin"));
    add("./null", Kind::Char, 0o666, 0, b"", None);
    add("./pipe", Kind::Fifo, 0o600, 33, b"", None);
    // More names than one block of a directory holds.
    add("./many/", Kind::Directory, 0o1777, 5, b"", None);
    for number in 0..400 {
        add(&format!("./many/a file with a rather long name, number {number}"), Kind::Regular, 0o600, 1000, b"x", None);
    }
    tar.into_inner().unwrap().flush().unwrap();
    path
}

fn image(folder: &Path, name: &str, gpt: bool) -> PathBuf {
    let path = folder.join(name);
    File::create(&path).unwrap();
    base::create(&archive(folder), &path, &settings(gpt), &quiet()).unwrap();
    path
}

fn apply(path: &Path, edits: Vec<Edit>) -> anyhow::Result<()> {
    let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
    let table = PartitionTable::read(&mut &*file).unwrap().unwrap();
    edit::apply(&file, table.partition(1).unwrap(), table.partition(2).unwrap(), &Plan { edits }, EPOCH)
}

fn put(path: &str, node: Node, meta: Meta) -> Edit {
    Edit::Put(Entry { path: path.into(), node, meta })
}

#[test]
fn a_base_is_what_the_archive_says_and_the_same_twice() {
    for gpt in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let first = image(folder.path(), "first.img", gpt);
        judges::all(&first).unwrap();
        let setuid = judges::debugfs(&first, 2, "/usr/bin/setuid").unwrap();
        assert_eq!((setuid.mode, setuid.links, setuid.owner), (0o4755, 2, (0, 0)));
        assert_eq!(judges::debugfs(&first, 2, "/bin").unwrap().target.as_deref(), Some("usr/bin"));
        assert_eq!(judges::debugfs(&first, 2, "/null").unwrap().device, Some((1, 3)));
        assert_eq!(judges::debugfs(&first, 2, "/pipe").unwrap().owner, (33, 33));
        assert_eq!(judges::debugfs(&first, 2, "/many").unwrap().mode, 0o1777);
        assert_eq!(
            judges::debugfs(&first, 2, "/many/\"a file with a rather long name, number 399\"").unwrap().owner,
            (1000, 1000)
        );
        let second = image(folder.path(), "second.img", gpt);
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "same inputs, other bytes (gpt {gpt})");
    }
}

#[test]
fn a_plan_is_carried_out_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), "a.img", false);
    let xattr = ("user.note".to_owned(), b"hello".to_vec());
    let owned = |mode, uid| Meta { mode, uid, gid: uid, mtime: 1_234_567, xattrs: vec![xattr.clone()] };
    let bytes = |text: &str| Node::File(Content::Bytes(text.as_bytes().to_vec()));
    apply(
        &path,
        vec![
            put("/opt/new/deep/file", bytes("one"), owned(0o2750, 70_000)),
            put("/opt/new/deep/file", bytes("two, replaced"), owned(0o640, 70_000)),
            put("/bin/through-a-link", bytes("x"), Meta::root(0o755, 5)),
            put("/opt/dev", Node::BlockDevice(179, 2), Meta::root(0o660, 5)),
            put("/opt/pipe", Node::Fifo, Meta::root(0o600, 5)),
            put("/opt/hard", Node::HardLink("/opt/new/deep/file".into()), Meta::root(0o640, 5)),
            put("/opt/long", Node::Symlink(vec![b'l'; 200]), Meta::root(0o777, 5)),
            put("/boot/firmware/overlays/more.dtbo", bytes("dt"), Meta::root(0o644, 5)),
            Edit::Adjust {
                path: "/usr/bin/setuid".into(),
                mode: Some(0o700),
                uid: Some(9),
                gid: None,
                mtime: None,
                xattrs: vec![],
            },
            Edit::RemoveMatching { folder: "/many".into(), prefix: "a file".into(), suffix: "7".into() },
            Edit::Remove("/null".into()),
            Edit::Remove("/not/there".into()),
            Edit::KernelParameters(vec!["cgroup_enable=memory".into()]),
            Edit::FirmwareSettings(vec!["enable_uart=1".into()]),
            Edit::User(hcl_image::accounts::Account {
                name: "hcl".into(),
                id: 1000,
                groups: vec!["sudo".into(), "docker".into()],
                password: None,
                day: 19_000,
            }),
        ],
    )
    .unwrap();
    judges::all(&path).unwrap();

    let file = judges::debugfs(&path, 2, "/opt/new/deep/file").unwrap();
    assert_eq!((file.mode, file.owner, file.links), (0o640, (70_000, 70_000), 2));
    assert_eq!(file.xattrs.get("user.note").map(String::as_str), Some("\"hello\""));
    assert_eq!(judges::debugfs(&path, 2, "/opt/dev").unwrap().device, Some((179, 2)));
    let adjusted = judges::debugfs(&path, 2, "/usr/bin/setuid").unwrap();
    assert_eq!((adjusted.mode, adjusted.owner), (0o700, (9, 0)));

    let disk = Disk::open(&path, &quiet()).unwrap();
    let root = disk.root().unwrap().unwrap();
    let boot = disk.boot().unwrap().unwrap();
    assert_eq!(root.read("/opt/hard").unwrap(), b"two, replaced");
    assert_eq!(root.read("/usr/bin/through-a-link").unwrap(), b"x");
    assert!(!root.exists("/null").unwrap());
    assert_eq!(root.list("/many").unwrap().len(), 360);
    assert_eq!(boot.read("cmdline.txt").unwrap(), b"root=LABEL=root cgroup_enable=memory\n");
    assert_eq!(boot.read("config.txt").unwrap(), b"arm_64bit=1\n\n# Hypriot Cluster Lab\n[all]\nenable_uart=1\n");
    assert_eq!(boot.read("overlays/more.dtbo").unwrap(), b"dt");
    let group = String::from_utf8(root.read("/etc/group").unwrap()).unwrap();
    assert_eq!(group, "root:x:0:\nsudo:x:27:hcl\nhcl:x:1000:\n");
    assert_eq!(judges::debugfs(&path, 2, "/etc/shadow").unwrap().mode, 0o640);
}

/// The node overwrites the black box in place: mtools finds it in one piece, before and after other files came.
#[test]
fn the_black_box_lies_in_one_piece() {
    use hcl_firstboot::blackbox::{BlackBox, FILE, SIZE};
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), "a.img", false);
    let at = format!("/boot/firmware/{FILE}");
    let blank = || Node::File(Content::Bytes(BlackBox::blank()));
    let other = Node::File(Content::Bytes(vec![1; 100_000]));
    apply(&path, vec![put(&at, blank(), Meta::root(0o644, 5)), put("/boot/firmware/other", other, Meta::root(0o644, 5))])
        .unwrap();
    judges::all(&path).unwrap();
    let offset = PartitionTable::read(&mut File::open(&path).unwrap()).unwrap().unwrap().partition(1).unwrap().offset();
    let mut command = std::process::Command::new("mshowfat");
    let output = command.arg("-i").arg(format!("{}@@{offset}", path.display())).arg(format!("::{FILE}")).output();
    let output = output.expect("mshowfat is needed: apt-get install mtools");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pieces: Vec<&str> = text.split('<').skip(1).collect();
    assert!(output.status.success() && pieces.len() == 1 && pieces[0].contains('-'), "{text}");
    let read = Disk::open(&path, &quiet()).unwrap().boot().unwrap().unwrap().read(FILE).unwrap();
    assert!(read.len() == SIZE && read == BlackBox::blank());
}

#[test]
fn a_payload_that_does_not_fit_makes_the_root_grow() {
    for gpt in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path(), "a.img", gpt);
        let file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
        assert_eq!(grow::root(&file, &path, 2, Bytes(1 << 20), 1_700_000_000).unwrap(), None);
        let before = file.metadata().unwrap().len();
        let size = grow::root(&file, &path, 2, Bytes(300 << 20), 1_700_000_000).unwrap().expect("it has not grown");
        assert!(size.0 > 300 << 20 && file.metadata().unwrap().len() > before + (200 << 20));
        judges::all(&path).unwrap();
        let big = folder.path().join("big");
        File::create(&big).unwrap().write_all(&vec![0xa5; 290 << 20]).unwrap();
        apply(&path, vec![put("/big", Node::File(Content::Host(big)), Meta::root(0o644, 5))]).unwrap();
        judges::all(&path).unwrap();
        let free = Disk::open(&path, &quiet()).unwrap().root().unwrap().unwrap().superblock().free();
        assert!(free.0 < 40 << 20, "{free} free");
    }
}

#[test]
fn what_does_not_fit_or_makes_no_sense_is_an_error_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), "a.img", false);
    let big = folder.path().join("big");
    File::create(&big).unwrap().set_len(400 << 20).unwrap();
    let error = |edit| hcl_image::error::one_line(&apply(&path, vec![edit]).unwrap_err());
    let line = error(put("/big", Node::File(Content::Host(big)), Meta::root(0o644, 5)));
    assert!(line.contains("writing /big"), "{line}");
    let line = error(put("/etc", Node::File(Content::Bytes(vec![])), Meta::root(0o644, 5)));
    assert!(line.contains("/etc") && line.contains("a directory is in the way"), "{line}");
    let line = error(put("/boot/firmware/x", Node::Fifo, Meta::root(0o644, 5)));
    assert!(line.contains("FAT holds files and folders only"), "{line}");
    let line = error(Edit::Adjust { path: "/nope".into(), mode: None, uid: None, gid: None, mtime: None, xattrs: vec![] });
    assert!(line.contains("/nope is not in the base"), "{line}");
}
