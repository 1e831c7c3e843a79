//! Every rule of `hcl-image check` against an image that it must refuse.

#[path = "common/fixture.rs"]
mod fixture;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use fixture::{Arm, Fixture, Item, KERNEL, elf, initrd, kernel, overwrite, run, table, zimage};
use hcl_image::{
    check::{self, Evidence, Finding, RULES},
    engine_store,
    image::{
        disk::Disk,
        ext4::Editor,
        table::Sectors,
        tree::{Content, Entry, Meta, Node},
    },
    manifest::Board,
    progress::{Mode, Reporter},
};

fn findings(fixture: &Fixture, name: &str) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let image = fixture.build(folder.path(), name);
    let reporter = Reporter::new(Mode::Quiet);
    let disk = Disk::open(&image, &reporter).unwrap();
    check::run(&Evidence::gather(&disk, &fixture.boards, &reporter).unwrap())
}

/// Makes a partition longer in the table alone.
fn stretch(image: &Path, number: u32, sectors: u64) {
    let mut table = table(image);
    let partition = table.partitions.iter_mut().find(|partition| partition.number == number).unwrap();
    partition.size = Sectors(partition.size.0 + sectors);
    let length = std::fs::metadata(image).unwrap().len();
    let mut file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    file.set_len(length + sectors * 512).unwrap();
    table.write(&mut file).unwrap();
    file.set_len(length).unwrap();
}

fn root_offset(image: &Path) -> u64 {
    table(image).partition(2).unwrap().offset()
}

/// What the engine knows of layers, in its store.
const LAYERS: &str = "image/overlay2/layerdb/sha256";

/// Changes what stands first in a folder of the engine's store.
fn in_store(image: &Path, folder: &str, change: impl FnOnce(&mut Editor, &Path)) {
    fixture::edit(image, |editor| {
        let folder = Path::new(engine_store::ROOT).join(folder);
        let name = editor.list(&folder).unwrap().remove(0);
        change(editor, &folder.join(name));
    });
}

fn put(editor: &mut Editor, path: &Path, content: &str) {
    let meta = editor.meta(path).unwrap().expect("a file to replace");
    editor.put(&Entry { path: path.to_owned(), node: Node::File(Content::Bytes(content.into())), meta }).unwrap();
}

type Break = fn(&mut Fixture);

