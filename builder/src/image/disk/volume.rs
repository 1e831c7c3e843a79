//! A stretch of an image: what a file system lies in.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use anyhow::{Context, Result};
use ext4_view::Ext4Read;

use super::identify::{self, FsKind, Identity};
use crate::units::Bytes;

/// Bytes read at once.
const PAGE: usize = 32 << 10;
/// Pages kept. One MiB is enough for a FAT's table, directories and the file being read side by side.
const PAGES: usize = 32;

/// A stretch of a file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Volume {
    file: Arc<File>,
    start: u64,
    size: u64,
}

impl Volume {
    /// `size` bytes of `file` from `start`.
    pub fn new(file: Arc<File>, start: u64, size: u64) -> Self {
        Self { file, start, size }
    }

    /// A part of this volume, cut off at its end.
    pub fn part(&self, start: u64, size: u64) -> Self {
        let start = start.min(self.size);
        Self { file: Arc::clone(&self.file), start: self.start + start, size: size.min(self.size - start) }
    }

    /// Where it starts in the file, in bytes.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How long it is.
    pub fn size(&self) -> Bytes {
        Bytes(self.size)
    }

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// If that is beyond the end, or reading fails.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes at {offset} are beyond the end at {}", buffer.len(), self.size),
            ));
        }
        self.file.read_exact_at(buffer, self.start + offset)
    }

    /// A reader with a small cache.
    pub fn reader(&self) -> VolumeReader {
        VolumeReader { volume: self.clone(), position: 0, pages: vec![None; PAGES] }
    }

    /// The file system in it, by its magic. `None` if there is none that we know.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub fn identify(&self) -> Result<Option<FsKind>> {
        identify::kind(self).context("looking for a file system")
    }

    /// Kind, label and UUID of the file system.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub fn identity(&self) -> Result<Option<Identity>> {
        identify::identity(self)
    }
}

#[derive(Clone, Debug)]
struct Page {
    number: u64,
    data: Vec<u8>,
}

/// Reads a [`Volume`] from any position, through one MiB of cache. Writing fails.
#[derive(Clone, Debug)]
pub struct VolumeReader {
    volume: Volume,
    position: u64,
    pages: Vec<Option<Page>>,
}

impl VolumeReader {
    fn page(&mut self, number: u64) -> io::Result<&[u8]> {
        let slot = &mut self.pages[(number % PAGES as u64) as usize];
        if slot.as_ref().is_none_or(|page| page.number != number) {
            let start = number * PAGE as u64;
            let mut data = slot.take().map(|page| page.data).unwrap_or_default();
            data.resize(PAGE.min((self.volume.size - start) as usize), 0);
            self.volume.read_at(start, &mut data)?;
            *slot = Some(Page { number, data });
        }
        Ok(slot.as_ref().map_or(&[], |page| &page.data))
    }
}

impl Read for VolumeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.volume.size.saturating_sub(self.position);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        if wanted >= PAGE {
            self.volume.read_at(self.position, &mut buffer[..wanted])?;
            self.position += wanted as u64;
            return Ok(wanted);
        }
        let offset = (self.position % PAGE as u64) as usize;
        let page = self.page(self.position / PAGE as u64)?;
        let count = wanted.min(page.len() - offset);
        buffer[..count].copy_from_slice(&page[offset..offset + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for VolumeReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let position = match position {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => self.volume.size.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// `fatfs` wants a device that it could write to. It never does while it reads.
impl Write for VolumeReader {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the image is open for reading only"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ext4Read for VolumeReader {
    fn read(&mut self, start_byte: u64, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.position = start_byte;
        self.read_exact(dst)?;
        Ok(())
    }
}
