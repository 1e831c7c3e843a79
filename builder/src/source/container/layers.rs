//! Layers of finished images: verified by the digest of what they unpack to, and kept as they came.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufReader, Read, Seek, Write},
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    cache::{Begin, Cache, Entry},
    oci::{Layer, Packing, config, config::Platform},
    progress::Reporter,
    source::decode::LARGEST,
    units::{Bytes, Digest},
};

/// Cache kind of layers as they came, by the digest of what they unpack to.
const LAYERS: &str = "unpacked-layer";

/// A finished image before the manifest says something else about it.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its configuration, byte by byte.
    pub config: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// The digests that the configuration names, after a look at what the image runs on.
///
/// # Errors
///
/// It is no configuration, names another number of layers than `count`, or does not run on `platform`.
pub fn expected(config: &[u8], count: usize, platform: Platform) -> Result<Vec<Digest>> {
    let (os, architecture, variant) = config::platform(config)?;
    if platform.suits(&os, &architecture, &variant).is_none() {
        let found = format!("{os}/{architecture}/{variant}");
        bail!("it is for {}, and the userland is {platform}", found.trim_end_matches('/'));
    }
    let ids = config::diff_ids(config)?;
    ensure!(ids.len() == count, "its configuration names {} layers, and there are {count}", ids.len());
    Ok(ids)
}

/// The layer of the cache that unpacks to `diff_id`, if there is one.
///
/// # Errors
///
/// The cache cannot be read.
pub fn kept(diff_id: &Digest, cache: &Cache) -> Result<Option<Layer>> {
    Ok(cache.lookup(LAYERS, diff_id)?.and_then(|entry| layer(diff_id, entry)))
}

/// Keeps the layer that comes from `from`, compressed or not, once it is known to unpack to `diff_id`.
///
/// # Errors
///
/// It unpacks to something else or to more than a card holds, or cannot be read or kept.
pub fn keep(diff_id: &Digest, from: &mut dyn Read, cache: &Cache, reporter: &Reporter) -> Result<Layer> {
    let pending = match cache.begin(LAYERS, diff_id, reporter)? {
        Begin::Present(entry) => return layer(diff_id, entry).context("the cache holds a layer without a note of its size"),
        Begin::Missing(pending) => pending,
    };
    let mut file = pending.file()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading a layer"),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).context("keeping a layer")?;
    }
    file.rewind().context("reading a layer")?;
    let mut head = Vec::new();
    (&mut file).take(4).read_to_end(&mut head).context("reading a layer")?;
    let packing = Packing::of(&head);
    file.rewind().context("reading a layer")?;
    let mut unpacked = packing.reader(BufReader::with_capacity(1 << 18, file)).context("unpacking a layer")?.take(LARGEST.0 + 1);
    let (found, size) = measure(&mut unpacked).with_context(|| format!("unpacking layer {diff_id}"))?;
    ensure!(size <= LARGEST.0, "layer {diff_id} unpacks to more than {LARGEST}");
    ensure!(found == *diff_id, "a layer is damaged: {diff_id} is asked for, and it unpacks to {found}");
    let packed = fs::metadata(pending.path()).context("keeping a layer")?.len();
    let facts = BTreeMap::from([
        ("packing".to_owned(), name(packing).to_owned()),
        ("size".to_owned(), size.to_string()),
        ("packed".to_owned(), packed.to_string()),
    ]);
    let entry = pending.commit(Some(Digest::finish(hasher)), facts)?;
    layer(diff_id, entry).context("the cache does not keep what it is told")
}

fn measure(from: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::finish(hasher), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn layer(diff_id: &Digest, entry: Entry) -> Option<Layer> {
    let packing = [Packing::Plain, Packing::Gzip, Packing::Zstd];
    let packing = packing.into_iter().find(|packing| entry.facts.get("packing").is_some_and(|fact| fact == name(*packing)))?;
    let size = Bytes(entry.facts.get("size")?.parse().ok()?);
    Some(Layer { diff_id: *diff_id, size, path: entry.path, packing })
}

fn name(packing: Packing) -> &'static str {
    match packing {
        Packing::Plain => "plain",
        Packing::Gzip => "gzip",
        Packing::Zstd => "zstd",
    }
}
