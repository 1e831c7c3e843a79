//! The cluster key: one secret of 32 bytes, from which everything that a card has to prove is derived.
//!
//! HKDF-SHA256 (RFC 5869) with a label for each use, so that no use says anything about another one. What is announced on the
//! wire is the [`ClusterId`]; nobody gets from it to the key.

use std::{fmt, path::Path, str::FromStr};

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// Where the key lies on a card: readable by root only.
pub const PATH: &str = "/etc/hcl/cluster.key";

/// The secret. Neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

/// Which cluster: what is announced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 8]);

/// What a tag is for. Tags of one use say nothing for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Announcements and answers of leader and members.
    Notice,
    /// DHCP messages between members.
    Dhcp,
}

/// The first 16 bytes of an HMAC-SHA256 (RFC 2104; truncated as its section 5 allows).
pub type Tag = [u8; 16];

/// Why a file holds no key. Nothing of its content is in it.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("not 64 hexadecimal digits")]
    Form,
}

impl ClusterKey {
    /// `bytes`, which must be random, as a key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the key file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self, BadKey> {
        let text = std::fs::read_to_string(path).map_err(|source| BadKey::Read { path: path.display().to_string(), source })?;
        text.parse()
    }

    /// The key as its file has it: 64 hexadecimal digits and a newline. For the file only.
    pub fn to_file(&self) -> String {
        hex(&self.0) + "\n"
    }

    /// The cluster that has this key.
    pub fn cluster(&self) -> ClusterId {
        let mut id = [0; 8];
        self.derive("hcl 1 cluster id", &mut id);
        ClusterId(id)
    }

    /// The keys that make and check tags.
    pub fn seals(&self) -> Seals {
        let derived = |label| Hmac::new_from_slice(&self.secret(label)).expect("HMAC takes keys of any length");
        Seals { cluster: self.cluster(), notice: derived("hcl 1 notice"), dhcp: derived("hcl 1 dhcp") }
    }

    /// 32 bytes for the use that `label` names. They are as secret as the key for that use, and say nothing about another one.
    pub fn secret(&self, label: &str) -> [u8; 32] {
        let mut secret = [0; 32];
        self.derive(label, &mut secret);
        secret
    }

    fn derive(&self, label: &str, out: &mut [u8]) {
        let hkdf = Hkdf::<Sha256>::new(None, &self.0);
        hkdf.expand(label.as_bytes(), out).expect("HKDF gives up to 8160 bytes");
    }
}

impl FromStr for ClusterKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        unhex(text.trim_end()).map(Self).ok_or(BadKey::Form)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey of {}", self.cluster())
    }
}

/// Makes and checks tags.
#[derive(Clone)]
pub struct Seals {
    cluster: ClusterId,
    notice: Hmac<Sha256>,
    dhcp: Hmac<Sha256>,
}

impl Seals {
    /// The cluster that they are of.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The tag of `message`.
    pub fn tag(&self, what: Use, message: &[u8]) -> Tag {
        let full = self.mac(what, message).finalize().into_bytes();
        let mut tag = Tag::default();
        tag.copy_from_slice(&full[..16]);
        tag
    }

    /// Whether `tag` is that of `message`. Takes the same time for any tag.
    pub fn is_right(&self, what: Use, message: &[u8], tag: &[u8]) -> bool {
        tag.len() == size_of::<Tag>() && self.mac(what, message).verify_truncated_left(tag).is_ok()
    }

    fn mac(&self, what: Use, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = match what {
            Use::Notice => self.notice.clone(),
            Use::Dhcp => self.dhcp.clone(),
        };
        mac.update(message);
        mac
    }
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seals of {}", self.cluster)
    }
}

impl ClusterId {
    /// The eight digits that stand in names: the first half.
    pub fn short(self) -> String {
        hex(&self.0[..4])
    }
}

impl FromStr for ClusterId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        unhex(text).map(Self).ok_or("a cluster id has 16 hexadecimal digits")
    }
}

impl serde::Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `bytes` in lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
        text
    })
}

/// Exactly `N` bytes of hexadecimal digits.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ClusterKey {
        ClusterKey::new(std::array::from_fn(|place| place as u8))
    }

    #[test]
    fn the_file() {
        let text = key().to_file();
        assert_eq!(text.parse::<ClusterKey>().unwrap(), key());
        for bad in ["", "00", &text[1..], &text.replace('0', "g"), &format!("{text}00")] {
            let error = bad.parse::<ClusterKey>().unwrap_err().to_string();
            assert_eq!(error, "not 64 hexadecimal digits");
        }
    }

    #[test]
    fn nothing_shows_the_secret() {
        let shown = format!("{:?} {:?}", key(), key().seals());
        assert!(!shown.contains("0001020304"), "{shown}");
    }

    #[test]
    fn derived_values_stay_what_they_are() {
        // Cards that were written by an older version must still find each other. The values are those of another
        // implementation (Python's hmac, RFC 5869 by hand).
        assert_eq!(key().cluster().to_string(), GOLDEN_ID);
        assert_eq!(hex(&key().seals().tag(Use::Notice, b"a")), GOLDEN_NOTICE);
        assert_eq!(hex(&key().seals().tag(Use::Dhcp, b"a")), GOLDEN_DHCP);
    }

    const GOLDEN_ID: &str = "39773d139cc2bddc";
    const GOLDEN_NOTICE: &str = "131f1c4f6613bc0d9fb93d44bbe90e38";
    const GOLDEN_DHCP: &str = "fd31f2af08ae07d5dacffcc45672d127";

    #[test]
    fn tags_are_told_apart() {
        let seals = key().seals();
        let tag = seals.tag(Use::Notice, b"message");
        assert!(seals.is_right(Use::Notice, b"message", &tag));
        assert!(!seals.is_right(Use::Dhcp, b"message", &tag));
        assert!(!seals.is_right(Use::Notice, b"massage", &tag));
        assert!(!seals.is_right(Use::Notice, b"message", &tag[..15]));
        assert!(!seals.is_right(Use::Notice, b"message", &[]));
        let other = ClusterKey::new([7; 32]).seals();
        assert!(!other.is_right(Use::Notice, b"message", &tag));
    }
}
