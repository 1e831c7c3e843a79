//! The cluster on a link that is ready: found it, or found one.
//!
//! ```text
//!             link                     no answer,         won, .1 is free,
//!             ready                    port forwards      nobody answers, on disk
//!  ┌─► Off ──┬────► Addressing ─► Browsing ─────► Claiming ─────► Leading ◄─┐
//!  │         │                     ▲  │  ▲ lost │     │             │  │     │ addresses are free,
//!  │         │                     │  │  └──────┘     │ a leader    │  │     │ nobody answers
//!  │         │                     │  │ a leader      ▼ answers     │  ▼     │
//!  │ link    │ remembers           │  └───────────► Joining         │ Dormant│
//!  │ gone    │ a cluster           │ no reply          │ lease,     │        │
//!  │         │                     └───────────────────┤ on disk    │ yields │
//!  │         └────► Reclaiming ────────────────────────┼────────────┼────────┘
//!  │                    │ address is free              ▼            ▼
//!  └────────────────────┴──────────────────────────► Following ◄────┘
//!
//!              role granted       .1 is free, on disk
//!  Following ──────────────► Succeeding ────────────► Leading
//!      ▲        grant over       │     grant over        │
//!      └─────────────────────────┴───────────────────────┘
//! ```
//!
//! A founder leads by right of its founding until the role is granted for the first time; from then on, and any other member, by
//! grants: see `cluster/role.rs`. Dormant is who led a cluster that is in use, and met another one that is.
//!
//! Aside stands for what a person must change first: it says so and looks again. Why two nodes never both found, as long as of
//! four consecutive packets each way one arrives: a founder asks sixteen times in its way, every 250 ms, and what it asserts
//! itself goes out as often; see `cluster/founding.rs`.

mod answers;
mod arps;
mod card;
mod founding;
mod leading;
mod member;
mod packets;
mod quorum;
mod rivals;
mod role;
mod trouble;
mod view;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use self::{
    founding::{Addressing, Browsing, Claiming},
    leading::Leading,
    member::{Following, Joining, Reclaiming},
    role::{Grant, Succeeding},
};
use super::{Action, Event, LanAddress, Random, Setup, Wire, lan::LanNames, notice::Notice};
use crate::{
    attach::Ready,
    config::{HostName, NodeConfig},
    identity::{Hardware, Incarnation, NodeId},
    key::Seals,
    link::Mac,
    marker::Marker,
    record::{Membership, Record},
    trouble::Trouble,
};

/// Between two questions, and between two assertions of a claim (RFC 6762, section 8.1).
pub(super) const ROUND: Duration = Duration::from_millis(250);
/// Between two ARP probes. RFC 5227 has one to two seconds; a cluster that is looked at wants less, and defence goes on.
pub(super) const ARP_ROUND: Duration = Duration::from_millis(200);
/// How many ARP probes.
pub(super) const ARP_PROBES: u8 = 3;
/// How long the port of a managed switch may be mute after the link came up: two forwarding delays of spanning tree
/// (IEEE 802.1D: 15 s each), and some more.
pub(super) const MUTE: Duration = Duration::from_secs(35);
/// How long a leader that is not heard still counts as there.
pub const LEADER_SILENCE: Duration = Duration::from_secs(60);
/// How often a conflict about an address of ours is answered (RFC 5227, section 2.4 (b)).
pub(super) const DEFENCE: Duration = Duration::from_secs(10);
/// How long we stand aside before looking again.
const ASIDE: Duration = Duration::from_secs(10);
/// For how long what another key's lab says counts.
const STRANGERS_WORD: Duration = Duration::from_secs(60);

/// The machine.
#[derive(Debug)]
pub struct Cluster {
    config: NodeConfig,
    seals: Option<Seals>,
    hardware: Hardware,
    random: Random,
    record: Record,
    /// The record as it certainly is on the card.
    on_disk: Record,
    link: Option<Ready>,
    linked_at: Instant,
    /// Whether the switch's port forwards.
    heard: bool,
    phase: Phase,
    since: Instant,
    reason: String,
    /// Members of our incarnation, by what they said last.
    peers: BTreeMap<NodeId, Heard>,
    /// The leader of our incarnation or, while we belong to none, of any.
    leader: Option<Heard>,
    /// A leader of another incarnation of our key.
    rival: Option<Heard>,
    /// Labs of other keys on the cluster's wire.
    strangers: BTreeMap<String, (Option<Ipv4Addr>, Instant)>,
    lan: Vec<LanAddress>,
    lan_names: LanNames,
    answer_at: Option<Instant>,
    hosts: Vec<(Ipv4Addr, String)>,
    /// Whom the members' ports were opened for last.
    admitted: Vec<Ipv4Addr>,
    /// The grant of the leader's role that came last, if none was lost since.
    grant: Option<Grant>,
    /// The number of the ledger that the quorum was given last.
    replica: u64,
    /// What went wrong last with the card.
    disk: Option<String>,
    stopping: bool,
    /// How often in a row somebody had the leader's address without saying so in a record.
    suspicions: u8,
    /// Whether our sockets could not be opened.
    deaf: bool,
    /// The reason for standing aside that was told last.
    told: Option<Trouble>,
    /// What was told of the switch.
    switch_told: Option<String>,
}

