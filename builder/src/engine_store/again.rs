//! A layer's archive, put together again from tar-split and the layer's files, as the engine does it for `docker save`.

use std::io::{self, Read};

use anyhow::{Result, bail, ensure};

use super::{
    crc64::Crc64,
    split::{Part, Reader},
};

/// Opens a file of the layer by the name that the archive has for it.
pub(super) type Open<'a> = dyn FnMut(&[u8]) -> Result<Box<dyn Read + 'a>> + 'a;

/// The archive.
pub(super) struct Again<'a, R: Read> {
    split: Reader<R>,
    open: Box<Open<'a>>,
    /// Of a segment what was not read yet.
    segment: io::Cursor<Vec<u8>>,
    content: Option<Content<'a>>,
}

struct Content<'a> {
    name: Vec<u8>,
    from: Box<dyn Read + 'a>,
    left: u64,
    crc: Crc64,
    expected: [u8; 8],
}

impl<'a, R: Read> Again<'a, R> {
    pub(super) fn new(split: R, open: Box<Open<'a>>) -> Self {
        Self { split: Reader::new(split), open, segment: io::Cursor::default(), content: None }
    }

    /// `Ok(0)` where the part at hand is over.
    fn part(&mut self, buf: &mut [u8]) -> Result<usize> {
        let Some(content) = &mut self.content else { return Ok(self.segment.read(buf)?) };
        let name = || String::from_utf8_lossy(&content.name).into_owned();
        if content.left == 0 {
            ensure!(content.from.read(&mut [0])? == 0, "{} is longer than in the archive", name());
            ensure!(content.crc.bytes() == content.expected, "{} has another content than in the archive", name());
            self.content = None;
            return Ok(0);
        }
        let wanted = usize::try_from(content.left).map_or(buf.len(), |left| left.min(buf.len()));
        let count = content.from.read(&mut buf[..wanted])?;
        ensure!(count > 0, "{} is shorter than in the archive", name());
        content.crc.update(&buf[..count]);
        content.left -= count as u64;
        Ok(count)
    }

    fn next(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.part(buf)? {
                0 => {}
                count => return Ok(count),
            }
            match self.split.next()? {
                None => return Ok(0),
                Some(Part::Segment(bytes)) => self.segment = io::Cursor::new(bytes),
                Some(Part::Empty { .. }) => {}
                Some(Part::Content { name, size, crc }) => {
                    if name.is_empty() {
                        bail!("a file without a name");
                    }
                    let from = (self.open)(&name)?;
                    self.content = Some(Content { name, from, left: size, crc: Crc64::new(), expected: crc });
                }
            }
        }
    }
}

impl<R: Read> Read for Again<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.next(buf).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{error:#}")))
    }
}
