//! Base images as they are published, decoded into sparse raw images in one pass.
//!
//! The format is told by the first bytes, never by the name. What ends too early, goes on too long, or fails a check
//! of its own is an error, and so is what decodes to more than a limit. Memory stays under 100 MiB, except for `.zst`
//! files made with a window of 128 MiB and for `.xz` files made with more than `-9`, which are refused above 160 MiB.

mod xz;
mod zip;

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

use sha2::{Digest as _, Sha256};

use crate::{
    image::sparse::SparseWriter,
    units::{Bytes, Digest, SECTOR},
};

/// No card is larger, so no image is.
pub const LARGEST: Bytes = Bytes(64 << 30);
/// Bytes moved at a time.
const PIECE: usize = 256 << 10;

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Raw,
    /// `.xz`, of one or more streams.
    Xz,
    /// `.zst`, of one or more frames.
    Zstd,
    /// `.gz`, of one or more members.
    Gzip,
    /// The first entry named `….img` of a `.zip`.
    Zip,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Zip => "zip",
        })
    }
}

/// Why there is no raw image.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// What is packed could not be read.
    #[error("reading the packed image")]
    Read(#[source] io::Error),
    /// It is damaged, cut off, or of a kind that we cannot unpack.
    #[error("{what}")]
    Bad {
        /// What is wrong with it.
        what: String,
    },
    /// It unpacks to more than is allowed.
    #[error("it unpacks to more than {limit}: that is no image for a card")]
    TooLarge {
        /// What is allowed.
        limit: Bytes,
    },
    /// The raw image could not be written.
    #[error("writing the raw image")]
    Write(#[source] io::Error),
}

impl DecodeError {
    fn bad(what: impl Into<String>) -> Self {
        Self::Bad { what: what.into() }
    }
}

/// A raw image that is whole.
#[derive(Clone, Copy, Debug)]
pub struct Decoded {
    /// What it was packed as.
    pub format: Format,
    /// Its size, holes included.
    pub size: Bytes,
    /// Bytes that are stored.
    pub stored: Bytes,
    /// The digest of the raw image.
    pub sha256: Digest,
}

/// Unpacks `input` into `file`, which is emptied first. At most `limit` bytes come out.
///
/// # Errors
///
/// See [`DecodeError`]. What `file` then holds is of no use.
pub fn decode(input: &mut dyn Read, file: &File, limit: Bytes) -> Result<Decoded, DecodeError> {
    let mut input = BufReader::with_capacity(PIECE, Watched { inner: input, failed: false });
    let mut head = Vec::new();
    // A reader may give one byte at a time.
    (&mut input).take(HEAD).read_to_end(&mut head).map_err(DecodeError::Read)?;
    let format = recognise(&head)?;
    let mut sink = Sink { out: SparseWriter::new(file).map_err(DecodeError::Write)?, hasher: Sha256::new(), limit };
    let mut whole = BufReader::with_capacity(PIECE, head.as_slice().chain(&mut input));
    let result = match format {
        Format::Raw => pump(&mut whole, &mut sink),
        Format::Xz => xz::unpack(&mut whole, &mut sink),
        Format::Zstd => match zstd::stream::read::Decoder::with_buffer(&mut whole) {
            Ok(mut decoder) => pump(&mut decoder, &mut sink),
            Err(error) => Err(DecodeError::Read(error)),
        },
        Format::Gzip => pump(&mut flate2::bufread::MultiGzDecoder::new(&mut whole), &mut sink),
        Format::Zip => zip::unpack(&mut whole, &mut sink),
    };
    drop(whole);
    match result {
        // The decoders do not tell an input that failed from one that is damaged.
        Err(DecodeError::Read(error)) if !input.get_ref().failed => {
            let what = if error.kind() == io::ErrorKind::UnexpectedEof { "it ends too early".into() } else { error.to_string() };
            return Err(DecodeError::bad(format!("damaged {format} data: {what}")));
        }
        Err(DecodeError::Bad { what }) => return Err(DecodeError::bad(format!("damaged {format} data: {what}"))),
        other => other?,
    }
    let size = sink.out.position();
    let stored = sink.out.finish().map_err(DecodeError::Write)?;
    if size == 0 || !size.is_multiple_of(SECTOR) {
        return Err(DecodeError::bad(format!(
            "what it unpacks to is no disk image: {size} bytes are not whole sectors of {SECTOR}"
        )));
    }
    Ok(Decoded { format, size: Bytes(size), stored: Bytes(stored), sha256: Digest::finish(sink.hasher) })
}

/// Bytes that are enough to tell a format.
const HEAD: u64 = 512;

fn recognise(head: &[u8]) -> Result<Format, DecodeError> {
    let refused: &[(&[u8], &str)] = &[
        (b"BZh", "bzip2"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"LZIP", "lzip"),
        (b"Rar!", "rar"),
        (b"QFI\xfb", "qcow2"),
        (b"<!DOCTYPE", "HTML"),
        (b"<!doctype", "HTML"),
        (b"<html", "HTML"),
        (b"-----BEGIN", "PEM or signature"),
    ];
    if let Some((_, name)) = refused.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(DecodeError::bad(format!("this is a {name} file: an image is .img, .img.xz, .img.zst, .img.gz or .zip")));
    }
    Ok(match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        // A frame, or one of the skippable frames that may come before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        [b'P', b'K', 3, 4, ..] => Format::Zip,
        _ => Format::Raw,
    })
}

/// Where unpacked bytes go.
struct Sink<'a> {
    out: SparseWriter<'a>,
    hasher: Sha256,
    limit: Bytes,
}

impl Sink<'_> {
    fn take(&mut self, data: &[u8]) -> Result<(), DecodeError> {
        if self.out.position() + data.len() as u64 > self.limit.0 {
            return Err(DecodeError::TooLarge { limit: self.limit });
        }
        self.hasher.update(data);
        self.out.write(data).map_err(DecodeError::Write)
    }
}

/// Reads `from` to its end.
fn pump(from: &mut dyn Read, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    let mut buf = vec![0; PIECE];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(count) => sink.take(&buf[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DecodeError::Read(error)),
        }
    }
}

/// Remembers whether reading failed.
struct Watched<'a> {
    inner: &'a mut dyn Read,
    failed: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buf);
        self.failed |= result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        result
    }
}

/// Reads exactly `N` bytes.
fn array<const N: usize>(input: &mut dyn BufRead) -> Result<[u8; N], DecodeError> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(DecodeError::Read)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
