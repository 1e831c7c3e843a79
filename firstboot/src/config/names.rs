//! Names: of the cluster, of the node, of an interface.

use std::{fmt, str::FromStr};

use super::string_key;

/// The text is no name of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not allowed as a name here")]
pub struct BadName;

/// Lower-case letters, digits and hyphens, none of them at an end: a DNS label (RFC 1123), and a safe file name.
fn is_label(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Key `cluster`: the cluster's name, also the name of its key files on the building machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("lab".to_owned())
    }
}

impl FromStr for ClusterName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_label(text, 32) { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

string_key!(ClusterName, "a cluster name of 1 to 32 lower-case letters, digits and hyphens, no hyphen at an end");

/// Key `hostname`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostName {
    /// `node-` and the last three bytes of the wired MAC, unless the user has set another one.
    #[default]
    Auto,
    /// This one: a DNS label of at most 63 bytes.
    Named(String),
}

impl FromStr for HostName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        match text {
            "auto" => Ok(Self::Auto),
            // `master` is the alias of whoever leads.
            "localhost" | "master" => Err(BadName),
            _ if is_label(text, 63) => Ok(Self::Named(text.to_owned())),
            _ => Err(BadName),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Named(name) => name,
        })
    }
}

string_key!(
    HostName,
    "\"auto\" or a host name of 1 to 63 lower-case letters, digits and hyphens, no hyphen at an end, not `localhost` or `master`"
);

/// The name of a network interface: 1 to 15 bytes, as the kernel's `dev_valid_name` has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// `IFNAMSIZ` without the terminating zero.
    pub const LONGEST: usize = 15;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'"' | b'\\'));
        let fits = (1..=Self::LONGEST).contains(&text.len());
        if plain && fits && !matches!(text, "." | "..") { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Key `interface`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum WiredInterface {
    /// The first wired interface that has a carrier.
    #[default]
    Auto,
    /// This one.
    Named(InterfaceName),
}

impl FromStr for WiredInterface {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Named) }
    }
}

impl fmt::Display for WiredInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

string_key!(WiredInterface, "\"auto\" or an interface name of 1 to 15 characters without space, `/`, `:`, `\"` and `\\`");

#[cfg(feature = "schema")]
mod schema {
    use super::{ClusterName, HostName, WiredInterface};

    macro_rules! pattern {
        ($type:ty, $name:literal, $pattern:literal) => {
            impl schemars::JsonSchema for $type {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    $name.into()
                }

                fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                    schemars::json_schema!({ "type": "string", "pattern": $pattern })
                }
            }
        };
    }

    pattern!(ClusterName, "ClusterName", "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$");
    pattern!(WiredInterface, "WiredInterface", "^[^\\s/:\"\\\\]{1,15}$");

    impl schemars::JsonSchema for HostName {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "HostName".into()
        }

        // Not by a look-ahead in the pattern: JSON Schema advises against it, and not every validator knows it.
        fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({
                "type": "string",
                "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
                "not": { "enum": ["localhost", "master"] }
            })
        }
    }
}