/// For each rule what makes an image that it refuses.
fn broken() -> Vec<(&'static str, Break)> {
    vec![
        ("table.first-partition", |f| {
            f.damage.push(|image| overwrite(image, 446 + 4, &[0xef]));
        }),
        ("table.bounds", |f| f.damage.push(|image| stretch(image, 2, 2048))),
        ("table.overlap", |f| f.damage.push(|image| stretch(image, 1, 2048))),
        ("table.damage", |f| {
            f.gpt = true;
            f.boards = vec![Board::Pi4];
            f.damage.push(|image| {
                let length = std::fs::metadata(image).unwrap().len();
                overwrite(image, length - 512, &[0; 512]);
            });
        }),
        ("table.gpt-board", |f| f.gpt = true),
        ("boot.readable", |f| f.damage.push(|image| overwrite(image, 4 << 20, &[0; 512]))),
        ("boot.firmware", |f| {
            f.boot.remove("fixup4.dat");
        }),
        ("boot.config", |f| f.edit_boot("config.txt", "enable_uart", "[pi9]\n[all]\nenable_uart")),
        ("boot.device-tree", |f| {
            f.boot.remove(Board::Zero2W.dtb());
        }),
        ("boot.cmdline", |f| f.edit_boot("cmdline.txt", " rw ", "\nrw ")),
        ("boot.root", |f| f.edit_boot("cmdline.txt", "LABEL=HCLROOT", "PARTUUID=deadbeef-02")),
        ("boot.cgroup-memory", |f| f.edit_boot("cmdline.txt", " cgroup_enable=memory", "")),
        ("boot.cgroup-order", |f| {
            f.edit_boot("cmdline.txt", "cgroup_enable=memory", "cgroup_enable=memory cgroup_disable=memory");
        }),
        ("boot.secrets", |f| f.boot("key.pem", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")),
        ("boot.overrides", |f| f.boot("hcl.toml", "vlan = 5000\r\n")),
        ("boot.cluster-key", |f| f.boot("user-data", format!("bootcmd:\n- echo {} > /key\n", fixture::CLUSTER_KEY))),
        ("kernel.present", |f| {
            f.boot.remove(&format!("vmlinuz-{KERNEL}"));
        }),
        ("kernel.architecture", |f| f.boot(&format!("vmlinuz-{KERNEL}"), zimage())),
        ("kernel.modules", |f| f.boot(&format!("vmlinuz-{KERNEL}"), kernel("6.1.0-9-arm64"))),
        ("initrd.present", |f| {
            f.boot.remove(&format!("initrd.img-{KERNEL}"));
        }),
        ("initrd.drivers", |f| f.boot(&format!("initrd.img-{KERNEL}"), initrd(&["ext4", "mmc_block", "virtio_blk"]))),
        ("initrd.qemu", |f| f.boot(&format!("initrd.img-{KERNEL}"), initrd(&["ext4", "mmc_block", "bcm2835"]))),
        ("root.readable", |f| {
            f.damage.push(|image| {
                overwrite(image, root_offset(image) + 1024, &[0; 1024]);
                overwrite(image, root_offset(image) + 0x1_0040, b"_BHRfS_M");
            });
        }),
        ("root.clean", |f| {
            f.damage.push(|image| {
                let device = format!("{}?offset={}", image.display(), root_offset(image));
                run("debugfs", "e2fsprogs", &["-w", "-R", "set_super_value state 2", &device]);
            });
        }),
        ("root.space", |f| f.root_size = hcl_image::units::Bytes(24 << 20)),
        ("root.fstab", |f| f.file("/etc/fstab", "PARTUUID=deadbeef-02 / ext4 rw 0 1\n")),
        ("root.fstab-boot", |f| {
            f.file("/etc/fstab", "LABEL=HCLROOT / ext4 rw 0 1\nLABEL=HCLBOOT /boot/firmware vfat rw 0 2\n");
        }),
        ("system.architecture", |f| f.program("/usr/bin/curl", elf(Arm::Other(62), true))),
        ("node.program", |f| f.program("/usr/sbin/hcl-firstboot", elf(Arm::Armhf, true))),
        ("node.unit", |f| {
            f.root.remove("/etc/systemd/system/multi-user.target.wants/hcl-firstboot.service");
        }),
        ("node.key", |f| {
            f.root.remove("/etc/hcl/cluster.key");
        }),
        ("node.key-mode", |f| f.file("/etc/hcl/cluster.key", format!("{}\n", fixture::CLUSTER_KEY))),
        ("engine.present", |f| {
            f.root.remove("/usr/sbin/dockerd");
        }),
        ("engine.enabled", |f| {
            f.root.insert("/etc/systemd/system/docker.service".into(), Item::Link("/dev/null".into()));
        }),
        ("engine.store", |f| f.file("/etc/docker/daemon.json", r#"{"features": {"containerd-snapshotter": true}}"#)),
        ("store.images", |f| {
            f.damage
                .push(|image| in_store(image, "image/overlay2/imagedb/content/sha256", |editor, path| put(editor, path, "{}")));
        }),
        ("store.layers", |f| {
            f.damage.push(|image| in_store(image, LAYERS, |editor, path| put(editor, &path.join("diff"), "sha256:00")));
        }),
        ("store.driver", |f| {
            f.damage.push(|image| in_store(image, "overlay2/l", |editor, path| assert!(editor.remove(path).unwrap())));
        }),
        ("store.archives", |f| {
            f.damage.push(|image| in_store(image, LAYERS, |editor, path| put(editor, &path.join("size"), "1")));
        }),
        ("users.login", |f| {
            f.root.remove("/home/pi/.ssh/authorized_keys");
        }),
        ("users.open", |f| f.file("/etc/shadow", "root:*:1::::::\npi::1::::::\n")),
        ("card.host-keys", |f| f.file("/etc/ssh/ssh_host_ed25519_key", "key")),
        ("card.machine-id", |f| f.file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")),
        ("card.dbus-id", |f| f.file("/var/lib/dbus/machine-id", "0123456789abcdef0123456789abcdef\n")),
        ("card.random-seed", |f| f.file("/var/lib/systemd/random-seed", "seed")),
        ("card.credential-secret", |f| f.file("/var/lib/systemd/credential.secret", "secret")),
        ("card.engine-id", |f| f.file("/var/lib/docker/engine-id", "b9d5a1f0")),
        ("card.leases", |f| f.file("/var/lib/dhcp/dhclient.eth0.leases", "lease {}\n")),
        ("card.network-secrets", |f| {
            f.file("/etc/NetworkManager/system-connections/home.nmconnection", "[wifi-security]\npsk=secret\n");
        }),
    ]
}

#[test]
fn a_right_image_has_no_finding() {
    assert_eq!(findings(&Fixture::new(), "right"), []);
}

#[test]
fn every_rule_has_its_broken_image_and_the_reverse() {
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    let images: BTreeSet<&str> = broken().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, images);
    assert_eq!(rules.len(), RULES.len(), "a rule's name is used twice");
    assert_eq!(images.len(), broken().len());
}

#[test]
fn every_rule_refuses_its_broken_image() {
    let images = broken();
    let results: BTreeMap<&str, Vec<Finding>> = std::thread::scope(|scope| {
        let halves: Vec<_> = images
            .chunks(images.len().div_ceil(2))
            .map(|half| {
                scope.spawn(move || {
                    let build = |&(rule, change): &(&'static str, Break)| {
                        let mut fixture = Fixture::new();
                        change(&mut fixture);
                        (rule, findings(&fixture, rule))
                    };
                    half.iter().map(build).collect::<Vec<_>>()
                })
            })
            .collect();
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    let mut wrong = Vec::new();
    for (rule, findings) in &results {
        // What lies in a partition that is gone cannot be judged: these take others along.
        let alone = !matches!(*rule, "boot.readable" | "root.readable");
        let others: Vec<_> = findings.iter().filter(|finding| finding.rule != *rule).collect();
        if others.len() == findings.len() || alone && !others.is_empty() {
            wrong.push(format!("{rule}: {findings:#?}"));
        }
        for finding in findings {
            let message = &finding.message;
            assert!(!message.contains('\n') && message.len() < 400, "{rule}: {message}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Ways to damage a layer, beside those in [`broken`]; each is found, and told by its path.
#[test]
fn layers_that_are_not_their_archives() {
    let path = |editor: &Editor, name: &str| {
        let driver = Path::new(engine_store::ROOT).join("overlay2");
        let folders = editor.list(&driver).unwrap().into_iter().map(|folder| driver.join(folder).join("diff").join(name));
        folders.into_iter().find(|path| editor.meta(path).unwrap().is_some()).unwrap_or_else(|| panic!("no {name}"))
    };
    let rules = |what: &str, change: &dyn Fn(&mut Editor)| {
        let folder = tempfile::tempdir().unwrap();
        let image = Fixture::new().build(folder.path(), "image");
        fixture::edit(&image, |editor| change(editor));
        let reporter = Reporter::new(Mode::Quiet);
        let found = check::run(&Evidence::gather(&Disk::open(&image, &reporter).unwrap(), &[Board::Pi3], &reporter).unwrap());
        assert!(found.iter().all(|finding| finding.message.contains(what)), "{what}: {found:?}");
        found.into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let archives = ["store.archives"];
    assert_eq!(
        rules("bin/consul has mode 100755", &|e| e.adjust(&path(e, "bin/consul"), &Meta::root(0o755, 0)).unwrap()),
        archives
    );
    let owned = Meta { uid: 5, ..Meta::root(0o4755, 0) };
    assert_eq!(rules("bin/consul belongs to 5:0", &|e| e.adjust(&path(e, "bin/consul"), &owned).unwrap()), archives);
    assert_eq!(rules("bin/consul has another content", &|e| put(e, &path(e, "bin/consul"), "prOgram")), archives);
    assert_eq!(rules("bin/consul is longer", &|e| put(e, &path(e, "bin/consul"), "program too")), archives);
    assert_eq!(rules("bin/consul is shorter", &|e| put(e, &path(e, "bin/consul"), "prog")), archives);
    assert_eq!(rules("bin/consul in the image", &|e| assert!(e.remove(&path(e, "bin/consul")).unwrap())), archives);
    let extra = Entry { path: PathBuf::new(), node: Node::Fifo, meta: Meta::root(0o644, 0) };
    assert_eq!(
        rules("1 files more", &|e| e.put(&Entry { path: path(e, "bin").join("more"), ..extra.clone() }).unwrap()),
        archives
    );
    // The file that the second layer removes: there it is a device.
    let pipe = |e: &mut Editor| {
        let driver = Path::new(engine_store::ROOT).join("overlay2");
        let folders = e.list(&driver).unwrap().into_iter().map(|name| driver.join(name));
        let top = folders.into_iter().find(|folder| e.meta(&folder.join("lower")).unwrap().is_some()).expect("a second layer");
        e.put(&Entry { path: top.join("diff/etc/gone"), ..extra.clone() }).unwrap();
    };
    assert_eq!(rules("etc/gone has mode 10644 instead of 20000", &pipe), archives);
}

/// Ways to have a key that is none, and to leave one where everybody reads it, beside those in [`broken`].
#[test]
fn cluster_keys_that_are_refused() {
    let key = fixture::CLUSTER_KEY;
    let path = "/etc/hcl/cluster.key";
    let rules = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = Fixture::new();
        change(&mut fixture);
        let found = findings(&fixture, "key");
        assert!(found.iter().all(|finding| !finding.message.contains(&key[..16])), "a message shows the key: {found:?}");
        found.into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let secret = |f: &mut Fixture, text: &str| {
        f.root.insert(path.into(), Item::File(0o600, text.into()));
    };
    for wrong in [String::new(), key[1..].to_owned(), key.replace('a', "g"), format!("{key}\n{key}\n")] {
        assert_eq!(rules(&|f| secret(f, &wrong)), ["node.key"], "{wrong}");
    }
    assert_eq!(rules(&|f| drop(f.root.insert(path.into(), Item::Link("/boot/firmware/key".into())))), ["node.key"]);
    assert_eq!(rules(&|f| drop(f.root.insert(path.into(), Item::File(0o640, format!("{key}\n").into())))), ["node.key-mode"]);
    // Somebody else's key, alone in its file; and this one in capitals.
    assert_eq!(rules(&|f| f.boot("cluster.key", "0123456789abcdef".repeat(4))), ["boot.cluster-key"]);
    assert_eq!(rules(&|f| f.boot("notes.txt", format!("key: {}", key.to_uppercase()))), ["boot.cluster-key"]);
    // A checksum in a list is none.
    assert_eq!(rules(&|f| f.boot("SHA256SUMS", format!("{}  start.elf\n", "0123456789abcdef".repeat(4)))), [""; 0]);
}

fn hcl_image(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hcl-image")).args(arguments).output().unwrap()
}

#[test]
fn the_command_ends_with_the_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let right = Fixture::new().build(folder.path(), "right");
    let output = hcl_image(&["check", right.to_str().unwrap(), "--board", "pi3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("[PASS] boot.cgroup-order"), "{text}");
    let mut fixture = Fixture::new();
    fixture.file("/etc/ssh/ssh_host_rsa_key", "key");
    let broken = fixture.build(folder.path(), "broken");
    let output = hcl_image(&["check", broken.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("[FAIL] card.host-keys"), "{text}");
    let output = hcl_image(&["check", "--json", broken.to_str().unwrap()]);
    let last = String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned();
    let json: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&json["errors"], &json["findings"][0]["rule"]), (&1.into(), &"card.host-keys".into()));
    assert_eq!(hcl_image(&["check", right.to_str().unwrap(), "--board", "pi9"]).status.code(), Some(2));
    assert_eq!(hcl_image(&["check", "/nonexistent.img"]).status.code(), Some(1));
}

#[test]
fn the_documentation_lists_the_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/checks.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = check::table();
    assert!(text.contains(&table), "docs/checks.md is out of date: put the output of `hcl-image check --list` there:\n{table}");
}

#[test]
fn foreign_images_are_read() {
    let variants: [(&str, Break); 4] = [
        ("gpt", |f| {
            f.gpt = true;
            f.boards = vec![Board::Pi4];
        }),
        ("1k-no-journal", |f| f.mke2fs = ["-b", "1024", "-O", "^has_journal"].map(String::from).to_vec()),
        ("no-extents", |f| {
            f.mke2fs = ["-O", "^extent,^has_journal,^64bit,^metadata_csum,^flex_bg"].map(String::from).to_vec();
            // Files without extents cannot be written by us.
            f.images.clear();
        }),
        ("raspios", |f| f.mke2fs = ["-O", "^64bit,metadata_csum,metadata_csum_seed"].map(String::from).to_vec()),
    ];
    for (name, change) in variants {
        let mut fixture = Fixture::new();
        change(&mut fixture);
        assert_eq!(findings(&fixture, name), [], "{name}");
        let folder = tempfile::tempdir().unwrap();
        let image = fixture.build(folder.path(), name);
        let report = String::from_utf8(hcl_image(&["inspect", image.to_str().unwrap()]).stdout).unwrap();
        assert!(report.contains("HCLROOT") && report.contains("on\n"), "{report}");
        for line in report.lines().skip(1) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn compressed_images_and_single_files_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let image = Fixture::new().build(folder.path(), "image");
    let plain = image.to_str().unwrap();
    run("xz", "xz-utils", &["-k", "-0", "-T2", plain]);
    run("zstd", "zstd", &["-q", "-k", plain]);
    run("gzip", "gzip", &["-k", "-1", plain]);
    for suffix in ["", ".xz", ".zst", ".gz"] {
        // The name says nothing: the first bytes do.
        let disguised = folder.path().join(format!("copy{}", suffix.len()));
        std::fs::rename(format!("{plain}{suffix}"), &disguised).unwrap();
        let path = disguised.to_str().unwrap();
        let show = |inner: &str| {
            let output = hcl_image(&["-q", "inspect", path, inner]);
            assert!(output.status.success(), "{suffix} {inner}: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        assert!(show("/boot/firmware/config.txt").starts_with(b"arm_64bit=1"), "{suffix}");
        if suffix.is_empty() {
            for inner in ["boot:/config.txt", "boot:CONFIG.TXT"] {
                assert!(show(inner).starts_with(b"arm_64bit=1"), "{inner}");
            }
            // Through the link /bin and the link sh.
            assert_eq!(show("/bin/sh"), elf(Arm::Armhf, true));
            let list = String::from_utf8(show("/usr/bin")).unwrap();
            assert!(list.contains("lrwxrwxrwx") && list.contains("sh -> dash"), "{list}");
            let json = String::from_utf8(hcl_image(&["inspect", "--json", path]).stdout).unwrap();
            let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
            assert_eq!(json["partitions"][1]["partuuid"], "48434c01-02");
        }
        let report = String::from_utf8(hcl_image(&["inspect", path]).stdout).unwrap();
        for word in
            ["MBR, disk id 48434c01", "HCLROOT", "FAT32", "Debian GNU/Linux 13", "armhf", KERNEL, "hcl/consul:1.8.7", "26.1.5"]
        {
            assert!(report.contains(word), "{word}: {report}");
        }
        for line in report.lines().filter(|line| !line.contains("/tmp")) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
    assert_eq!(hcl_image(&["inspect", folder.path().join("copy0").to_str().unwrap(), "/nothing"]).status.code(), Some(1));
}

#[test]
fn a_damaged_archive_and_what_is_no_image_are_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let image = Fixture::new().build(folder.path(), "image");
    run("zstd", "zstd", &["-q", "-k", image.to_str().unwrap()]);
    let packed = std::fs::read(folder.path().join("image.img.zst")).unwrap();
    for (name, data) in [("cut", &packed[..packed.len() / 2]), ("text", b"hello".as_slice()), ("empty", b"")] {
        let path = folder.path().join(name);
        std::fs::write(&path, data).unwrap();
        let output = hcl_image(&["-q", "inspect", path.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{name}: {error}");
        assert!(error.contains(name), "{error}");
    }
}
