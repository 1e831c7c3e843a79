//! The members' addresses: for life, by node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Instant,
};

use super::{Form, after, candidates, foreign::Foreign};
use crate::{config::Addresses, identity::NodeId, link::Mac, record::MemberEntry, wire::dhcp::Message};

/// How long an offer is remembered, in seconds.
const OFFER: u64 = 30;
const MOST_OFFERS: usize = 64;

#[derive(Debug)]
pub(super) struct Members {
    addresses: Addresses,
    entries: Vec<MemberEntry>,
    offers: Vec<Offer>,
    /// Hardware addresses since the start, one a member.
    macs: BTreeMap<NodeId, Mac>,
    /// A new member found no address.
    full: bool,
}

#[derive(Debug)]
struct Offer {
    node: NodeId,
    address: Ipv4Addr,
    until: Instant,
}

/// What to say to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Silence,
    Nak(&'static str),
    Ack { address: Ipv4Addr, new: bool },
}

impl Members {
    /// Those of `entries` that fit: in the members' range, one address a node, one node an address.
    pub(super) fn new(addresses: Addresses, entries: Vec<MemberEntry>) -> Self {
        let (mut nodes, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let mut fits = |entry: &MemberEntry| {
            let subnet = addresses.subnet();
            let inside = subnet.contains(entry.address) && addresses.member_range().contains(subnet.number(entry.address));
            inside && !nodes.contains(&entry.node) && taken.insert(entry.address) && nodes.insert(entry.node)
        };
        let entries = entries.into_iter().filter(|entry| fits(entry)).collect();
        Self { addresses, entries, offers: Vec::new(), macs: BTreeMap::new(), full: false }
    }

    /// Makes the entry of the node that the server runs on, if there is none; keeps its name current.
    pub(super) fn own_entry(&mut self, now: Instant, (node, mac): (NodeId, Mac), name: String, foreign: &Foreign) {
        if let Some(address) = self.address(node).or_else(|| self.free(now, node, mac, foreign)) {
            self.set(node, address, Some(name));
        }
        self.macs.insert(node, mac);
    }

    pub(super) fn entries(&self) -> &[MemberEntry] {
        &self.entries
    }

    pub(super) fn address(&self, node: NodeId) -> Option<Ipv4Addr> {
        self.entries.iter().find(|entry| entry.node == node).map(|entry| entry.address)
    }

    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.entries.iter().any(|entry| entry.address == address) || self.offers.iter().any(|offer| offer.address == address)
    }

    pub(super) fn knows(&self, mac: Mac) -> bool {
        self.macs.values().any(|known| *known == mac)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.offers.retain(|offer| now < offer.until);
    }

    /// The address to offer to `node`.
    pub(super) fn offer(&mut self, now: Instant, node: NodeId, mac: Mac, foreign: &Foreign) -> Option<Ipv4Addr> {
        if let Some(address) = self.address(node) {
            return Some(address);
        }
        let address = self.free(now, node, mac, foreign)?;
        self.forget_offer(node);
        if self.offers.len() >= MOST_OFFERS {
            self.offers.remove(0);
        }
        self.offers.push(Offer { node, address, until: after(now, OFFER) });
        Some(address)
    }

    pub(super) fn forget_offer(&mut self, node: NodeId) {
        self.offers.retain(|offer| offer.node != node);
    }

    pub(super) fn request(&mut self, now: Instant, node: NodeId, message: &Message, form: Form, foreign: &Foreign) -> Answer {
        let address = match (form, self.address(node)) {
            (Form::Elsewhere, _) | (Form::Again(_), None) => return Answer::Silence,
            (Form::Here(asked) | Form::Again(asked), Some(bound)) if asked == bound => bound,
            (_, Some(_)) => return Answer::Nak("you have another address"),
            // Forgotten, it would be offered again.
            (Form::Here(asked), None) if self.free(now, node, message.chaddr, foreign) == Some(asked) => asked,
            (Form::Here(_), None) => return Answer::Nak("that address was not offered to you"),
        };
        self.forget_offer(node);
        self.macs.insert(node, message.chaddr);
        Answer::Ack { address, new: self.set(node, address, message.host_name.clone()) }
    }

    /// Another address for `node`; none where there is none.
    pub(super) fn rebind(&mut self, now: Instant, node: NodeId, mac: Mac, foreign: &Foreign) -> Option<Ipv4Addr> {
        let address = self.free(now, node, mac, foreign)?;
        self.set(node, address, None);
        Some(address)
    }

    pub(super) fn complaint(&self) -> Option<String> {
        let range = self.addresses.member_range();
        self.full.then(|| {
            format!(
                "a new node found no free address in members = \"{range}\": widen `members` in /etc/hcl/node.toml on every node"
            )
        })
    }

    #[cfg(test)]
    pub(super) fn offers(&self) -> usize {
        self.offers.len()
    }

    /// The address that was offered to `node`, or the next one that is free.
    fn free(&mut self, now: Instant, node: NodeId, mac: Mac, foreign: &Foreign) -> Option<Ipv4Addr> {
        let offered = self.offers.iter().find(|offer| offer.node == node && now < offer.until);
        if let Some(offer) = offered {
            return Some(offer.address);
        }
        let free = candidates(self.addresses.subnet(), self.addresses.member_range(), mac).filter(|address| !self.has(*address));
        let address = foreign.choose(mac, free);
        self.full = address.is_none();
        address
    }

    /// Whether something changed.
    fn set(&mut self, node: NodeId, address: Ipv4Addr, name: Option<String>) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.node == node) else {
            self.entries.push(MemberEntry { node, address, name: name.unwrap_or_default() });
            return true;
        };
        let name = name.unwrap_or_else(|| entry.name.clone());
        let changed = entry.address != address || entry.name != name;
        (entry.address, entry.name) = (address, name);
        changed
    }
}
