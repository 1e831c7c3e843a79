//! Container images that lie in the engine's store before the first boot.

pub(super) mod file;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    manifest::{
        base::PackageName,
        payload::{FileEntry, ImagePath},
        place::SourcePath,
        text::{Component, Suite, Url, text_type},
    },
    units::{Bytes, Digest},
};

text_type! {
    /// What the image is called in the manifest and in `/etc/hcl/images.json`: lower-case letters, digits and dashes.
    OciName, "^[a-z0-9][a-z0-9-]{0,62}$", |text| super::text::label(text, "the name of a container image", 63)
}

text_type! {
    /// Name and tag under which the engine finds an image, such as `hcl/consul:1.8.7`.
    Reference, "^[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", reference
}

text_type! {
    /// An image in a registry by its digest: `HOST[:PORT]/NAME@sha256:…`.
    RegistryImage, "^[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}$", registry_image
}

text_type! {
    /// A port that the image says it listens on: `8500`, `8500/tcp` or `8600/udp`.
    Port, "^[0-9]{1,5}(/(tcp|udp|sctp))?$", |text| {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse::<u16>().is_ok_and(|number| number > 0) && number.bytes().all(|byte| byte.is_ascii_digit());
        if number && matches!(protocol, "tcp" | "udp" | "sctp") {
            Ok(())
        } else {
            Err(format!("`{text}` is no port: write 1 to 65535, and `/udp` behind it where it is not TCP"))
        }
    }
}

/// A container image as the user asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OciImage {
    /// Name and tag in the engine.
    pub reference: Reference,
    /// Where it comes from.
    #[serde(flatten)]
    pub source: OciSource,
    /// What its configuration says; of an image that is finished already, what is said otherwise.
    #[serde(flatten)]
    pub settings: OciSettings,
    /// What is laid over it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileEntry>,
}

/// Where a container image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OciSource {
    /// The files of Debian packages and of what they need.
    Debian(OciDebian),
    /// One static program and nothing else.
    Binary(OciBinary),
    /// An image that was saved to a file.
    Archive(OciArchive),
    /// An image in a registry.
    Registry(OciRegistry),
}

/// A minimal root file system made of Debian packages, whose scripts are not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OciDebian {
    /// Suites in order of preference, at least one.
    pub suites: Vec<Suite>,
    /// Components of the archive, at least one.
    pub components: Vec<Component>,
    /// The packages that are asked for, at least one.
    pub packages: Vec<PackageName>,
    /// Packages that are not needed although a package says so, because only its scripts or its service file use them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<PackageName>,
    /// Files and folders of the packages that are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<ImagePath>,
    /// A busybox, for each of whose programs a link is laid beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applets: Option<ImagePath>,
    /// Mirror of the archive; `None` = as for the base, else the host's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Url>,
    /// Keys that the archive's signature is checked with; `None` = as for the base, else the host's Debian archive keyring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyring: Option<SourcePath>,
}

/// One static program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OciBinary {
    /// The program.
    #[serde(flatten)]
    pub file: OciFile,
    /// Where it lies in the image.
    pub install: ImagePath,
}

/// An image in a file: written by `docker save`, or an OCI layout in a tar archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OciArchive {
    /// The archive.
    #[serde(flatten)]
    pub file: OciFile,
    /// Which image of it; `None` = the one that is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OciRegistry {
    /// Which.
    pub image: RegistryImage,
    /// Whether the registry is asked without TLS; its answers are verified by digest all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// A program of this project that runs in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OwnProgram {
    /// The Docker API of the whole cluster
    HclSwarm,
}

impl OwnProgram {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::HclSwarm => "hcl-swarm",
        }
    }
}

/// A file from this machine, or from the web by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OciFile {
    /// From the web.
    Web {
        /// Where from.
        url: Url,
        /// SHA-256 of the file.
        sha256: Digest,
        /// Its size, checked before anything else.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "super::base::exact")]
        size: Option<Bytes>,
    },
    /// On this machine.
    Local {
        /// Which.
        path: SourcePath,
        /// SHA-256 of the file, where it has to be a certain one.
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// Of this project, as `make node` has built it for the image's architecture.
    Own {
        /// Which.
        program: OwnProgram,
    },
}

/// What an image's configuration tells the engine. `None` and what is empty leaves what the source says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OciSettings {
    /// The program that a container runs, and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments that follow unless `docker run` has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Environment variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports that it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// User, `NAME[:GROUP]` or by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<ImagePath>,
}

