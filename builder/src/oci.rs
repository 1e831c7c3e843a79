//! Container images: what every source of them ends in, and what is written into the engine's store.
//!
//! A [`ContainerImage`] is what the OCI image specification calls an image: a configuration and layers. Its id is the SHA-256
//! of the configuration's bytes, which name each layer by the SHA-256 of its uncompressed tar archive. Both are kept byte by
//! byte, so that the engine finds the ids that it would have computed itself.

pub mod config;
pub mod layer;
pub mod manifest;

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use crate::units::{Bytes, Digest};

/// An image as an engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImage {
    /// Name and tag, such as `hcl/consul:1.8.7`.
    pub reference: String,
    /// The image configuration (JSON), byte by byte: its SHA-256 is the image's id.
    pub config: Vec<u8>,
    /// The layers, lowest first: as many as the configuration's `rootfs.diff_ids`, in the same order.
    pub layers: Vec<Layer>,
}

impl ContainerImage {
    /// The id that the engine gives the image.
    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }
}

/// One layer: a tar archive in a file of the cache, perhaps compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// SHA-256 of the uncompressed archive.
    pub diff_id: Digest,
    /// Length of the uncompressed archive.
    pub size: Bytes,
    /// The file. Not to be changed.
    pub path: PathBuf,
    /// How the file is compressed.
    pub packing: Packing,
}

/// How a layer's file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

impl Packing {
    /// Tells by the first bytes of a file.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // RFC 8878, 3.1.1 and 3.1.2: a frame, or a skippable one in front of it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// What comes out of `from`.
    ///
    /// # Errors
    ///
    /// No decoder can be made.
    pub fn reader<'a>(self, from: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(from),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(from)),
            Self::Zstd => Box::new(zstd::Decoder::new(from)?),
        })
    }
}

impl Layer {
    /// The uncompressed archive. Read it to its end: there it is compared with [`Layer::diff_id`] and [`Layer::size`], and the
    /// last `read` fails where the file in the cache has been damaged.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let inner = self.packing.reader(BufReader::with_capacity(1 << 18, File::open(&self.path)?))?;
        Ok(Box::new(Verified { inner, hasher: Sha256::new(), read: 0, layer: self.clone() }))
    }
}

/// Reads a layer and says at its end whether it was the right one.
struct Verified {
    inner: Box<dyn Read + Send>,
    hasher: Sha256,
    read: u64,
    layer: Layer,
}

impl Read for Verified {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hasher.update(&buf[..count]);
        self.read += count as u64;
        let ended = count == 0 && !buf.is_empty();
        let whole = || self.read == self.layer.size.0 && Digest::finish(self.hasher.clone()) == self.layer.diff_id;
        if self.read > self.layer.size.0 || (ended && !whole()) {
            let Layer { diff_id, path, .. } = &self.layer;
            let message = format!("{}: is not layer {diff_id} any more: remove the file and build again", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(folder: &std::path::Path, stored: &[u8], packing: Packing, content: &[u8]) -> Layer {
        let path = folder.join("layer");
        std::fs::write(&path, stored).unwrap();
        Layer { diff_id: Digest::of(content), size: Bytes(content.len() as u64), path, packing }
    }

    #[test]
    fn every_packing_is_known_and_undone() {
        let folder = tempfile::tempdir().unwrap();
        let content = b"a layer".repeat(10_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &content).unwrap();
        for (stored, packing) in [
            (content.clone(), Packing::Plain),
            (gzip.finish().unwrap(), Packing::Gzip),
            (zstd::encode_all(content.as_slice(), 3).unwrap(), Packing::Zstd),
        ] {
            assert_eq!(Packing::of(&stored), packing);
            let mut read = Vec::new();
            layer(folder.path(), &stored, packing, &content).open().unwrap().read_to_end(&mut read).unwrap();
            assert!(read == content, "{packing:?}");
        }
    }

    #[test]
    fn a_damaged_layer_is_no_layer() {
        let folder = tempfile::tempdir().unwrap();
        for stored in [&b"b layer"[..], b"a lay", b"a layer!", b""] {
            let mut reader = layer(folder.path(), stored, Packing::Plain, b"a layer").open().unwrap();
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert!(error.to_string().ends_with("remove the file and build again"), "{error}");
        }
        layer(folder.path(), b"", Packing::Plain, b"").open().unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
}
