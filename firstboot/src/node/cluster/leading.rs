//! Leading: the address .1 that ends by itself, announcements, the DHCP server; and giving way.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    ARP_PROBES, ARP_ROUND, Cluster, DEFENCE, Heard, Phase, ROUND,
    arps::{Defence, concerns},
    quorum::Quorum,
};
use crate::{
    identity::Incarnation,
    link::Mac,
    marker::Marker,
    node::{
        Action,
        dhcp::{Client, ClientOutput, Seal, Server, ServerOutput, ServerSetup, seal},
        notice::Notice,
    },
    record::Ledger,
    wire::{
        Arp,
        dhcp::{Kind, Message},
        mdns::Service,
    },
};

/// For how long the kernel keeps .1 without hearing from us: a leader that hangs loses it.
pub(super) const LEADER_LIFETIME: Duration = Duration::from_secs(8);
/// How often it is given that time anew.
const REFRESH: Duration = Duration::from_secs(3);
/// How often a leader asks who is there and says that it is.
const QUERY: Duration = Duration::from_secs(20);
/// How often a new leader announces itself, 250 ms apart: as often as a claim asks, so that no claim overhears all of them.
const ANNOUNCEMENTS: u8 = 8;
/// How long giving way may take before we go on as we were.
const YIELD: Duration = Duration::from_secs(20);

/// The leader.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) server: Server,
    /// What a leader by grant has the quorum keep; none: it leads by right of its founding.
    pub(super) quorum: Option<Quorum>,
    /// The address that our frames carry until our own one was probed.
    temporary: Ipv4Addr,
    own: Own,
    refresh_at: Instant,
    query_at: Instant,
    announcements: u8,
    announce_at: Instant,
    defence: Defence,
    yielding: Option<Yielding>,
}

/// Our own member address.
#[derive(Clone, Copy, Debug)]
enum Own {
    Probing {
        sent: u8,
        next_at: Instant,
        /// Whether we had it before: then it is waited for, not given up.
        had: bool,
        /// Who has it meanwhile.
        taken: Option<Mac>,
    },
    Held(Ipv4Addr),
}

/// Asking the leader of another incarnation for an address, before we give up ours: only its sealed reply proves that it is there.
#[derive(Debug)]
struct Yielding {
    to: Incarnation,
    client: Client,
    until: Instant,
}

impl Leading {
    pub(super) fn own_address(&self) -> Option<Ipv4Addr> {
        match self.own {
            Own::Held(address) => Some(address),
            Own::Probing { .. } => None,
        }
    }

    /// Gives way to nobody: the cluster holds something now.
    pub(super) fn stay(&mut self) {
        self.yielding = None;
    }

    pub(super) fn source(&self) -> Ipv4Addr {
        self.own_address().unwrap_or(self.temporary)
    }

