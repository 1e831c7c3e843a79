//! The client: RFC 2131, section 4.4, with the acknowledged address probed as RFC 5227 has it.
//!
//! Deviations, all of them because both ends are usually ours and a person waits for the lights to come up:
//!
//! - no random wait before the first message (section 4.4.1 has 1 to 10 s): founding has spread the nodes already;
//! - the first repetitions come after 500 ms, 1 s and 2 s, and none later than 16 s after the one before (section 4.1 has 4 s to
//!   64 s), each up to an eighth earlier or later;
//! - three probes 200 ms apart, none before (RFC 5227 has 1 to 2 s between them and up to 1 s before);
//! - 1 s of waiting after a DHCPDECLINE to a server of ours; 10 s, as section 3.1 has it, after one to any other.
//!
//! The address is not defended here: the kernel answers for it.

mod message;
#[cfg(test)]
mod tests;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use self::message::{Granted, client_id};
use super::{Seal, arp_packet, dhcp_packet, open};
use crate::{
    identity::{Incarnation, NodeId},
    key::Seals,
    link::Mac,
    node::{Lease, Random},
    wire::{
        Arp, BROADCAST, Packet,
        dhcp::{Kind, Message},
    },
};

/// The first wait for an answer; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait for an answer.
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// How often a DHCPREQUEST is sent in REQUESTING and INIT-REBOOT before beginning anew.
const REQUESTS: u32 = 4;
/// The shortest time between two requests in RENEWING and REBINDING (section 4.4.5).
const RENEWAL_WAIT: Duration = Duration::from_secs(60);
const PROBES: u32 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Before beginning anew after a DHCPNAK, so that a server that always refuses is asked once a second.
const AFTER_NAK: Duration = Duration::from_secs(1);
const AFTER_DECLINE: Duration = Duration::from_secs(1);
const AFTER_FOREIGN_DECLINE: Duration = Duration::from_secs(10);

/// What a client starts with.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The hardware address of the cluster's interface.
    pub mac: Mac,
    /// Who asks.
    pub node: NodeId,
    /// What tells right servers from others. None: any server will do, as any other DHCP client has it.
    pub seals: Option<Seals>,
    /// The founding that the node belongs to: only a reply sealed with this one is accepted. None: that of any, until bound.
    pub incarnation: Option<Incarnation>,
    /// The address that the interface holds already: whoever says so has probed it and defends it. It is asked for first, and
    /// taken without another probe: it may be contested where two clusters meet, and is ours for life all the same.
    pub held: Option<Ipv4Addr>,
    /// Its host name.
    pub name: String,
}

/// What to do about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send a packet.
    Send(Packet),
    /// There is an address, and it was probed. Comes again before [`ClientOutput::Renewed`] where more than the time changed:
    /// another node serves now.
    Bound {
        /// The address.
        address: Ipv4Addr,
        /// The length of its network's prefix.
        prefix: u8,
        /// Its lease.
        lease: Lease,
        /// The founding that the server serves.
        incarnation: Option<Incarnation>,
        /// The server.
        server: Ipv4Addr,
        /// Who the server is.
        seal: Option<Seal>,
    },
    /// The address has more time.
    Renewed {
        /// Its lease now.
        lease: Lease,
    },
    /// There is no address any more. The client goes on asking for one.
    Lost {
        /// Why.
        reason: String,
    },
    /// Somebody else has the address that the server gave; it was told. The client asks for another one.
    Declined {
        /// The address.
        address: Ipv4Addr,
    },
}

/// The client. It asks until it is released.
#[derive(Clone, Debug)]
pub struct Client {
    setup: ClientSetup,
    /// The founding that is accepted: the one of the setup, or the one that it was first bound in.
    incarnation: Option<Incarnation>,
    /// The address that it asks for.
    wish: Option<Ipv4Addr>,
    state: State,
}

