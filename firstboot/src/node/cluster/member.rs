//! Coming back, joining, following.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    ARP_PROBES, Cluster, Heard, Phase, ROUND,
    arps::{Defence, concerns},
    role::WAITING,
};
use crate::{
    identity::{Incarnation, NodeId},
    link::Mac,
    marker::Marker,
    node::{
        Action,
        dhcp::{Client, ClientOutput, ClientSetup},
        notice::Notice,
    },
    record::{Membership, Record},
    wire::{Arp, dhcp::Message, mdns::Service},
};

/// How often somebody who comes back asks before it takes its address again.
const QUESTIONS: u8 = 4;
/// How often it does so on other hardware: the card that it is a copy of may come up at the same time.
const QUESTIONS_ON_OTHER_HARDWARE: u8 = 16;
/// How long a leader that announces itself may owe an address.
const PATIENCE: Duration = Duration::from_secs(20);

/// A member that has come back makes sure of its address.
#[derive(Debug)]
pub(super) struct Reclaiming {
    pub(super) address: Ipv4Addr,
    /// Whether card or board are others than those that it became a member on.
    elsewhere: bool,
    /// Who else has it.
    taken: Option<Mac>,
    /// Who else has the leader's address.
    leader_taken: Option<Mac>,
    sent: u8,
    pub(super) next_at: Instant,
}

impl Reclaiming {
    /// Whether it speaks for the identity: on other hardware only once nobody else did.
    pub(super) fn answers(&self) -> bool {
        !self.elsewhere
    }
}

/// Asking a leader for an address.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) temporary: Option<Ipv4Addr>,
    client: Client,
    until: Instant,
    /// Addresses to give up once there is a new one.
    old: Option<Ipv4Addr>,
    found: Vec<ClientOutput>,
}

impl Joining {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.client.next_timeout().into_iter().chain([self.until]).min()
    }

    pub(super) fn arp(&mut self, now: Instant, arp: &Arp) {
        self.client.arp(now, arp, &mut self.found);
    }
}

/// A member.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) address: Ipv4Addr,
    pub(super) client: Client,
    found: Vec<ClientOutput>,
    pub(super) defence: Defence,
}

impl Following {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.client.next_timeout()
    }
}

impl Cluster {
    pub(super) fn reclaim(&mut self, now: Instant, address: Ipv4Addr, actions: &mut Vec<Action>) {
        let elsewhere = self.record.hardware.differs(&self.hardware);
        let next_at = now + self.random.up_to(ROUND);
        let reclaiming = Reclaiming { address, elsewhere, taken: None, leader_taken: None, sent: 0, next_at };
        let reason = if elsewhere {
            format!("this card was {address} on other hardware: asking whether that is still there")
        } else {
            format!("was {address} before: making sure of it")
        };
        self.go(now, Phase::Reclaiming(reclaiming), reason, actions);
    }

