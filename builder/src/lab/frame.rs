//! Ethernet frames as a switch sees them: two addresses and perhaps one 802.1Q tag.

use std::{fmt, str::FromStr};

/// Bytes of an Ethernet header without a tag: destination, source, EtherType.
pub const HEADER: usize = 14;
/// The longest frame that QEMU sends over a stream socket (`NET_BUFSIZE`, 4 KiB + 64 KiB).
pub const LONGEST: usize = 4096 + 65536;
/// EtherType of an 802.1Q tag (IEEE 802.1Q-2022, 9.6).
pub const TAG: u16 = 0x8100;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of node number `node` (from 1), the same in every lab. The first three bytes are
    /// those of a Raspberry Pi, so that code that looks at them behaves as on a real one.
    pub fn of_node(node: u16) -> Self {
        let [high, low] = node.to_be_bytes();
        Self([0xb8, 0x27, 0xeb, 0x4c, high, low])
    }

    /// Sent to more than one station: broadcast or multicast (the group bit).
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// 01:80:C2:00:00:00 to 0F: spanning tree, pause, LLDP. A bridge never forwards these
    /// (IEEE 802.1Q-2022, 8.6.3).
    pub fn is_link_local(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && self.0[5] < 0x10
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An 802.1Q VLAN identifier, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// The identifier `id`, where it is one.
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 1 && id <= 4094 { Some(Self(id)) } else { None }
    }

    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a VLAN id could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no VLAN id: it is a number from 1 to 4094")]
pub struct BadVlanId(String);

impl FromStr for VlanId {
    type Err = BadVlanId;

    fn from_str(text: &str) -> Result<Self, BadVlanId> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| BadVlanId(text.to_owned()))
    }
}

/// The addressing of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where it goes.
    pub destination: Mac,
    /// Where it comes from.
    pub source: Mac,
    /// The VLAN of its outermost tag; `None` for untagged frames and for those that carry a priority
    /// only (id 0, or the reserved 4095).
    pub vlan: Option<VlanId>,
    /// It has a tag, if only with a priority.
    pub tagged: bool,
    /// EtherType of what is inside.
    pub ethertype: u16,
    /// Where the payload starts.
    pub payload: usize,
}

impl Header {
    /// Reads the header of `frame`; `None` where it is cut short.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let mac = |at: usize| Some(Mac(frame.get(at..at + 6)?.try_into().ok()?));
        let mut header =
            Self { destination: mac(0)?, source: mac(6)?, vlan: None, tagged: false, ethertype: word(12)?, payload: HEADER };
        if header.ethertype == TAG {
            header.tagged = true;
            header.vlan = VlanId::new(word(14)? & 0x0fff);
            header.ethertype = word(16)?;
            header.payload = HEADER + 4;
        }
        Some(header)
    }
}

/// A frame for tests and for lab tools: from, to, tag, payload padded to the 60 bytes that Ethernet wants.
pub fn compose(destination: Mac, source: Mac, vlan: Option<VlanId>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + 4 + payload.len());
    frame.extend(destination.0);
    frame.extend(source.0);
    if let Some(vlan) = vlan {
        frame.extend(TAG.to_be_bytes());
        frame.extend(vlan.number().to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An untagged frame with the tag of `vlan`.
pub fn with_tag(frame: &[u8], vlan: VlanId) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(HEADER - 2));
    [addresses, &TAG.to_be_bytes(), &vlan.number().to_be_bytes(), rest].concat()
}

/// The frame without its outermost tag, if it has one.
pub fn without_tag(frame: &[u8]) -> Vec<u8> {
    match Header::parse(frame) {
        Some(header) if header.tagged => [&frame[..HEADER - 2], &frame[HEADER + 2..]].concat(),
        _ => frame.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let (to, from) = (Mac([0xff; 6]), Mac::of_node(1));
        let plain = compose(to, from, None, 0x0806, &[1, 2, 3]);
        let header = Header::parse(&plain).unwrap();
        assert_eq!(
            (header.source, header.vlan, header.tagged, header.ethertype, header.payload),
            (from, None, false, 0x0806, 14)
        );

        let tagged = compose(to, from, VlanId::new(200), 0x0800, &[]);
        let header = Header::parse(&tagged).unwrap();
        assert_eq!((header.vlan.unwrap().number(), header.tagged, header.ethertype, header.payload), (200, true, 0x0800, 18));

        let short = compose(to, from, None, 0x0800, &[]);
        assert_eq!(with_tag(&short, header.vlan.unwrap())[..18], tagged[..18]);
        assert_eq!(without_tag(&with_tag(&short, header.vlan.unwrap())), short);
        assert_eq!(without_tag(&short), short);

        let mut priority = tagged.clone();
        priority[14..16].copy_from_slice(&0xe000_u16.to_be_bytes());
        let header = Header::parse(&priority).unwrap();
        assert_eq!((header.vlan, header.tagged), (None, true));

        for cut in [0, 6, 13] {
            assert_eq!(Header::parse(&plain[..cut]), None, "{cut}");
        }
        assert_eq!(Header::parse(&tagged[..16]), None);
    }

    #[test]
    fn addresses_and_ids() {
        assert_eq!(Mac::of_node(258).to_string(), "b8:27:eb:4c:01:02");
        assert!(Mac([0x01, 0x80, 0xc2, 0, 0, 0]).is_link_local() && !Mac([0x01, 0x80, 0xc2, 0, 0, 0x10]).is_link_local());
        for (text, good) in [("1", true), ("4094", true), ("0", false), ("4095", false), ("x", false), ("-1", false)] {
            assert_eq!(text.parse::<VlanId>().is_ok(), good, "{text}");
        }
    }
}
