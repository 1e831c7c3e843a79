//! The black box: `hcl-log.txt` on the boot partition, which tells what the card did on its last boots, to a person with an editor
//! and to `hcl-image why`.
//!
//! The builder lays the file, the node only ever overwrites parts of it in place: no cluster of the FAT is ever taken or freed, so
//! a power cut cannot harm it. The file is a head for people and [`SLOTS`] slots. Each write fills one slot with the whole story of a
//! boot, with a number that grows and a checksum; never the slot that was written last. A torn write costs that one write.
//!
//! ```text
//! 0          8 KiB       16 KiB                                       64 KiB
//! ├── head ────┼── slot 0 ──┼── slot 1 ──┼ … ┼── slot 6 ────────────────┤
//!              │=== hcl record 57, boot 12, 1234 bytes, sum 0123456789abcdef ===⏎
//!              │Boot id: …⏎ … 1234 bytes of text … ⏎
//!              │spaces up to the slot's end
//! ```

pub mod budget;
mod entry;
mod record;

use std::fmt;

pub use self::{
    entry::{Entry, STORY_LINES},
    record::{Damaged, Record},
};

/// The file's name on the boot partition.
pub const FILE: &str = "hcl-log.txt";
/// Bytes of a slot, and of the head.
pub const SLOT: usize = 8 << 10;
/// How many slots there are: two for the boot that goes on, the others for those before it.
pub const SLOTS: usize = 7;
/// Bytes of the file.
pub const SIZE: usize = SLOT * (SLOTS + 1);

/// The first line.
const TITLE: &str = "hcl-log 1: the black box of a Hypriot Cluster Lab node";
/// How a line of padding looks: nothing, in an editor.
const BLANK: &[u8; 128] = &{
    let mut line = [b' '; 128];
    line[126] = b'\r';
    line[127] = b'\n';
    line
};

/// What is in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Nothing was ever written.
    Blank,
    /// Something that does not fit its checksum: a write that a power cut tore, or another program's.
    Damaged(Damaged),
    /// One write.
    Written(Box<Record>),
}

/// Why a file is no black box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It has another length than the builder gave it.
    #[error("has {0} bytes instead of {SIZE}: an editor or another program has written it anew")]
    Length(usize),
    /// It begins with something else, and no slot is right.
    #[error("does not begin as a black box does, and nothing in it can be read")]
    Title,
}

/// A black box as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlackBox {
    slots: Vec<Slot>,
}

impl BlackBox {
    /// The file of a card that never booted.
    pub fn blank() -> Vec<u8> {
        let head = format!(
            "{TITLE}\n\n\
             This card writes here what it does, so that you can read on any computer why it did not come up.\n\
             Each block below that begins with \"=== hcl record\" is one boot of the card as it was at that moment;\n\
             the one with the highest number is the latest. No block: the node program never ran on this card.\n\n\
             `hcl-image why /dev/sdX` (or an image file) says the same in plain words, and what to do.\n\
             There are no secrets in here: no key, no password, no full serial number or hardware address.\n\n\
             Do not change this file: the card overwrites parts of it in place, and uses it only as long as it has\n\
             exactly its {SIZE} bytes. What you may change is hcl.toml beside it.\n"
        );
        let mut file = padded(head.replace('\n', "\r\n").as_bytes(), SLOT);
        file.extend(padded(b"", SLOT * SLOTS));
        file
    }

    /// Reads the file's content.
    ///
    /// # Errors
    ///
    /// It is another file, or was changed so that its parts are no longer where they belong.
    pub fn parse(file: &[u8]) -> Result<Self, NotOurs> {
        if file.len() != SIZE {
            return Err(NotOurs::Length(file.len()));
        }
        let slots: Vec<Slot> = file.chunks(SLOT).skip(1).map(Slot::parse).collect();
        // A damaged head is no reason to throw away what can be read.
        if !file.starts_with(TITLE.as_bytes()) && !slots.iter().any(|slot| matches!(slot, Slot::Written(_))) {
            return Err(NotOurs::Title);
        }
        Ok(Self { slots })
    }

    /// The last write of each boot, the latest boot first.
    pub fn boots(&self) -> Vec<&Record> {
        let mut records: Vec<&Record> = self.records().collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.number));
        let mut boots: Vec<&Record> = Vec::new();
        for record in records {
            if !boots.iter().any(|newer| newer.boot == record.boot) {
                boots.push(record);
            }
        }
        boots
    }

    /// How many slots hold something that cannot be read.
    pub fn damaged(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Damaged(_))).count()
    }

    /// The slot for the next write: one that nobody would miss, else the oldest; never the latest.
    pub fn next_slot(&self) -> usize {
        let missed = |slot: &Slot| match slot {
            Slot::Blank | Slot::Damaged(_) => (0, 0),
            Slot::Written(record) => {
                let last_of_its_boot = !self.records().any(|other| other.boot == record.boot && other.number > record.number);
                (if last_of_its_boot { 2 } else { 1 }, record.number)
            }
        };
        let least = self.slots.iter().enumerate().min_by_key(|(_, slot)| missed(slot));
        least.map_or(0, |(index, _)| index)
    }

    /// Where a slot lies in the file.
    pub fn offset(slot: usize) -> u64 {
        (SLOT * (slot + 1)) as u64
    }

    /// Remembers that `record` was written into a slot.
    pub fn put(&mut self, slot: usize, record: Record) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Slot::Written(Box::new(record));
        }
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Written(record) => Some(&**record),
            _ => None,
        })
    }
}

impl Slot {
    fn parse(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| matches!(byte, b' ' | b'\r' | b'\n')) {
            return Self::Blank;
        }
        match Record::parse(bytes) {
            Ok(record) => Self::Written(Box::new(record)),
            Err(damaged) => Self::Damaged(damaged),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_slot()))
    }
}

/// `text`, cut or filled up with lines of spaces to `length`.
fn padded(text: &[u8], length: usize) -> Vec<u8> {
    let mut all = text.to_vec();
    all.truncate(length);
    // Whole lines of padding stand at the same places whatever is before them.
    all.extend((all.len()..length).map(|at| BLANK[at % BLANK.len()]));
    all
}

#[cfg(test)]
mod tests;
