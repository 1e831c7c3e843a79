//! The cluster's subnet and who gets which part of it.

use std::{fmt, net::Ipv4Addr, str::FromStr, time::Duration};

use super::string_key;

/// The text is not of the form asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form that is allowed here")]
pub struct BadForm;

/// Key `subnet`: a private IPv4 network (RFC 1918), /16 to /28, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// `network`/`prefix`, if that is allowed.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Option<Self> {
        let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let clean = u32::from(network) & host_bits == 0;
        (network.is_private() && (16..=28).contains(&prefix) && clean).then_some(Self { network, prefix })
    }

    /// The network address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The number of the broadcast address: how many addresses there are, less one.
    pub fn broadcast_number(self) -> u32 {
        u32::MAX >> self.prefix
    }

    /// The broadcast address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | self.broadcast_number())
    }

    /// The `number`th address, counted from the network address; none for the network and broadcast address and beyond.
    pub fn address(self, number: u32) -> Option<Ipv4Addr> {
        (1..self.broadcast_number()).contains(&number).then(|| Ipv4Addr::from(u32::from(self.network) | number))
    }

    /// The number of `address`: what [`Subnet::address`] makes it from. Of an address elsewhere it says nothing.
    pub fn number(self, address: Ipv4Addr) -> u32 {
        u32::from(address) & self.broadcast_number()
    }

    /// Whether `address` lies in this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & !self.broadcast_number() == u32::from(self.network)
    }
}

impl FromStr for Subnet {
    type Err = BadForm;

    fn from_str(text: &str) -> Result<Self, BadForm> {
        let (network, prefix) = text.split_once('/').ok_or(BadForm)?;
        let network = network.parse().map_err(|_| BadForm)?;
        let prefix = prefix.parse().map_err(|_| BadForm)?;
        Self::new(network, prefix).ok_or(BadForm)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

string_key!(Subnet, "a private IPv4 network from /16 to /28 with zero host bits, such as \"192.168.200.0/24\"");

/// Keys `members` and `strangers`: numbers of addresses in the subnet, first and last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HostRange {
    first: u32,
    last: u32,
}

impl HostRange {
    /// From `first` to `last`, if that is at least one address and not the network address.
    pub const fn new(first: u32, last: u32) -> Option<Self> {
        if first >= 1 && first <= last { Some(Self { first, last }) } else { None }
    }

    /// The first number.
    pub const fn first(self) -> u32 {
        self.first
    }

    /// The last number.
    pub const fn last(self) -> u32 {
        self.last
    }

    /// Whether `number` is in it.
    pub const fn contains(self, number: u32) -> bool {
        self.first <= number && number <= self.last
    }

    const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl FromStr for HostRange {
    type Err = BadForm;

    fn from_str(text: &str) -> Result<Self, BadForm> {
        let (first, last) = text.split_once('-').ok_or(BadForm)?;
        let number = |text: &str| text.trim().parse().map_err(|_| BadForm);
        Self::new(number(first)?, number(last)?).ok_or(BadForm)
    }
}

impl fmt::Display for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

string_key!(HostRange, "\"first-last\", numbers of addresses in the subnet from 1 on, such as \"10-199\"");

/// Key `lease`: two minutes to seven days, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseTime(u32);

impl LeaseTime {
    const SHORTEST: u32 = 2 * 60;
    const LONGEST: u32 = 7 * 24 * 3600;

    /// `seconds` as a lease time, if that is allowed.
    pub fn from_secs(seconds: u32) -> Option<Self> {
        (Self::SHORTEST..=Self::LONGEST).contains(&seconds).then_some(Self(seconds))
    }

