//! One write into the black box: a line with number, boot, length and checksum, and the text that they are of.

use sha2::{Digest, Sha256};

use super::{Entry, SLOT, padded};
use crate::key::hex;

/// What the line of a record begins with.
const MARK: &str = "=== hcl record ";

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Grows with each write.
    pub number: u64,
    /// Which boot of this card, counted from 1.
    pub boot: u64,
    /// What the node did in it.
    pub entry: Entry,
}

/// Why a slot that is not blank holds no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It does not begin with a record's line.
    #[error("no record begins here")]
    NoRecord,
    /// The text does not fit the checksum.
    #[error("the checksum is another one")]
    Checksum,
}

impl Record {
    /// The bytes of its slot.
    pub fn to_slot(&self) -> Vec<u8> {
        let Self { number, boot, entry } = self;
        // The line is shorter than this, whatever the numbers.
        let text = entry.to_text(SLOT - 160);
        let sum = sum(*number, *boot, text.as_bytes());
        let slot = format!("{MARK}{number}, boot {boot}, {} bytes, sum {sum} ===\r\n{text}", text.len());
        padded(slot.as_bytes(), SLOT)
    }

    /// The record in a slot.
    ///
    /// # Errors
    ///
    /// There is none, or not the whole of it.
    pub fn parse(slot: &[u8]) -> Result<Self, Damaged> {
        let end = slot.iter().take(200).position(|byte| *byte == b'\n').ok_or(Damaged::NoRecord)?;
        let (line, rest) = slot.split_at(end + 1);
        let (number, boot, length, said) = std::str::from_utf8(line).ok().and_then(numbers).ok_or(Damaged::NoRecord)?;
        let text = rest.get(..length).ok_or(Damaged::Checksum)?;
        if sum(number, boot, text) != said {
            return Err(Damaged::Checksum);
        }
        let text = std::str::from_utf8(text).map_err(|_| Damaged::Checksum)?;
        Ok(Self { number, boot, entry: Entry::from_text(text) })
    }
}

/// Number, boot, length and checksum in a record's line.
fn numbers(line: &str) -> Option<(u64, u64, usize, &str)> {
    let rest = line.trim_end().strip_prefix(MARK)?.strip_suffix(" ===")?;
    let (number, rest) = rest.split_once(", boot ")?;
    let (boot, rest) = rest.split_once(", ")?;
    let (length, sum) = rest.split_once(" bytes, sum ")?;
    Some((number.parse().ok()?, boot.parse().ok()?, length.parse().ok()?, sum))
}

/// The first 16 digits of the SHA-256 of everything that counts.
fn sum(number: u64, boot: u64, text: &[u8]) -> String {
    let digest = Sha256::new().chain_update(format!("{number} {boot} {}\n", text.len())).chain_update(text).finalize();
    hex(&digest[..8])
}