/// The states of RFC 2131, figure 5, and PROBING between the acknowledgement and BOUND, for an address that is not held yet.
///
/// ```text
///  INIT-REBOOT ──ACK───────────────────────┐
///    │ NAK, silence                        v
///  INIT ──> SELECTING ──> REQUESTING ──> PROBING ──> BOUND ──T1──> RENEWING ──T2──> REBINDING
///    ^            ^ silence │ NAK          │ conflict  ^               │ ACK             │ ACK
///    │            └─────────┤              │           └───────────────┴─────────────────┤
///    └──────────────────────┴──────────────┴──────── NAK, end of the lease ──────────────┘
/// ```
#[derive(Clone, Debug)]
enum State {
    /// INIT: waits before it asks again.
    Init { at: Instant },
    /// SELECTING: takes the first offer that is right.
    Selecting(Exchange),
    /// REQUESTING: asks for what was offered.
    Requesting(Exchange, Offer),
    /// REBOOTING: asks for the address that it had.
    Rebooting(Exchange, Ipv4Addr),
    /// PROBING: asks on the wire whether somebody has the address.
    Probing { held: Held, sent: u32, next: Instant },
    /// BOUND.
    Bound(Held),
    /// RENEWING: asks the server for more time.
    Renewing(Held, Exchange),
    /// REBINDING: asks any server for more time.
    Rebinding(Held, Exchange),
    /// Released.
    Stopped,
}

/// Messages of one transaction.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    xid: u32,
    /// When the first one was sent: leases count from then.
    begun: Instant,
    sent: u32,
    next: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
    seal: Option<Seal>,
}

/// An address with everything that a server said about it.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The last transaction: what is said without being asked takes the next number.
    xid: u32,
    address: Ipv4Addr,
    prefix: u8,
    server: Ipv4Addr,
    server_mac: Mac,
    seal: Option<Seal>,
    lease: Lease,
}

impl Client {
    /// A client that just started: INIT-REBOOT where it holds an address, otherwise SELECTING.
    pub fn start(setup: ClientSetup, now: Instant, random: &mut Random, out: &mut Vec<ClientOutput>) -> Self {
        let (incarnation, wish) = (setup.incarnation, setup.held);
        let mut client = Self { setup, incarnation, wish, state: State::Init { at: now } };
        match wish {
            Some(address) => client.state = State::Rebooting(Exchange::begin(now, random), address),
            None => client.state = State::Selecting(Exchange::begin(now, random)),
        }
        client.send(now, out);
        client
    }

