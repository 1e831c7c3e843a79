//! What makes nodes a cluster: judged from each node's `hcl status --json`, and from the wire.
//!
//! A node's [`Standing`] is what it says of itself; [`together`] compares all of them, [`Speech`] is what they were heard to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use dhcproto::{
    Decodable,
    v4::{Message, MessageType},
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use serde_json::Value;

use super::{
    frame::{Header, Mac, VlanId},
    report::Assertion,
};

/// UDP port of DHCP servers (RFC 2131, 4.1).
const DHCP_SERVER: u16 = 67;
/// UDP port of multicast DNS (RFC 6762, 3).
const MDNS: u16 = 5353;
/// The first labels of the leader's service type, as they stand in a message.
const LEADER_TYPE: &[u8] = b"\x08_cluster\x04_tcp";

/// What a node says of its place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It leads; otherwise it follows.
    pub leads: bool,
    /// Its own address.
    pub address: Option<Ipv4Addr>,
    /// The members that it knows, itself included.
    pub members: Vec<Ipv4Addr>,
    /// It has a lease that has not ended.
    pub leased: bool,
}

impl Standing {
    /// Reads a status.
    ///
    /// # Errors
    ///
    /// The node is neither leader nor follower, or the status is none: what it says instead.
    pub fn read(status: &Value) -> Result<Self, String> {
        let text = |key: &str| status[key].as_str().unwrap_or_default();
        let leads = match text("role") {
            "leader" => true,
            "follower" => false,
            role => {
                let (phase, reason) = (text("phase"), text("phase_reason"));
                let complaints: Vec<&str> =
                    status["complaints"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                return Err(format!("role `{role}`, phase `{phase}`: {reason} {}", complaints.join("; ")).trim_end().to_owned());
            }
        };
        let address = |value: &Value| value["address"].as_str().and_then(|text| text.parse().ok());
        let lease_end = status["lease"]["ends_uptime_ms"].as_u64().unwrap_or_default();
        Ok(Self {
            leads,
            address: address(status),
            members: status["members"].as_array().into_iter().flatten().filter_map(address).collect(),
            leased: lease_end > status["uptime_ms"].as_u64().unwrap_or_default(),
        })
    }
}

/// What must hold of all nodes together; `None` for one that is in no cluster. `when` goes behind each name.
pub fn together(standings: &[Option<Standing>], when: &str) -> Vec<Assertion> {
    let known: Vec<&Standing> = standings.iter().flatten().collect();
    let leaders = known.iter().filter(|standing| standing.leads).count();
    let addresses: BTreeSet<Ipv4Addr> = known.iter().filter_map(|standing| standing.address).collect();
    let everywhere = known.iter().all(|standing| standing.members.iter().copied().collect::<BTreeSet<_>>() == addresses);
    let assertion = |name: &str, wanted: &str, seen: String, passed: bool| Assertion {
        name: format!("{name}{when}"),
        node: None,
        wanted: wanted.into(),
        seen,
        passed,
        seconds: None,
    };
    vec![
        assertion(
            "one leader",
            "exactly one node leads, and all others follow",
            format!("{leaders} leaders, {} followers of {} nodes", known.len() - leaders, standings.len()),
            leaders == 1 && known.len() == standings.len(),
        ),
        assertion(
            "addresses differ",
            "no two nodes have the same address in the cluster, and every node has one",
            format!("{} different ones of {} nodes", addresses.len(), standings.len()),
            addresses.len() == standings.len(),
        ),
        assertion(
            "members agree",
            "every node knows the addresses of all, and no others",
            if everywhere {
                format!("{addresses:?}")
            } else {
                format!("{:?}", known.iter().map(|s| &s.members).collect::<Vec<_>>())
            },
            everywhere && !known.is_empty(),
        ),
    ]
}

/// What the nodes said in the cluster's VLAN, as the switch took it from them.
#[derive(Debug)]
pub struct Speech {
    vlan: u16,
    /// Announcements of a leader, by who sent them.
    announced: BTreeMap<Mac, u64>,
    /// DHCP acknowledgements, by whom they are for.
    acknowledged: BTreeMap<Mac, u64>,
}

impl Speech {
    /// Nothing heard yet.
    pub fn new(vlan: u16) -> Self {
        Self { vlan, announced: BTreeMap::new(), acknowledged: BTreeMap::new() }
    }

    /// Takes a frame that a node sent.
    pub fn hear(&mut self, frame: &[u8]) {
        let Some(header) = Header::parse(frame).filter(|header| header.vlan.map(VlanId::number) == Some(self.vlan)) else {
            return;
        };
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return };
        let (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else { return };
        match (udp.source_port(), udp.destination_port()) {
            (MDNS, MDNS) if announces_leader(udp.payload()) => *self.announced.entry(header.source).or_default() += 1,
            (DHCP_SERVER, _) => {
                let Ok(message) = Message::from_bytes(udp.payload()) else { return };
                let client: Option<[u8; 6]> = message.chaddr().try_into().ok();
                if let (Some(MessageType::Ack), Some(client)) = (message.opts().msg_type(), client) {
                    *self.acknowledged.entry(Mac(client)).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// What must have been heard, given who the nodes are and what they say of themselves.
    pub fn judge(&self, nodes: &[(Mac, Option<Standing>)]) -> Vec<Assertion> {
        let mut assertions = Vec::new();
        let mut assertion = |name: &str, wanted: String, seen: String, passed: bool| {
            assertions.push(Assertion { name: name.into(), node: None, wanted, seen, passed, seconds: None });
        };
        let leader = nodes.iter().find(|(_, standing)| standing.as_ref().is_some_and(|standing| standing.leads));
        let count = leader.map_or(0, |(mac, _)| self.announced.get(mac).copied().unwrap_or_default());
        assertion(
            "leader announced",
            format!("the switch took a multicast DNS response of _cluster._tcp, tagged {}, from the leader", self.vlan),
            leader.map_or("no leader".to_owned(), |(mac, _)| format!("{count} from {mac}")),
            count > 0,
        );
        if nodes.len() > 1 {
            let followers: Vec<Mac> = nodes
                .iter()
                .filter(|(_, standing)| standing.as_ref().is_some_and(|standing| !standing.leads))
                .map(|(mac, _)| *mac)
                .collect();
            let served = followers.iter().filter(|mac| self.acknowledged.contains_key(*mac)).count();
            assertion(
                "leases on the wire",
                format!("the switch took a DHCPACK, tagged {}, for every follower", self.vlan),
                format!("for {served} of {} followers", followers.len()),
                served == followers.len() && served > 0,
            );
        }
        assertions
    }
}

/// A response (QR set) with answers, in which the leader's service type is named. The first name of a message is never compressed.
fn announces_leader(message: &[u8]) -> bool {
    let response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let answers = message.get(6..8).is_some_and(|count| count != [0, 0]);
    response && answers && message.windows(LEADER_TYPE.len()).any(|window| window.eq_ignore_ascii_case(LEADER_TYPE))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
