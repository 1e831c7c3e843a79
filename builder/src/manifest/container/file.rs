//! `[images.NAME]` as it is written. The comments here are what `hcl-image schema` and `docs/manifest.md` show.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{OwnProgram, Port, Reference, RegistryImage};
use crate::{
    manifest::{
        base::PackageName,
        file::{DigestText, FileTable},
        output::Size,
        payload::ImagePath,
        place::Placed,
        text::{Component, Suite, Url},
    },
    units::Digest,
};

/// A container image that lies in the engine's store before the first boot, from exactly one of `debian`, `binary`, `archive`
/// and `registry`. To name another source than an included manifest does replaces the whole table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::manifest) struct OciImageFile {
    /// Name and tag under which the engine finds it, such as `hcl/consul:1.8.7`. Required.
    pub reference: Option<Reference>,
    /// `true`: leave out an image that an included manifest names.
    pub omit: bool,
    /// A minimal root file system of Debian packages and what they need; their scripts are not run.
    pub debian: Option<OciDebianFile>,
    /// One static program, and nothing else.
    pub binary: Option<OciBinaryFile>,
    /// An image in a file: written by `docker save`, or an OCI layout in a tar archive, compressed or not.
    pub archive: Option<OciArchiveFile>,
    /// An image in a registry (Distribution API v2), without a login or with the anonymous token that it hands out.
    pub registry: Option<OciRegistryFile>,
    /// The program that a container runs, and its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments that follow, unless `docker run` gives some.
    pub cmd: Option<Vec<String>>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Labels, besides those that the build adds: reference and version.
    pub labels: BTreeMap<String, String>,
    /// Ports that it listens on: `8500`, or `8600/udp`.
    pub ports: Vec<Port>,
    /// User that it runs as, `NAME[:GROUP]` or by number. Default: root.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<ImagePath>,
    /// Files, links and devices that are laid over the image, each with the keys of `[[files]]`.
    pub files: Vec<Placed<FileTable>>,
}

/// Debian packages as a container image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::manifest) struct OciDebianFile {
    /// Suites in order of preference: the first whose index is complete and signed is taken. Default: those of
    /// `base.bootstrap`.
    pub suites: Option<Placed<Vec<Suite>>>,
    /// Components of the archive. Default: `main`.
    pub components: Option<Placed<Vec<Component>>>,
    /// The packages; what they need comes along. Required.
    pub packages: Option<Placed<Vec<PackageName>>>,
    /// Packages that are not taken along although one asks for them, because only its scripts or its service use them. Those
    /// that only install other packages (`adduser`, `debconf`, `init-system-helpers`, …) never are.
    pub without: Vec<PackageName>,
    /// Files and folders of the packages that are left out, by their path in the image. Manuals, translations and
    /// documentation always are, but for the licences.
    pub exclude: Vec<ImagePath>,
    /// A busybox in the image, for each of whose programs a link is laid beside it.
    pub applets: Option<ImagePath>,
    /// Mirror of the Debian archive. Default: the one of `base.bootstrap`, else the one this machine itself uses.
    pub mirror: Option<Url>,
    /// File with the keys that the archive's signature is checked with. Default: that of `base.bootstrap`, else this machine's
    /// Debian archive keyring.
    pub keyring: Option<Placed<String>>,
}

/// One static program as a container image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::manifest) struct OciBinaryFile {
    /// A program of this project, as `make node` has built it for the image's architecture. This, `path` or `url`.
    pub program: Option<OwnProgram>,
    /// The program as a file on this machine. This or `url`.
    pub path: Option<Placed<String>>,
    /// Web address of the program. This or `path`.
    pub url: Option<Url>,
    /// SHA-256 of the file: 64 hexadecimal digits. Required with `url`.
    #[schemars(with = "Option<DigestText>")]
    pub sha256: Option<Digest>,
    /// Size of the file, checked before the download begins. Only with `url`.
    pub size: Option<Placed<Size>>,
    /// Where it lies in the image, mode 0755. It is the entrypoint too, unless there is another. Required.
    pub install: Option<ImagePath>,
}

/// A saved container image.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::manifest) struct OciArchiveFile {
    /// The archive as a file on this machine. This or `url`.
    pub path: Option<Placed<String>>,
    /// Web address of the archive. This or `path`.
    pub url: Option<Url>,
    /// SHA-256 of the file as it is: 64 hexadecimal digits. Required with `url`.
    #[schemars(with = "Option<DigestText>")]
    pub sha256: Option<Digest>,
    /// Size of the file, checked before the download begins. Only with `url`.
    pub size: Option<Placed<Size>>,
    /// Which image, where the archive holds several: its reference in the archive. One for several platforms is taken for the
    /// platform of the base.
    pub image: Option<String>,
}

/// A container image in a registry.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::manifest) struct OciRegistryFile {
    /// The image by its digest, `HOST[:PORT]/NAME@sha256:…`. Of one for several platforms, that of the base is taken. Required.
    pub image: Option<RegistryImage>,
    /// `true`: ask without TLS. What comes is verified by digest all the same.
    pub plain_http: bool,
}
