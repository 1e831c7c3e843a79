//! The manifest file as it is written: its keys, their documentation and, in [`super::convert`], their way into
//! a [`super::Manifest`]. The comments here are what `hcl-image schema` and `docs/manifest.md` show.

use std::{collections::BTreeMap, fmt};

use hcl_firstboot::config::NodeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{
    base::{Arch, PackageName},
    board::Board,
    container::{OciName, file::OciImageFile},
    output::{Engine, Output, Size},
    payload::{Device, ImagePath, Mode, XattrValue},
    place::Placed,
    text::{Component, ImageName, Suite, Url, UserName},
    user::PasswordHash,
};
use crate::units::Digest;

/// The manifest of an image: what goes into it, for which boards, and who may log in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "hcl-image manifest")]
pub(super) struct ManifestFile {
    /// Other manifests that this one is laid over, one path or an array of paths, relative to this file.
    #[schemars(with = "OneOrMany")]
    #[allow(dead_code, reason = "taken out of the tree while the layers are read; here for its name and documentation")]
    pub include: Option<de::IgnoredAny>,
    /// Name of the image; the output is `hcl-NAME.img`. Default: the name of the manifest file.
    pub name: Option<ImageName>,
    /// The boards that the image must boot on: `pi2`, `pi3`, `pi3plus`, `pi3a`, `zero2w`, `cm3`, `pi4`, `pi400`, `cm4`,
    /// `pi5`. Required.
    pub boards: Option<Placed<Vec<Placed<Board>>>>,
    /// Debian packages on top of the base's own, `NAME` or `NAME:ARCHITECTURE`. Only with `base.bootstrap`.
    pub packages: Option<Placed<Vec<PackageName>>>,
    /// Folders on this machine whose content is laid into the image, in this order; a later one wins. Everything in them
    /// belongs to root; folders and what is executable get mode 0755, all else 0644.
    pub overlays: Vec<Placed<String>>,
    /// Where the system comes from. Required: exactly one of `base.bootstrap` and `base.download`.
    pub base: Option<Placed<BaseFile>>,
    /// The one user of the image.
    pub user: UserFile,
    /// How a node behaves: what `/etc/hcl/node.toml` in the image will say.
    pub node: NodeConfig,
    /// The container engine.
    pub engine: Engine,
    /// The image file.
    pub output: Output,
    /// Container images that lie in the engine's store before the first boot, each an `[images.NAME]` table. On a node
    /// `/etc/hcl/images.json` says which reference belongs to which name.
    pub images: BTreeMap<OciName, Placed<OciImageFile>>,
    /// Single files, links and devices, laid after the overlays, each a `[[files]]` table.
    pub files: Vec<Placed<FileTable>>,
}

/// One path or several.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Where the system comes from: one of the two tables.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BaseFile {
    /// Make the system from the signed packages of the Debian archive.
    pub bootstrap: Option<BootstrapFile>,
    /// Take a finished image, from the web or from this machine, and edit it in place.
    pub download: Option<DownloadFile>,
}

/// Make the system from the signed packages of the Debian archive.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BootstrapFile {
    /// Mirror of the Debian archive. Default: the one this machine itself uses.
    pub mirror: Option<Url>,
    /// Suites in order of preference: the first whose index is complete and signed is taken, and the build says why
    /// another was skipped. Required.
    pub suites: Option<Placed<Vec<Suite>>>,
    /// Components of the archive. Default: `main` and `non-free-firmware`, which holds the Pi's boot firmware.
    pub components: Option<Placed<Vec<Component>>>,
    /// Architecture of the userland: `armhf` (32-bit) or `arm64`. Default: `armhf`.
    pub architecture: Option<Arch>,
    /// The kernel package; its architecture may differ from the userland's. Default: `linux-image-arm64:arm64`.
    pub kernel: Option<PackageName>,
    /// The packages that make the base, besides Debian's essential ones, the kernel and the engine. Required.
    pub packages: Option<Vec<PackageName>>,
    /// File with the keys that the archive's signature is checked with. Default: this machine's Debian archive keyring.
    pub keyring: Option<Placed<String>>,
}

