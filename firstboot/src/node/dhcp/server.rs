//! The server: RFC 2131, section 4.3, on the leader.
//!
//! Members, who seal their messages, have an address for life. It is bound when they ask for it, not when it is offered, and kept
//! before it is acknowledged. Strangers, who do not, are lent one of a few addresses for minutes, probed before it is offered; what
//! they send can never take an address from the members' range, and is answered without a seal, so that nobody gets one for words of
//! his own choice. A message whose seal is wrong is not answered at all. All memory is bounded.

mod foreign;
mod members;
mod strangers;
#[cfg(test)]
mod tests;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use self::{
    foreign::Foreign,
    members::{Answer, Members},
    strangers::{Bound, Strangers},
};
use super::{Seal, arp_packet, dhcp_packet, open, seal};
use crate::{
    config::{Addresses, HostRange, LeaseTime, Subnet},
    identity::{Incarnation, NodeId},
    key::Seals,
    link::Mac,
    record::Ledger,
    wire::{
        Arp, BROADCAST, Packet,
        dhcp::{Kind, Message},
    },
};

/// A stranger's lease, in seconds; T1 is half of it.
const STRANGER_LEASE: u32 = 600;

/// What a server starts with.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// The subnet and its parts.
    pub addresses: Addresses,
    /// How long a member's lease lasts.
    pub lease: LeaseTime,
    /// Who has which address. Entries that do not fit `addresses` are left out: their owners get a new one.
    pub ledger: Ledger,
    /// The node that the server runs on.
    pub own: (NodeId, Mac),
    /// Its host name.
    pub own_name: String,
    /// The founding that it serves.
    pub incarnation: Incarnation,
    /// What tells members from strangers.
    pub seals: Seals,
}

/// The shortest time between two lines about addresses for strangers that somebody else has.
const CONFLICTS: Duration = Duration::from_secs(60);

/// What to do about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// Keep [`Server::ledger`] before doing anything that follows.
    Persist,
    /// Send a packet.
    Send(Packet),
    /// Something that is worth a line in the log.
    Log(String),
}

/// The server.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    lease: LeaseTime,
    own: (NodeId, Mac),
    incarnation: Incarnation,
    seals: Seals,
    members: Members,
    strangers: Strangers,
    foreign: Foreign,
    /// The other server that was last logged.
    rival: Option<Ipv4Addr>,
    /// When a conflict over an address for a stranger was last logged.
    conflict_at: Option<Instant>,
}

/// What a reply promises.
#[derive(Clone, Copy, Debug)]
struct Terms {
    lease: u32,
    renewal: u32,
    rebinding: u32,
}

impl Server {
    /// A server that just started. The node that it runs on has an entry from then on; nothing else in the ledger changes but
    /// what does not fit.
    pub fn start(setup: ServerSetup, now: Instant) -> Self {
        let ServerSetup { addresses, lease, ledger, own, own_name, incarnation, seals } = setup;
        let foreign = Foreign::default();
        let mut members = Members::new(addresses, ledger.members);
        members.own_entry(now, own, own_name, &foreign);
        let strangers = Strangers::new(addresses, ledger.strangers, now);
        Self { addresses, lease, own, incarnation, seals, members, strangers, foreign, rival: None, conflict_at: None }
    }

    /// Takes a message that came from `source` and `source_ip`.
    pub fn handle(&mut self, now: Instant, source: Mac, source_ip: Ipv4Addr, message: &Message, out: &mut Vec<ServerOutput>) {
        self.expire(now);
        let [first, ..] = message.chaddr.0;
        let is_host = first & 1 == 0 && message.chaddr.0 != [0; 6];
        if source == self.own.1 || message.chaddr == self.own.1 || !is_host {
            return;
        }
        if message.is_reply() {
            if self.rival != Some(source_ip) {
                self.rival = Some(source_ip);
                out.push(ServerOutput::Log(format!("another DHCP server answers here: {source_ip} at {source}")));
            }
            return;
        }
        if message.seal.is_none() {
            return self.stranger(now, message, out);
        }
        let Some(who) = open(&self.seals, message) else { return };
        if who.incarnation.is_none_or(|incarnation| incarnation == self.incarnation) {
            self.member(now, who.node, message, out);
        }
    }