/// A notice, and when it came.
#[derive(Clone, Debug)]
struct Heard {
    notice: Notice,
    at: Instant,
}

#[derive(Debug)]
enum Phase {
    /// There is no link, or nothing to do on it.
    Off,
    /// A person has to change something; looks again.
    Aside { retry_at: Instant },
    /// Probing a temporary address.
    Addressing(Addressing),
    /// Asking who is there.
    Browsing(Browsing),
    /// Claiming the leader's name and address.
    Claiming(Claiming),
    /// A member that has come back makes sure of its address.
    Reclaiming(Reclaiming),
    /// Asking the leader for an address.
    Joining(Box<Joining>),
    /// A member.
    Following(Box<Following>),
    /// A member that was granted the leader's role.
    Succeeding(Box<Succeeding>),
    /// The leader.
    Leading(Box<Leading>),
    /// Led a cluster that is in use until another one, in use as well, was met: keeps its own address.
    Dormant { address: Option<Ipv4Addr> },
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Aside { .. } => "aside",
            Self::Addressing(_) => "addressing",
            Self::Browsing(_) => "browsing",
            Self::Claiming(_) => "claiming",
            Self::Reclaiming(_) => "reclaiming",
            Self::Joining(_) => "joining",
            Self::Following(_) => "following",
            Self::Succeeding(_) => "succeeding",
            Self::Leading(_) => "leading",
            Self::Dormant { .. } => "dormant",
        }
    }
}

impl Cluster {
    pub(super) fn start(setup: Setup, now: Instant, actions: &mut Vec<Action>) -> Self {
        let mut random = Random::new(setup.seed);
        // Not the numbers of an earlier run: an answer to that would be taken for ours.
        let replica = random.below(u32::MAX).into();
        let seals = setup.key.map(|key| key.seals());
        let fresh = setup.record.is_none();
        let mut record = setup.record.unwrap_or_else(|| Record::new(NodeId(random.bytes()), setup.hardware.clone()));
        let id = seals.as_ref().map(|seals| seals.cluster().to_string());
        // Another key was put on the card: what it remembers is another cluster's. Without a key nobody knows.
        let strange = record.membership.take_if(|membership| id.as_ref().is_some_and(|id| membership.cluster != *id));
        let mut cluster = Self {
            config: setup.config,
            seals,
            hardware: setup.hardware,
            random,
            on_disk: record.clone(),
            record,
            link: None,
            linked_at: now,
            heard: false,
            phase: Phase::Off,
            since: now,
            reason: "the network is not ready".to_owned(),
            peers: BTreeMap::new(),
            leader: None,
            rival: None,
            strangers: BTreeMap::new(),
            lan: Vec::new(),
            lan_names: LanNames::default(),
            answer_at: None,
            hosts: Vec::new(),
            admitted: Vec::new(),
            grant: None,
            replica,
            disk: None,
            stopping: false,
            suspicions: 0,
            deaf: false,
            told: None,
            switch_told: None,
        };
        if cluster.seals.is_none() {
            cluster.reason = NO_KEY.to_owned();
        }
        if fresh || strange.is_some() {
            cluster.persist(actions);
        }
        cluster
    }

    /// The link below, as it is now.
    pub(super) fn link(&mut self, now: Instant, link: Option<Ready>, actions: &mut Vec<Action>) {
        if self.link == link || self.stopping {
            return;
        }
        if self.link.take().is_some() {
            actions.push(Action::Close);
            self.admitted.clear();
            self.told = None;
            self.go(now, Phase::Off, "the network is not ready", actions);
        }
        let Some(ready) = link else { return };
        self.linked_at = now;
        self.heard = false;
        let parent = ready.parent;
        self.link = Some(ready);
        self.open(actions);
        actions.push(Action::AwaitFrame { index: parent });
        self.begin(now, actions);
    }

    fn open(&self, actions: &mut Vec<Action>) {
        let Some(link) = &self.link else { return };
        let lan = (link.parent != link.cluster).then_some(link.parent);
        actions.push(Action::Open { cluster: link.cluster, lan });
    }

