//! Image manifests and indexes (OCI image specification, `manifest.md`, `image-index.md`; Docker's schema 2 differs in media
//! types only), and which of an index's images suits a platform.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer, de};

use super::config::Platform;
use crate::units::Digest;

/// Something that is named by its digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// SHA-256 of its bytes.
    #[serde(deserialize_with = "digest")]
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// What it runs on, in an index.
    pub platform: Option<For>,
    /// Names and notes.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, Deserialize)]
pub struct For {
    /// `linux`.
    pub os: String,
    /// `arm`, `arm64`, …
    pub architecture: String,
    /// `v7`, …
    #[serde(default)]
    pub variant: String,
}

/// `sha256:` and 64 digits; other algorithms are not in use.
fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("sha256:").ok_or_else(|| de::Error::custom(format_args!("`{text}` is no SHA-256 digest")))?;
    digits.parse().map_err(de::Error::custom)
}

/// A document that stands for an image.
#[derive(Clone, Debug)]
pub enum Document {
    /// Several images, for several platforms or of several names.
    Index(Vec<Descriptor>),
    /// One image.
    Image(Image),
}

/// The manifest of one image.
#[derive(Clone, Debug, Deserialize)]
pub struct Image {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, lowest first.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads one; what it is shows in its keys, since a media type is not always there.
    ///
    /// # Errors
    ///
    /// It is neither, or of the outdated schema 1.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let raw: Raw = serde_json::from_slice(json).context("its manifest is damaged")?;
        ensure!(raw.schema_version != Some(1), "its manifest is of the old schema 1: push it anew with a current tool");
        match raw {
            Raw { manifests: Some(manifests), .. } => Ok(Self::Index(manifests)),
            Raw { config: Some(config), layers: Some(layers), .. } => Ok(Self::Image(Image { config, layers })),
            _ => bail!("its manifest names neither layers nor other manifests"),
        }
    }
}

/// Layers of an image, at most: the engine takes no more.
const MOST_LAYERS: usize = 125;
/// Indexes in indexes, at most.
const DEEPEST: usize = 4;

impl Image {
    /// The image that `document` stands for on `platform`; `fetch` gets the documents that it leads to.
    ///
    /// # Errors
    ///
    /// None suits, several do, or one cannot be had.
    pub fn find(document: Document, platform: Platform, mut fetch: impl FnMut(&Descriptor) -> Result<Vec<u8>>) -> Result<Self> {
        let mut document = document;
        for _ in 0..DEEPEST {
            match document {
                Document::Image(image) => {
                    ensure!(
                        image.layers.len() <= MOST_LAYERS,
                        "it has {} layers, an engine takes {MOST_LAYERS}",
                        image.layers.len()
                    );
                    return Ok(image);
                }
                Document::Index(manifests) => document = Document::parse(&fetch(suiting(&manifests, platform)?)?)?,
            }
        }
        bail!("its indexes are nested more than {DEEPEST} deep")
    }
}

/// The one of `manifests` that suits `platform` best.
fn suiting(manifests: &[Descriptor], platform: Platform) -> Result<&Descriptor> {
    if let [only] = manifests {
        // The configuration says what it runs on, and is looked at.
        return Ok(only);
    }
    let rank = |descriptor: &&Descriptor| {
        let For { os, architecture, variant } = descriptor.platform.as_ref()?;
        platform.suits(os, architecture, variant)
    };
    let best = manifests.iter().filter(|descriptor| rank(descriptor).is_some()).max_by_key(rank);
    best.with_context(|| {
        let there: Vec<String> = manifests
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .filter(|there| there.os != "unknown")
            .map(|there| format!("{}/{}/{}", there.os, there.architecture, there.variant).trim_end_matches('/').to_owned())
            .collect();
        format!("there is none for {platform}, only for: {}", there.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::Arch;

    fn descriptor(name: &str, platform: Option<(&str, &str, &str)>) -> serde_json::Value {
        let mut value = json!({ "digest": format!("sha256:{}", Digest::of(name.as_bytes())), "size": name.len() });
        if let Some((os, architecture, variant)) = platform {
            value["platform"] = json!({ "os": os, "architecture": architecture, "variant": variant });
        }
        value
    }

    fn parse(value: &serde_json::Value) -> Document {
        Document::parse(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_right_platform_is_found_through_nested_indexes() {
        let image = json!({ "schemaVersion": 2, "config": descriptor("c", None), "layers": [descriptor("l", None)] });
        let inner = json!({ "manifests": [
            descriptor("x86", Some(("linux", "amd64", ""))), descriptor("v6", Some(("linux", "arm", "v6"))),
            descriptor("v7", Some(("linux", "arm", "v7"))), descriptor("proof", Some(("unknown", "unknown", ""))),
        ] });
        let outer = parse(&json!({ "manifests": [descriptor("inner", None)] }));
        let mut asked = Vec::new();
        let found = Image::find(outer.clone(), Arch::Armhf.into(), |descriptor| {
            asked.push(descriptor.digest);
            Ok(if descriptor.digest == Digest::of(b"inner") { inner.to_string() } else { image.to_string() }.into_bytes())
        });
        assert_eq!(found.unwrap().layers[0].digest, Digest::of(b"l"));
        assert_eq!(asked, [Digest::of(b"inner"), Digest::of(b"v7")]);

        let error = Image::find(parse(&inner), Arch::Arm64.into(), |_| panic!("nothing to get")).unwrap_err();
        assert_eq!(error.to_string(), "there is none for linux/arm64/v8, only for: linux/amd64, linux/arm/v6, linux/arm/v7");
        let error =
            Image::find(outer, Arch::Armhf.into(), |_| Ok(json!({ "manifests": [descriptor("x", None)] }).to_string().into()));
        assert_eq!(error.unwrap_err().to_string(), "its indexes are nested more than 4 deep");
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for (text, why) in [
            ("", "its manifest is damaged"),
            ("{}", "its manifest names neither layers nor other manifests"),
            ("{\"schemaVersion\":1,\"layers\":[]}", "its manifest is of the old schema 1: push it anew with a current tool"),
            ("{\"manifests\":[{\"digest\":\"sha512:00\",\"size\":1}]}", "its manifest is damaged"),
        ] {
            assert_eq!(Document::parse(text.as_bytes()).unwrap_err().to_string(), why, "{text}");
        }
    }
}
