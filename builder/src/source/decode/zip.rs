//! `.zip`: the first entry named `….img`, read as a stream (PKWARE's APPNOTE, 4.3.7 to 4.3.9 and 4.5.3).
//!
//! The directory at the end is not consulted: the digest of the file already tells that nobody changed it.

use std::io::{self, BufRead, Read};

use super::{DecodeError, Sink, array, pump};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const ENCRYPTED: u16 = 1;
/// Sizes and checksum follow the data.
const STREAMED: u16 = 1 << 3;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

struct Entry {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
}

/// Unpacks the first image in `input` and leaves the rest unread.
pub(super) fn unpack(input: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    while u32::from_le_bytes(array(input)?) == LOCAL {
        let entry = local_header(input)?;
        if entry.name.to_ascii_lowercase().ends_with(".img") {
            return image(input, &entry, sink);
        }
        skip(input, &entry)?;
    }
    Err(DecodeError::bad("no file in it ends in .img"))
}

fn local_header(input: &mut dyn BufRead) -> Result<Entry, DecodeError> {
    let header: [u8; 26] = array(input)?;
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let mut name = vec![0; short(22).into()];
    input.read_exact(&mut name).map_err(DecodeError::Read)?;
    let mut extra = vec![0; short(24).into()];
    input.read_exact(&mut extra).map_err(DecodeError::Read)?;
    let (mut packed, mut size) = (u64::from(long(14)), u64::from(long(18)));
    if let Some((large_size, large_packed)) = zip64(&extra) {
        (packed, size) = (large_packed, large_size);
    }
    let name = String::from_utf8_lossy(&name).into_owned();
    Ok(Entry { name, flags: short(2), method: short(4), crc: long(10), packed, size })
}

/// The sizes of an entry of 4 GiB and more: unpacked, packed.
fn zip64(mut extra: &[u8]) -> Option<(u64, u64)> {
    while let [id0, id1, len0, len1, rest @ ..] = extra {
        let body = rest.get(..u16::from_le_bytes([*len0, *len1]).into())?;
        if u16::from_le_bytes([*id0, *id1]) == 1 {
            let number = |at: usize| body.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
            return Some((number(0)?, number(8)?));
        }
        extra = &rest[body.len()..];
    }
    None
}

fn image(input: &mut dyn BufRead, entry: &Entry, sink: &mut Sink<'_>) -> Result<(), DecodeError> {
    if entry.flags & ENCRYPTED != 0 {
        return Err(DecodeError::bad(format!("{} in it is encrypted", entry.name)));
    }
    let (crc, size) = copy(reader(input, entry)?, sink)?;
    let stated = if entry.flags & STREAMED == 0 {
        if size != entry.size {
            return Err(DecodeError::bad(format!("{} has {size} bytes where {} are stated", entry.name, entry.size)));
        }
        entry.crc
    } else {
        match u32::from_le_bytes(array(input)?) {
            DESCRIPTOR => u32::from_le_bytes(array(input)?),
            crc => crc,
        }
    };
    if crc != stated {
        return Err(DecodeError::bad(format!("the checksum of {} does not match", entry.name)));
    }
    Ok(())
}

/// Skips the data of an entry.
fn skip(input: &mut dyn BufRead, entry: &Entry) -> Result<(), DecodeError> {
    let mut data = reader(input, entry)?;
    io::copy(&mut data, &mut io::sink()).map_err(DecodeError::Read)?;
    drop(data);
    if entry.flags & STREAMED == 0 {
        return Ok(());
    }
    // Checksum and two sizes, which are 4 or 8 bytes each: what follows them tells.
    let start: [u8; 4] = array(input)?;
    if u32::from_le_bytes(start) == DESCRIPTOR {
        array::<4>(input)?;
    }
    array::<8>(input)?;
    let data = input.fill_buf().map_err(DecodeError::Read)?;
    if !data.starts_with(b"PK") {
        array::<8>(input)?;
    }
    Ok(())
}

/// The unpacked bytes of an entry.
fn reader<'a, 'b: 'a>(input: &'a mut (dyn BufRead + 'b), entry: &Entry) -> Result<Box<dyn Read + 'a>, DecodeError> {
    Ok(match entry.method {
        DEFLATED => Box::new(flate2::bufread::DeflateDecoder::new(input)),
        STORED if entry.flags & STREAMED == 0 => Box::new(Exactly { left: entry.packed, inner: input }),
        STORED => return Err(DecodeError::bad(format!("the size of {} is stated too late", entry.name))),
        method => return Err(DecodeError::bad(format!("{} is packed by method {method}, and only 8 is known", entry.name))),
    })
}

/// Reads a number of bytes; fewer are an error.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(buf.len() as u64) as usize;
        let count = self.inner.read(&mut buf[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Moves everything; returns its checksum and size.
fn copy(from: Box<dyn Read + '_>, sink: &mut Sink<'_>) -> Result<(u32, u64), DecodeError> {
    let mut checked = Checked { inner: from, hasher: crc32fast::Hasher::new(), size: 0 };
    pump(&mut checked, sink)?;
    Ok((checked.hasher.finalize(), checked.size))
}

struct Checked<'a> {
    inner: Box<dyn Read + 'a>,
    hasher: crc32fast::Hasher,
    size: u64,
}

impl Read for Checked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hasher.update(&buf[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
