//! A write-back buffer over a region of a file: file systems are edited in it.
//!
//! Writers of file systems read and write blocks of 4 KiB by the ten thousand and ask for a flush
//! after each transaction. An [`Overlay`] keeps what they touch in memory, within a limit, and
//! writes it when it is told to: [`Overlay::flush_to_file`] once at the end. Until then the file is
//! in no defined state, so it must be one that nobody takes for finished (an output's `.partial`).
//!
//! Dropping an overlay does not write what is still in memory.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fs_ext4::block_io::BlockDevice;

pub use cursor::Cursor;

mod cursor;

use super::sparse::{BLOCK, is_zero, zero_range};

/// Bytes of a page: the unit of what is known and what is dirty.
const PAGE: usize = BLOCK;
/// Pages of a chunk: the unit of memory and of read-ahead. One bit a page in a `u16`.
const PAGES: usize = 16;
/// Bytes of a chunk.
const CHUNK: usize = PAGE * PAGES;
/// Memory for chunks when none is asked for, in bytes.
pub const DEFAULT_LIMIT: usize = 48 << 20;

/// A region of a file with a write-back buffer over it. Shared by reference, used from any thread.
#[derive(Debug)]
pub struct Overlay {
    file: Arc<File>,
    /// Where the region starts in the file, in bytes.
    offset: u64,
    /// Bytes of the region.
    len: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Slots allowed at a time.
    limit: usize,
    slots: Vec<Chunk>,
    /// Chunk number → slot.
    index: HashMap<u64, usize>,
    /// Where the search for a victim goes on.
    hand: usize,
}

#[derive(Debug)]
struct Chunk {
    number: u64,
    data: Box<[u8; CHUNK]>,
    /// Pages whose bytes are the region's.
    valid: u16,
    /// Pages that the file does not have yet; always a subset of `valid`.
    dirty: u16,
    /// Used since the hand last passed.
    recent: bool,
}

impl Overlay {
    /// An overlay over `len` bytes of `file` from `offset` on, with [`DEFAULT_LIMIT`] bytes of memory.
    ///
    /// # Errors
    ///
    /// The region does not lie within the file.
    pub fn new(file: Arc<File>, offset: u64, len: u64) -> io::Result<Self> {
        Self::with_limit(file, offset, len, DEFAULT_LIMIT)
    }

