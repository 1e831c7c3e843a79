//! Where the system comes from.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{
        place::SourcePath,
        text::{BadText, Component, Suite, Url, schema, through_text},
    },
    units::{Bytes, Digest},
};

/// Where the system comes from: made from packages, or a finished image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Made from the signed packages of the Debian archive.
    Bootstrap(Bootstrap),
    /// A finished image, edited in place.
    Download(Download),
}

/// A system made from the signed packages of the Debian archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bootstrap {
    /// Mirror of the archive; `None` = the one the host itself uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Url>,
    /// Suites in order of preference, at least one: the first whose index is consistent is taken.
    pub suites: Vec<Suite>,
    /// Components of the archive, at least one.
    pub components: Vec<Component>,
    /// Architecture of the userland.
    pub architecture: Arch,
    /// The kernel package; its architecture may differ from the userland's.
    pub kernel: PackageName,
    /// The packages that make the base, besides the essential ones, the kernel and the engine.
    pub packages: Vec<PackageName>,
    /// Keys that the archive's signature is checked with; `None` = the host's Debian archive keyring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyring: Option<SourcePath>,
}

impl Bootstrap {
    /// Architecture of the kernel.
    pub fn kernel_architecture(&self) -> Arch {
        self.kernel.architecture.unwrap_or(self.architecture)
    }

    /// All architectures, the userland's first, none twice.
    pub fn architectures(&self) -> Vec<Arch> {
        let mut all = vec![self.architecture];
        for package in self.packages.iter().chain([&self.kernel]) {
            if let Some(architecture) = package.architecture
                && !all.contains(&architecture)
            {
                all.push(architecture);
            }
        }
        all
    }
}

/// A finished image: `.img`, `.img.xz`, `.img.zst` or `.img.gz`, told apart by content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Download {
    /// From the web; without a digest it could be anything, so there is always one.
    Web {
        /// Where from.
        url: Url,
        /// SHA-256 of the file as downloaded (compressed).
        sha256: Digest,
        /// Size of the file as downloaded, checked before anything else.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exact")]
        size: Option<Bytes>,
    },
    /// A file on this machine.
    File {
        /// Which.
        path: SourcePath,
        /// SHA-256 of the file as it lies there.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
}

pub(super) fn exact<S: serde::Serializer>(size: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

/// An architecture of the Debian archive that we build for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 32-bit ARMv7 with hardware floating point
    Armhf,
    /// 64-bit ARMv8
    Arm64,
}

impl Arch {
    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Armhf => "armhf",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.debian())
    }
}

/// A Debian package, as apt writes it: `docker.io`, or `linux-image-arm64:arm64` for one of another architecture.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName {
    /// The name alone.
    pub name: String,
    /// The architecture, where it is not the userland's.
    pub architecture: Option<Arch>,
}

impl FromStr for PackageName {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let (name, architecture) = match text.split_once(':') {
            None => (text, None),
            Some((name, "armhf")) => (name, Some(Arch::Armhf)),
            Some((name, "arm64")) => (name, Some(Arch::Arm64)),
            Some((_, other)) => {
                return Err(BadText(format!("`{text}`: `{other}` is no architecture we build for: `armhf` or `arm64`")));
            }
        };
        // Debian policy 5.6.1.
        let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
        if !first || name.len() < 2 || !name.bytes().all(rest) {
            return Err(BadText(format!(
                "`{text}` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters"
            )));
        }
        Ok(Self { name: name.to_owned(), architecture })
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.architecture {
            None => f.pad(&self.name),
            Some(architecture) => f.pad(&format!("{}:{architecture}", self.name)),
        }
    }
}

impl fmt::Debug for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

through_text!(PackageName);
schema!(PackageName, "^[a-z0-9][a-z0-9+.-]+(:(armhf|arm64))?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages() {
        for good in ["docker.io", "libstdc++6", "linux-image-arm64:arm64", "9menu"] {
            assert_eq!(good.parse::<PackageName>().unwrap().to_string(), good);
        }
        for (text, message) in [
            ("vim nano", "`vim nano` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters"),
            ("--yes", "`--yes` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters"),
            ("x", "`x` is no package name: lower-case letters, digits, `+`, `-` and `.`, at least two characters"),
            ("vim:amd64", "`vim:amd64`: `amd64` is no architecture we build for: `armhf` or `arm64`"),
        ] {
            assert_eq!(text.parse::<PackageName>().unwrap_err().to_string(), message);
        }
    }
}
