//! A container image in a tar archive: as `docker save` writes it (`manifest.json`), or an OCI layout (`index.json`). Archives of
//! Docker 25 and later are both at once; then the first counts.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom, Take},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::layers::{self, Finished};
use crate::{
    cache::Cache,
    oci::{
        config::Platform,
        manifest::{Descriptor, Document, Image},
    },
    progress::Reporter,
    source::decode::{LARGEST, decode},
    units::{Bytes, Digest},
};

/// Manifests and configurations are read into memory: they are a few KiB.
const LARGEST_DOCUMENT: u64 = 4 << 20;
/// Links in the archive are followed so far.
const MOST_LINKS: usize = 8;

/// The image in the archive at `path`: the one called `wanted`, or the only one.
///
/// # Errors
///
/// It is no such archive, has no or several such images, is damaged, or its image does not run on `platform`.
pub fn image(path: &Path, wanted: Option<&str>, platform: Platform, cache: &Cache, reporter: &Reporter) -> Result<Finished> {
    let mut archive = Archive::open(path, cache)?;
    let (config, blobs) =
        if archive.has("manifest.json") { archive.docker(wanted)? } else { archive.layout(wanted, platform)? };
    let ids = layers::expected(&config, blobs.len(), platform)?;
    let mut kept = Vec::new();
    for (diff_id, blob) in ids.iter().zip(&blobs) {
        let layer = match layers::kept(diff_id, cache)? {
            Some(layer) => layer,
            None => layers::keep(diff_id, &mut archive.member(blob)?, cache, reporter).with_context(|| blob.clone())?,
        };
        kept.push(layer);
    }
    Ok(Finished { config, layers: kept })
}

/// An archive whose members are known by name.
struct Archive {
    file: File,
    members: BTreeMap<PathBuf, Member>,
}

/// Where a member is.
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Another name for this one, as old versions of `docker save` have for layers that two images share.
    Link(PathBuf),
}

/// An image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    fn open(path: &Path, cache: &Cache) -> Result<Self> {
        let mut packed = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut head = [0; 6];
        let read = packed.read(&mut head).with_context(|| format!("reading {}", path.display()))?;
        packed.rewind().with_context(|| format!("reading {}", path.display()))?;
        let compressed =
            matches!(&head[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', b'X', b'Z', 0]);
        let file = if compressed {
            // Its members are needed in another order than they come in.
            let plain = tempfile::tempfile_in(cache.root()).context("making room to unpack an archive")?;
            decode(&mut packed, &plain, LARGEST).context("unpacking the archive")?;
            plain
        } else {
            packed
        };
        let mut members = BTreeMap::new();
        let mut reading = tar::Archive::new(&file);
        (&file).rewind().context("reading the archive")?;
        for entry in reading.entries().context("it is no tar archive")? {
            let entry = entry.context("it is no tar archive, or is cut off")?;
            let name = entry.path().context("a name in the archive")?.into_owned();
            let member = match entry.header().entry_type() {
                tar::EntryType::Regular => Member::File { offset: entry.raw_file_position(), size: entry.size() },
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let target = entry.link_name().context("a link in the archive")?.unwrap_or_default().into_owned();
                    let folder = if entry.header().entry_type() == tar::EntryType::Symlink { name.parent() } else { None };
                    Member::Link(clean(&folder.unwrap_or(Path::new("")).join(target)))
                }
                _ => continue,
            };
            members.insert(clean(&name), member);
        }
        Ok(Self { file, members })
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(Path::new(name))
    }

    fn member(&mut self, name: &str) -> Result<Take<&mut File>> {
        let mut path = clean(Path::new(name));
        for _ in 0..MOST_LINKS {
            match self.members.get(&path) {
                Some(Member::File { offset, size }) => {
                    let size = *size;
                    self.file.seek(SeekFrom::Start(*offset)).context("reading the archive")?;
                    return Ok((&mut self.file).take(size));
                }
                Some(Member::Link(target)) => path.clone_from(target),
                None => bail!("the archive has no {name}: it is not whole"),
            }
        }
        bail!("{name} is a link that leads nowhere")
    }

    fn document(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut member = self.member(name)?;
        ensure!(member.limit() <= LARGEST_DOCUMENT, "{name} is larger than {}", Bytes(LARGEST_DOCUMENT));
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).with_context(|| format!("reading {name}"))?;
        Ok(bytes)
    }

    /// Configuration and names of the layers, by `manifest.json`.
    fn docker(&mut self, wanted: Option<&str>) -> Result<(Vec<u8>, Vec<String>)> {
        let saved: Vec<Saved> = serde_json::from_slice(&self.document("manifest.json")?).context("manifest.json is damaged")?;
        let names = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
        let chosen = choose(saved, wanted, names)?;
        let config = self.document(&chosen.config)?;
        // `HEX.json`, or `blobs/sha256/HEX`.
        let claimed = Path::new(&chosen.config).file_stem().and_then(|stem| stem.to_str()?.parse::<Digest>().ok());
        if let Some(claimed) = claimed {
            same(&claimed, &config, &chosen.config)?;
        }
        Ok((config, chosen.layers))
    }

    /// Configuration and names of the layers, by `index.json`.
    fn layout(&mut self, wanted: Option<&str>, platform: Platform) -> Result<(Vec<u8>, Vec<String>)> {
        ensure!(self.has("index.json"), "it has neither manifest.json nor index.json: it is no saved image");
        let Document::Index(manifests) = Document::parse(&self.document("index.json")?)? else {
            bail!("index.json is no index");
        };
        let names = |descriptor: &Descriptor| {
            let keys = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
            keys.iter().filter_map(|key| descriptor.annotations.get(*key).cloned()).collect::<Vec<_>>()
        };
        // Several without a name are one image for several platforms.
        let document = if wanted.is_some() || manifests.iter().any(|descriptor| !names(descriptor).is_empty()) {
            let chosen = choose(manifests, wanted, names)?;
            Document::Index(vec![chosen])
        } else {
            Document::Index(manifests)
        };
        let image = Image::find(document, platform, |descriptor| self.blob(&descriptor.digest))?;
        let config = self.blob(&image.config.digest)?;
        Ok((config, image.layers.iter().map(|layer| format!("blobs/sha256/{}", layer.digest)).collect()))
    }

    fn blob(&mut self, digest: &Digest) -> Result<Vec<u8>> {
        let name = format!("blobs/sha256/{digest}");
        let bytes = self.document(&name)?;
        same(digest, &bytes, &name)?;
        Ok(bytes)
    }
}

fn same(claimed: &Digest, bytes: &[u8], name: &str) -> Result<()> {
    let found = Digest::of(bytes);
    ensure!(found == *claimed, "{name} is damaged: its SHA-256 is {found}");
    Ok(())
}

/// The image called `wanted`, or the only one.
fn choose<T>(mut images: Vec<T>, wanted: Option<&str>, names: impl Fn(&T) -> Vec<String>) -> Result<T> {
    let all = || {
        let mut all: Vec<String> = images.iter().flat_map(&names).collect();
        all.sort();
        if all.is_empty() { "none with a name".to_owned() } else { all.join(", ") }
    };
    let index = match wanted {
        Some(wanted) => images
            .iter()
            .position(|image| names(image).iter().any(|name| name == wanted))
            .with_context(|| format!("there is no image `{wanted}` in it, only: {}", all()))?,
        None => {
            ensure!(!images.is_empty(), "there is no image in it");
            ensure!(images.len() == 1, "there are several images in it, say which in `image`: {}", all());
            0
        }
    };
    Ok(images.swap_remove(index))
}

/// `./a/../b` as `b`.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}
