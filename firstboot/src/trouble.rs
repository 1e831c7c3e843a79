//! What keeps a node from its work until a person comes: a number for the LED, words for everything else.
//!
//! `docs/boot-partition.md` has the table for people. Numbers are an interface: later versions only add some.

use serde::{Deserialize, Serialize};

/// The kinds, by what a person must look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `/etc/hcl/node.toml` or `hcl.toml` on the boot partition is wrong: the node does nothing at all.
    Configuration,
    /// The card has no cluster key.
    Key,
    /// The cluster's network cannot be made: kernel, adapter, interface.
    Network,
    /// The switch drops the cluster's VLAN.
    Switch,
    /// Another machine, network or lab is in the way.
    Neighbour,
    /// Two clusters of one key, or a leader that may not lead.
    Cluster,
    /// The card cannot be written.
    Card,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Self; 7] =
        [Self::Configuration, Self::Key, Self::Network, Self::Switch, Self::Neighbour, Self::Cluster, Self::Card];

    /// How often the LED blinks, from 1 on.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// In a few words.
    pub fn title(self) -> &'static str {
        match self {
            Self::Configuration => "the configuration is wrong",
            Self::Key => "there is no cluster key",
            Self::Network => "the cluster's network cannot be made",
            Self::Switch => "the switch drops the VLAN",
            Self::Neighbour => "another machine or network is in the way",
            Self::Cluster => "two clusters, or a leader that may not lead",
            Self::Card => "the card cannot be written",
        }
    }

    /// The kind with this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Of which kind.
    pub kind: Kind,
    /// In one line: what is wrong and what a person can do.
    pub text: String,
}

impl Trouble {
    /// Trouble of `kind`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_documented() {
        let documented = include_str!("../../docs/boot-partition.md");
        for (number, kind) in (1..).zip(Kind::ALL) {
            assert_eq!(kind.number(), number);
            assert_eq!(Kind::of_number(number), Some(kind));
            let name = serde_json::to_value(kind).unwrap();
            let row = format!("| {number} | {} |", name.as_str().unwrap());
            assert!(documented.contains(&row), "docs/boot-partition.md has no row {row}");
        }
        assert_eq!(Kind::of_number(0), None);
        assert_eq!(Kind::of_number(8), None);
    }
}
