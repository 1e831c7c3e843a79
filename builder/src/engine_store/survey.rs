//! What a store in an image holds: facts for `hcl-image check` and `inspect`.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};

use super::{
    CONFIGS, ChainId, Config, DRIVER, LAYERS, REPOSITORIES, ROOT, Repositories, again::Again, expected::Expected, layer,
};
use crate::{
    image::disk::{Inodes, Root, Tree},
    units::{Bytes, Digest},
};

/// Longest small file of a store: names, configurations.
const MAX_SMALL: u64 = 4 << 20;

/// The facts.
#[derive(Debug)]
pub struct Survey {
    /// What is wrong with the list of names.
    pub problem: Option<String>,
    /// Every name, sorted.
    pub images: Vec<StoredImage>,
    /// Every layer that an image names.
    pub layers: BTreeMap<ChainId, StoredLayer>,
}

/// A name and what it leads to.
#[derive(Debug)]
pub struct StoredImage {
    /// Repository and tag, or digest.
    pub name: String,
    /// The image's id.
    pub id: String,
    /// Its layers, lowest first, or why they cannot be told.
    pub chain: Result<Vec<ChainId>, String>,
}

/// A layer as the store has it. What is `None` is missing.
#[derive(Debug)]
pub struct StoredLayer {
    /// The layers below, the nearest last.
    pub below: Vec<ChainId>,
    /// The digest that the images name.
    pub diff_id: Digest,
    /// `diff`: the digest that the store names.
    pub diff: Option<String>,
    /// `parent`.
    pub parent: Option<String>,
    /// `size`.
    pub size: Option<u64>,
    /// `cache-id`: the driver's folder.
    pub cache_id: Option<String>,
    /// The driver's short name.
    pub link: Option<String>,
    /// Where the short name leads.
    pub leads_to: Option<String>,
    /// Short names of the layers below.
    pub lower: Option<String>,
    /// Whether there is a folder for overlayfs to work in.
    pub work: bool,
    /// The archive as the engine would give it out, or why it could not.
    pub archive: Result<Archive, String>,
}

/// A layer's archive, put together from the store.
#[derive(Debug)]
pub struct Archive {
    /// SHA-256 of it.
    pub digest: Digest,
    /// What the engine would count as its size.
    pub size: u64,
    /// What differs between the archive and the files, the first few.
    pub differences: Vec<String>,
    /// Files more (or, negative, less) than in the archive.
    pub more: i64,
}

impl Survey {
    /// Looks through the store in `root`; `None` where there is none. Reads every layer.
    ///
    /// # Errors
    ///
    /// Reading the file system fails. What is wrong with the store is a fact.
    pub fn gather(root: &Root) -> Result<Option<Self>> {
        let Some(mut survey) = Self::names(root)? else { return Ok(None) };
        let store = Reading { root, inodes: root.inodes()? };
        for image in &mut survey.images {
            image.chain = match store.image(&image.id)? {
                Ok(diff_ids) => {
                    let chain = ChainId::all(&diff_ids);
                    for (at, (own, diff_id)) in chain.iter().zip(&diff_ids).enumerate() {
                        if !survey.layers.contains_key(own) {
                            survey.layers.insert(*own, store.layer(*own, &chain[..at], *diff_id)?);
                        }
                    }
                    Ok(chain)
                }
                Err(why) => Err(why),
            };
        }
        Ok(Some(survey))
    }

    /// Only what the store calls its images.
    fn names(root: &Root) -> Result<Option<Self>> {
        let Some(json) = small(root, REPOSITORIES)? else { return Ok(None) };
        let mut survey = Self { problem: None, images: Vec::new(), layers: BTreeMap::new() };
        match serde_json::from_slice::<Repositories>(&json) {
            Ok(repositories) => {
                for (name, id) in repositories.names.into_values().flatten() {
                    survey.images.push(StoredImage { name, id, chain: Ok(Vec::new()) });
                }
                survey.images.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Err(error) => survey.problem = Some(error.to_string()),
        }
        Ok(Some(survey))
    }
}

/// Names of the images in `root`, their ids, and the bytes that the engine would show, without reading the layers.
///
/// # Errors
///
/// Reading the file system fails.
pub fn list(root: &Root) -> Result<Vec<(String, String, Bytes)>> {
    let Some(survey) = Survey::names(root)? else { return Ok(Vec::new()) };
    let store = Reading { root, inodes: root.inodes()? };
    let mut images = Vec::new();
    for image in survey.images.into_iter().filter(|image| !image.name.contains('@')) {
        let mut size = 0;
        for chain in store.image(&image.id)?.map(|diff_ids| ChainId::all(&diff_ids)).unwrap_or_default() {
            size += store.number(&format!("{LAYERS}/{}/size", chain.digest()))?.unwrap_or(0);
        }
        images.push((image.name, image.id, Bytes(size)));
    }
    Ok(images)
}

/// A small file of the store.
fn small(root: &Root, path: &str) -> Result<Option<Vec<u8>>> {
    root.head(&inside(path), MAX_SMALL)
}

fn inside(path: &str) -> String {
    format!("{ROOT}/{path}")
}

struct Reading<'a> {
    root: &'a Root,
    inodes: Inodes,
}