    pub(super) fn run_reclaiming(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let founder = self.leads_by_right();
        let Phase::Reclaiming(reclaiming) = &mut self.phase else { return };
        if now < reclaiming.next_at {
            return;
        }
        let questions = if reclaiming.elsewhere { QUESTIONS_ON_OTHER_HARDWARE } else { QUESTIONS };
        if reclaiming.sent < questions {
            reclaiming.sent += 1;
            reclaiming.next_at = now + ROUND;
            let (round, address) = (reclaiming.sent, reclaiming.address);
            self.ask(None, actions);
            if round <= ARP_PROBES {
                self.send_arp(Arp::probe(self.mac(), address), actions);
                if founder {
                    self.send_arp(Arp::probe(self.mac(), self.leader_address()), actions);
                }
            }
            return;
        }
        let (address, elsewhere) = (reclaiming.address, reclaiming.elsewhere);
        let (taken, leader_taken) = (reclaiming.taken, reclaiming.leader_taken);
        if taken.is_some() {
            // Whoever comes here from joining another cluster has it still.
            actions.push(Action::DropAddress { address });
        }
        if elsewhere {
            // Nobody answers for it: the card was moved, or the board changed.
            self.record.hardware = self.hardware.clone();
            self.persist(actions);
        }
        let rival = self.rival.clone().filter(|rival| self.is_provisional() && (!founder || self.loses_to(&rival.notice)));
        match (rival, &self.rival, taken, leader_taken) {
            // Nobody would miss what we belonged to, and its address is somebody's in the cluster that stays.
            (Some(rival), _, taken, _) if founder || taken.is_some() => {
                let old = taken.is_none().then_some(address);
                self.join_other(now, &rival, old, actions);
            }
            (_, Some(rival), taken, _) if founder && self.loses_to(&rival.notice) => {
                let notice = rival.notice.clone();
                self.give_way(now, taken.is_none().then_some(address), &notice, actions);
            }
            (_, None, _, Some(who)) if founder => {
                let leader = self.leader_address();
                let reason = format!("{leader} belongs to a machine that is no node of this lab ({who}): take it off this VLAN");
                self.aside(now, reason, actions);
            }
            (_, _, taken, _) if founder => {
                // Without its own address a leader still leads; it takes that once it is free.
                let source = if taken.is_some() { self.leader_address() } else { address };
                self.lead(now, source, None, "led this cluster before", actions);
            }
            (_, _, Some(who), _) => {
                // A member of a cluster that gives way to ours leaves it to us, once it hears of us.
                self.answer(actions);
                let reason = format!("{address}, this node's address, is in use by {who}: take that machine off this VLAN");
                self.aside(now, reason, actions);
            }
            _ => {
                let led = self.membership().is_some_and(|membership| membership.granted.is_some());
                let reason = match &self.leader {
                    // Another node took the role meanwhile, and was heard while we made sure: there is nothing to wait for.
                    Some(leader) => format!("{} leads", leader.notice.name),
                    None if led => WAITING.to_owned(),
                    None => "the address is free".to_owned(),
                };
                self.follow_again(now, address, &reason, actions);
            }
        }
    }

    pub(super) fn reclaiming_arp(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        let (leader, mac) = (self.leader_address(), self.mac());
        let Phase::Reclaiming(reclaiming) = &mut self.phase else { return };
        if arp.sender == leader {
            reclaiming.leader_taken = Some(arp.sender_mac);
        }
        let address = reclaiming.address;
        if concerns(arp, address) {
            let elsewhere = reclaiming.elsewhere;
            if elsewhere {
                return self.forget(now, format!("{address} is in use by {}: this card is a copy", arp.sender_mac), actions);
            }
            // Of two who come back with one address, from two clusters, one goes first.
            if !arp.is_probe() || mac < arp.sender_mac {
                reclaiming.taken = Some(arp.sender_mac);
            }
        }
    }

    /// Becomes a new node: what the card remembers is somebody else.
    pub(super) fn forget(&mut self, now: Instant, reason: String, actions: &mut Vec<Action>) {
        self.record = Record::new(NodeId(self.random.bytes()), self.hardware.clone());
        self.grant = None;
        self.persist(actions);
        if let Some(address) = self.source_address() {
            actions.push(Action::DropAddress { address });
        }
        actions.push(Action::Log { from: self.phase.name(), to: "new node", reason });
        self.begin(now, actions);
    }

    pub(super) fn client(
        &mut self,
        now: Instant,
        incarnation: Option<Incarnation>,
        held: Option<Ipv4Addr>,
    ) -> (Client, Vec<ClientOutput>) {
        let (mac, node, name) = (self.mac(), self.record.node, self.name());
        let setup = ClientSetup { mac, node, seals: self.seals.clone(), incarnation, held, name };
        let mut found = Vec::new();
        let client = Client::start(setup, now, &mut self.random, &mut found);
        (client, found)
    }