    /// Takes an ARP packet.
    pub fn arp(&mut self, now: Instant, arp: &Arp, out: &mut Vec<ServerOutput>) {
        self.expire(now);
        let address = if arp.is_probe() { arp.target } else { arp.sender };
        let subnet = self.addresses.subnet();
        let number = subnet.number(address);
        let lent = self.addresses.member_range().contains(number) || self.addresses.stranger_range().contains(number);
        if arp.sender_mac == self.own.1 || !subnet.contains(address) || !lent {
            return;
        }
        if let Some(mac) = self.strangers.conflict(address, arp.sender_mac) {
            // Whoever forges frames must not push the story of the boot out of the log.
            if self.conflict_at.is_none_or(|at| now >= at + CONFLICTS) {
                self.conflict_at = Some(now);
                let taken = format!("{address} was about to be lent to {mac}, but {} has it", arp.sender_mac);
                out.push(ServerOutput::Log(taken));
            }
        }
        let known = self.members.has(address) || self.members.knows(arp.sender_mac) || self.strangers.has(address);
        if !known {
            self.foreign.seen(now, address, Some(arp.sender_mac));
        }
    }

    /// The time that [`Server::next_timeout`] named has come. Calling it earlier changes nothing.
    pub fn timeout(&mut self, now: Instant, out: &mut Vec<ServerOutput>) {
        self.expire(now);
        for offer in self.strangers.probed(now) {
            out.push(self.reply(&offer, true));
        }
    }