    /// As [`Overlay::new`] with at most `limit` bytes of memory (rounded up to one chunk of 64 KiB).
    /// What is beyond it is written to the file early, oldest use first.
    ///
    /// # Errors
    ///
    /// The region does not lie within the file.
    pub fn with_limit(file: Arc<File>, offset: u64, len: u64, limit: usize) -> io::Result<Self> {
        let size = file.metadata()?.len();
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{len} bytes at {offset} are not within a file of {size} bytes"),
            ));
        }
        let limit = (limit / CHUNK).max(1);
        Ok(Self { file, offset, len, state: Mutex::new(State { limit, slots: Vec::new(), index: HashMap::new(), hand: 0 }) })
    }

    /// Bytes of the region.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the region has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buf` from `at`, in bytes from the region's start.
    ///
    /// # Errors
    ///
    /// The range is not within the region, or the file cannot be read (or, for room, written).
    pub fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.within("read", at, buf.len())?;
        let mut state = self.lock();
        let mut done = 0;
        while done < buf.len() {
            let (number, start, count) = piece(at + done as u64, buf.len() - done);
            let slot = self.slot(&mut state, number)?;
            let chunk = &mut state.slots[slot];
            if pages(start, count) & !chunk.valid != 0 {
                self.fill(chunk)?;
            }
            buf[done..done + count].copy_from_slice(&chunk.data[start..start + count]);
            done += count;
        }
        Ok(())
    }

    /// Takes `data` as the bytes from `at` on, in bytes from the region's start.
    ///
    /// # Errors
    ///
    /// The range is not within the region, or the file cannot be read or, for room, written.
    pub fn write_at(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.within("write", at, data.len())?;
        let mut state = self.lock();
        let mut done = 0;
        while done < data.len() {
            let (number, start, count) = piece(at + done as u64, data.len() - done);
            let slot = self.slot(&mut state, number)?;
            let chunk = &mut state.slots[slot];
            let touched = pages(start, count);
            // A page written in part keeps the rest of what the file has.
            if (touched & !whole_pages(start, count)) & !chunk.valid != 0 {
                self.fill(chunk)?;
            }
            chunk.data[start..start + count].copy_from_slice(&data[done..done + count]);
            chunk.valid |= touched;
            chunk.dirty |= touched;
            done += count;
        }
        Ok(())
    }

    /// Makes `len` bytes from `at` on read as zeros: what is in memory of them is forgotten, the file gets a hole at once.
    ///
    /// # Errors
    ///
    /// As [`Overlay::write_at`].
    pub fn zero(&self, at: u64, len: u64) -> io::Result<()> {
        self.within("zero", at, usize::try_from(len).unwrap_or(usize::MAX))?;
        let end = at + len;
        let (first, last) = (at.next_multiple_of(PAGE as u64).min(end), end - end % PAGE as u64);
        if first >= last {
            return self.write_at(at, &vec![0; len as usize]);
        }
        // Pages covered in part: shorter than one each.
        self.write_at(at, &vec![0; (first - at) as usize])?;
        self.write_at(last, &vec![0; (end - last) as usize])?;
        let mut state = self.lock();
        let mut position = first;
        while position < last {
            let (number, start, count) = piece(position, (last - position).min(CHUNK as u64) as usize);
            if let Some(&slot) = state.index.get(&number) {
                let chunk = &mut state.slots[slot];
                chunk.dirty &= !pages(start, count);
                chunk.valid &= !pages(start, count);
            }
            position += count as u64;
        }
        zero_range(&self.file, self.offset + first, last - first)
    }

    /// Writes everything that the file does not have yet; zero pages become holes. Does not sync.
    ///
    /// # Errors
    ///
    /// The file cannot be written; what was not written stays in memory, so that it can be tried again.
    pub fn flush_to_file(&self) -> io::Result<()> {
        let mut state = self.lock();
        let mut order: Vec<usize> = (0..state.slots.len()).filter(|slot| state.slots[*slot].dirty != 0).collect();
        order.sort_unstable_by_key(|slot| state.slots[*slot].number);
        for slot in order {
            self.write_back(&mut state.slots[slot])?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete between two fallible calls, so a panic elsewhere leaves it good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn within(&self, what: &str, at: u64, count: usize) -> io::Result<()> {
        if at.checked_add(count as u64).is_some_and(|end| end <= self.len) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{what} of {count} bytes at {at} is not within a region of {} bytes", self.len),
        ))
    }

    /// The slot of chunk `number`, made (with nothing valid in it) where there is none.
    fn slot(&self, state: &mut State, number: u64) -> io::Result<usize> {
        if let Some(&slot) = state.index.get(&number) {
            state.slots[slot].recent = true;
            return Ok(slot);
        }
        if state.slots.len() < state.limit {
            let data = vec![0; CHUNK].into_boxed_slice().try_into().unwrap_or_else(|_| Box::new([0; CHUNK]));
            state.slots.push(Chunk { number, data, valid: 0, dirty: 0, recent: true });
            let slot = state.slots.len() - 1;
            state.index.insert(number, slot);
            return Ok(slot);
        }
        // Second chance: one round clears the marks, so this ends.
        let slot = loop {
            let slot = state.hand;
            state.hand = (state.hand + 1) % state.slots.len();
            if !std::mem::take(&mut state.slots[slot].recent) {
                break slot;
            }
        };
        let chunk = &mut state.slots[slot];
        self.write_back(chunk)?;
        let old = chunk.number;
        (chunk.number, chunk.valid, chunk.recent) = (number, 0, true);
        state.index.remove(&old);
        state.index.insert(number, slot);
        Ok(slot)
    }

    /// Reads the pages of `chunk` that are not valid yet.
    fn fill(&self, chunk: &mut Chunk) -> io::Result<()> {
        let size = self.chunk_size(chunk.number);
        let position = self.offset + chunk.number * CHUNK as u64;
        for (start, end) in runs(!chunk.valid, size) {
            self.file.read_exact_at(&mut chunk.data[start..end], position + start as u64)?;
        }
        chunk.valid = u16::MAX;
        Ok(())
    }

    /// Writes the dirty pages of `chunk`, which is clean afterwards.
    fn write_back(&self, chunk: &mut Chunk) -> io::Result<()> {
        let size = self.chunk_size(chunk.number);
        let position = self.offset + chunk.number * CHUNK as u64;
        let mut zero = 0;
        for page in 0..PAGES {
            if chunk.dirty & 1 << page != 0 && is_zero(&chunk.data[page * PAGE..(page + 1) * PAGE]) {
                zero |= 1 << page;
            }
        }
        for (start, end) in runs(chunk.dirty & !zero, size) {
            self.file.write_all_at(&chunk.data[start..end], position + start as u64)?;
        }
        for (start, end) in runs(zero, size) {
            zero_range(&self.file, position + start as u64, (end - start) as u64)?;
        }
        chunk.dirty = 0;
        Ok(())
    }

    /// Bytes of chunk `number`: the last one may be short.
    fn chunk_size(&self, number: u64) -> usize {
        (self.len - number * CHUNK as u64).min(CHUNK as u64) as usize
    }
}

/// Splits off what lies in one chunk: its number, the start within it, and how many bytes.
fn piece(at: u64, left: usize) -> (u64, usize, usize) {
    let start = (at % CHUNK as u64) as usize;
    (at / CHUNK as u64, start, left.min(CHUNK - start))
}

/// The pages that `count` bytes at `start` touch.
fn pages(start: usize, count: usize) -> u16 {
    mask(start / PAGE, (start + count).div_ceil(PAGE))
}