impl OciSettings {
    /// Whether they say nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The grammar of a reference without a digest: `[HOST[:PORT]/]NAME:TAG`.
fn reference(text: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("`{text}` is no image reference: {why}"));
    let Some((name, tag)) = text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) else {
        return bad("write name and tag, such as `hcl/consul:1.8.7`");
    };
    let tag_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.bytes().all(tag_byte) {
        return bad("a tag has letters, digits, `_`, `.` and `-`, at most 128 of them");
    }
    let (host, path) = match name.split_once('/') {
        // As the engine tells a registry's host from the first part of a name.
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, name),
    };
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    if host.is_some_and(|host| !host.bytes().all(host_byte)) || name.len() > 255 || !path.split('/').all(path_part) {
        return bad("a name has lower-case letters and digits, with `.`, `_` or `-` between them, and `/` between its parts");
    }
    Ok(())
}

/// `alpha(sep alpha)*`, where a separator is `.`, `_`, `__` or any number of `-`.
fn path_part(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = || part.split(|letter: char| plain(letter as u8) && letter.is_ascii()).filter(|run| !run.is_empty());
    part.bytes().next().is_some_and(plain)
        && part.bytes().last().is_some_and(plain)
        && separators().all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}

fn registry_image(text: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("`{text}` is no image in a registry: {why}"));
    let Some((name, digest)) = text.split_once('@') else {
        return bad("name it by its digest, `HOST/NAME@sha256:…`: a tag can change");
    };
    if !digest.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.parse::<Digest>().is_ok()) {
        return bad("after `@` comes `sha256:` and 64 hexadecimal digits");
    }
    let Some((host, path)) = name.split_once('/') else { return bad("it begins with the registry's host, `HOST/NAME@…`") };
    let host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    if host.is_empty() || !host.bytes().all(host_byte) || !(host.contains(['.', ':']) || host == "localhost") {
        return bad("it begins with the registry's host, `HOST/NAME@…`");
    }
    if path.contains(':') {
        return bad("leave the tag out: the digest says which one it is");
    }
    if !path.split('/').all(path_part) {
        return bad("a name has lower-case letters and digits, with `.`, `_` or `-` between them, and `/` between its parts");
    }
    Ok(())
}

impl RegistryImage {
    /// Host and port, the repository's name, the digest of the manifest.
    pub fn parts(&self) -> (&str, &str, Digest) {
        let (name, digest) = self.as_str().split_once('@').unwrap_or_default();
        let (host, path) = name.split_once('/').unwrap_or_default();
        (host, path, digest.parse().unwrap_or_else(|_| Digest::of(b"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for good in ["hcl/consul:1.8.7", "busybox:1.37", "localhost:5000/a/b-c_d:T.1", "a__b/c--d:x", "example.org/x:y"] {
            assert_eq!(good.parse::<Reference>().map(|reference| reference.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["hcl/consul", "hcl/Consul:1", "hcl//x:1", "x:", "x:.1", "-x:1", "x-:1", "a___b:1", "localhost:5000/x", "x@y:1"]
        {
            let error = bad.parse::<Reference>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{bad}` is no image reference: ")), "{error}");
        }
    }

    #[test]
    fn images_in_a_registry() {
        let digest = "a".repeat(64);
        let image: RegistryImage = format!("127.0.0.1:5000/lab/x@sha256:{digest}").parse().unwrap();
        assert_eq!(image.parts(), ("127.0.0.1:5000", "lab/x", digest.parse().unwrap()));
        for (bad, why) in [
            ("example.org/x:1".to_owned(), "name it by its digest, `HOST/NAME@sha256:…`: a tag can change"),
            ("example.org/x@sha256:12".to_owned(), "after `@` comes `sha256:` and 64 hexadecimal digits"),
            (format!("x@sha256:{digest}"), "it begins with the registry's host, `HOST/NAME@…`"),
            (format!("lab/x@sha256:{digest}"), "it begins with the registry's host, `HOST/NAME@…`"),
            (format!("example.org/x:1@sha256:{digest}"), "leave the tag out: the digest says which one it is"),
        ] {
            let error = bad.parse::<RegistryImage>().unwrap_err().to_string();
            assert_eq!(error, format!("`{bad}` is no image in a registry: {why}"));
        }
    }

    #[test]
    fn ports() {
        for good in ["1", "8500/tcp", "8600/udp", "65535"] {
            assert!(good.parse::<Port>().is_ok(), "{good}");
        }
        for bad in ["0", "65536", "+1", "80/http", "", "80/"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }
}
