//! Lines for people and watchers: markers on the console, everything in the journal.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

use rustix::fs::OFlags;

use crate::marker::Marker;

/// Where lines go.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    /// Whether standard output is the journal, which takes `<6>` in front of a line as its level.
    journal: bool,
}

impl Console {
    /// Markers go to the terminal at `path`, log lines to standard output.
    pub fn new(path: PathBuf) -> Self {
        Self { path, journal: std::env::var_os("JOURNAL_STREAM").is_some() }
    }

    /// Writes a marker to console and log.
    pub fn mark(&self, marker: &Marker) {
        let line = format!("{marker}\n");
        // Opened each time, since a console may come late or change; never waited for, since a serial line may be held up.
        let flags = (OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC).bits() as i32;
        let console = OpenOptions::new().append(true).custom_flags(flags).open(&self.path);
        // One call, so that no other program's output gets into the line. A node without a console is a node all the same.
        let _ = console.and_then(|mut console| console.write_all(line.as_bytes()));
        self.log(if matches!(marker, Marker::Fault { .. }) { 4 } else { 5 }, line.trim_end());
    }

    /// Writes a log line of a syslog level (4 warning, 5 notice, 6 information).
    pub fn log(&self, level: u8, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = if self.journal { writeln!(out, "<{level}>{line}") } else { writeln!(out, "{line}") };
    }
}
