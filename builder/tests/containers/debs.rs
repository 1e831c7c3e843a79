//! Layers of packages that `dpkg-deb` has built.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use hcl_image::{
    lock::PackageLock,
    manifest::OciDebian,
    source::container::debian::{self, Made},
    units::Digest,
};

use crate::{EPOCH, tool};

/// A package of `files`; those that end in `/` are folders, those with ` -> ` are links.
fn package(folder: &Path, name: &str, files: &[(&str, &str)]) -> (PackageLock, PathBuf) {
    let root = folder.join(name);
    fs::create_dir_all(root.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: armhf\nMaintainer: Nobody <nobody@hcl.invalid>\nDescription: nothing\n"
    );
    fs::write(root.join("DEBIAN/control"), control).unwrap();
    for (path, content) in files {
        let target = root.join(path.trim_end_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if path.ends_with('/') {
            fs::create_dir_all(&target).unwrap();
        } else if let Some(to) = content.strip_prefix("-> ") {
            symlink(to, &target).unwrap();
        } else if let Some(to) = content.strip_prefix("= ") {
            fs::hard_link(root.join(to), &target).unwrap();
        } else {
            fs::write(&target, content).unwrap();
            let mode = if path.contains("bin/") { 0o4755 } else { 0o644 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    let deb = folder.join(format!("{name}.deb"));
    tool("dpkg-deb", "dpkg", &["--root-owner-group", "--build", root.to_str().unwrap(), deb.to_str().unwrap()]);
    let bytes = fs::read(&deb).unwrap();
    let lock = PackageLock {
        name: name.to_owned(),
        architecture: "armhf".to_owned(),
        version: "1".to_owned(),
        path: format!("pool/{name}.deb"),
        size: bytes.len() as u64,
        sha256: Digest::of(&bytes),
    };
    (lock, deb)
}

fn source() -> OciDebian {
    OciDebian {
        suites: vec!["trixie".parse().unwrap()],
        components: vec!["main".parse().unwrap()],
        packages: vec!["aa".parse().unwrap()],
        without: Vec::new(),
        exclude: vec!["/usr/lib/big".parse().unwrap()],
        applets: None,
        mirror: None,
        keyring: None,
    }
}

fn layer(debs: &[(PackageLock, PathBuf)], folder: &Path) -> anyhow::Result<(Vec<u8>, Made)> {
    let mut tar = Vec::new();
    let made = debian::layer(debs, &source(), &[], EPOCH, folder, &mut tar)?;
    Ok((tar, made))
}

#[test]
fn packages_become_one_layer() {
    let folder = tempfile::tempdir().unwrap();
    let one = package(
        folder.path(),
        "aa",
        &[
            ("bin/tool", "a program"),
            ("usr/bin/alias", "= bin/tool"),
            ("lib/ld.so", "-> arm/ld-1.so"),
            ("lib/arm/ld-1.so", "a loader"),
            ("usr/lib/big/table", "left out"),
            ("usr/share/doc/aa/copyright", "Format: https://x.invalid/\n\nFiles: *\nLicense: MPL-2.0\n"),
            ("usr/share/doc/aa/changelog.gz", "left out"),
            ("usr/share/man/man1/tool.1.gz", "left out"),
            ("etc/init.d/tool", "left out"),
        ],
    );
    let two = package(folder.path(), "bb", &[("usr/bin/other", "another"), ("usr/share/doc/bb", "-> aa")]);
    let (tar, made) = layer(&[one.clone(), two.clone()], folder.path()).unwrap();
    assert_eq!(made.diff_id, Digest::of(&tar));
    assert_eq!(
        made.licences,
        BTreeMap::from([("aa".to_owned(), vec!["MPL-2.0".to_owned()]), ("bb".to_owned(), vec!["MPL-2.0".to_owned()])]),
        "one that shares another's documents too"
    );

    let mut archive = tar::Archive::new(tar.as_slice());
    let mut listed = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert!(header.mtime().unwrap() <= EPOCH);
        let link = entry.link_name().unwrap().map(|target| format!(" -> {}", target.display())).unwrap_or_default();
        listed.push(format!("{:o} {}{link}", header.mode().unwrap(), entry.path().unwrap().display()));
    }
    assert_eq!(
        listed,
        [
            "777 bin -> usr/bin",
            "755 dev/",
            "755 etc/",
            "644 etc/group",
            "644 etc/nsswitch.conf",
            "644 etc/passwd",
            "777 lib -> usr/lib",
            "755 proc/",
            "700 root/",
            "755 run/",
            "777 sbin -> usr/sbin",
            "755 sys/",
            "1777 tmp/",
            "755 usr/",
            "755 usr/bin/",
            "4755 usr/bin/alias",
            "4755 usr/bin/other",
            "4755 usr/bin/tool -> usr/bin/alias",
            "755 usr/lib/",
            "755 usr/lib/arm/",
            "644 usr/lib/arm/ld-1.so",
            "777 usr/lib/ld.so -> arm/ld-1.so",
            "755 usr/sbin/",
            "755 usr/share/",
            "755 usr/share/doc/",
            "755 usr/share/doc/aa/",
            "644 usr/share/doc/aa/copyright",
            "777 usr/share/doc/bb -> aa",
            "755 var/",
            "1777 var/tmp/",
        ]
    );
    assert!(layer(&[two, one], folder.path()).unwrap().0 == tar, "whatever the order of the packages");
}

#[test]
fn packages_that_bring_the_same_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = package(folder.path(), "aa", &[("usr/bin/tool", "a")]);
    let two = package(folder.path(), "bb", &[("bin/tool", "b")]);
    let error = layer(&[one.clone(), two], folder.path()).unwrap_err();
    assert_eq!(hcl_image::error::one_line(&error), "unpacking bb: /usr/bin/tool is in aa too");

    fs::write(&one.1, b"!<arch>\nnothing").unwrap();
    let error = hcl_image::error::one_line(&layer(&[one], folder.path()).unwrap_err());
    assert!(error.starts_with("unpacking aa: "), "{error}");
}
