//! tar-split (format of `tar-split.json.gz`): a layer's archive without the content of its files, so that the engine can give
//! out the very bytes again that the layer's digest is of.
//!
//! Lines of JSON in one gzip member. `type` 2 is a segment, `payload` its bytes; `type` 1 is a member, with its `name` (`name_raw`
//! where that is no UTF-8) and, if it has content, `size` and the content's CRC-64 as `payload`. `position` counts the lines.
//! Bytes are in base 64.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read, Write},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use super::crc64::Crc64;

/// Longest line. A segment is the headers of one member: two extended headers of 1 MiB at most, in base 64.
const MAX_LINE: u64 = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_raw: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    payload: Option<String>,
    position: u64,
}

// As serde hands it over.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

const MEMBER: u8 = 1;
const SEGMENT: u8 = 2;

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Bytes of the archive as they are.
    Segment(Vec<u8>),
    /// The content of this file follows here.
    Content { name: Vec<u8>, size: u64, crc: [u8; 8] },
    /// A member without content.
    Empty { name: Vec<u8> },
}

/// Writes the lines.
pub(super) struct Writer {
    to: GzEncoder<Vec<u8>>,
    position: u64,
    names: HashSet<Vec<u8>>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { to: GzEncoder::new(Vec::new(), Compression::default()), position: 0, names: HashSet::new() }
    }

    /// Bytes that are no content; none is fine.
    pub(super) fn segment(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.line(Line {
            kind: SEGMENT,
            name: None,
            name_raw: None,
            size: 0,
            payload: Some(BASE64_STANDARD.encode(bytes)),
            position: 0,
        })
    }

    /// A member; `crc` is that of its content.
    ///
    /// # Errors
    ///
    /// There was one of this name: the engine could not give the layer out again.
    pub(super) fn member(&mut self, name: &[u8], size: u64, crc: Crc64) -> Result<()> {
        ensure!(self.names.insert(clean(name)), "{} is in the archive twice", String::from_utf8_lossy(name));
        let payload = (size > 0).then(|| BASE64_STANDARD.encode(crc.bytes()));
        let (name, name_raw) = match std::str::from_utf8(name) {
            Ok(name) => (Some(name.to_owned()), None),
            Err(_) => (None, Some(BASE64_STANDARD.encode(name))),
        };
        self.line(Line { kind: MEMBER, name, name_raw, size, payload, position: 0 })
    }

    /// The whole file.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        self.to.finish().context("writing tar-split")
    }

    fn line(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_vec(&Line { position: self.position, ..line })?;
        text.push(b'\n');
        self.position += 1;
        self.to.write_all(&text).context("writing tar-split")
    }
}

/// Reads the lines of a whole file.
pub(super) struct Reader<R: Read> {
    from: BufReader<GzDecoder<R>>,
    position: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from: BufReader::new(GzDecoder::new(from)), position: 0 }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    ///
    /// It is no tar-split.
    pub(super) fn next(&mut self) -> Result<Option<Part>> {
        let mut text = Vec::new();
        (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        let line: Line = serde_json::from_slice(&text)?;
        ensure!(line.position == self.position, "position {} where {} should stand", line.position, self.position);
        self.position += 1;
        let payload = line.payload.map(|text| BASE64_STANDARD.decode(text)).transpose()?;
        let name = match (line.name, line.name_raw) {
            (_, Some(raw)) => BASE64_STANDARD.decode(raw)?,
            (name, None) => name.unwrap_or_default().into_bytes(),
        };
        Ok(Some(match line.kind {
            SEGMENT => Part::Segment(payload.unwrap_or_default()),
            MEMBER if line.size == 0 => Part::Empty { name },
            MEMBER => {
                let crc = payload.and_then(|bytes| bytes.try_into().ok()).context("a checksum of 8 bytes is missing")?;
                Part::Content { name, size: line.size, crc }
            }
            kind => bail!("type {kind} is unknown"),
        }))
    }
}

/// The name as the engine compares it: `./a//b/` is `a/b`.
pub(super) fn clean(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    parts.join(&b'/')
}
