//! The one reading of a finished image: digest, block map and compressed copies come out of it, and zero blocks
//! become holes.
//!
//! Which blocks are holes and which are in the block map depends on the bytes alone, never on how they were written.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use anyhow::{Context, Result, anyhow};
use sha2::{Digest as _, Sha256};

use super::{
    bmap::BlockMap,
    compress::{Coder, Compression},
    used::{BlockSet, used_blocks},
};
use crate::{
    image::sparse::{BLOCK, extents, is_zero, zero_range},
    progress::Reporter,
    units::{Bytes, Digest},
};

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;
/// Windows that wait for a slow reader of them.
const AHEAD: usize = 4;

/// What came out.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) size: Bytes,
    /// Bytes of the blocks that are not zero.
    pub(super) stored: Bytes,
    pub(super) sha256: Digest,
    pub(super) bmap: String,
    /// The digests of the compressed copies, in the order asked for.
    pub(super) compressed: Vec<Digest>,
}

/// A piece of the image on its way to everything that wants it.
#[derive(Debug)]
struct Window {
    /// The number of its first block.
    first: u64,
    data: Vec<u8>,
    /// One for each block: whether it is in the block map.
    mapped: Vec<bool>,
}

/// Reads `image` once.
pub(super) fn run(image: &Arc<File>, coders: Vec<(Compression, &File)>, reporter: &Reporter) -> Result<Report> {
    let size = image.metadata()?.len();
    let used = used_blocks(image, size).context("reading what its file systems use")?;
    let title = if coders.is_empty() { "Hashing and mapping" } else { "Hashing, mapping and compressing" };
    let step = reporter.bytes(title, Bytes(size));
    let report = thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut channel = || {
            let (sender, receiver) = sync_channel::<Arc<Window>>(AHEAD);
            senders.push(sender);
            receiver
        };
        let hash = channel();
        let hash = scope.spawn(move || hash_all(&hash));
        let map = channel();
        let map = scope.spawn(move || map_all(&map));
        let coders: Vec<_> = coders
            .into_iter()
            .map(|(kind, file)| {
                let windows = channel();
                scope.spawn(move || compress_all(&windows, kind, file, size))
            })
            .collect();
        let read = read_all(image, size, &used, &senders, |count| step.advance(count));
        drop(senders);
        // A coder that failed makes reading stop too, and is the one to be heard.
        let panicked = |_| anyhow!("a worker thread panicked");
        let compressed = coders.into_iter().map(|coder| coder.join().map_err(panicked)?).collect::<Result<_>>()?;
        let stored = read.context("reading it")?;
        let sha256 = hash.join().map_err(panicked)?;
        let bmap = map.join().map_err(panicked)?.finish(Bytes(size));
        Ok::<_, anyhow::Error>(Report { size: Bytes(size), stored: Bytes(stored), sha256, bmap, compressed })
    })?;
    step.done(format!("{} of {} in use, sha256 {}", report.stored, report.size, report.sha256.short()));
    Ok(report)
}

/// Returns the bytes of blocks that are not zero.
fn read_all(
    image: &File,
    size: u64,
    used: &BlockSet,
    senders: &[SyncSender<Arc<Window>>],
    progress: impl Fn(u64),
) -> io::Result<u64> {
    let mut extents = extents(image, size)?.into_iter().peekable();
    let mut stored = 0;
    let mut at = 0;
    while at < size {
        let count = (size - at).min(WINDOW as u64);
        let end = at + count;
        let mut data = vec![0; count as usize];
        while extents.next_if(|(_, stop)| *stop <= at).is_some() {}
        if extents.peek().is_some_and(|(start, _)| *start < end) {
            image.read_exact_at(&mut data, at)?;
            punch_zeros(image, at, &data)?;
        }
        let first = at / BLOCK as u64;
        let mut mapped = Vec::with_capacity(WINDOW / BLOCK);
        for (number, block) in data.chunks(BLOCK).enumerate() {
            let zero = is_zero(block);
            stored += if zero { 0 } else { block.len() as u64 };
            mapped.push(!zero || used.contains(first + number as u64));
        }
        let window = Arc::new(Window { first, data, mapped });
        for sender in senders {
            sender.send(window.clone()).map_err(|_| io::Error::other("a reader of it stopped"))?;
        }
        progress(count);
        at = end;
    }
    Ok(stored)
}

/// Makes holes of the zero blocks of `data`, which was read at `at`.
fn punch_zeros(image: &File, at: u64, data: &[u8]) -> io::Result<()> {
    let mut run = 0;
    let mut position = at;
    for block in data.chunks(BLOCK) {
        if is_zero(block) {
            run += block.len() as u64;
        } else if run > 0 {
            zero_range(image, position - run, run)?;
            run = 0;
        }
        position += block.len() as u64;
    }
    zero_range(image, position - run, run)
}

fn hash_all(windows: &Receiver<Arc<Window>>) -> Digest {
    let mut hasher = Sha256::new();
    for window in windows {
        hasher.update(&window.data);
    }
    Digest::finish(hasher)
}

fn map_all(windows: &Receiver<Arc<Window>>) -> BlockMap {
    let mut map = BlockMap::default();
    for window in windows {
        for ((number, block), mapped) in window.data.chunks(BLOCK).enumerate().zip(&window.mapped) {
            map.push(window.first + number as u64, block, *mapped);
        }
    }
    map
}

fn compress_all(windows: &Receiver<Arc<Window>>, kind: Compression, file: &File, size: u64) -> Result<Digest> {
    let compress = || -> io::Result<Digest> {
        let mut coder = Coder::new(kind, file, size, None)?;
        for window in windows {
            coder.write(&window.data)?;
        }
        coder.finish()
    };
    compress().with_context(|| format!("compressing to {}", kind.suffix()))
}
