//! An overlay as a stream with a position, for writers of file systems that want one.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    sync::Arc,
};

use super::Overlay;

/// Reads and writes an [`Overlay`] from a position on. Like a block device it has a fixed size: reading ends
/// there, and a write there takes nothing.
#[derive(Clone, Debug)]
pub struct Cursor {
    overlay: Arc<Overlay>,
    position: u64,
}

impl Cursor {
    /// A cursor at the start of `overlay`.
    pub fn new(overlay: Arc<Overlay>) -> Self {
        Self { overlay, position: 0 }
    }

    /// The overlay below.
    pub fn overlay(&self) -> &Arc<Overlay> {
        &self.overlay
    }

    /// How many of `wanted` bytes there are from here on.
    fn left(&self, wanted: usize) -> usize {
        self.overlay.len().saturating_sub(self.position).min(wanted as u64) as usize
    }
}

impl Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.left(buf.len());
        if count == 0 {
            return Ok(0);
        }
        self.overlay.read_at(self.position, &mut buf[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Cursor {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.left(data.len());
        if count == 0 {
            return Ok(0);
        }
        self.overlay.write_at(self.position, &data[..count])?;
        self.position += count as u64;
        Ok(count)
    }

    /// Does nothing: see [`Overlay::flush_to_file`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.overlay.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the start or beyond 2^64 bytes"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_writes_and_seeks_like_a_device() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(10_000).expect("room");
        let overlay = Arc::new(Overlay::new(Arc::new(file), 1000, 5000).expect("within"));
        let mut cursor = Cursor::new(overlay);
        cursor.seek(SeekFrom::End(-3)).expect("a position");
        assert_eq!(cursor.write(b"abcde").expect("writable"), 3);
        assert_eq!(cursor.write(b"x").expect("writable"), 0);
        cursor.seek(SeekFrom::Current(-3)).expect("a position");
        let mut text = String::new();
        cursor.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "abc");
        assert!(cursor.seek(SeekFrom::Current(-5001)).is_err());
        assert_eq!(cursor.seek(SeekFrom::Start(9000)).expect("a position"), 9000);
        assert_eq!(cursor.read(&mut [0]).expect("readable"), 0);
    }
}