    /// When to call [`Server::timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        self.strangers.next_timeout()
    }

    /// Who has which address: what [`ServerOutput::Persist`] keeps.
    pub fn ledger(&self) -> Ledger {
        Ledger { members: self.members.entries().to_vec(), strangers: self.strangers.entries() }
    }

    /// The address of the node that the server runs on; the leader's where the members' range has no room for it.
    pub fn own_address(&self) -> Ipv4Addr {
        self.members.address(self.own.0).unwrap_or_else(|| self.addresses.leader())
    }

    /// How many addresses are lent to strangers.
    pub fn strangers(&self) -> usize {
        self.strangers.len()
    }

    /// What is wrong and what a person can do.
    pub fn complaint(&self) -> Option<String> {
        self.members.complaint().or_else(|| self.strangers.complaint())
    }

    fn expire(&mut self, now: Instant) {
        self.foreign.expire(now);
        self.members.expire(now);
        self.strangers.expire(now);
    }

    fn member(&mut self, now: Instant, node: NodeId, message: &Message, out: &mut Vec<ServerOutput>) {
        if node == self.own.0 {
            let copy = format!("{} says that it is this node: its card is a copy of this one's", message.chaddr);
            return out.push(ServerOutput::Log(copy));
        }
        match message.kind {
            Kind::Discover => {
                let Some(address) = self.members.offer(now, node, message.chaddr, &self.foreign) else { return };
                let offer = self.granted(Kind::Offer, message, address, self.member_terms());
                out.push(self.reply(&offer, false));
            }
            Kind::Request => {
                let Some(form) = self.form(message) else { return };
                if form == Form::Elsewhere {
                    return self.members.forget_offer(node);
                }
                match self.members.request(now, node, message, form, &self.foreign) {
                    Answer::Silence => {}
                    Answer::Nak(why) => out.push(self.nak(message, why, false)),
                    Answer::Ack { address, new } => {
                        if new {
                            out.push(ServerOutput::Persist);
                            out.push(ServerOutput::Log(format!("{address} is node {node:?}'s, at {}", message.chaddr)));
                        }
                        let ack = self.granted(Kind::Ack, message, address, self.member_terms());
                        out.push(self.reply(&ack, false));
                    }
                }
            }
            Kind::Decline => {
                let Some(address) = message.requested.filter(|_| self.names_us(message)) else { return };
                if self.members.address(node) != Some(address) {
                    return;
                }
                self.foreign.declined(now, address);
                if let Some(instead) = self.members.rebind(now, node, message.chaddr, &self.foreign) {
                    out.push(ServerOutput::Persist);
                    let moved = format!("somebody without the key has {address}: node {node:?} gets {instead}");
                    out.push(ServerOutput::Log(moved));
                }
            }
            Kind::Inform => self.inform(message, false, out),
            // For life: a member that leaves for the night finds its address again.
            Kind::Release | Kind::Offer | Kind::Ack | Kind::Nak => {}
        }
    }

    fn stranger(&mut self, now: Instant, message: &Message, out: &mut Vec<ServerOutput>) {
        let mac = message.chaddr;
        match message.kind {
            Kind::Discover => {
                if let Some(address) = self.strangers.offered(mac) {
                    let offer = self.granted(Kind::Offer, message, address, STRANGER);
                    self.strangers.refresh(mac, &offer);
                    return out.push(self.reply(&offer, true));
                }
                let Some(address) = self.strangers.choose(mac, message.requested, &self.foreign) else { return };
                let offer = self.granted(Kind::Offer, message, address, STRANGER);
                if self.strangers.pend(now, offer) {
                    let probe = Arp::probe(self.own.1, address);
                    out.push(ServerOutput::Send(arp_packet(probe)));
                }
            }
            Kind::Request => {
                let Some(form) = self.form(message) else { return };
                let Form::Here(address) = form else {
                    match form {
                        Form::Elsewhere => self.strangers.withdraw(mac),
                        Form::Again(address) => match self.strangers.renew(now, mac, address) {
                            Some(true) => {
                                let ack = self.granted(Kind::Ack, message, address, STRANGER);
                                out.push(self.reply(&ack, true));
                            }
                            Some(false) => out.push(self.nak(message, "you have another address", true)),
                            None => {}
                        },
                        Form::Here(_) => {}
                    }
                    return;
                };
                match self.strangers.bind(now, mac, address) {
                    Bound::Old => {}
                    Bound::New => {
                        out.push(ServerOutput::Persist);
                        out.push(ServerOutput::Log(format!("{address} is lent to {mac}, which has no key")));
                    }
                    Bound::TooSoon => return,
                    Bound::No => return out.push(self.nak(message, "that address was not offered to you", true)),
                }
                let ack = self.granted(Kind::Ack, message, address, STRANGER);
                out.push(self.reply(&ack, true));
            }
            Kind::Decline => {
                let Some(address) = message.requested.filter(|_| self.names_us(message)) else { return };
                if self.strangers.free(mac, address) {
                    // Probed again before it is lent again: a note that anybody can make needs no more weight.
                    self.foreign.seen(now, address, None);
                }
            }
            Kind::Release => {
                self.strangers.free(mac, message.ciaddr);
            }
            Kind::Inform => self.inform(message, true, out),
            Kind::Offer | Kind::Ack | Kind::Nak => {}
        }
    }

    fn inform(&self, message: &Message, stranger: bool, out: &mut Vec<ServerOutput>) {
        if self.addresses.subnet().contains(message.ciaddr) {
            let ack = Message { ciaddr: message.ciaddr, ..self.answer(Kind::Ack, message) };
            out.push(self.reply(&ack, stranger));
        }
    }

    fn names_us(&self, message: &Message) -> bool {
        message.server.is_none_or(|server| server == self.addresses.leader())
    }

    /// Which of the requests of RFC 2131, table 4, this is; none: no such one.
    fn form(&self, message: &Message) -> Option<Form> {
        match (message.server, message.requested, message.ciaddr) {
            (Some(server), _, _) if server != self.addresses.leader() => Some(Form::Elsewhere),
            (Some(_), Some(requested), Ipv4Addr::UNSPECIFIED) => Some(Form::Here(requested)),
            (None, Some(requested), Ipv4Addr::UNSPECIFIED) => Some(Form::Again(requested)),
            (None, None, ciaddr) if !ciaddr.is_unspecified() => Some(Form::Again(ciaddr)),
            _ => None,
        }
    }

    fn member_terms(&self) -> Terms {
        let lease = self.lease.as_secs();
        Terms { lease, renewal: lease / 2, rebinding: lease - lease / 8 }
    }

    /// An answer with what every one of them says: mask and broadcast address, and who we are. No router, no DNS server.
    fn answer(&self, kind: Kind, to: &Message) -> Message {
        let subnet = self.addresses.subnet();
        let mut message = Message::new(kind, to.xid, to.chaddr);
        message.broadcast = to.broadcast;
        // RFC 6842.
        message.client_id.clone_from(&to.client_id);
        message.server = Some(self.addresses.leader());
        message.mask = Some(Ipv4Addr::from(!subnet.broadcast_number()));
        message.broadcast_address = Some(subnet.broadcast());
        message
    }

    fn granted(&self, kind: Kind, to: &Message, address: Ipv4Addr, terms: Terms) -> Message {
        let mut message = self.answer(kind, to);
        message.yiaddr = address;
        if kind == Kind::Ack {
            message.ciaddr = to.ciaddr;
        }
        (message.lease, message.renewal, message.rebinding) = (Some(terms.lease), Some(terms.renewal), Some(terms.rebinding));
        message
    }

    fn nak(&self, to: &Message, why: &str, stranger: bool) -> ServerOutput {
        let mut message = self.answer(Kind::Nak, to);
        (message.mask, message.broadcast_address) = (None, None);
        message.text = Some(why.into());
        self.reply(&message, stranger)
    }

    /// `message` to where RFC 2131, section 4.1, has it.
    fn reply(&self, message: &Message, stranger: bool) -> ServerOutput {
        let mut message = message.clone();
        let to = if message.kind == Kind::Nak {
            (BROADCAST, Ipv4Addr::BROADCAST)
        } else if !message.ciaddr.is_unspecified() {
            (message.chaddr, message.ciaddr)
        } else if message.broadcast {
            (BROADCAST, Ipv4Addr::BROADCAST)
        } else {
            (message.chaddr, message.yiaddr)
        };
        if !stranger {
            seal(&self.seals, &mut message, &Seal { node: self.own.0, incarnation: Some(self.incarnation) });
        }
        ServerOutput::Send(dhcp_packet((self.own.1, self.addresses.leader()), to, message))
    }
}

const STRANGER: Terms =
    Terms { lease: STRANGER_LEASE, renewal: STRANGER_LEASE / 2, rebinding: STRANGER_LEASE - STRANGER_LEASE / 8 };

/// A DHCPREQUEST, by what the client says with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// SELECTING: takes our offer of this address.
    Here(Ipv4Addr),
    /// SELECTING: takes another server's offer.
    Elsewhere,
    /// INIT-REBOOT, RENEWING, REBINDING: has, or had, this address.
    Again(Ipv4Addr),
}

/// Addresses of `range` in the order in which `mac` gets them: from the first four bytes of its SHA-256 on, and around.
fn candidates(subnet: Subnet, range: HostRange, mac: Mac) -> impl Iterator<Item = Ipv4Addr> {
    let count = range.last() - range.first() + 1;
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(mac.0));
    let start = u32::from_be_bytes([a, b, c, d]) % count;
    (0..count).filter_map(move |step| subnet.address(range.first() + (start + step) % count))
}

/// A time with `wait` added.
fn after(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}
