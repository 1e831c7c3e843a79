//! Network interfaces as the state machine sees them.

use std::fmt;

use crate::config::{InterfaceName, VlanId};

/// The hardware address of an Ethernet interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The host name of a node with this address: `node-` and its last three bytes.
    pub fn host_name(self) -> String {
        let [.., a, b, c] = self.0;
        format!("node-{a:02x}{b:02x}{c:02x}")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let form = "a hardware address has six bytes in hexadecimal digits, with colons between them";
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(form)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| form)?;
        }
        if parts.next().is_some() { Err(form) } else { Ok(Self(bytes)) }
    }
}

impl serde::Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A wired Ethernet device: no virtual kind, no wireless or USB-gadget device.
    Wired,
    /// A wireless device: its access point drops what is tagged.
    Wireless,
    /// An 802.1Q VLAN on the interface with index `parent`.
    Vlan {
        /// The VLAN's id, as the kernel has it.
        id: u16,
        /// The index of the interface below.
        parent: u32,
    },
    /// Anything else; the kernel's word for it, such as `bridge` or `veth`.
    Other(String),
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wired => f.pad("wired"),
            Self::Wireless => f.pad("wireless"),
            Self::Vlan { id, .. } => write!(f, "VLAN {id}"),
            Self::Other(kind) => f.pad(kind),
        }
    }
}

/// One interface, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index. A device that went away and came back has another one.
    pub index: u32,
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<Mac>,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Whether a partner is at the other end of the cable (`IFF_LOWER_UP`); only known while it is up.
    pub carrier: bool,
}

/// The name of VLAN `id` on `parent`: `eth0.200`, or `vlan200` where that is longer than a name may be.
pub fn vlan_name(parent: &str, id: VlanId) -> String {
    let name = format!("{parent}.{id}");
    if name.len() <= InterfaceName::LONGEST { name } else { format!("vlan{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(vlan_name("eth0", VlanId::DEFAULT), "eth0.200");
        assert_eq!(vlan_name("enxb827eb001122", VlanId::DEFAULT), "vlan200");
        assert_eq!(Mac([0xb8, 0x27, 0xeb, 0, 0x11, 0xff]).host_name(), "node-0011ff");
    }
}
