//! Console markers: one line each on `/dev/console`, an interface that tests and `hcl-image up` read.
//!
//! `docs/markers.md` describes them for readers. A marker stands at the start of its line, its fields are separated by
//! one space, and later versions only add fields at the end.

use std::{fmt, net::Ipv4Addr};

/// Something that a watcher of the console waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The program started.
    Boot {
        /// Its version.
        version: String,
        /// The cluster's name.
        cluster: String,
    },
    /// The node has a new host name.
    Host {
        /// The name.
        name: String,
    },
    /// Something that has not come for a while.
    Wait {
        /// What, in plain words.
        what: String,
    },
    /// The interface that carries the cluster has a carrier.
    Link {
        /// Its name.
        interface: String,
    },
    /// The interface that carried the cluster is no longer usable.
    Lost {
        /// Its name.
        interface: String,
        /// Why, in plain words.
        reason: String,
    },
    /// The cluster's VLAN is there and up.
    Vlan {
        /// The name of the VLAN interface.
        interface: String,
        /// The VLAN's id.
        id: u16,
    },
    /// The network is as the configuration wants it.
    Ready {
        /// The interface that the cluster uses.
        interface: String,
    },
    /// The node leads the cluster.
    Leader {
        /// The leader's address, which it has now.
        address: Ipv4Addr,
    },
    /// The node is a member that follows.
    Joined {
        /// Its address.
        address: Ipv4Addr,
        /// The leader's host name.
        leader: String,
    },
    /// Something does not work; it is tried again.
    Fault {
        /// Why and what to do, in plain words.
        reason: String,
    },
    /// The root file system has grown to the end of the card.
    Grown {
        /// Its size before, in MiB.
        from: u64,
        /// Its size now, in MiB.
        to: u64,
    },
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot { version, cluster } => write!(f, "@hcl:boot@ {version} {cluster}"),
            Self::Host { name } => write!(f, "@hcl:host@ {name}"),
            Self::Wait { what } => write!(f, "@hcl:wait@ {what}"),
            Self::Link { interface } => write!(f, "@hcl:link@ {interface} up"),
            Self::Lost { interface, reason } => write!(f, "@hcl:lost@ {interface} {reason}"),
            Self::Vlan { interface, id } => write!(f, "@hcl:vlan@ {interface} id {id}"),
            Self::Ready { interface } => write!(f, "@hcl:ready@ {interface}"),
            Self::Leader { address } => write!(f, "@hcl:leader@ {address}"),
            Self::Joined { address, leader } => write!(f, "@hcl:joined@ {address} {leader}"),
            Self::Fault { reason } => write!(f, "@hcl:fault@ {reason}"),
            Self::Grown { from, to } => write!(f, "@hcl:grown@ {from} {to} MiB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_documented() {
        let documented = include_str!("../../docs/markers.md");
        let table = [
            (Marker::Boot { version: "0.1.0".into(), cluster: "lab".into() }, "@hcl:boot@ 0.1.0 lab"),
            (Marker::Host { name: "node-0011ff".into() }, "@hcl:host@ node-0011ff"),
            (Marker::Wait { what: "for a cable: eth0 has no carrier".into() }, "@hcl:wait@ for a cable: eth0 has no carrier"),
            (Marker::Link { interface: "eth0".into() }, "@hcl:link@ eth0 up"),
            (Marker::Lost { interface: "eth0".into(), reason: "lost its carrier".into() }, "@hcl:lost@ eth0 lost its carrier"),
            (Marker::Vlan { interface: "eth0.200".into(), id: 200 }, "@hcl:vlan@ eth0.200 id 200"),
            (Marker::Ready { interface: "eth0.200".into() }, "@hcl:ready@ eth0.200"),
            (Marker::Leader { address: [192, 168, 200, 1].into() }, "@hcl:leader@ 192.168.200.1"),
            (
                Marker::Joined { address: [192, 168, 200, 77].into(), leader: "node-0011ff".into() },
                "@hcl:joined@ 192.168.200.77 node-0011ff",
            ),
            (Marker::Fault { reason: "the kernel has no VLANs".into() }, "@hcl:fault@ the kernel has no VLANs"),
            (Marker::Grown { from: 1500, to: 30000 }, "@hcl:grown@ 1500 30000 MiB"),
        ];
        for (marker, line) in table {
            assert_eq!(marker.to_string(), line);
            let name = line.split(' ').next().unwrap_or_default();
            assert!(documented.contains(&format!("`{name} ")), "docs/markers.md does not describe {name}");
        }
    }
}
