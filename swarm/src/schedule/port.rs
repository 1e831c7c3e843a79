//! Ports of nodes: wanted, taken, and when two of them are in each other's way.
//!
//! Classic Swarm compared ports without their protocol; here DNS on 53/tcp and on 53/udp can be two containers.

use std::{collections::BTreeSet, fmt, net::IpAddr, ops::RangeInclusive};

/// What a port is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The default.
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// Reads the engine's name for it; nothing at all means TCP.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let named = [("", Self::Tcp), ("tcp", Self::Tcp), ("udp", Self::Udp), ("sctp", Self::Sctp)];
        named.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, protocol)| protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port that a container has on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// The address it is bound to; `None`: all of the node's.
    pub ip: Option<IpAddr>,
    /// The node's port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl PublishedPort {
    /// A port as the engine writes it: an empty, unspecified or unreadable address means all.
    #[must_use]
    pub fn new(ip: &str, port: u16, protocol: Protocol) -> Self {
        Self { ip: address(ip), port, protocol }
    }
}

fn address(ip: &str) -> Option<IpAddr> {
    ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified())
}

/// A port that a container exposes, such as `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExposedPort {
    /// The container's port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl ExposedPort {
    /// Reads `80`, `80/tcp` and the like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (port, protocol) = text.split_once('/').unwrap_or((text, ""));
        Some(Self { port: port.parse().ok()?, protocol: Protocol::parse(protocol)? })
    }
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// A port of the node that a new container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPort {
    /// The address to bind to; `None`: all of the node's.
    pub ip: Option<IpAddr>,
    /// One of these; `None`: any, the engine picks.
    pub ports: Option<RangeInclusive<u16>>,
    /// Its protocol.
    pub protocol: Protocol,
}

impl WantedPort {
    /// A binding as the API has it: `host_port` is empty or `0` (any), a port, or a range. `None` for what the engine will refuse.
    #[must_use]
    pub fn parse(host_ip: &str, host_port: &str, protocol: Protocol) -> Option<Self> {
        let ports = match host_port {
            "" => None,
            text => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
                if first > last {
                    return None;
                }
                Some(first..=last).filter(|ports| *ports.end() > 0)
            }
        };
        Some(Self { ip: address(host_ip), ports, protocol })
    }

    /// The published port that this becomes, where it is known before the engine says it.
    pub(super) fn fixed(&self) -> Option<PublishedPort> {
        let ports = self.ports.as_ref().filter(|ports| ports.start() == ports.end())?;
        Some(PublishedPort { ip: self.ip, port: *ports.start(), protocol: self.protocol })
    }

    /// Whether one of the wanted ports is left beside the `taken` ones.
    pub(super) fn is_free<'a>(&self, taken: impl Iterator<Item = &'a PublishedPort>) -> bool {
        let Some(ports) = &self.ports else { return true };
        let met = taken.filter(|taken| ports.contains(&taken.port) && self.meets(taken));
        met.map(|taken| taken.port).collect::<BTreeSet<_>>().len() < ports.len()
    }

    /// Same protocol, and the same address or one of both on all addresses.
    fn meets(&self, taken: &PublishedPort) -> bool {
        let same_address = self.ip.is_none() || taken.ip.is_none() || self.ip == taken.ip;
        self.protocol == taken.protocol && same_address
    }
}

impl fmt::Display for WantedPort {
    /// The node's port as it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ports {
            None => Ok(()),
            Some(ports) if ports.start() == ports.end() => write!(f, "{}", ports.start()),
            Some(ports) => write!(f, "{}-{}", ports.start(), ports.end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ExposedPort,
        Protocol::{self, Sctp, Tcp, Udp},
        PublishedPort, WantedPort,
    };

    #[test]
    fn ports_are_read() {
        for (text, expected) in [
            ("80", Some((80, Tcp))),
            ("80/tcp", Some((80, Tcp))),
            ("53/UDP", Some((53, Udp))),
            ("9/sctp", Some((9, Sctp))),
            ("80/icmp", None),
            ("70000/tcp", None),
            ("", None),
            ("/tcp", None),
            ("-1", None),
        ] {
            let found = ExposedPort::parse(text).map(|port| (port.port, port.protocol));
            assert_eq!(found, expected, "{text}");
        }
        for (text, expected) in [
            ("", Some(None)),
            ("0", Some(None)),
            ("80", Some(Some(80..=80))),
            ("80-82", Some(Some(80..=82))),
            ("0-0", Some(None)),
            ("82-80", None),
            ("80-", None),
            ("x", None),
            ("65536", None),
        ] {
            assert_eq!(WantedPort::parse("", text, Tcp).map(|wanted| wanted.ports), expected, "{text}");
        }
        assert_eq!(Protocol::parse("icmp"), None);
    }

    #[test]
    fn ports_are_in_each_others_way() {
        for (ip, port, protocol, taken, free) in [
            ("", "80", Tcp, ("", 80, Tcp), false),
            ("", "80", Tcp, ("", 81, Tcp), true),
            ("", "80", Tcp, ("", 80, Udp), true),
            ("", "", Tcp, ("", 80, Tcp), true),
            ("", "0", Tcp, ("", 80, Tcp), true),
            ("0.0.0.0", "80", Tcp, ("", 80, Tcp), false),
            ("0.0.0.0", "80", Tcp, ("127.0.0.1", 80, Tcp), false),
            ("127.0.0.1", "80", Tcp, ("0.0.0.0", 80, Tcp), false),
            ("127.0.0.1", "80", Tcp, ("::", 80, Tcp), false),
            ("127.0.0.1", "80", Tcp, ("127.0.0.1", 80, Tcp), false),
            ("127.0.0.1", "80", Tcp, ("192.168.200.10", 80, Tcp), true),
            ("::1", "80", Tcp, ("127.0.0.1", 80, Tcp), true),
            ("::1", "80", Tcp, ("0:0:0:0:0:0:0:1", 80, Tcp), false),
            ("", "80-81", Tcp, ("", 80, Tcp), true),
            ("", "80-80", Tcp, ("", 80, Tcp), false),
        ] {
            let wanted = WantedPort::parse(ip, port, protocol).unwrap();
            let taken = PublishedPort::new(taken.0, taken.1, taken.2);
            assert_eq!(wanted.is_free([taken].iter()), free, "{wanted:?} beside {taken:?}");
        }
        let both = [80, 81, 81].map(|port| PublishedPort::new("", port, Tcp));
        assert!(!WantedPort::parse("", "80-81", Tcp).unwrap().is_free(both.iter()));
        assert!(WantedPort::parse("", "80-82", Tcp).unwrap().is_free(both.iter()));
    }
}
