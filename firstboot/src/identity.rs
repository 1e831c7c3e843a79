//! Who a node is, and which life of a cluster it belongs to.

use std::fmt;

use crate::key::{hex, unhex};

/// A node for life: random, made at its first start and kept on the card. Two nodes with one id are an original and its copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 16]);

/// One founding of a cluster: random, made by the founder. Two incarnations of one key are two clusters that must become one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub [u8; 16]);

impl Incarnation {
    /// A later one: where two clusters that are worth the same meet, it is the one that stays. `random` bytes make it unlike others.
    pub fn later(self, random: [u8; 16]) -> Self {
        let (before, drawn) = (u128::from_be_bytes(self.0), u128::from_be_bytes(random));
        // Anywhere above; the last one of all has none above it.
        let later = match u128::MAX - before {
            0 => before,
            room => before + 1 + drawn % room,
        };
        Self(later.to_be_bytes())
    }
}

macro_rules! hex_text {
    ($type:ident, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0[..4]))
            }
        }

        impl std::str::FromStr for $type {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, &'static str> {
                unhex(text).map(Self).ok_or(concat!($what, " has 32 hexadecimal digits"))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_text!(NodeId, "a node id");
hex_text!(Incarnation, "an incarnation");

/// The serial numbers of what the node runs on. What is unknown says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hardware {
    /// The card's (the CID of an SD card).
    pub card: Option<String>,
    /// The board's (the device tree's `serial-number`).
    pub board: Option<String>,
}

impl Hardware {
    /// Whether `other` is known to be something else.
    pub fn differs(&self, other: &Self) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        differ(&self.card, &other.card) || differ(&self.board, &other.board)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_whatever_is_drawn() {
        for before in [[0; 16], [7; 16], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0xfe; 16]] {
            for random in [[0; 16], [1; 16], [0x80; 16], [0xff; 16]] {
                assert!(Incarnation(before).later(random) > Incarnation(before), "{before:?} {random:?}");
            }
        }
        assert_ne!(Incarnation([7; 16]).later([1; 16]), Incarnation([7; 16]).later([2; 16]));
    }
}