/// The pages that `count` bytes at `start` cover whole.
fn whole_pages(start: usize, count: usize) -> u16 {
    mask(start.div_ceil(PAGE), (start + count) / PAGE)
}

fn mask(first: usize, end: usize) -> u16 {
    if first >= end {
        return 0;
    }
    ((1u32 << end) - (1u32 << first)) as u16
}

/// The byte ranges of the set bits of `pages`, neighbours joined, cut at `size`.
fn runs(pages: u16, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut page = 0;
    std::iter::from_fn(move || {
        while page < PAGES && pages & 1 << page == 0 {
            page += 1;
        }
        let start = page * PAGE;
        while page < PAGES && pages & 1 << page != 0 {
            page += 1;
        }
        let end = (page * PAGE).min(size);
        (start < end).then_some((start, end))
    })
}

/// As the ext4 writer wants it. `flush` does nothing: it asks for one after each transaction, and nobody
/// reads the file before [`Overlay::flush_to_file`].
impl BlockDevice for Overlay {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> fs_ext4::Result<()> {
        Ok(Overlay::read_at(self, offset, buf)?)
    }

    fn size_bytes(&self) -> u64 {
        self.len
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> fs_ext4::Result<()> {
        Ok(Overlay::write_at(self, offset, buf)?)
    }

    fn flush(&self) -> fs_ext4::Result<()> {
        Ok(())
    }

    fn is_writable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const BEFORE: usize = 700;
    const AFTER: usize = 300;

    /// A file of `len` bytes of pattern with something before and after it.
    fn region(len: usize) -> (Arc<File>, Vec<u8>) {
        let whole: Vec<u8> = (0..BEFORE + len + AFTER).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&whole).expect("room for it");
        (Arc::new(file), whole)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever is read, written and flushed under whatever limit, the overlay is a plain array of bytes, and
        /// what lies around the region stays.
        #[test]
        fn an_overlay_is_an_array(
            len in 1usize..(5 * CHUNK),
            limit in 1usize..4,
            steps in prop::collection::vec((0u8..5, any::<prop::sample::Index>(), 0usize..(CHUNK + 9000), any::<u8>()), 1..40),
        ) {
            let (file, mut model) = region(len);
            let overlay = Overlay::with_limit(file.clone(), BEFORE as u64, len as u64, limit * CHUNK)?;
            for (kind, at, count, byte) in steps {
                let mut at = at.index(len);
                // Half of the accesses on page boundaries, as file systems do.
                if byte % 2 == 0 {
                    at -= at % PAGE;
                }
                let count = count.min(len - at);
                match kind {
                    0 => overlay.flush_to_file()?,
                    1 => {
                        let mut buf = vec![0; count];
                        overlay.read_at(at as u64, &mut buf)?;
                        prop_assert_eq!(&buf[..], &model[BEFORE + at..BEFORE + at + count]);
                    }
                    2 => {
                        overlay.zero(at as u64, count as u64)?;
                        model[BEFORE + at..BEFORE + at + count].fill(0);
                    }
                    _ => {
                        let byte = if kind == 3 { 0 } else { byte };
                        overlay.write_at(at as u64, &vec![byte; count])?;
                        model[BEFORE + at..BEFORE + at + count].fill(byte);
                    }
                }
            }
            overlay.flush_to_file()?;
            let mut result = vec![0; model.len()];
            file.read_exact_at(&mut result, 0)?;
            prop_assert!(result == model);
            prop_assert_eq!(file.metadata()?.len(), model.len() as u64);
        }
    }

    #[test]
    fn nothing_is_read_or_written_outside() {
        let (file, _) = region(1000);
        let overlay = Overlay::new(file.clone(), BEFORE as u64, 1000).expect("within the file");
        assert!(overlay.read_at(999, &mut [0; 2]).is_err());
        assert!(overlay.write_at(u64::MAX, &[0; 2]).is_err());
        assert!(overlay.write_at(999, &[7]).is_ok());
        assert!(Overlay::new(file.clone(), BEFORE as u64, 1000 + AFTER as u64 + 1).is_err());
        assert!(Overlay::new(file, u64::MAX, 2).is_err());
    }

    #[test]
    fn memory_stays_within_the_limit_and_zeros_become_holes() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().expect("a temporary file");
        let len = 16 << 20;
        file.set_len(len).expect("a sparse file");
        let file = Arc::new(file);
        let overlay = Overlay::with_limit(file.clone(), 0, len, 4 * CHUNK).expect("within the file");
        for pass in [1, 0] {
            for at in (0..len).step_by(PAGE) {
                overlay.write_at(at, &[pass; PAGE]).expect("room");
            }
            assert!(overlay.lock().slots.len() <= 4);
        }
        overlay.flush_to_file().expect("room");
        let mut data = vec![1; len as usize];
        file.read_exact_at(&mut data, 0).expect("readable");
        assert!(is_zero(&data));
        assert!(file.metadata().expect("metadata").blocks() * 512 < len / 8, "zeros are stored");
    }
}