    /// In seconds, as DHCP's option 51 has it.
    pub fn as_secs(self) -> u32 {
        self.0
    }
}

impl Default for LeaseTime {
    fn default() -> Self {
        Self(3600)
    }
}

impl From<LeaseTime> for Duration {
    fn from(lease: LeaseTime) -> Self {
        Self::from_secs(lease.0.into())
    }
}

const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl FromStr for LeaseTime {
    type Err = BadForm;

    fn from_str(text: &str) -> Result<Self, BadForm> {
        let seconds = UNITS.iter().find_map(|(unit, seconds)| {
            let number: u32 = text.strip_suffix(*unit)?.parse().ok()?;
            number.checked_mul(*seconds)
        });
        seconds.and_then(Self::from_secs).ok_or(BadForm)
    }
}

impl fmt::Display for LeaseTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) = UNITS.into_iter().find(|(_, seconds)| self.0 % seconds == 0).unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

string_key!(LeaseTime, "a lease time from \"2m\" to \"7d\": a whole number and one of s, m, h, d");

/// The subnet with its parts, which lie in it and do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    subnet: Subnet,
    leader: u32,
    members: HostRange,
    strangers: HostRange,
}

/// Keys that are right each for itself, but not together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddresses {
    /// The leader's number is the network or broadcast address, or beyond.
    #[error("key `leader`: {leader} is no host address of `subnet` {subnet}: allowed are 1 to {last}")]
    Leader {
        /// The number.
        leader: u32,
        /// The subnet.
        subnet: Subnet,
        /// The last number that is allowed.
        last: u32,
    },
    /// A range does not lie in the subnet.
    #[error("key `{key}`: {range} does not lie in `subnet` {subnet}: allowed are numbers from 1 to {last}")]
    Outside {
        /// `members` or `strangers`.
        key: &'static str,
        /// The range.
        range: HostRange,
        /// The subnet.
        subnet: Subnet,
        /// The last number that is allowed.
        last: u32,
    },
    /// The leader's address would be lent to somebody.
    #[error("key `{key}`: {range} contains `leader` {leader}: that address belongs to the leader alone")]
    LeaderInRange {
        /// `members` or `strangers`.
        key: &'static str,
        /// The range.
        range: HostRange,
        /// The leader's number.
        leader: u32,
    },
    /// The two ranges share addresses.
    #[error("keys `members` {members} and `strangers` {strangers} overlap: no address may be in both")]
    Overlap {
        /// The members' range.
        members: HostRange,
        /// The strangers' range.
        strangers: HostRange,
    },
}

impl Addresses {
    /// 192.168.200.0/24: leader .1, members .10 to .199, strangers .200 to .254.
    pub const DEFAULT: Self = Self {
        subnet: Subnet { network: Ipv4Addr::new(192, 168, 200, 0), prefix: 24 },
        leader: 1,
        members: HostRange { first: 10, last: 199 },
        strangers: HostRange { first: 200, last: 254 },
    };

    /// These parts of `subnet`.
    ///
    /// # Errors
    ///
    /// A part lies outside of the subnet, or two of them share an address.
    pub fn new(subnet: Subnet, leader: u32, members: HostRange, strangers: HostRange) -> Result<Self, BadAddresses> {
        let last = subnet.broadcast_number() - 1;
        if subnet.address(leader).is_none() {
            return Err(BadAddresses::Leader { leader, subnet, last });
        }
        for (key, range) in [("members", members), ("strangers", strangers)] {
            if range.last() > last {
                return Err(BadAddresses::Outside { key, range, subnet, last });
            }
            if range.contains(leader) {
                return Err(BadAddresses::LeaderInRange { key, range, leader });
            }
        }
        if members.overlaps(strangers) {
            return Err(BadAddresses::Overlap { members, strangers });
        }
        Ok(Self { subnet, leader, members, strangers })
    }

    /// The subnet.
    pub fn subnet(self) -> Subnet {
        self.subnet
    }

    /// The number of the leader's address.
    pub fn leader_number(self) -> u32 {
        self.leader
    }

    /// The leader's address.
    pub fn leader(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network) | self.leader)
    }

    /// The numbers of the members' addresses.
    pub fn member_range(self) -> HostRange {
        self.members
    }

    /// The numbers of the strangers' and temporary addresses.
    pub fn stranger_range(self) -> HostRange {
        self.strangers
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{HostRange, LeaseTime, Subnet};

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

    pattern!(Subnet, "Subnet", "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/(1[6-9]|2[0-8])$");
    pattern!(HostRange, "HostRange", "^[0-9]+-[0-9]+$");
    pattern!(LeaseTime, "LeaseTime", "^[0-9]+[smhd]$");
}
