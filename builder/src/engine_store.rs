//! The engine's image store, filled before the engine ever runs: `docker images` lists what is in it, `docker run` starts at
//! once, and nothing has to be loaded on the Pi.
//!
//! The store is that of Docker's overlay2 driver, as 20.10 to 26.1 keep it under `/var/lib/docker`:
//!
//! ```text
//! image/overlay2/repositories.json                        names → image ids
//! image/overlay2/imagedb/content/sha256/IMAGE-ID          the image's configuration, whose SHA-256 is the id
//! image/overlay2/layerdb/sha256/CHAIN-ID/                 cache-id diff size tar-split.json.gz [parent]
//! overlay2/CACHE-ID/                                      diff/ link [lower work/]
//! overlay2/l/LINK -> ../CACHE-ID/diff                     short names, for the length of mount options
//! ```
//!
//! [`write()`] lays [`ContainerImage`]s into it, each layer in one pass over its archive and once only however many images share
//! it. The rest of `/var/lib/docker` is the engine's own and is made at its first start; `engine-id` above all must not be in an
//! image, since it would be the same on every card.

mod again;
mod ahead;
mod archive;
mod bundle;
mod chain;
mod crc64;
mod expected;
mod layer;
mod reference;
mod sink;
mod split;
mod survey;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use self::ahead::Ahead;
pub use self::{
    bundle::{bundle, bundle_path},
    chain::ChainId,
    reference::Reference,
    sink::Sink,
    survey::{Archive, StoredImage, StoredLayer, Survey, list},
};
use crate::{
    image::tree::{Content, Entry, Meta, Node},
    oci::{ContainerImage, Layer},
    units::{Bytes, Digest},
};

/// Where the engine keeps its data.
pub const ROOT: &str = "/var/lib/docker";
/// Layers of an image, at most: the engine takes no more.
const MAX_LAYERS: usize = 125;
/// Names of images, below [`ROOT`].
const REPOSITORIES: &str = "image/overlay2/repositories.json";
/// Configurations of images.
const CONFIGS: &str = "image/overlay2/imagedb/content/sha256";
/// What is known of layers.
const LAYERS: &str = "image/overlay2/layerdb/sha256";
/// The driver's folder.
const DRIVER: &str = "overlay2";

/// What [`write()`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Images.
    pub images: usize,
    /// Layers unpacked.
    pub layers: usize,
    /// Layers that were there already: another image has them too.
    pub shared: usize,
    /// Bytes of the unpacked layers, as the engine counts them.
    pub bytes: Bytes,
}

/// Bytes that `images` take up in the store, generously: blocks are larger than what an archive pads to.
pub fn room(images: &[ContainerImage]) -> Bytes {
    let mut layers = BTreeMap::new();
    for image in images {
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        layers.extend(ChainId::all(&diff_ids).into_iter().zip(image.layers.iter().map(|layer| layer.size.0)));
    }
    Bytes(layers.values().map(|size| size / 2 * 3 + Bytes::MIB).sum())
}

/// Writes `images` into the store below [`ROOT`] of `sink`, beside those that are there. What no archive dates counts as changed at
/// `epoch`, in seconds since 1970.
///
/// # Errors
///
/// An image is not whole, has a name that the engine would not take, or is not for Linux; a layer cannot be read, or is no archive
/// that the engine would unpack; or there is no room.
pub fn write(images: &[ContainerImage], sink: &mut impl Sink, epoch: i64) -> Result<Written> {
    let mut store = Store { sink, epoch, written: Written::default() };
    store.folders()?;
    let mut repositories = store.repositories()?;
    for image in images {
        let name = reference::parse(&image.reference)?;
        let id = store.image(image).with_context(|| format!("image {name}"))?;
        repositories.names.entry(name.repository.clone()).or_default().insert(name.to_string(), format!("sha256:{id}"));
    }
    // Last: what it names is whole.
    store.file(REPOSITORIES, serde_json::to_vec(&repositories)?, 0o600)?;
    Ok(store.written)
}

/// `repositories.json`.
#[derive(Default, Serialize, Deserialize)]
struct Repositories {
    /// Repository → name with tag or digest → image id.
    #[serde(rename = "Repositories")]
    names: BTreeMap<String, BTreeMap<String, String>>,
}

/// Of an image's configuration (OCI image specification, "Image Configuration") what the store needs.
#[derive(Deserialize)]
struct Config {
    os: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Config {
    fn parse(json: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(json).context("reading its configuration")?;
        ensure!(config.os == "linux", "it is for {}, not for Linux", config.os);
        ensure!(config.rootfs.kind == "layers", "its root file system is of type {}, not made of layers", config.rootfs.kind);
        ensure!(
            config.rootfs.diff_ids.len() <= MAX_LAYERS,
            "it has {} layers, and the engine takes {MAX_LAYERS}",
            config.rootfs.diff_ids.len()
        );
        Ok(config)
    }
}

struct Store<'a, S> {
    sink: &'a mut S,
    epoch: i64,
    written: Written,
}

