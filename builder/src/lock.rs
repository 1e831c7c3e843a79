//! Exactly what a build is made of.
//!
//! A lock is written beside every image (`NAME.lock`) and names each package, the base, the node
//! program, the overlays and the keys by digest. `build --locked FILE` uses exactly that. Nothing
//! in a lock is secret: SSH keys appear as fingerprints, the cluster key as the id that cards announce.

mod container;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{error::UsageError, units::Digest};

pub use self::container::{OciDebianLock, OciLock, OciSourceLock};

/// The format this program writes. Older ones are refused, not guessed at.
const VERSION: u32 = 1;

/// Everything that decides the bytes of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// Format of this file.
    pub version: u32,
    /// The latest time that anything in the image carries, in seconds since 1970 (`SOURCE_DATE_EPOCH`).
    pub epoch: u64,
    /// Digest of the effective manifest: includes merged, `--set` applied.
    pub manifest: Digest,
    /// Digest of the node program's binary.
    pub node_program: Digest,
    /// Digests of the overlay folders, by name.
    pub overlays: BTreeMap<String, Digest>,
    /// Fingerprints of the SSH keys that may log in.
    pub ssh_keys: Vec<String>,
    /// Which cluster's key lies in the image: the id that is derived from it. None only in a plan made before there is a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Where the file systems come from.
    pub base: BaseLock,
    /// The container images, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, OciLock>,
}

/// The base of an image, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum BaseLock {
    /// A vendor's image.
    Download {
        /// Digest of the file as served, compressed or not.
        sha256: Digest,
    },
    /// Made from a signed Debian archive.
    Bootstrap(BootstrapLock),
}

/// A Debian installation, package by package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BootstrapLock {
    /// The suite whose index was taken, such as `trixie` or `stable`.
    pub suite: String,
    /// Its code name, as the signed Release file gives it.
    pub codename: String,
    /// Its version, such as `13.7`.
    pub release: String,
    /// When the Release file was made, in seconds since 1970.
    pub date: u64,
    /// The mirror, as it is written into the image's own package sources.
    pub mirror: String,
    /// Where security updates come from, as it is written into the image's own package sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// Parts of the archive, such as `main`.
    pub components: Vec<String>,
    /// Debian's name of the userland's architecture.
    pub architecture: String,
    /// The packages that were asked for by name; the others came along.
    pub requested: Vec<String>,
    /// Every package that is installed.
    pub packages: Vec<PackageLock>,
    /// Packages for the building machine whose programs stand in for emulated ones.
    pub tools: Vec<PackageLock>,
}

/// One package file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageLock {
    /// Name, such as `libc6`.
    pub name: String,
    /// `armhf`, `arm64`, `amd64` or `all`.
    pub architecture: String,
    /// Debian version.
    pub version: String,
    /// Path below the mirror.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// Digest of the `.deb`.
    pub sha256: Digest,
}

impl Lock {
    /// The format version that this program writes.
    pub const VERSION: u32 = VERSION;

    /// Reads a lock.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no lock, or is of another version: wrong input, exit code 2.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| UsageError::new(format!("{}: {error}; give the NAME.lock that a build wrote", path.display())))?;
        let lock: Self = toml::from_str(&text)
            .map_err(|error| UsageError::new(format!("{}: not a lock: {}", path.display(), error.message())))?;
        if lock.version != VERSION {
            return Err(UsageError::new(format!(
                "{}: lock version {} is not the {VERSION} that this program reads; build without --locked to write a new one",
                path.display(),
                lock.version
            )));
        }
        Ok(lock)
    }

    /// The text that is written beside the image. Same lock, same text.
    ///
    /// # Errors
    ///
    /// Only if a number does not fit TOML, which no real lock has.
    pub fn render(&self) -> Result<String> {
        let body = toml::to_string(self).context("writing the lock as TOML")?;
        Ok(format!("# What this image was made of. `hcl-image build --locked THIS` makes the same bytes again.\n{body}"))
    }

    /// What differs between this lock, as demanded, and what was `found`, one line each.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut digest = |what: &str, wanted: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            if wanted != found {
                lines.push(format!("{what}: locked {}, here {}", shorten(&wanted), shorten(&found)));
            }
        };
        digest("manifest", &self.manifest, &found.manifest);
        digest("node program", &self.node_program, &found.node_program);
        let names: std::collections::BTreeSet<_> = self.overlays.keys().chain(found.overlays.keys()).collect();
        for name in names {
            let show = |lock: &Self| lock.overlays.get(name).map_or_else(|| "none".to_owned(), Digest::to_string);
            digest(&format!("overlay {name}"), &show(self), &show(found));
        }
        digest("SSH keys", &self.ssh_keys.join(" "), &found.ssh_keys.join(" "));
        let cluster = |lock: &Self| lock.cluster_id.clone().unwrap_or_else(|| "none".to_owned());
        digest("cluster id", &cluster(self), &cluster(found));
        let names: std::collections::BTreeSet<_> = self.images.keys().chain(found.images.keys()).collect();
        for name in names {
            let show = |lock: &Self| lock.images.get(name).map_or_else(|| "none".to_owned(), |image| image.digest().to_string());
            digest(&format!("container image {name}"), &show(self), &show(found));
        }
        lines
    }
}

