//! Compressed images, decoded into a sparse temporary file.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, Read, Seek, SeekFrom},
    path::Path,
};

use anyhow::{Context, Result};
use liblzma::{bufread::XzDecoder, stream::MtStreamBuilder};

use crate::{
    progress::{Reporter, Step},
    source::decode,
    units::Bytes,
};

/// Where a decoder with many threads falls back to one.
const MEMORY_FOR_THREADS: u64 = 96 << 20;

/// How an image file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
    /// `.gz`
    Gzip,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        })
    }
}

impl Compression {
    /// Tells it by the first bytes and leaves `file` at its start.
    pub(super) fn of(file: &mut File) -> io::Result<Option<Self>> {
        let mut magic = Vec::new();
        Read::by_ref(file).take(6).read_to_end(&mut magic)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self::of_bytes(&magic))
    }

    /// Tells it by the first bytes (six are enough).
    pub fn of_bytes(data: &[u8]) -> Option<Self> {
        match data {
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            _ => None,
        }
    }

    /// A decoder for this compression; concatenated streams are read to their end.
    ///
    /// # Errors
    ///
    /// If the decoder cannot be set up.
    pub fn decoder<'a>(self, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Xz => Box::new(XzStreams(Some(xz_decoder(input)?))),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                // `zstd --long=31` and its like.
                decoder.window_log_max(31)?;
                Box::new(decoder)
            }
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        })
    }
}

fn xz_decoder<R: BufRead>(input: R) -> io::Result<XzDecoder<R>> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let stream =
        MtStreamBuilder::new().threads(threads).memlimit_threading(MEMORY_FOR_THREADS).memlimit_stop(u64::MAX).decoder()?;
    Ok(XzDecoder::new_stream(input, stream))
}

/// All streams of an `.xz` file one after the other: liblzma's threaded decoder ends with the first.
struct XzStreams<R: BufRead>(Option<XzDecoder<R>>);

impl<R: BufRead> Read for XzStreams<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.0.take().map(XzDecoder::into_inner) else { break };
            // Streams may be padded with zeros between them.
            loop {
                let rest = input.fill_buf()?;
                let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
                let (end, more) = (rest.is_empty(), zeros < rest.len());
                input.consume(zeros);
                if more {
                    self.0 = Some(xz_decoder(input)?);
                    break;
                }
                if end {
                    return Ok(0);
                }
            }
        }
        Ok(0)
    }
}

/// Counts what is taken from the compressed file.
struct Counted<'a> {
    file: File,
    step: &'a Step,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.step.advance(count as u64);
        Ok(count)
    }
}

/// Decodes `file` into an unnamed sparse file in the temporary folder.
pub(super) fn decode(mut file: File, path: &Path, reporter: &Reporter) -> Result<File> {
    let total = Bytes(file.seek(SeekFrom::End(0))?);
    file.rewind()?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let step = reporter.bytes(format!("decoding {name}"), total);
    let output = tempfile::tempfile().context("making a temporary file")?;
    let decoded = decode::decode(&mut Counted { file, step: &step }, &output, decode::LARGEST)
        .with_context(|| format!("decoding into {} (set TMPDIR to where there is room)", std::env::temp_dir().display()))?;
    step.done(decoded.size.to_string());
    Ok(output)
}
