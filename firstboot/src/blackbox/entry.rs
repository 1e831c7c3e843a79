//! What a boot was like, as text that people read and that can be read back.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    redact::Redactor,
    status::{Status, duration},
    trouble::{Kind, Trouble},
};

/// How many lines of the story are kept: the last ones.
pub const STORY_LINES: usize = 30;
/// How many letters of a line are kept.
const LINE: usize = 400;

/// One boot at the moment of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The kernel's random id of the boot, its first eight digits.
    pub boot_id: String,
    /// The node program's version.
    pub version: String,
    /// The board's model, and the last digits of its serial number.
    pub board: String,
    /// When this was written, in milliseconds after the boot.
    pub uptime_ms: u64,
    /// How many writes this boot has made, this one included.
    pub writes: u64,
    /// The cluster's name.
    pub cluster: String,
    /// The wired interface in use.
    pub interface: String,
    /// The cluster's VLAN: its id, or `off`.
    pub vlan: String,
    /// What the network is doing: `searching`, `attaching`, `ready`, `faulted`; `stopped` where the configuration is wrong.
    pub state: String,
    /// Why.
    pub reason: String,
    /// `leader`, `follower` or `none`.
    pub role: String,
    /// What the node does in or about the cluster, and why.
    pub doing: String,
    /// Its address in the cluster.
    pub address: String,
    /// What a person must see to.
    pub trouble: Option<Trouble>,
    /// What else is not as it should be.
    pub notes: Vec<String>,
    /// Whether the program was stopped in good order.
    pub stopped: bool,
    /// What happened, the last lines.
    pub story: Vec<String>,
}

impl Entry {
    /// Takes over what `status` says, redacted: the file may be posted in public.
    pub fn tell(&mut self, status: &Status) {
        let mut redactor = Redactor::default();
        let mut clean = |text: &str| one_line(&redactor.redact(text));
        let optional = |text: Option<String>| text.unwrap_or_default();
        self.version = clean(&status.version);
        self.cluster = clean(&status.cluster);
        self.interface = clean(status.interface.as_deref().unwrap_or_default());
        self.vlan = status.vlan.map_or_else(|| "off".to_owned(), |id| id.to_string());
        self.state = clean(&status.state);
        self.reason = clean(&status.reason);
        self.role = clean(&status.role);
        self.doing = match status.phase_reason.as_str() {
            "" => clean(&status.phase),
            reason => clean(&format!("{}: {reason}", status.phase)),
        };
        self.address = optional(status.address.map(|address| address.to_string()));
        self.trouble = status.trouble.as_ref().map(|trouble| Trouble::new(trouble.kind, clean(&trouble.text)));
        let told = self.trouble.as_ref().map(|trouble| trouble.text.clone());
        self.notes = status.complaints.iter().map(|line| clean(line)).filter(|line| Some(line) != told.as_ref()).collect();
    }

    /// Adds a line to the story.
    pub fn add(&mut self, line: &str) {
        self.story.push(one_line(&Redactor::default().redact(line)));
        let old = self.story.len().saturating_sub(STORY_LINES);
        self.story.drain(..old);
    }

    /// Whether somebody who has the file learns something new from `other`. That time passed is no news, nor is another try to get out
    /// of the same trouble.
    pub fn differs(&self, other: &Self) -> bool {
        let network = |entry: &Self| match entry.trouble {
            Some(_) => None,
            None => Some((entry.state.clone(), entry.reason.clone(), entry.interface.clone())),
        };
        let news = |entry: &Self| {
            let Self { vlan, role, address, trouble, notes, stopped, .. } = entry.clone();
            (vlan, role, address, trouble, notes, stopped)
        };
        news(self) != news(other) || network(self) != network(other)
    }

    /// Whether the node is a part of its cluster and nothing is wrong.
    pub fn is_ready(&self) -> bool {
        matches!(self.role.as_str(), "leader" | "follower") && self.state == "ready" && self.trouble.is_none()
    }

    /// The text, at most `room` bytes: the oldest lines of the story go first.
    pub(super) fn to_text(&self, room: usize) -> String {
        let rows = self.rows();
        let mut head = String::new();
        for (name, value) in &rows {
            // Writing to a String cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let mut text = cut(&head, room.saturating_sub(16)).to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push_str("\r\n");
        }
        text.push_str("Story:\r\n");
        let mut left = room.saturating_sub(text.len());
        let fits = self.story.iter().rev().take_while(|line| {
            let needed = line.len() + 4;
            let fits = needed <= left;
            left = left.saturating_sub(needed);
            fits
        });
        let first = self.story.len() - fits.count();
        for line in &self.story[first..] {
            let _ = write!(text, "  {line}\r\n");
        }
        text
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("Boot id", self.boot_id.clone()),
            ("Version", self.version.clone()),
            ("Board", self.board.clone()),
            ("Written", format!("{} ms after the boot ({}), write {}", self.uptime_ms, duration(self.uptime_ms), self.writes)),
            ("Cluster", self.cluster.clone()),
            ("Interface", self.interface.clone()),
            ("VLAN", self.vlan.clone()),
            ("State", self.state.clone()),
            ("Reason", self.reason.clone()),
            ("Role", self.role.clone()),
            ("Doing", self.doing.clone()),
            ("Address", self.address.clone()),
        ];
        if let Some(Trouble { kind, text }) = &self.trouble {
            rows.push(("Fault", format!("{}, {text}", kind.number())));
        }
        rows.extend(self.notes.iter().take(10).map(|note| ("Note", note.clone())));
        if self.stopped {
            rows.push(("End", "stopped in good order".to_owned()));
        }
        rows
    }

    /// Reads the text back. What is not understood, from a later version perhaps, is left out.
    pub(super) fn from_text(text: &str) -> Self {
        let mut entry = Self::default();
        let mut lines = text.lines();
        for line in lines.by_ref() {
            if line == "Story:" {
                break;
            }
            let Some((name, value)) = line.split_once(": ").or_else(|| line.strip_suffix(':').map(|name| (name, ""))) else {
                continue;
            };
            entry.set(name, value.to_owned());
        }
        entry.story = lines.take(STORY_LINES).map(|line| line.strip_prefix("  ").unwrap_or(line).to_owned()).collect();
        entry
    }

    fn set(&mut self, name: &str, value: String) {
        match name {
            "Boot id" => self.boot_id = value,
            "Version" => self.version = value,
            "Board" => self.board = value,
            "Written" => {
                let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
                self.uptime_ms = number(value.split(' ').next());
                self.writes = number(value.rsplit(' ').next());
            }
            "Cluster" => self.cluster = value,
            "Interface" => self.interface = value,
            "VLAN" => self.vlan = value,
            "State" => self.state = value,
            "Reason" => self.reason = value,
            "Role" => self.role = value,
            "Doing" => self.doing = value,
            "Address" => self.address = value,
            "Fault" => {
                self.trouble = value.split_once(", ").and_then(|(number, text)| {
                    let kind = Kind::of_number(number.parse().ok()?)?;
                    Some(Trouble::new(kind, text))
                });
            }
            "Note" => self.notes.push(value),
            "End" => self.stopped = true,
            _ => {}
        }
    }
}

/// One line that any editor shows: no control characters, ASCII, not too long.
fn one_line(text: &str) -> String {
    let plain = |letter: char| match letter {
        _ if letter.is_control() => ' ',
        _ if letter.is_ascii() => letter,
        _ => '?',
    };
    text.trim().chars().map(plain).take(LINE).collect::<String>().trim().to_owned()
}

/// The first `length` bytes of an ASCII text.
fn cut(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text)
}