    /// Why we still have no address of our own, where that is somebody's doing.
    pub(super) fn complaint(&self) -> Option<String> {
        let Own::Probing { taken: Some(who), .. } = self.own else { return None };
        let address = self.server.own_address();
        Some(format!("{address}, this node's address, is in use by {who}: take that machine off this VLAN"))
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let own = match self.own {
            Own::Probing { next_at, .. } => Some(next_at),
            Own::Held(_) => None,
        };
        let announce = (self.announcements > 0).then_some(self.announce_at);
        let yielding = self.yielding.as_ref().map(|yielding| {
            let of_client = yielding.client.next_timeout();
            of_client.map_or(yielding.until, |at| at.min(yielding.until))
        });
        let quorum = self.quorum.as_ref().and_then(Quorum::next_timeout);
        [Some(self.refresh_at), Some(self.query_at), own, announce, self.server.next_timeout(), yielding, quorum]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Cluster {
    /// Leads from now on, by a grant with its `quorum`. `address` is the one that our frames carry: our own one already where we
    /// have come back with it.
    pub(super) fn lead(
        &mut self,
        now: Instant,
        address: Ipv4Addr,
        quorum: Option<Quorum>,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let (Some(server), Some(granted)) = (self.server(now), self.granted(now)) else { return };
        self.leader = None;
        let own = server.own_address();
        let before = self.membership().and_then(|membership| membership.address);
        let had = before == Some(own);
        self.keep_ledger(server.ledger(), own);
        if self.on_disk != self.record {
            self.persist(actions);
        }
        if own != address && before == Some(address) {
            // The quorum gave it to another member.
            actions.push(Action::DropAddress { address });
        }
        let leader = self.leader_address();
        let own = if own == address {
            self.hold(own, actions);
            Own::Held(own)
        } else {
            Own::Probing { sent: 0, next_at: now, had, taken: None }
        };
        actions.push(self.hold_leaders(own, granted));
        self.send_arp(Arp::announcement(self.mac(), leader), actions);
        self.told = None;
        actions.push(Action::Mark(Marker::Leader { address: leader }));
        let leading = Leading {
            server,
            quorum,
            temporary: address,
            own,
            refresh_at: now + REFRESH,
            query_at: now + QUERY,
            announcements: ANNOUNCEMENTS,
            announce_at: now,
            defence: Defence::default(),
            yielding: None,
        };
        self.go(now, Phase::Leading(Box::new(leading)), reason, actions);
        self.run_leading(now, actions);
    }

    fn server(&self, now: Instant) -> Option<Server> {
        let seals = self.seals.clone()?;
        let membership = self.membership()?;
        let setup = ServerSetup {
            addresses: self.config.addresses,
            lease: self.config.lease,
            ledger: membership.ledger.clone()?,
            own: (self.record.node, self.mac()),
            own_name: self.name(),
            incarnation: membership.incarnation,
            seals,
        };
        Some(Server::start(setup, now))
    }

    pub(super) fn restart_server(&mut self, now: Instant) {
        if let (Some(server), Phase::Leading(leading)) = (self.server(now), &mut self.phase) {
            leading.server = server;
            leading.quorum.iter_mut().for_each(Quorum::start_again);
        }
    }

    /// Takes the leader's address, or takes it for longer: alone (a prefix of 32 bits) beside our own one, so that whatever leaves
    /// by the route of the subnet carries our own. An overlay network's frames (VXLAN) must: the kernel drops those of a container
    /// that it knows behind another address (`vxlan_snoop` in drivers/net/vxlan).
    fn hold_leaders(&self, own: Own, granted: Duration) -> Action {
        let prefix = match own {
            Own::Held(_) => 32,
            Own::Probing { .. } => self.prefix(),
        };
        Action::SetAddress { address: self.leader_address(), prefix, valid_for: Some(granted.min(LEADER_LIFETIME)) }
    }

    /// Takes our own address once more: what stood after a write that failed was not done.
    pub(super) fn hold_own(&self, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &self.phase else { return };
        if let Some(own) = leading.own_address() {
            self.hold(own, actions);
        }
    }

    /// Takes the server's ledger and our own address in it into the record.
    fn keep_ledger(&mut self, ledger: Ledger, own: Ipv4Addr) {
        if let Some(membership) = &mut self.record.membership {
            membership.ledger = Some(ledger);
            membership.address = Some(own);
        }
    }

    pub(super) fn run_leading(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(granted) = self.granted(now) else { return self.step_down(now, actions) };
        let leader = self.leader_address();
        self.probe_own(now, actions);
        let Phase::Leading(leading) = &mut self.phase else { return };
        let refreshed = (now >= leading.refresh_at).then_some(leading.own);
        if refreshed.is_some() {
            leading.refresh_at = now + REFRESH;
        }
        let announces = leading.announcements > 0 && now >= leading.announce_at;
        if announces {
            leading.announcements -= 1;
            leading.announce_at = now + ROUND;
        }
        let queries = now >= leading.query_at;
        if queries {
            leading.query_at = now + QUERY;
        }
        let mut out = Vec::new();
        if leading.server.next_timeout().is_some_and(|at| now >= at) {
            leading.server.timeout(now, &mut out);
        }
        if let Some(own) = refreshed {
            actions.push(self.hold_leaders(own, granted));
        }
        if queries {
            self.ask(None, actions);
        }
        if announces {
            // Whoever had it before is in the others' tables still.
            self.send_arp(Arp::announcement(self.mac(), leader), actions);
        }
        if announces || queries {
            self.answer(actions);
        }
        self.served(now, out, actions);
        self.run_quorum(now, actions);
        self.run_yielding(now, actions);
    }

    fn probe_own(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mac = self.mac();
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Own::Probing { sent, next_at, .. } = &mut leading.own else { return };
        if now < *next_at {
            return;
        }
        let address = leading.server.own_address();
        if *sent < ARP_PROBES {
            *sent += 1;
            *next_at = now + ARP_ROUND;
            return self.send_arp(Arp::probe(mac, address), actions);
        }
        leading.own = Own::Held(address);
        leading.refresh_at = now;
        self.hold(address, actions);
        self.answer(actions);
    }

    /// Our own address is somebody else's: another one, by the way that any member goes.
    fn decline_own(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (mac, node) = (self.mac(), self.record.node);
        let (Some(seals), Some(incarnation)) = (self.seals.clone(), self.incarnation()) else { return };
        let leader = self.leader_address();
        let Phase::Leading(leading) = &mut self.phase else { return };
        let mut message = Message::new(Kind::Decline, 0, mac);
        message.requested = Some(leading.server.own_address());
        message.server = Some(leader);
        seal(&seals, &mut message, &Seal { node, incarnation: Some(incarnation) });
        let mut out = Vec::new();
        leading.server.handle(now, mac, Ipv4Addr::UNSPECIFIED, &message, &mut out);
        leading.own = Own::Probing { sent: 0, next_at: now + ROUND, had: false, taken: None };
        self.served(now, out, actions);
    }

    pub(super) fn leading_arp(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        let leader = self.leader_address();
        let Phase::Leading(leading) = &mut self.phase else { return };
        let mut out = Vec::new();
        leading.server.arp(now, arp, &mut out);
        if let Some(yielding) = &mut leading.yielding {
            let mut found = Vec::new();
            yielding.client.arp(now, arp, &mut found);
            self.yielded(now, found, actions);
        }
        self.served(now, out, actions);
        let Phase::Leading(leading) = &mut self.phase else { return };
        let own = leading.server.own_address();
        let held = leading.own_address().is_some();
        match &mut leading.own {
            Own::Probing { sent, next_at, had: true, taken } if concerns(arp, own) => {
                (*sent, *next_at, *taken) = (0, now + DEFENCE, Some(arp.sender_mac));
                return;
            }
            _ => {}
        }
        if !held && concerns(arp, own) {
            return self.decline_own(now, actions);
        }
        let contested = [Some(leader), held.then_some(own)].into_iter().flatten().find(|address| arp.sender == *address);
        let (Some(address), mut defence) = (contested, leading.defence) else { return };
        self.defend(now, address, &mut defence, arp, actions);
        if let Phase::Leading(leading) = &mut self.phase {
            leading.defence = defence;
        }
    }

    /// Gives our server a DHCP message: a request, or what another server says.
    pub(super) fn serve(&mut self, now: Instant, source: Mac, ip: Ipv4Addr, message: &Message, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        // Who gives way takes nobody in: else two leaders could each grow past the other.
        if leading.yielding.is_some() {
            return;
        }
        let mut out = Vec::new();
        leading.server.handle(now, source, ip, message, &mut out);
        self.served(now, out, actions);
    }

    fn served(&mut self, now: Instant, out: Vec<ServerOutput>, actions: &mut Vec<Action>) {
        for output in out {
            let Phase::Leading(leading) = &mut self.phase else { return };
            match output {
                ServerOutput::Persist => {
                    leading.quorum.iter_mut().for_each(Quorum::change);
                    let (ledger, own) = (leading.server.ledger(), leading.server.own_address());
                    self.keep_ledger(ledger, own);
                    self.persist(actions);
                    self.run_quorum(now, actions);
                }
                ServerOutput::Send(packet) => {
                    let ledger = leading.server.ledger();
                    let packet = match &mut leading.quorum {
                        Some(quorum) => quorum.hold_back(now, packet, &ledger),
                        None => Some(packet),
                    };
                    packet.into_iter().for_each(|packet| self.send(packet, actions));
                }
                ServerOutput::Log(line) => self.note(line, actions),
            }
        }
    }

    /// The leader of another incarnation answers.
    pub(super) fn meet(&mut self, now: Instant, rival: &Heard, actions: &mut Vec<Action>) {
        let theirs = &rival.notice;
        if !self.loses_to(theirs) {
            // It must hear of us to give way.
            self.answer_at.get_or_insert(now + ROUND);
            return;
        }
        if !self.is_provisional() {
            let Phase::Leading(leading) = &self.phase else { return };
            let own = leading.own_address();
            return self.give_way(now, own, theirs, actions);
        }
        let Phase::Leading(leading) = &self.phase else { return };
        if leading.yielding.as_ref().is_some_and(|yielding| yielding.to == theirs.incarnation) {
            return;
        }
        let (client, found) = self.client(now, Some(theirs.incarnation), None);
        let Phase::Leading(leading) = &mut self.phase else { return };
        leading.yielding = Some(Yielding { to: theirs.incarnation, client, until: now + YIELD });
        self.note(format!("two clusters of one key met: {} leads the one that stays", theirs.name), actions);
        self.yielded(now, found, actions);
    }

    fn run_yielding(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(yielding) = &mut leading.yielding else { return };
        if now >= yielding.until {
            leading.yielding = None;
            return;
        }
        if yielding.client.next_timeout().is_some_and(|at| now >= at) {
            let mut found = Vec::new();
            yielding.client.timeout(now, &mut self.random, &mut found);
            self.yielded(now, found, actions);
        }
    }

    pub(super) fn yielding_reply(&mut self, now: Instant, source: Mac, message: &Message, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(yielding) = &mut leading.yielding else { return };
        let mut found = Vec::new();
        yielding.client.handle(now, source, message, &mut self.random, &mut found);
        self.yielded(now, found, actions);
    }

    fn yielded(&mut self, now: Instant, found: Vec<ClientOutput>, actions: &mut Vec<Action>) {
        for output in found {
            match output {
                ClientOutput::Send(packet) => self.send(packet, actions),
                ClientOutput::Bound { address, incarnation: Some(incarnation), .. } => {
                    return self.dissolve(now, address, incarnation, actions);
                }
                _ => {}
            }
        }
    }

    /// Gives up a cluster that nobody would miss, and is a member of the other one.
    fn dissolve(&mut self, now: Instant, address: Ipv4Addr, incarnation: Incarnation, actions: &mut Vec<Action>) {
        self.say_goodbye(|_| true, actions);
        let Phase::Leading(leading) = &self.phase else { return };
        let Some(yielding) = &leading.yielding else { return };
        let (client, own) = (yielding.client.clone(), leading.own_address());
        actions.push(Action::DropAddress { address: self.leader_address() });
        self.enter(now, client, address, incarnation, own, actions);
    }

    /// Gives up the role, but not the cluster: it holds something. `own` is our own address, where it is ours already.
    pub(super) fn give_way(&mut self, now: Instant, own: Option<Ipv4Addr>, theirs: &Notice, actions: &mut Vec<Action>) {
        let reason = format!(
            "two clusters of one key met and both are in use: {} leads the other one; put these nodes on another VLAN, or flash their cards anew once nothing on them is needed",
            theirs.name
        );
        actions.push(Action::Mark(Marker::Fault { reason: reason.clone() }));
        self.give_up_role(actions);
        if let Some(own) = own {
            self.hold(own, actions);
        }
        self.go(now, Phase::Dormant { address: own }, reason, actions);
    }

    pub(super) fn give_up_role(&self, actions: &mut Vec<Action>) {
        self.say_goodbye(|notice| notice.service == Service::Leader, actions);
        actions.push(Action::DropAddress { address: self.leader_address() });
    }

    pub(super) fn run_dormant(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // A rival that would give way to us cannot before it hears us lead.
        if !self.gives_way(now) {
            self.begin(now, actions);
        }
    }
}
