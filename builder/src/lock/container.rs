//! Container images, pinned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PackageLock;
use crate::units::Digest;

/// A container image, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OciLock {
    /// Name and tag in the engine.
    pub reference: String,
    /// Where it comes from.
    pub source: OciSourceLock,
    /// Digests of the files from the building machine that are laid over it, by path in the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Digest>,
}

/// The source of a container image, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OciSourceLock {
    /// Debian packages.
    Debian(OciDebianLock),
    /// A file: a static program or a saved image.
    File {
        /// Digest of the file as it is.
        sha256: Digest,
    },
    /// An image in a registry.
    Registry {
        /// Digest of its manifest, or of its index of manifests.
        sha256: Digest,
    },
}

/// Debian packages that make a container image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OciDebianLock {
    /// The suite whose index was taken.
    pub suite: String,
    /// Its code name.
    pub codename: String,
    /// Its version, such as `11.11`.
    pub release: String,
    /// The mirror.
    pub mirror: String,
    /// The packages.
    pub packages: Vec<PackageLock>,
}

impl OciLock {
    /// Names the image's content. The mirror does not count, as for a base.
    pub fn digest(&self) -> Digest {
        let mut text = format!("{}\n", self.reference);
        match &self.source {
            OciSourceLock::Debian(debian) => {
                for package in &debian.packages {
                    text.push_str(&format!("package {} {} {}\n", package.name, package.architecture, package.sha256));
                }
            }
            OciSourceLock::File { sha256 } => text.push_str(&format!("file {sha256}\n")),
            OciSourceLock::Registry { sha256 } => text.push_str(&format!("registry {sha256}\n")),
        }
        for (path, digest) in &self.files {
            text.push_str(&format!("{digest} {path}\n"));
        }
        Digest::of(text.as_bytes())
    }
}