impl<S: Sink> Store<'_, S> {
    fn folders(&mut self) -> Result<()> {
        for (path, mode) in [
            ("", 0o710),
            ("image", 0o700),
            ("image/overlay2", 0o700),
            ("image/overlay2/imagedb", 0o700),
            ("image/overlay2/imagedb/content", 0o700),
            (CONFIGS, 0o700),
            ("image/overlay2/layerdb", 0o700),
            (LAYERS, 0o755),
            (DRIVER, 0o710),
            ("overlay2/l", 0o700),
        ] {
            self.folder(path, mode)?;
        }
        Ok(())
    }

    fn repositories(&mut self) -> Result<Repositories> {
        let path = inside(REPOSITORIES);
        let there = self.sink.read(&path)?;
        there
            .map_or_else(|| Ok(Repositories::default()), |json| serde_json::from_slice(&json))
            .with_context(|| path.display().to_string())
    }

    fn image(&mut self, image: &ContainerImage) -> Result<Digest> {
        let config = Config::parse(&image.config)?;
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        ensure!(config.rootfs.diff_ids == diff_ids, "its layers are not those that its configuration names");
        let chain = ChainId::all(&diff_ids);
        for (at, layer) in image.layers.iter().enumerate() {
            self.layer(layer, &chain[..=at]).with_context(|| format!("layer {:?}", layer.diff_id))?;
        }
        let id = image.id();
        self.file(&format!("{CONFIGS}/{id}"), image.config.clone(), 0o600)?;
        self.written.images += 1;
        Ok(id)
    }

    /// Unpacks `layer`, the last of `chain`, and notes what the engine has to know of it.
    fn layer(&mut self, layer: &Layer, chain: &[ChainId]) -> Result<()> {
        let Some((own, below)) = chain.split_last() else { return Ok(()) };
        let known = format!("{LAYERS}/{}", own.digest());
        if self.sink.read(&inside(&format!("{known}/cache-id")))?.is_some() {
            self.written.shared += 1;
            return Ok(());
        }
        let cache_id = own.cache_id();
        let driver = format!("{DRIVER}/{cache_id}");
        self.folder(&driver, 0o710)?;
        let from = layer.open().context("opening it")?;
        // Unpacking reads to the very end: only there a layer says whether it was the right one.
        let unpacked = thread::scope(|scope| {
            let mut from = Ahead::new(scope, from);
            layer::unpack(&mut from, &inside(&format!("{driver}/diff")), self.sink, self.epoch)
        })?;
        self.file(&format!("{driver}/link"), own.link().into_bytes(), 0o644)?;
        self.put(&format!("{DRIVER}/l/{}", own.link()), Node::Symlink(format!("../{cache_id}/diff").into_bytes()), 0o777)?;
        if !below.is_empty() {
            // The nearest first, as overlayfs looks through them.
            let lower: Vec<String> = below.iter().rev().map(|chain| format!("l/{}", chain.link())).collect();
            self.file(&format!("{driver}/lower"), lower.join(":").into_bytes(), 0o644)?;
            self.folder(&format!("{driver}/work"), 0o700)?;
        }
        self.folder(&known, 0o700)?;
        if let Some(parent) = below.last() {
            self.file(&format!("{known}/parent"), format!("sha256:{}", parent.digest()).into_bytes(), 0o644)?;
        }
        self.file(&format!("{known}/diff"), format!("sha256:{}", layer.diff_id).into_bytes(), 0o644)?;
        self.file(&format!("{known}/size"), unpacked.size.to_string().into_bytes(), 0o644)?;
        self.file(&format!("{known}/tar-split.json.gz"), unpacked.split, 0o644)?;
        // Last: a layer that has one is whole.
        self.file(&format!("{known}/cache-id"), cache_id.into_bytes(), 0o644)?;
        self.written.layers += 1;
        self.written.bytes.0 += unpacked.size;
        Ok(())
    }

    fn folder(&mut self, path: &str, mode: u16) -> Result<()> {
        self.put(path, Node::Dir, mode)
    }

    fn file(&mut self, path: &str, content: Vec<u8>, mode: u16) -> Result<()> {
        self.put(path, Node::File(Content::Bytes(content)), mode)
    }

    fn put(&mut self, path: &str, node: Node, mode: u16) -> Result<()> {
        self.sink.put(&Entry { path: inside(path), node, meta: Meta::root(mode, self.epoch) })
    }
}

/// `path` below [`ROOT`].
fn inside(path: &str) -> PathBuf {
    let root = Path::new(ROOT);
    if path.is_empty() { root.to_owned() } else { root.join(path) }
}