/// Take a finished image and edit it in place.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DownloadFile {
    /// Web address of the image: `.img`, `.img.xz`, `.img.zst` or `.img.gz`. This or `path`.
    pub url: Option<Url>,
    /// The image as a file on this machine. This or `url`.
    pub path: Option<Placed<String>>,
    /// SHA-256 of the file as downloaded, before it is decompressed: 64 hexadecimal digits. Required with `url`.
    #[schemars(with = "Option<DigestText>")]
    pub sha256: Option<Digest>,
    /// Size of the file as downloaded, checked before the download begins. Only with `url`.
    pub size: Option<Placed<Size>>,
}

/// 64 hexadecimal digits.
pub(super) struct DigestText;
super::text::schema!(DigestText, "^(sha256:)?[0-9a-fA-F]{64}$");

/// The one user of the image. Nobody else can log in, and there is no default password.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UserFile {
    /// Login name. Default: `hcl`.
    pub name: Option<UserName>,
    /// SSH public keys that may log in: the line of a `.pub` file as a text, or `{ file = "PATH" }` for the file itself.
    /// Without one the build makes a key pair, keeps it in your configuration folder and prints how to log in.
    pub ssh_keys: Vec<Placed<SshKeyFile>>,
    /// Password as a crypt(5) hash, made by `mkpasswd` (package whois), for the console. Default: no password, and then no
    /// login by one. Never a password in plain text.
    pub password_hash: Option<PasswordHash>,
    /// Whether the user may become root by `sudo` without a password. Default: `true`.
    pub sudo: Option<bool>,
}

/// An SSH key as written.
#[derive(Debug)]
pub(super) enum SshKeyFile {
    /// The line itself.
    Line(String),
    /// A file with such lines.
    File(String),
}

impl<'de> Deserialize<'de> for SshKeyFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            file: String,
        }

        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = SshKeyFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the line of a `.pub` file in quotes, or `{ file = \"PATH\" }`,")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<SshKeyFile, E> {
                Ok(SshKeyFile::Line(line.to_owned()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SshKeyFile, A::Error> {
                Table::deserialize(de::value::MapAccessDeserializer::new(map)).map(|table| SshKeyFile::File(table.file))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SshKeyFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SshKey".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^(ssh|ecdsa|sk-ssh|sk-ecdsa)-[^ ]+ [A-Za-z0-9+/=]+" },
                {
                    "type": "object",
                    "properties": { "file": { "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

/// One thing in the image: at most one of `content`, `source`, `symlink`, `hardlink`, `directory`, `device` and `fifo`.
/// Without any, what is at `path` already gets the owner, mode, time and attributes named here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileTable {
    /// Absolute path in the image.
    pub path: ImagePath,
    /// A file with this content.
    pub content: Option<String>,
    /// A file copied from this machine.
    pub source: Option<Placed<String>>,
    /// A symbolic link to this target.
    pub symlink: Option<String>,
    /// A second name of this file in the image.
    pub hardlink: Option<ImagePath>,
    /// `true`: a folder.
    pub directory: Option<bool>,
    /// A device node: `c MAJOR MINOR` or `b MAJOR MINOR`.
    pub device: Option<Device>,
    /// `true`: a named pipe.
    pub fifo: Option<bool>,
    /// Permission bits in octal as a text. Default: `"0644"` for files, `"0755"` for folders, `"0600"` for devices and pipes.
    pub mode: Option<Mode>,
    /// Number of the owner. Default: 0, root.
    pub uid: Option<u32>,
    /// Number of the group. Default: 0, root.
    pub gid: Option<u32>,
    /// Time of the last change in seconds since 1970. Default: the time of the build's sources.
    pub mtime: Option<u32>,
    /// Extended attributes by full name, such as `user.note`; the value is a text, or bytes as `0x…`.
    #[serde(default)]
    pub xattrs: BTreeMap<String, XattrValue>,
}
