//! An image as `docker load` takes it: for engines that would not take the store.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::json;

use super::reference;
use crate::oci::{ContainerImage, Layer};

/// Where archives lie in an image. `hcl-images.service` of the overlay `common` loads them and removes each that is loaded.
const FOLDER: &str = "/usr/lib/hcl/images";

/// Where the archive of `image` lies in the image of a card.
///
/// # Errors
///
/// The image has a name that the engine would not take.
pub fn bundle_path(image: &ContainerImage) -> Result<PathBuf> {
    let name = reference::parse(&image.reference)?.to_string();
    Ok(Path::new(FOLDER).join(format!("{}.tar", name.replace(['/', ':'], "_"))))
}

/// What is not read yet, in order.
struct Bundle {
    current: Option<Box<dyn Read + Send>>,
    parts: VecDeque<Part>,
}

enum Part {
    Bytes(Vec<u8>),
    Layer(Layer),
}

/// The archive of `image`, made while it is read: layers, configuration and, last, `manifest.json`.
///
/// # Errors
///
/// The image has a name that the engine would not take. Reading fails where a layer does.
pub fn bundle(image: &ContainerImage) -> Result<impl Read + Send + use<>> {
    let name = reference::parse(&image.reference)?;
    let mut parts = VecDeque::new();
    let mut there = BTreeSet::new();
    let layer_name = |layer: &Layer| format!("{}.tar", layer.diff_id);
    for layer in &image.layers {
        if there.insert(layer.diff_id) {
            parts.push_back(header(&layer_name(layer), layer.size.0)?);
            parts.push_back(Part::Layer(layer.clone()));
            parts.push_back(padding(layer.size.0));
        }
    }
    let config = format!("{}.json", image.id());
    let layers: Vec<String> = image.layers.iter().map(layer_name).collect();
    let manifest = serde_json::to_vec(&json!([{ "Config": config, "RepoTags": [name.to_string()], "Layers": layers }]))?;
    for (name, content) in [(config.as_str(), image.config.clone()), ("manifest.json", manifest)] {
        let size = content.len() as u64;
        parts.extend([header(name, size)?, Part::Bytes(content), padding(size)]);
    }
    parts.push_back(Part::Bytes(vec![0; 1024]));
    Ok(Bundle { current: None, parts })
}

fn header(name: &str, size: u64) -> Result<Part> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).with_context(|| format!("naming {name}"))?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(Part::Bytes(header.as_bytes().to_vec()))
}

fn padding(size: u64) -> Part {
    Part::Bytes(vec![0; (size.wrapping_neg() % 512) as usize])
}

impl Read for Bundle {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(current) = &mut self.current {
                match current.read(buf)? {
                    0 => self.current = None,
                    count => return Ok(count),
                }
            }
            match self.parts.pop_front() {
                None => return Ok(0),
                Some(Part::Bytes(bytes)) => self.current = Some(Box::new(Cursor::new(bytes))),
                Some(Part::Layer(layer)) => self.current = Some(layer.open()?),
            }
        }
    }
}