    /// Takes a message that came from `source`. What is not for this client, or not sealed right, changes nothing.
    pub fn handle(&mut self, now: Instant, source: Mac, message: &Message, random: &mut Random, out: &mut Vec<ClientOutput>) {
        let Some(seal) = self.accept(message) else { return };
        match (&self.state, message.kind) {
            (State::Selecting(exchange), Kind::Offer) if exchange.xid == message.xid => {
                let Some(granted) = Granted::read(message) else { return };
                let offer = Offer { address: granted.address, server: granted.server, seal };
                // The transaction goes on; only its times begin anew (section 4.4.1).
                let exchange = Exchange { xid: message.xid, ..Exchange::begin(now, random) };
                self.state = State::Requesting(exchange, offer);
                self.send(now, out);
            }
            (State::Requesting(exchange, offer), Kind::Ack) if exchange.xid == message.xid => {
                let (begun, offer) = (exchange.begun, *offer);
                let Some(granted) = Granted::read(message) else { return };
                let same = granted.address == offer.address
                    && granted.server == offer.server
                    && incarnation_of(seal) == incarnation_of(offer.seal);
                if same {
                    self.probe(now, granted.held(message.xid, begun, source, seal), out);
                }
            }
            (State::Rebooting(exchange, address), Kind::Ack) if exchange.xid == message.xid => {
                let (begun, address) = (exchange.begun, *address);
                let granted = Granted::read(message).filter(|granted| granted.address == address);
                if let Some(granted) = granted {
                    self.probe(now, granted.held(message.xid, begun, source, seal), out);
                }
            }
            (State::Renewing(held, exchange) | State::Rebinding(held, exchange), Kind::Ack) if exchange.xid == message.xid => {
                let (before, begun) = (*held, exchange.begun);
                let granted = Granted::read(message).filter(|granted| granted.address == before.address);
                // Past its end only the timeout, which is due, has a say.
                let Some(granted) = granted.filter(|_| now < before.lease.ends_at) else { return };
                let held = granted.held(message.xid, begun, source, seal);
                self.state = State::Bound(held);
                if (held.prefix, held.server, held.seal) != (before.prefix, before.server, before.seal) {
                    out.push(held.bound());
                }
                out.push(ClientOutput::Renewed { lease: held.lease });
            }
            (State::Requesting(exchange, offer), Kind::Nak)
                if exchange.xid == message.xid && incarnation_of(seal) == incarnation_of(offer.seal) =>
            {
                self.refused(now);
            }
            (State::Rebooting(exchange, _), Kind::Nak) if exchange.xid == message.xid => self.refused(now),
            (State::Renewing(_, exchange) | State::Rebinding(_, exchange), Kind::Nak) if exchange.xid == message.xid => {
                self.refused(now);
                let text = message.text.as_deref().unwrap_or("no reason given");
                out.push(ClientOutput::Lost { reason: format!("the server refuses to renew the lease: {text}") });
            }
            _ => {}
        }
    }

    /// Takes an ARP packet, which is not one of ours.
    pub fn arp(&mut self, now: Instant, arp: &Arp, out: &mut Vec<ClientOutput>) {
        if arp.sender_mac == self.setup.mac {
            return;
        }
        match &mut self.state {
            State::Probing { held, .. } => {
                let address = held.address;
                let taken = arp.sender == address || (arp.is_probe() && arp.target == address);
                if taken {
                    let held = *held;
                    self.decline(now, held, out);
                }
            }
            // The leader's address moved: renewals go where it is now.
            State::Bound(held) | State::Renewing(held, _) if arp.sender == held.server => held.server_mac = arp.sender_mac,
            _ => {}
        }
    }

    /// The time that [`Client::next_timeout`] named has come. Calling it earlier changes nothing.
    pub fn timeout(&mut self, now: Instant, random: &mut Random, out: &mut Vec<ClientOutput>) {
        if self.next_timeout().is_none_or(|at| now < at) {
            return;
        }
        if self.lease().is_some_and(|lease| lease.ends_at <= now) {
            self.state = State::Selecting(Exchange::begin(now, random));
            out.push(ClientOutput::Lost { reason: "the lease ended and no server renewed it".into() });
            self.send(now, out);
            return;
        }
        match &mut self.state {
            State::Init { .. } => self.state = State::Selecting(Exchange::begin(now, random)),
            State::Selecting(exchange) => exchange.again(now, random),
            State::Requesting(exchange, _) | State::Rebooting(exchange, _) => {
                if exchange.sent < REQUESTS {
                    exchange.again(now, random);
                } else {
                    self.state = State::Selecting(Exchange::begin(now, random));
                }
            }
            State::Probing { held, sent, next, .. } => {
                if *sent < PROBES {
                    *sent += 1;
                    *next = now + PROBE_INTERVAL;
                } else {
                    let held = *held;
                    self.bind(held, out);
                    return;
                }
            }
            State::Bound(held) | State::Renewing(held, _) | State::Rebinding(held, _) => {
                let held = *held;
                let rebinding = held.lease.rebind_at <= now;
                let until = if rebinding { held.lease.ends_at } else { held.lease.rebind_at };
                // A new transaction each time: the answer says from when the lease counts.
                let wait = (until.saturating_duration_since(now) / 2).max(RENEWAL_WAIT);
                let exchange = Exchange { next: until.min(now + wait), ..Exchange::begin(now, random) };
                self.state = if rebinding { State::Rebinding(held, exchange) } else { State::Renewing(held, exchange) };
            }
            State::Stopped => return,
        }
        self.send(now, out);
    }