    /// Asks whoever leads for an address.
    pub(super) fn join(
        &mut self,
        now: Instant,
        temporary: Option<Ipv4Addr>,
        reason: impl Into<String>,
        actions: &mut Vec<Action>,
    ) {
        let incarnation = self.leader.as_ref().map(|leader| leader.notice.incarnation);
        let (client, found) = self.client(now, incarnation, None);
        let joining = Joining { temporary, client, until: now + PATIENCE, old: None, found };
        self.go(now, Phase::Joining(Box::new(joining)), reason, actions);
        self.run_joining(now, actions);
    }

    /// Leaves a cluster that nobody would miss for another one.
    pub(super) fn join_other(&mut self, now: Instant, other: &Heard, old: Option<Ipv4Addr>, actions: &mut Vec<Action>) {
        let (client, found) = self.client(now, Some(other.notice.incarnation), None);
        let joining = Joining { temporary: None, client, until: now + PATIENCE, old, found };
        let reason = format!("two clusters of one key met: {} leads the one that stays", other.notice.name);
        self.go(now, Phase::Joining(Box::new(joining)), reason, actions);
        self.run_joining(now, actions);
    }

    pub(super) fn run_joining(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Joining(joining) = &mut self.phase else { return };
        if joining.client.next_timeout().is_some_and(|at| now >= at) {
            joining.client.timeout(now, &mut self.random, &mut joining.found);
        }
        let found = std::mem::take(&mut joining.found);
        let (old, until, temporary) = (joining.old, joining.until, joining.temporary);
        for output in found {
            match output {
                ClientOutput::Send(packet) => self.send(packet, actions),
                ClientOutput::Bound { address, incarnation: Some(incarnation), .. } => {
                    let Phase::Joining(joining) = &self.phase else { return };
                    let client = joining.client.clone();
                    return self.enter(now, client, address, incarnation, old, actions);
                }
                ClientOutput::Declined { address } => {
                    self.note(format!("{address} was given to us, but somebody else has it"), actions)
                }
                ClientOutput::Lost { reason } => self.note(reason, actions),
                ClientOutput::Bound { .. } | ClientOutput::Renewed { .. } => {}
            }
        }
        if now >= until {
            match self.membership().and_then(|membership| membership.address) {
                Some(address) => self.reclaim(now, address, actions),
                None => self.browse(now, temporary, Duration::ZERO, "the leader gave no address in 20 s: looking again", actions),
            }
        }
    }

