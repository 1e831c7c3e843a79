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
    record::{Holder, Ledger, Membership, Record},
    wire::{Body, Packet, dhcp, mdns::Service},
};

pub const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

/// What a run has seen so far.
#[derive(Default)]
pub struct Rules {
    /// Rule 2: a member keeps its address.
    addresses: BTreeMap<(NodeId, Incarnation), Ipv4Addr>,
    pub founded: BTreeSet<Incarnation>,
    /// Who led by a grant.
    pub led: BTreeSet<NodeId>,
    /// What its holder has declined.
    declined: BTreeSet<(Mac, Ipv4Addr)>,
    /// Whose address what is, as the last acknowledgement has it.
    acknowledged: BTreeMap<(Incarnation, Ipv4Addr), Holder>,
    /// Who was ever whose machine: a request may arrive after its sender became another node.
    pub names: BTreeSet<(Mac, NodeId)>,
}

impl Rules {
    /// A record came onto a card.
    pub fn persisted(&mut self, record: &Record) {
        let Some(membership) = &record.membership else { return };
        // Whoever joins another cluster gives up its address in the one before.
        self.addresses.retain(|(node, incarnation), _| *node != record.node || *incarnation == membership.incarnation);
        if membership.leads_by_right() {
            self.founded.insert(membership.incarnation);
        }
    }

    /// Rule 3: nothing is promised on the wire before it is on disk.
    /// With grants, nothing new before the quorum has it, which is `kept`.
    pub fn sent(&mut self, packet: &Packet, disk: Option<&Record>, kept: Option<&Ledger>, seals: &Seals) -> Result<(), String> {
        let membership = disk.and_then(|record| record.membership.as_ref());
        let ledger = membership.and_then(|membership| membership.ledger.as_ref());
        match &packet.body {
            Body::Dhcp { message, .. } if message.kind == dhcp::Kind::Ack && !message.yiaddr.is_unspecified() => {
                let address = message.yiaddr;
                let holder = ledger.and_then(|ledger| ledger.holder(address)).filter(|holder| match holder {
                    Holder::Member(node) => self.names.contains(&(message.chaddr, *node)),
                    Holder::Stranger(mac) => *mac == message.chaddr,
                });
                let (Some(holder), Some(membership)) = (holder, membership) else {
                    return Err(format!("3: {address} was acknowledged and is not on the disk"));
                };
                let before = self.acknowledged.get(&(membership.incarnation, address)).copied();
                // An answer to a request from before that: the client has another one by then.
                if !self.declined.contains(&(message.chaddr, address)) {
                    self.acknowledged.insert((membership.incarnation, address), holder);
                }
                // Before the first ledger is kept only the founder can lead, which has it on its card.
                let promised = before == Some(holder) || kept.is_none_or(|kept| kept.holder(address) == Some(holder));
                if membership.granted.is_some() && !promised {
                    return Err(format!("3: {address} was acknowledged and the quorum does not have it"));
                }
                Ok(())
            }
            // It gets another one: this one may be anybody's.
            Body::Dhcp { message, .. } if message.kind == dhcp::Kind::Decline => {
                let Some(declined) = message.requested else { return Ok(()) };
                let names = &self.names;
                self.addresses.retain(|(node, _), address| *address != declined || !names.contains(&(message.chaddr, *node)));
                self.declined.insert((message.chaddr, declined));
                self.acknowledged.retain(|(_, address), _| *address != declined);
                Ok(())
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
            LEADER => membership.ledger.is_some(),
            _ => membership.address == Some(address),
        });
        if !right {
            return Err(format!("3: {address} is in use and not on the disk"));
        }
        let (Some(record), Some(membership)) = (disk, membership) else { return Ok(()) };
        if address == LEADER {
            if membership.granted.is_some() {
                self.led.insert(record.node);
            }
            return self.nothing_is_lost(membership);
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

    /// Whoever leads knows all that was ever acknowledged to members.
    fn nothing_is_lost(&self, membership: &Membership) -> Result<(), String> {
        let Some(ledger) = &membership.ledger else { return Ok(()) };
        for ((incarnation, address), holder) in &self.acknowledged {
            let member = matches!(holder, Holder::Member(_)) && *incarnation == membership.incarnation;
            if member && ledger.holder(*address) != Some(*holder) {
                return Err(format!("2: {address} of {holder:?} was acknowledged, and whoever leads does not know it"));
            }
        }
        Ok(())
    }
}