    /// Deaf, we would take a cluster for silence and found another one.
    fn open_failed(&mut self, now: Instant, error: &str, actions: &mut Vec<Action>) {
        self.deaf = true;
        actions.push(Action::Close);
        self.aside(now, format!("{error}; see `journalctl -u hcl-firstboot`"), actions);
    }

    /// From a link that is ready on.
    fn begin(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.peers.clear();
        self.leader = None;
        self.rival = None;
        if self.seals.is_none() {
            return self.go(now, Phase::Off, NO_KEY, actions);
        }
        if std::mem::take(&mut self.deaf) {
            self.open(actions);
        }
        if let Some(reason) = self.obstacle(now) {
            return self.aside(now, reason, actions);
        }
        match self.membership().and_then(|membership| membership.address) {
            Some(address) => self.reclaim(now, address, actions),
            None => self.address(now, 0, actions),
        }
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        let stops = event == Event::Stopping;
        if let Event::PersistFailed { error } = event {
            self.persist_failed(now, error, actions);
        } else {
            if self.on_disk != self.record {
                self.on_disk = self.record.clone();
                self.disk = None;
            }
            self.grant.take_if(|grant| now >= grant.until);
            if self.granted(now).is_none() {
                self.step_down(now, actions);
            }
            match event {
                Event::OpenFailed { error } => self.open_failed(now, &error, actions),
                Event::Heard if !self.heard => self.hear(now),
                Event::Received { wire, packet } => self.received(now, wire, packet, actions),
                Event::LanAddresses(addresses) => self.lan_addresses(now, addresses, actions),
                Event::RoleGranted { index, valid_for, ledger, incarnation } => {
                    self.role_granted(now, index, valid_for, ledger, incarnation, actions);
                }
                Event::RoleLost => self.role_lost(),
                Event::Replicated { seq } => self.replicated(seq, actions),
                Event::Established => self.established(now, actions),
                Event::Stopping => self.stop(now, actions),
                _ => {}
            }
        }
        if self.link.is_some() && !self.stopping {
            self.advance(now, actions);
            let (mac, wanted) = (self.mac(), self.lan_wanted());
            self.lan_names.run(now, mac, wanted, &mut self.random, actions);
        }
        self.tell_of_switch(actions);
        self.tell_hosts(actions);
        self.tell_members(actions);
        if stops {
            actions.push(Action::Stopped);
        }
    }

