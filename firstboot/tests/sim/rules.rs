//! What must always hold, by the numbers of the design: checked after each step of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use hcl_firstboot::{
    identity::{Incarnation, NodeId},
    key::Seals,
    link::Mac,
    node::notice,
    record::Record,
    wire::{Body, Packet, dhcp, mdns::Service},
};

pub const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

/// What a run has seen so far.
#[derive(Default)]
pub struct Rules {
    /// Rule 2: a member keeps its address.
    addresses: BTreeMap<(NodeId, Incarnation), Ipv4Addr>,
    pub founded: BTreeSet<Incarnation>,
    /// Who was ever whose machine: a request may arrive after its sender became another node.
    pub names: BTreeSet<(Mac, NodeId)>,
}

impl Rules {
    /// A record came onto a card.
    pub fn persisted(&mut self, record: &Record) {
        let Some(membership) = &record.membership else { return };
        // Whoever joins another cluster gives up its address in the one before.
        self.addresses.retain(|(node, incarnation), _| *node != record.node || *incarnation == membership.incarnation);
        if membership.founder.is_some() {
            self.founded.insert(membership.incarnation);
        }
    }

    /// Rule 3: nothing is promised on the wire before it is on disk.
    pub fn sent(&self, packet: &Packet, disk: Option<&Record>, seals: &Seals) -> Result<(), String> {
        let membership = disk.and_then(|record| record.membership.as_ref());
        let ledger = membership.and_then(|membership| membership.founder.as_ref());
        match &packet.body {
            Body::Dhcp { message, .. } if message.kind == dhcp::Kind::Ack && !message.yiaddr.is_unspecified() => {
                let bound = ledger.is_some_and(|ledger| {
                    let member = ledger
                        .members
                        .iter()
                        .any(|entry| entry.address == message.yiaddr && self.names.contains(&(message.chaddr, entry.node)));
                    member || ledger.strangers.iter().any(|entry| entry.address == message.yiaddr && entry.mac == message.chaddr)
                });
                if bound { Ok(()) } else { Err(format!("3: {} was acknowledged and is not on the disk", message.yiaddr)) }
            }
            Body::Mdns { message, .. } if message.response => {
                for notice in notice::read(&message.answers, seals).0 {
                    let backed = membership.is_some_and(|membership| membership.incarnation == notice.incarnation)
                        && disk.is_some_and(|disk| disk.node == notice.node)
                        && (notice.service == Service::Leader
                            || membership.is_some_and(|membership| membership.address == Some(notice.address)));
                    let leads = notice.service == Service::Member || ledger.is_some();
                    // A last word is of what was given up just before.
                    if !(notice.leaving || (backed && leads)) {
                        return Err(format!("3: {notice:?} was told and is not on the disk"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Rule 3 again: an address is used once it is remembered. And rule 2: it stays the same.
    pub fn took(&mut self, address: Ipv4Addr, disk: Option<&Record>) -> Result<(), String> {
        let membership = disk.and_then(|record| record.membership.as_ref());
        let right = membership.is_some_and(|membership| match address {
            LEADER => membership.founder.is_some(),
            _ => membership.address == Some(address),
        });
        if !right {
            return Err(format!("3: {address} is in use and not on the disk"));
        }
        let (Some(record), Some(membership)) = (disk, membership) else { return Ok(()) };
        if address == LEADER {
            return Ok(());
        }
        let before = *self.addresses.entry((record.node, membership.incarnation)).or_insert(address);
        if before == address {
            Ok(())
        } else {
            Err(format!(
                "2: node {:?} had {before} in incarnation {:?} and has {address} now",
                record.node, membership.incarnation
            ))
        }
    }
}