    /// When to call `timeout`.
    pub fn next_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Init { at } => Some(*at),
            State::Selecting(exchange) | State::Requesting(exchange, _) | State::Rebooting(exchange, _) => Some(exchange.next),
            State::Probing { next, .. } => Some(*next),
            State::Bound(held) => Some(held.lease.renew_at),
            State::Renewing(held, exchange) => Some(exchange.next.min(held.lease.rebind_at)),
            State::Rebinding(held, exchange) => Some(exchange.next.min(held.lease.ends_at)),
            State::Stopped => None,
        }
    }

    /// Gives the address back and ends: nothing is asked any more. There is no [`ClientOutput::Lost`] for what was asked for.
    pub fn release(&mut self, _now: Instant, out: &mut Vec<ClientOutput>) {
        let state = std::mem::replace(&mut self.state, State::Stopped);
        if let State::Bound(held) | State::Renewing(held, _) | State::Rebinding(held, _) = state {
            let xid = held.xid.wrapping_add(1);
            let message = Message { ciaddr: held.address, server: Some(held.server), ..self.message(Kind::Release, xid) };
            out.push(self.unicast(held, message));
        }
    }

    /// Leaves `address` to somebody with a better right to it, and ends: the server, at `server`, is told that it is in use.
    pub fn give_up(&mut self, address: Ipv4Addr, server: Ipv4Addr, out: &mut Vec<ClientOutput>) {
        let message = Message { requested: Some(address), server: Some(server), ..self.message(Kind::Decline, 0) };
        out.push(self.broadcast(message, self.incarnation));
        self.state = State::Stopped;
    }

    /// The lease, where there is one.
    pub fn lease(&self) -> Option<Lease> {
        match &self.state {
            State::Bound(held) | State::Renewing(held, _) | State::Rebinding(held, _) => Some(held.lease),
            _ => None,
        }
    }

    /// Who sealed `message`, if it is for this client and right; the inner none where no seals are asked for.
    fn accept(&self, message: &Message) -> Option<Option<Seal>> {
        let ours = client_id(self.setup.node);
        let same_id = message.client_id.as_ref().is_none_or(|id| *id == ours);
        if !message.is_reply() || message.chaddr != self.setup.mac || !same_id {
            return None;
        }
        let Some(seals) = &self.setup.seals else { return Some(None) };
        let seal = open(seals, message)?;
        let named = seal.incarnation?;
        self.incarnation.is_none_or(|own| own == named).then_some(Some(seal))
    }

    fn probe(&mut self, now: Instant, held: Held, out: &mut Vec<ClientOutput>) {
        if self.setup.held == Some(held.address) {
            return self.bind(held, out);
        }
        self.state = State::Probing { held, sent: 1, next: now + PROBE_INTERVAL };
        self.send(now, out);
    }

    fn decline(&mut self, now: Instant, held: Held, out: &mut Vec<ClientOutput>) {
        let message = Message {
            requested: Some(held.address),
            server: Some(held.server),
            ..self.message(Kind::Decline, held.xid.wrapping_add(1))
        };
        out.push(self.broadcast(message, incarnation_of(held.seal)));
        out.push(ClientOutput::Declined { address: held.address });
        let wait = if self.setup.seals.is_some() { AFTER_DECLINE } else { AFTER_FOREIGN_DECLINE };
        self.wish = None;
        self.state = State::Init { at: now + wait };
    }

    fn bind(&mut self, held: Held, out: &mut Vec<ClientOutput>) {
        self.incarnation = incarnation_of(held.seal);
        self.wish = Some(held.address);
        self.setup.held = None;
        self.state = State::Bound(held);
        out.push(held.bound());
        out.push(ClientOutput::Send(arp_packet(Arp::announcement(self.setup.mac, held.address))));
    }

    fn refused(&mut self, now: Instant) {
        self.wish = None;
        self.state = State::Init { at: now + AFTER_NAK };
    }

    /// Sends what the state calls for.
    fn send(&mut self, now: Instant, out: &mut Vec<ClientOutput>) {
        let secs = |begun: Instant| u16::try_from(now.saturating_duration_since(begun).as_secs()).unwrap_or(u16::MAX);
        let packet = match &self.state {
            State::Selecting(exchange) => {
                let message = self.message(Kind::Discover, exchange.xid);
                let message = Message { requested: self.wish, secs: secs(exchange.begun), ..message };
                self.broadcast(message, self.incarnation)
            }
            State::Requesting(exchange, offer) => {
                let message = self.message(Kind::Request, exchange.xid);
                let (requested, server) = (Some(offer.address), Some(offer.server));
                let message = Message { requested, server, secs: secs(exchange.begun), ..message };
                self.broadcast(message, incarnation_of(offer.seal))
            }
            State::Rebooting(exchange, address) => {
                let message = self.message(Kind::Request, exchange.xid);
                let message = Message { requested: Some(*address), secs: secs(exchange.begun), ..message };
                self.broadcast(message, self.incarnation)
            }
            State::Probing { held, .. } => ClientOutput::Send(arp_packet(Arp::probe(self.setup.mac, held.address))),
            State::Renewing(held, exchange) => {
                self.unicast(*held, Message { ciaddr: held.address, ..self.message(Kind::Request, exchange.xid) })
            }
            State::Rebinding(held, exchange) => {
                let message = Message { ciaddr: held.address, ..self.message(Kind::Request, exchange.xid) };
                let message = self.sealed(message, self.incarnation);
                let to = (BROADCAST, Ipv4Addr::BROADCAST);
                ClientOutput::Send(dhcp_packet((self.setup.mac, held.address), to, message))
            }
            State::Init { .. } | State::Bound(_) | State::Stopped => return,
        };
        out.push(packet);
    }

    fn broadcast(&self, message: Message, incarnation: Option<Incarnation>) -> ClientOutput {
        let message = self.sealed(message, incarnation);
        let from = (self.setup.mac, Ipv4Addr::UNSPECIFIED);
        ClientOutput::Send(dhcp_packet(from, (BROADCAST, Ipv4Addr::BROADCAST), message))
    }

    fn unicast(&self, held: Held, message: Message) -> ClientOutput {
        let message = self.sealed(message, self.incarnation);
        ClientOutput::Send(dhcp_packet((self.setup.mac, held.address), (held.server_mac, held.server), message))
    }
}

impl Exchange {
    fn begin(now: Instant, random: &mut Random) -> Self {
        let xid = u32::from_be_bytes(random.bytes());
        Self { xid, begun: now, sent: 1, next: now + wait(1, random) }
    }

    fn again(&mut self, now: Instant, random: &mut Random) {
        self.sent = self.sent.saturating_add(1);
        self.next = now + wait(self.sent, random);
    }
}

impl Held {
    fn bound(self) -> ClientOutput {
        ClientOutput::Bound {
            address: self.address,
            prefix: self.prefix,
            lease: self.lease,
            incarnation: incarnation_of(self.seal),
            server: self.server,
            seal: self.seal,
        }
    }
}

/// How long to wait after the `sent`th message, an eighth more or less.
fn wait(sent: u32, random: &mut Random) -> Duration {
    let doubled = FIRST_WAIT * 2u32.pow(sent.saturating_sub(1).min(5));
    let base = doubled.min(LONGEST_WAIT);
    base - base / 8 + random.up_to(base / 4)
}

fn incarnation_of(seal: Option<Seal>) -> Option<Incarnation> {
    seal.and_then(|seal| seal.incarnation)
}