    /// Becomes a member: first on the card, then for the kernel.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        client: Client,
        address: Ipv4Addr,
        incarnation: Incarnation,
        old: Option<Ipv4Addr>,
        actions: &mut Vec<Action>,
    ) {
        let Some(cluster) = self.seals.as_ref().map(|seals| seals.cluster().to_string()) else { return };
        if self.incarnation() != Some(incarnation) {
            self.peers.clear();
            self.grant = None;
            let leads = |heard: &Heard| heard.notice.incarnation == incarnation;
            self.leader = self.rival.take().filter(leads).or(self.leader.take().filter(leads));
        }
        let provisional = self.leader.as_ref().is_none_or(|leader| leader.notice.provisional);
        // A member that led before is given another address: what it knows of the others' stays.
        let led = self.record.membership.take().filter(|before| before.incarnation == incarnation);
        let (ledger, granted) = led.map_or((None, None), |led| (led.ledger, led.granted));
        // Whoever leads next goes on saying so.
        let replaces = self.leader.as_ref().and_then(|leader| leader.notice.replaces);
        let founding = Membership { cluster, incarnation, address: Some(address), provisional, ledger, granted, replaces };
        self.record.membership = Some(founding);
        self.persist(actions);
        if let Some(old) = old.filter(|old| *old != address) {
            actions.push(Action::DropAddress { address: old });
        }
        self.hold(address, actions);
        let leader = self.leader_name();
        actions.push(Action::Mark(Marker::Joined { address, leader: leader.clone() }));
        self.told = None;
        let following = Following { address, client, found: Vec::new(), defence: Defence::default() };
        self.go(now, Phase::Following(Box::new(following)), format!("{leader} gave {address}"), actions);
        self.answer_at = Some(now);
        // Who else is here.
        self.ask(None, actions);
    }

    fn leader_name(&self) -> String {
        self.leader.as_ref().map_or_else(|| "the leader".to_owned(), |leader| leader.notice.name.clone())
    }

    /// Takes its own address for good and tells everybody.
    pub(super) fn hold(&self, address: Ipv4Addr, actions: &mut Vec<Action>) {
        actions.push(Action::SetAddress { address, prefix: self.prefix(), valid_for: None });
        self.send_arp(Arp::announcement(self.mac(), address), actions);
    }

    pub(super) fn follow_again(&mut self, now: Instant, address: Ipv4Addr, reason: &str, actions: &mut Vec<Action>) {
        let (client, found) = self.client(now, self.incarnation(), Some(address));
        self.hold(address, actions);
        let following = Following { address, client, found, defence: Defence::default() };
        self.go(now, Phase::Following(Box::new(following)), reason, actions);
        self.answer_at = Some(now);
        self.run_following(now, actions);
    }

    pub(super) fn run_following(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Following(following) = &mut self.phase else { return };
        if following.client.next_timeout().is_some_and(|at| now >= at) {
            following.client.timeout(now, &mut self.random, &mut following.found);
        }
        let found = std::mem::take(&mut following.found);
        let address = following.address;
        for output in found {
            match output {
                ClientOutput::Send(packet) => self.send(packet, actions),
                ClientOutput::Bound { address: given, incarnation: Some(incarnation), .. } => {
                    let news = given != address || self.incarnation() != Some(incarnation);
                    if news {
                        let Phase::Following(following) = &self.phase else { return };
                        let client = following.client.clone();
                        return self.enter(now, client, given, incarnation, Some(address), actions);
                    }
                    let leader = self.leader_name();
                    actions.push(Action::Mark(Marker::Joined { address, leader: leader.clone() }));
                    self.note(format!("{leader} confirmed {address}"), actions);
                }
                ClientOutput::Declined { address } => {
                    self.note(format!("{address} was given to us, but somebody else has it"), actions)
                }
                ClientOutput::Lost { reason } => {
                    // The address is ours for life: it stays, and we ask again.
                    self.note(format!("{reason}; keeping {address}"), actions);
                    let (client, found) = self.client(now, self.incarnation(), Some(address));
                    if let Phase::Following(following) = &mut self.phase {
                        following.client = client;
                        following.found = found;
                    }
                    return self.run_following(now, actions);
                }
                ClientOutput::Bound { .. } | ClientOutput::Renewed { .. } => {}
            }
        }
    }

    pub(super) fn following_arp(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        let Phase::Following(following) = &mut self.phase else { return };
        following.client.arp(now, arp, &mut following.found);
        let (address, mut defence) = (following.address, following.defence);
        self.defend(now, address, &mut defence, arp, actions);
        if let Phase::Following(following) = &mut self.phase {
            following.defence = defence;
        }
    }

    /// A DHCP reply.
    pub(super) fn reply_came(&mut self, now: Instant, source: Mac, message: &Message, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Joining(joining) => {
                joining.client.handle(now, source, message, &mut self.random, &mut joining.found);
                self.run_joining(now, actions);
            }
            Phase::Following(following) => {
                following.client.handle(now, source, message, &mut self.random, &mut following.found);
                self.run_following(now, actions);
            }
            Phase::Leading(_) => self.yielding_reply(now, source, message, actions),
            _ => {}
        }
    }

    /// What a leader or member of our key says of itself.
    pub(super) fn notice_came(&mut self, now: Instant, heard: Heard, actions: &mut Vec<Action>) {
        if heard.notice.node == self.record.node {
            return self.own_notice_came(now, &heard, actions);
        }
        let (service, leaving) = (heard.notice.service, heard.notice.leaving);
        match self.incarnation() {
            None => match (&self.phase, &mut self.leader) {
                (Phase::Joining(_), Some(leader)) if service == Service::Leader => *leader = heard,
                _ => self.found_cluster(now, &heard, actions),
            },
            Some(ours) if ours == heard.notice.incarnation => {
                self.learn_provisional(now, &heard.notice, actions);
                if service == Service::Leader {
                    self.leader_came(now, heard, actions);
                } else {
                    self.peers.insert(heard.notice.node, heard);
                }
            }
            Some(_) if service == Service::Leader => {
                let same = self.rival.as_ref().is_some_and(|rival| rival.notice.incarnation == heard.notice.incarnation);
                if !leaving {
                    self.rival = Some(heard);
                    self.consider_rival(now, actions);
                } else if same {
                    self.rival = None;
                }
            }
            Some(_) => self.yield_address(now, &heard.notice, actions),
        }
    }

    /// A member of another cluster of our key has the address that we have. Ours holds nothing and theirs does: their leader may need that
    /// address to lead again, and until it leads nobody else can tell us. So we leave it to them, and with it a cluster that has to give way.
    fn yield_address(&mut self, now: Instant, theirs: &Notice, actions: &mut Vec<Action>) {
        let Phase::Following(following) = &mut self.phase else { return };
        let address = following.address;
        if theirs.leaving || theirs.provisional || theirs.address != address || !self.is_provisional() {
            return;
        }
        let leader = self.leader_address();
        let mut found = Vec::new();
        if let Phase::Following(following) = &mut self.phase {
            following.client.give_up(address, leader, &mut found);
        }
        self.record.membership = None;
        self.grant = None;
        self.persist(actions);
        for output in found {
            if let ClientOutput::Send(packet) = output {
                self.send(packet, actions);
            }
        }
        actions.push(Action::DropAddress { address });
        self.peers.clear();
        (self.leader, self.rival) = (None, None);
        let reason =
            format!("{address} is that of {}, whose cluster of this key is in use: leaving it to that node", theirs.name);
        self.join(now, None, reason, actions);
    }

    /// Somebody else says that it is us.
    fn own_notice_came(&mut self, now: Instant, heard: &Heard, actions: &mut Vec<Action>) {
        if heard.notice.mac == self.mac() || heard.notice.leaving {
            return;
        }
        let yields = match &self.phase {
            // It is there already, so we are the copy.
            Phase::Reclaiming(_) => true,
            Phase::Following(_) | Phase::Succeeding(_) | Phase::Leading(_) | Phase::Dormant { .. } => {
                self.mac() < heard.notice.mac
            }
            _ => false,
        };
        if yields {
            let reason = format!("this card is a copy: the node it was made from is there as {}", heard.notice.name);
            self.forget(now, reason, actions);
        }
    }

    /// Any member's word will do: while nobody leads, others must not leave what one of them knows to be in use.
    fn learn_provisional(&mut self, now: Instant, notice: &Notice, actions: &mut Vec<Action>) {
        if !notice.provisional {
            self.keep_cluster(now, actions);
        }
    }

    /// The cluster holds something: it is not left and not dissolved any more, whatever was under way.
    pub(super) fn keep_cluster(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // What was replaced is left, whatever it holds: a person decided.
        if self.is_replaced() {
            return;
        }
        let Some(membership) = self.record.membership.as_mut().filter(|membership| membership.provisional) else { return };
        membership.provisional = false;
        let address = membership.address;
        self.persist(actions);
        match (&mut self.phase, address) {
            (Phase::Leading(leading), _) => leading.stay(),
            (Phase::Joining(_), Some(address)) => self.reclaim(now, address, actions),
            _ => {}
        }
    }

    /// A line for the story of this boot that changes no state.
    pub(super) fn note(&self, reason: String, actions: &mut Vec<Action>) {
        let name = self.phase.name();
        actions.push(Action::Log { from: name, to: name, reason });
    }
}
