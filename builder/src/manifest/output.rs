//! The engine in the image, and the image file itself. Both are read from the manifest as they are.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{manifest::base::PackageName, units::Bytes};

/// The container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Which engine: `docker`, or `none` for an image without one
    pub kind: EngineKind,
    /// Debian packages that bring the engine; unused with `none`
    pub packages: Vec<PackageName>,
    /// How container images get into the engine: `store`, written into its store by the build, or `load`, as archives that the
    /// node loads on its first start, for an engine that would not take the store
    pub preload: Preload,
    /// A container's log is cut at this size (1M to 1G): SD cards are small and wear out
    #[serde(deserialize_with = "log_size", serialize_with = "write_size")]
    #[schemars(with = "Size")]
    pub log_size: Bytes,
    /// How many such logs of a container are kept (1 to 100)
    #[serde(deserialize_with = "log_files")]
    #[schemars(range(min = 1, max = 100))]
    pub log_files: u32,
}

/// Which container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Docker Engine
    Docker,
    /// No engine
    None,
}

/// How container images get into the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preload {
    /// Into the engine's store, by the build
    Store,
    /// As archives in the image, by the node on its first start
    Load,
}

impl Default for Engine {
    fn default() -> Self {
        let package = |name: &str| PackageName { name: name.to_owned(), architecture: None };
        Self {
            kind: EngineKind::Docker,
            packages: ["docker.io", "docker-cli", "docker-compose"].map(package).to_vec(),
            preload: Preload::Store,
            log_size: Bytes(5 * Bytes::MIB),
            log_files: 3,
        }
    }
}

/// The image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Output {
    /// Partition table: `mbr`, which every board boots, or `gpt`, for Pi 4 and later only
    pub table: Table,
    /// Size of the boot partition (64M to 4G). Kernel, initrd and firmware need about 90 MiB, a kernel upgrade holds two of
    /// the former for a while: 256M leaves room
    #[serde(deserialize_with = "boot_size", serialize_with = "write_size")]
    #[schemars(with = "Size")]
    pub boot_size: Bytes,
    /// Free space on the root partition (16M to 64G) until the first boot has grown it to the card's size
    #[serde(deserialize_with = "root_free", serialize_with = "write_size")]
    #[schemars(with = "Size")]
    pub root_free: Bytes,
    /// Also write a compressed image: `none`, `xz` (smallest) or `zstd` (fastest)
    pub compress: Compress,
}

/// A partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Master boot record
    Mbr,
    /// GUID partition table
    Gpt,
}

/// A compression of the finished image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// Not compressed
    None,
    /// `.img.xz`
    Xz,
    /// `.img.zst`
    Zstd,
}

impl std::str::FromStr for Compress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "xz" => Ok(Self::Xz),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("`{text}` is no compression: `none`, `xz` or `zstd`")),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self {
            table: Table::Mbr,
            boot_size: Bytes(256 * Bytes::MIB),
            root_free: Bytes(300 * Bytes::MIB),
            compress: Compress::None,
        }
    }
}

/// A size in a manifest: bytes as a number, or a text such as `256M`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size(pub Bytes);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256M\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map(Size).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(Bytes(bytes)))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                let bytes = u64::try_from(bytes).map_err(|_| E::custom(format_args!("a size is not negative: {bytes}")))?;
                self.visit_u64(bytes)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "pattern": "^ *[0-9]+ *([bB]|[kKmMgGtT]([iI][bB])?)? *$",
            "minimum": 0
        })
    }
}

/// Writes a size so that it reads back exactly.
pub(super) fn write_size<S: Serializer>(size: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if size.0.is_multiple_of(Bytes::MIB) {
        serializer.collect_str(&format_args!("{}M", size.0 / Bytes::MIB))
    } else {
        serializer.serialize_u64(size.0)
    }
}

fn size_within<'de, D: Deserializer<'de>>(deserializer: D, least: u64, most: u64) -> Result<Bytes, D::Error> {
    let Size(size) = Size::deserialize(deserializer)?;
    if (least..=most).contains(&size.0) {
        Ok(size)
    } else {
        let (least, most) = (Bytes(least), Bytes(most));
        Err(de::Error::custom(format_args!("{size} is out of range: {least} to {most}")))
    }
}

fn log_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    size_within(deserializer, Bytes::MIB, 1024 * Bytes::MIB)
}

fn boot_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let size = size_within(deserializer, 64 * Bytes::MIB, 4096 * Bytes::MIB)?;
    if size.0.is_multiple_of(Bytes::MIB) { Ok(size) } else { Err(de::Error::custom("a partition is a whole number of MiB")) }
}

fn root_free<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    size_within(deserializer, 16 * Bytes::MIB, 65536 * Bytes::MIB)
}

fn log_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let files = u32::deserialize(deserializer)?;
    if (1..=100).contains(&files) { Ok(files) } else { Err(de::Error::custom(format_args!("{files} is out of range: 1 to 100"))) }
}