    /// What is due now.
    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.answer_at.is_some_and(|at| now >= at) {
            self.answer(actions);
        }
        match &self.phase {
            Phase::Off | Phase::Dormant { .. } => {}
            Phase::Aside { retry_at } if now >= *retry_at => self.begin(now, actions),
            Phase::Aside { .. } => {}
            Phase::Addressing(_) => self.run_addressing(now, actions),
            Phase::Browsing(_) => self.run_browsing(now, actions),
            Phase::Claiming(_) => self.run_claiming(now, actions),
            Phase::Reclaiming(_) => self.run_reclaiming(now, actions),
            Phase::Joining(_) => self.run_joining(now, actions),
            Phase::Following(_) => self.run_following(now, actions),
            Phase::Succeeding(_) => self.run_succeeding(now, actions),
            Phase::Leading(_) => self.run_leading(now, actions),
        }
        match self.phase {
            Phase::Dormant { .. } => self.run_dormant(now, actions),
            Phase::Following(_) => self.succeed_if_granted(now, actions),
            _ => {}
        }
    }

    pub(super) fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.link.is_none() || self.stopping {
            return None;
        }
        let of_phase = match &self.phase {
            Phase::Off => None,
            Phase::Aside { retry_at } => Some(*retry_at),
            Phase::Addressing(addressing) => Some(addressing.next_at),
            Phase::Browsing(browsing) => Some(browsing.next_at),
            Phase::Claiming(claiming) => Some(claiming.next_at),
            Phase::Reclaiming(reclaiming) => Some(reclaiming.next_at),
            Phase::Joining(joining) => joining.next_timeout(),
            Phase::Following(following) => following.next_timeout(),
            Phase::Succeeding(succeeding) => Some(succeeding.next_at),
            Phase::Leading(leading) => leading.next_timeout(),
            Phase::Dormant { .. } => self.rival.as_ref().map(|rival| rival.at + LEADER_SILENCE),
        };
        let of_phase = of_phase.map(|at| (at, self.phase.name()));
        let leads = matches!(self.phase, Phase::Leading(_) | Phase::Succeeding(_));
        let grant = self.grant.as_ref().filter(|_| leads).map(|grant| (grant.until, "the role's grant"));
        let answer = self.answer_at.map(|at| (at, "answer"));
        let lan = self.lan_names.next_timeout().map(|at| (at, "names on the LAN"));
        of_phase.into_iter().chain(answer).chain(lan).chain(grant).min()
    }

    /// Our place in the cluster of the key on this card: from the start on the record has no other one.
    fn membership(&self) -> Option<&Membership> {
        self.record.membership.as_ref().filter(|_| self.seals.is_some())
    }

    fn incarnation(&self) -> Option<Incarnation> {
        self.membership().map(|membership| membership.incarnation)
    }

    fn mac(&self) -> Mac {
        self.link.as_ref().map_or(Mac([0; 6]), |link| link.mac)
    }

    fn name(&self) -> String {
        match &self.config.hostname {
            HostName::Named(name) => name.clone(),
            HostName::Auto => self.mac().host_name(),
        }
    }

    fn leader_address(&self) -> Ipv4Addr {
        self.config.addresses.leader()
    }

    fn prefix(&self) -> u8 {
        self.config.addresses.subnet().prefix()
    }

    /// What forbids us to be on this wire at all.
    fn obstacle(&self, now: Instant) -> Option<String> {
        let subnet = self.config.addresses.subnet();
        let overlapping = |lan: &&LanAddress| {
            let shorter = lan.prefix.min(subnet.prefix()).min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
            (u32::from(lan.address) ^ u32::from(subnet.network())) & mask == 0 && lan.prefix > 0
        };
        if let Some(lan) = self.lan.iter().find(overlapping) {
            return Some(format!(
                "the home network uses {}/{} as well, the cluster's subnet: build with --set node.subnet=192.168.201.0/24, or change `subnet` in /etc/hcl/node.toml on every node",
                lan.address, lan.prefix
            ));
        }
        let leader = self.leader_address();
        let taken =
            |(_, (address, at)): &(&String, &(Option<Ipv4Addr>, Instant))| *address == Some(leader) && now < *at + STRANGERS_WORD;
        let (cluster, _) = self.strangers.iter().find(taken)?;
        Some(format!(
            "another lab, {cluster}, with another key leads at {leader} on this VLAN: build with --set node.vlan=201 --set node.subnet=192.168.201.0/24, or flash all cards from one image"
        ))
    }

    fn aside(&mut self, now: Instant, reason: String, actions: &mut Vec<Action>) {
        // It looks again every ten seconds; the console hears a reason once.
        if self.told.as_ref().map(|told| &told.text) != Some(&reason) {
            actions.push(Action::Mark(Marker::Fault { reason: reason.clone() }));
        }
        self.told = Some(self.trouble_aside(reason.clone()));
        self.go(now, Phase::Aside { retry_at: now + ASIDE }, reason, actions);
    }

    /// The home network's addresses: the cluster must not use the same subnet.
    fn lan_addresses(&mut self, now: Instant, addresses: Vec<LanAddress>, actions: &mut Vec<Action>) {
        self.lan = addresses;
        let founding = matches!(self.phase, Phase::Addressing(_) | Phase::Browsing(_) | Phase::Claiming(_) | Phase::Joining(_));
        if let (true, Some(reason)) = (founding, self.obstacle(now)) {
            self.aside(now, reason, actions);
        }
    }

    /// The first frame came: what we asked before may never have left the switch.
    fn hear(&mut self, now: Instant) {
        self.heard = true;
        if let Phase::Browsing(browsing) = &mut self.phase {
            browsing.restart(now);
        }
    }

    /// Whether the switch's port surely forwards by now.
    fn may_found_at(&self) -> Instant {
        if self.heard { self.linked_at } else { self.linked_at + MUTE }
    }

    fn established(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.membership().is_some() && self.is_provisional() {
            self.keep_cluster(now, actions);
            self.answer(actions);
        }
    }

    fn stop(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.say_goodbye(|_| true, actions);
        self.lan_names.goodbye(actions);
        actions.push(Action::DropAddress { address: self.leader_address() });
        self.stopping = true;
        self.go(now, Phase::Off, "the program was asked to end", actions);
    }

    fn go(&mut self, now: Instant, phase: Phase, reason: impl Into<String>, actions: &mut Vec<Action>) {
        let reason = reason.into();
        let (from, to) = (self.phase.name(), phase.name());
        if from != to || reason != self.reason {
            actions.push(Action::Log { from, to, reason: reason.clone() });
        }
        if from != to {
            self.since = now;
        }
        self.phase = phase;
        self.reason = reason;
    }

    fn send(&self, packet: crate::wire::Packet, actions: &mut Vec<Action>) {
        actions.push(Action::Send { wire: Wire::Cluster, packet });
    }
}

const NO_KEY: &str = "this card has no cluster key: it forms no cluster";
