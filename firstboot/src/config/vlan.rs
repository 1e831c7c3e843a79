//! The 802.1Q VLAN of the cluster.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected},
};

/// A VLAN identifier, 1 to 4094 (IEEE 802.1Q: 0 means untagged, 4095 is reserved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The id that the Hypriot Cluster Lab has always used.
    pub const DEFAULT: Self = Self(200);

    /// `id` as a VLAN identifier, if it is one.
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 1 && id <= 4094 { Some(Self(id)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Key `vlan`: an id, or `off` for nodes that have a switch of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vlan {
    /// The cluster uses the interface itself, untagged.
    Off,
    /// The cluster uses this VLAN.
    Id(VlanId),
}

impl Default for Vlan {
    fn default() -> Self {
        Self::Id(VlanId::DEFAULT)
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.pad("off"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl Serialize for Vlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Id(id) => serializer.serialize_u16(id.number()),
        }
    }
}

impl<'de> Deserialize<'de> for Vlan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Vlan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a VLAN id from 1 to 4094, or \"off\"")
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Vlan, E> {
                let known = u16::try_from(id).ok().and_then(VlanId::new);
                known.map(Vlan::Id).ok_or_else(|| E::invalid_value(Unexpected::Signed(id), &self))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Vlan, E> {
                let known = u16::try_from(id).ok().and_then(VlanId::new);
                known.map(Vlan::Id).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(id), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vlan, E> {
                if text == "off" { Ok(Vlan::Off) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Vlan {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Vlan".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 4094 }, { "const": "off" }]
        })
    }
}
