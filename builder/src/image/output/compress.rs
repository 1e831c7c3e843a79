//! Compressed copies of an image, with the same bytes whatever the number of cores.
//!
//! Both formats are cut into pieces of fixed size that are compressed independently of each other, so that
//! threads only decide how fast it goes.

use std::{
    fs::File,
    io::{self, Write},
    thread,
};

use liblzma::{
    stream::{Check, MtStreamBuilder},
    write::XzEncoder,
};
use sha2::{Digest as _, Sha256};

use crate::units::Digest;

/// How an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Smallest, slow: what `xz -6 -T0` makes, in blocks of 24 MiB that decode in parallel.
    Xz,
    /// Nearly as small, many times faster to make and to unpack.
    Zstd,
}

/// As `xz` chooses for `-6`: three times the dictionary.
const XZ_BLOCK: u64 = 24 << 20;
const XZ_PRESET: u32 = 6;
/// Level 12 takes twice the time for 0.6 % less.
const ZSTD_LEVEL: i32 = 9;
/// Memory that the threads of the xz encoder may take together, in bytes; one thread takes 160 MiB.
const XZ_MEMORY: u64 = 1 << 30;

impl Compression {
    /// What stands after the image's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// What stands after the image's name for the checksum of the compressed image.
    pub(super) fn checksum_suffix(self) -> &'static str {
        match self {
            Self::Xz => ".xz.sha256",
            Self::Zstd => ".zst.sha256",
        }
    }
}

/// A coder that takes the image piece by piece and hashes what comes out of it.
pub(super) enum Coder<'a> {
    Xz(XzEncoder<Hashed<'a>>),
    Zstd(zstd::stream::write::Encoder<'static, Hashed<'a>>),
}

impl<'a> Coder<'a> {
    /// A coder of `size` bytes into `file` on `threads` threads, all cores without a number.
    pub(super) fn new(kind: Compression, file: &'a File, size: u64, threads: Option<u32>) -> io::Result<Self> {
        let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, |count| count.get() as u32));
        let out = Hashed { out: io::BufWriter::with_capacity(1 << 18, file), hasher: Sha256::new() };
        Ok(match kind {
            Compression::Xz => {
                let mut builder = MtStreamBuilder::new();
                builder.preset(XZ_PRESET).block_size(XZ_BLOCK).check(Check::Crc64);
                let fitting =
                    (1..=threads.max(1)).rev().find(|count| *count == 1 || builder.threads(*count).memusage() <= XZ_MEMORY);
                builder.threads(fitting.unwrap_or(1));
                Self::Xz(XzEncoder::new_stream(out, builder.encoder()?))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(Some(size))?;
                // Not zero, which would be another way to cut the input.
                encoder.multithread(threads.max(1))?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Xz(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
    }

    /// Writes what is left; returns the digest of the compressed file.
    pub(super) fn finish(self) -> io::Result<Digest> {
        let mut hashed = match self {
            Self::Xz(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        hashed.flush()?;
        Ok(Digest::finish(hashed.hasher))
    }
}

/// Hashes what passes on its way to a file.
pub(super) struct Hashed<'a> {
    out: io::BufWriter<&'a File>,
    hasher: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.out.write(data)?;
        self.hasher.update(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    /// 30 MiB that compress somewhat, so that there are several pieces.
    fn sample() -> Vec<u8> {
        let mut state = 1u64;
        let mut data = Vec::with_capacity(30 << 20);
        while data.len() < 30 << 20 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let run = (state >> 58) as usize;
            data.extend(std::iter::repeat_n((state >> 40) as u8, run * run));
            data.extend_from_slice(&state.to_le_bytes());
        }
        data
    }

    #[test]
    fn threads_and_pieces_do_not_change_the_bytes() {
        let data = sample();
        for kind in [Compression::Xz, Compression::Zstd] {
            let mut results = Vec::new();
            for (threads, piece) in [(1, 1 << 20), (3, 777_777)] {
                let mut file = tempfile::tempfile().expect("a file");
                let mut coder = Coder::new(kind, &file, data.len() as u64, Some(threads)).expect("a coder");
                for piece in data.chunks(piece) {
                    coder.write(piece).expect("room");
                }
                let digest = coder.finish().expect("room");
                let mut bytes = Vec::new();
                file.rewind().expect("seekable");
                file.read_to_end(&mut bytes).expect("readable");
                assert_eq!(digest, Digest::of(&bytes));
                results.push(digest);
            }
            assert!(results.iter().all(|digest| *digest == results[0]), "{kind:?}: {results:?}");
        }
    }
}
