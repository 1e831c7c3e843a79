//! Writes the black box: in place, one slot at a time.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::story;
use crate::{
    blackbox::{
        BlackBox, Entry, FILE, NotOurs, Record, SIZE,
        budget::{Matter, due},
    },
    status::Status,
    trouble::Trouble,
};

/// The black box of this boot.
#[derive(Debug)]
pub(super) struct Recorder {
    path: PathBuf,
    known: BlackBox,
    /// The next write.
    next: Record,
    /// What was written last in this boot, and when.
    written: Option<Entry>,
}

impl Recorder {
    /// The black box in folder `boot`; `root` has the `proc` that knows board and boot.
    ///
    /// # Errors
    ///
    /// There is none that can be used; in one line.
    pub(super) fn open(boot: &Path, root: &Path) -> Result<Self, String> {
        let path = boot.join(FILE);
        let refuse = |error: &dyn std::fmt::Display| format!("no black box: {}: {error}", path.display());
        let file = read(&path).map_err(|error| refuse(&error))?;
        let known = BlackBox::parse(&file).map_err(|error: NotOurs| refuse(&error))?;
        // Nothing is opened for writing before there is something to write; but this is said at the start.
        open_to_write(&path).map_err(|error| refuse(&error))?;
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let boot_id: String = text("proc/sys/kernel/random/boot_id").chars().take(8).collect();
        let boots = known.boots();
        let latest = boots.first().copied();
        let number = latest.map_or(1, |latest| latest.number.saturating_add(1));
        let (boot, written) = match latest {
            Some(latest) if latest.entry.boot_id == boot_id && !boot_id.is_empty() => (latest.boot, Some(latest.entry.clone())),
            _ => (boots.iter().map(|record| record.boot).max().unwrap_or(0).saturating_add(1), None),
        };
        let carried = written.clone().unwrap_or_default();
        let entry = Entry { boot_id, board: board(root), writes: carried.writes, story: carried.story, ..Entry::default() };
        Ok(Self { path, known, next: Record { number, boot, entry }, written })
    }

    /// Adds what happened to the story of this boot, `uptime_ms` after its start.
    pub(super) fn tell(&mut self, uptime_ms: u64, text: &str) {
        self.next.entry.add(&story::line(uptime_ms, text));
    }

    /// Takes over how the node is now.
    pub(super) fn note(&mut self, status: &Status) {
        self.next.entry.tell(status);
    }

    /// The node does nothing at all, and why.
    pub(super) fn note_failure(&mut self, trouble: &Trouble) {
        let status = Status {
            version: crate::VERSION.to_owned(),
            state: "stopped".to_owned(),
            reason: trouble.text.clone(),
            role: "none".to_owned(),
            trouble: Some(trouble.clone()),
            ..Status::default()
        };
        self.next.entry.tell(&status);
        // Not `off`: nobody knows.
        self.next.entry.vlan.clear();
    }

    /// When the next write is due, in milliseconds after the boot; none while there is nothing to write.
    pub(super) fn next_due(&self) -> Option<u64> {
        let entry = &self.next.entry;
        let (writes, last) = (entry.writes, self.written.as_ref().map(|written| written.uptime_ms));
        let matter = match &self.written {
            // Nothing is known yet.
            _ if entry.state.is_empty() => return None,
            None => Matter::News,
            Some(written) if written.differs(entry) => Matter::News,
            Some(written) if written.story != entry.story => Matter::Story,
            Some(_) => return None,
        };
        Some(due(matter, writes, last))
    }

    /// Writes what is due.
    ///
    /// # Errors
    ///
    /// The card does not take it.
    pub(super) fn run(&mut self, uptime_ms: u64) -> io::Result<()> {
        if self.next_due().is_some_and(|at| uptime_ms >= at) { self.write(uptime_ms) } else { Ok(()) }
    }

    /// Writes the last word of a program that was asked to end.
    ///
    /// # Errors
    ///
    /// The card does not take it.
    pub(super) fn finish(&mut self, uptime_ms: u64) -> io::Result<()> {
        self.next.entry.stopped = true;
        let last = self.written.as_ref().map(|written| written.uptime_ms);
        if uptime_ms >= due(Matter::Farewell, self.next.entry.writes, last) { self.write(uptime_ms) } else { Ok(()) }
    }

    fn write(&mut self, uptime_ms: u64) -> io::Result<()> {
        let mut record = self.next.clone();
        record.entry.uptime_ms = uptime_ms;
        record.entry.writes += 1;
        let slot = self.known.next_slot();
        let file = open_to_write(&self.path)?;
        file.write_all_at(&record.to_slot(), BlackBox::offset(slot))?;
        // The content, not the times: those may be written when they like.
        file.sync_data()?;
        self.next.number = self.next.number.saturating_add(1);
        self.next.entry.writes = record.entry.writes;
        self.written = Some(record.entry.clone());
        self.known.put(slot, record);
        Ok(())
    }
}

/// The file as it is, not more of it than it may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, SIZE as u64 + 1), &mut bytes)?;
    Ok(bytes)
}

/// The file, to overwrite parts of it: it is not made, and one of another length would grow.
fn open_to_write(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() != SIZE as u64 {
        return Err(io::Error::other(NotOurs::Length(usize::try_from(about.len()).unwrap_or(usize::MAX))));
    }
    Ok(file)
}

/// The board's model, and the end of its serial number: enough to tell two boards of one lab apart.
fn board(root: &Path) -> String {
    let text = |path: &str| {
        let text = fs::read_to_string(root.join(path)).unwrap_or_default();
        text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace()).to_owned()
    };
    let model = text("proc/device-tree/model");
    let model = if model.is_empty() { "unknown (no device tree)".to_owned() } else { model };
    let serial: Vec<char> = text("proc/device-tree/serial-number").chars().collect();
    match serial.len() {
        // Of a short one the end would be most of it.
        0..8 => model,
        length => format!("{model}, serial number ending in {}", serial[length - 4..].iter().collect::<String>()),
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