impl BaseLock {
    /// Names the base's bytes: the cache key, and what identifiers in the image are derived from.
    ///
    /// The mirror does not count: the same packages from elsewhere are the same base.
    pub fn digest(&self) -> Digest {
        let text = match self {
            Self::Download { sha256 } => format!("download {sha256}"),
            Self::Bootstrap(lock) => {
                let mut text = format!("bootstrap {} {}\n", lock.architecture, lock.date);
                for (role, packages) in [("package", &lock.packages), ("tool", &lock.tools)] {
                    for package in packages {
                        text.push_str(&format!("{role} {} {} {}\n", package.name, package.architecture, package.sha256));
                    }
                }
                text.push_str(&lock.requested.join(" "));
                text
            }
        };
        Digest::of(text.as_bytes())
    }
}

fn shorten(text: &str) -> &str {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) { &text[..12] } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Lock {
        Lock {
            version: VERSION,
            epoch: 1_700_000_000,
            manifest: Digest::of(b"m"),
            node_program: Digest::of(b"n"),
            overlays: BTreeMap::from([("common".to_owned(), Digest::of(b"o"))]),
            ssh_keys: vec!["SHA256:abc".to_owned()],
            cluster_id: Some("0011223344556677".to_owned()),
            base: BaseLock::Bootstrap(BootstrapLock {
                suite: "stable".into(),
                codename: "trixie".into(),
                release: "13.7".into(),
                date: 1_690_000_000,
                mirror: "file:///srv/debian".into(),
                security: None,
                components: vec!["main".into()],
                architecture: "armhf".into(),
                requested: vec!["systemd".into()],
                packages: vec![PackageLock {
                    name: "libc6".into(),
                    architecture: "armhf".into(),
                    version: "2.41-12".into(),
                    path: "pool/main/g/glibc/libc6_2.41-12_armhf.deb".into(),
                    size: 2_000_000,
                    sha256: Digest::of(b"libc6"),
                }],
                tools: vec![],
            }),
            images: BTreeMap::from([
                (
                    "consul".to_owned(),
                    OciLock {
                        reference: "hcl/consul:1".to_owned(),
                        source: OciSourceLock::Debian(OciDebianLock {
                            suite: "bullseye".into(),
                            codename: "bullseye".into(),
                            release: "11.11".into(),
                            mirror: "file:///srv/debian".into(),
                            packages: vec![PackageLock {
                                name: "consul".into(),
                                architecture: "armhf".into(),
                                version: "1".into(),
                                path: "pool/main/c/consul/consul_1_armhf.deb".into(),
                                size: 1,
                                sha256: Digest::of(b"consul"),
                            }],
                        }),
                        files: BTreeMap::from([("/etc/x".to_owned(), Digest::of(b"x"))]),
                    },
                ),
                (
                    "hello".to_owned(),
                    OciLock {
                        reference: "hcl/hello:1".to_owned(),
                        source: OciSourceLock::File { sha256: Digest::of(b"hello") },
                        files: BTreeMap::new(),
                    },
                ),
            ]),
        }
    }

    #[test]
    fn a_lock_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        std::fs::write(&path, example().render().unwrap()).unwrap();
        assert_eq!(Lock::load(&path).unwrap(), example());
    }

    #[test]
    fn differences_are_named() {
        let mut other = example();
        assert!(example().differences(&other).is_empty());
        other.node_program = Digest::of(b"other");
        other.overlays.insert("mine".into(), Digest::of(b"mine"));
        other.cluster_id = None;
        other.images.remove("hello");
        let Some(OciSourceLock::Debian(debian)) = other.images.get_mut("consul").map(|image| &mut image.source) else {
            unreachable!()
        };
        debian.mirror = "http://elsewhere.invalid/debian".to_owned();
        let lines = example().differences(&other);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with("node program: locked "), "{lines:?}");
        assert!(lines[1].starts_with("overlay mine: locked none"), "{lines:?}");
        assert_eq!(lines[2], "cluster id: locked 0011223344556677, here none");
        assert!(lines[3].starts_with("container image hello: locked ") && lines[3].ends_with(", here none"), "{lines:?}");
    }

    #[test]
    fn the_base_digest_follows_packages_and_not_the_mirror() {
        let BaseLock::Bootstrap(mut lock) = example().base else { unreachable!() };
        let before = BaseLock::Bootstrap(lock.clone()).digest();
        lock.mirror = "http://elsewhere.invalid/debian".into();
        assert_eq!(BaseLock::Bootstrap(lock.clone()).digest(), before);
        lock.packages[0].sha256 = Digest::of(b"newer");
        assert_ne!(BaseLock::Bootstrap(lock).digest(), before);
    }

    #[test]
    fn nonsense_is_wrong_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        for text in ["", "version = 7", "[[["] {
            std::fs::write(&path, text).unwrap();
            let error = Lock::load(&path).unwrap_err();
            assert!(error.is::<UsageError>(), "{error}");
        }
    }
}