impl Reading<'_> {
    /// The layers that an image's configuration names, or what is wrong with it.
    fn image(&self, id: &str) -> Result<Result<Vec<Digest>, String>> {
        let Ok(id) = id.parse::<Digest>() else { return Ok(Err(format!("`{id}` is no image id"))) };
        let Some(json) = small(self.root, &format!("{CONFIGS}/{id}"))? else {
            return Ok(Err("its configuration is missing".to_owned()));
        };
        let digest = Digest::of(&json);
        if digest != id {
            return Ok(Err(format!("its configuration has the digest {digest}")));
        }
        Ok(Config::parse(&json).map(|config| config.rootfs.diff_ids).map_err(|error| format!("{error:#}")))
    }

    fn layer(&self, own: ChainId, below: &[ChainId], diff_id: Digest) -> Result<StoredLayer> {
        let known = format!("{LAYERS}/{}", own.digest());
        let cache_id = self.text(&format!("{known}/cache-id"))?.filter(|name| is_plain(name));
        let driver = cache_id.as_ref().map(|cache_id| format!("{DRIVER}/{cache_id}"));
        let of_driver = |name: &str| driver.as_ref().map_or(Ok(None), |driver| self.text(&format!("{driver}/{name}")));
        let link = of_driver("link")?.filter(|name| is_plain(name));
        let leads_to = match &link {
            Some(link) => self.inodes.stat(inside(&format!("{DRIVER}/l/{link}")).as_bytes())?.and_then(|found| found.target),
            None => None,
        };
        let work = match &driver {
            Some(driver) => self.root.metadata(&inside(&format!("{driver}/work")))?.is_some_and(|found| found.is_dir()),
            None => false,
        };
        let archive = match &driver {
            Some(driver) => self.archive(&known, &inside(&format!("{driver}/diff"))).map_err(|error| format!("{error:#}")),
            None => Err("its cache-id is missing".to_owned()),
        };
        Ok(StoredLayer {
            below: below.to_vec(),
            diff_id,
            diff: self.text(&format!("{known}/diff"))?,
            parent: self.text(&format!("{known}/parent"))?,
            size: self.number(&format!("{known}/size"))?,
            lower: of_driver("lower")?,
            leads_to: leads_to.map(|target| String::from_utf8_lossy(&target).into_owned()),
            cache_id,
            link,
            work,
            archive,
        })
    }

    /// Puts the archive together and unpacks it once more, to see whether the files in `diff` are what comes out.
    fn archive(&self, known: &str, diff: &str) -> Result<Archive> {
        let split = self.root.open(&inside(&format!("{known}/tar-split.json.gz")))?;
        let open = Box::new(|name: &[u8]| -> Result<Box<dyn Read>> {
            let path = [diff.as_bytes(), b"/", name].concat();
            Ok(Box::new(BufReader::with_capacity(1 << 18, self.root.open_bytes(&path)?)))
        });
        let mut hashed = Hashed { from: Again::new(split, open), hasher: Sha256::new() };
        let mut expected = Expected::default();
        let unpacked = layer::unpack(&mut hashed, Path::new(diff), &mut expected, 0).context("its archive")?;
        let mut found = 1;
        self.root.walk(diff, &mut |_| {
            found += 1;
            Ok(())
        })?;
        Ok(Archive {
            digest: Digest::finish(hashed.hasher),
            size: unpacked.size,
            differences: expected.differences(Path::new(diff), &self.inodes)?,
            more: found - expected.len() as i64,
        })
    }

    fn text(&self, path: &str) -> Result<Option<String>> {
        Ok(small(self.root, path)?.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    fn number(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.text(path)?.and_then(|text| text.parse().ok()))
    }
}

/// A name that stays in its folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Hashes what is read.
struct Hashed<R> {
    from: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(buf)?;
        self.hasher.update(&buf[..count]);
        Ok(count)
    }
}
