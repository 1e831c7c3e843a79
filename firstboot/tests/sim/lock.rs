//! Consul, as far as the leader's role goes: one lock a founding, granted to a session with a time to live, and one ledger, both by a
//! majority of the servers. And on each machine the program that asks for the lock, which is none of the node's.

use std::time::Duration;

use hcl_firstboot::{
    identity::{Incarnation, NodeId},
    node::{Event, Role},
    record::Ledger,
};

use super::{Class, Host, MS, Mutation, What, World};

/// The time to live of a session, and of a grant.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// How long nobody gets a lock whose session was ended.
const LOCK_DELAY: Duration = Duration::from_secs(5);

/// The lock and the ledger of one founding.
#[derive(Default)]
pub(super) struct Lock {
    servers: Vec<NodeId>,
    index: u64,
    session: Option<Session>,
    free_at: Duration,
    /// The number of the ledger, of the grant of `index`.
    written: u64,
    pub(super) ledger: Option<Ledger>,
}

#[derive(Clone, Copy)]
struct Session {
    place: usize,
    life: u32,
    ends: Duration,
}

/// A grant on its way to a node.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) incarnation: Incarnation,
    pub(super) index: u64,
    /// By the clock of the node that it is for.
    pub(super) until: Duration,
    pub(super) ledger: Option<Ledger>,
}

/// A ledger on its way to the servers.
pub(super) struct Write {
    pub(super) incarnation: Incarnation,
    pub(super) index: u64,
    pub(super) seq: u64,
    pub(super) ledger: Ledger,
}

fn incarnation(host: &Host) -> Option<Incarnation> {
    host.disk.as_ref().and_then(|disk| disk.membership.as_ref()).map(|membership| membership.incarnation)
}

impl World {
    /// A machine's Consul comes up a while after the machine.
    pub(super) fn start_agent(&mut self, place: usize) {
        if self.consul {
            let wait = self.dice.between(Duration::from_secs(3), Duration::from_secs(30));
            let life = self.hosts[place].life;
            self.at(self.now + wait, What::Tick(place, life));
        }
    }

    /// On the way to a server or back.
    fn way(&mut self) -> Duration {
        let slow = self.faulty() && self.dice.chance(10);
        self.dice.between(MS, if slow { Duration::from_secs(4) } else { MS * 50 })
    }

    pub(super) fn tick(&mut self, place: usize, life: u32) {
        let host = &self.hosts[place];
        if host.life != life || host.node.is_none() {
            return;
        }
        let next = self.dice.between(Duration::from_secs(2), Duration::from_secs(4));
        let host = &self.hosts[place];
        if self.now < host.agent_hangs_until {
            return self.at(host.agent_hangs_until, What::Tick(place, life));
        }
        self.at(self.now + next, What::Tick(place, life));
        let Some(incarnation) = incarnation(&self.hosts[place]) else { return };
        self.bootstrap(place, incarnation);
        let asked = self.hosts[place].clock(self.now);
        let way = self.way();
        self.at(self.now + way, What::Ask(place, life, incarnation, asked));
    }

    /// The founder makes the first server, of itself.
    fn bootstrap(&mut self, place: usize, incarnation: Incarnation) {
        let host = &self.hosts[place];
        let by_right = host.disk.as_ref().and_then(|disk| disk.membership.as_ref()).is_some_and(|of| of.leads_by_right());
        let leads = host.node.as_ref().is_some_and(|node| node.summary().role == Role::Leader);
        if let (true, Some(disk)) = (by_right && leads && !self.locks.contains_key(&incarnation), &host.disk) {
            let servers = vec![disk.node];
            self.log(&format!("{place} bootstraps Consul"));
            self.locks.insert(incarnation, Lock { servers, ..Lock::default() });
        }
    }

    fn is_server(&self, place: usize, of: Incarnation) -> bool {
        let host = &self.hosts[place];
        let node = host.disk.as_ref().map(|disk| disk.node);
        let wanted = self.locks.get(&of).is_some_and(|lock| node.is_some_and(|node| lock.servers.contains(&node)));
        wanted && incarnation(host) == Some(of) && host.node.is_some() && host.carrier && self.now >= host.mute_until
    }

    /// Whether `place` and a majority of the servers hear each other.
    fn has_quorum(&self, place: usize, of: Incarnation) -> bool {
        let Some(lock) = self.locks.get(&of) else { return false };
        let hears = |other: usize| {
            other == place
                || !self.faulty()
                || !(self.cut.contains_key(&(place, other)) || self.cut.contains_key(&(other, place)))
        };
        let reached = (0..self.hosts.len()).filter(|other| hears(*other) && self.is_server(*other, of)).count();
        self.is_server(place, of) && reached * 2 > lock.servers.len()
    }

    /// A question for the lock reaches the servers.
    pub(super) fn asked(&mut self, place: usize, life: u32, of: Incarnation, asked: Duration) {
        let anybody = self.mutation == Mutation::NoLock;
        if self.hosts[place].life != life || !(anybody || self.has_quorum(place, of)) {
            return;
        }
        self.add_servers(place, of);
        let now = self.now;
        let Some(lock) = self.locks.get_mut(&of) else { return };
        if lock.session.is_some_and(|session| now >= session.ends) {
            (lock.session, lock.free_at) = (None, now + LOCK_DELAY);
        }
        let ours = lock.session.is_some_and(|session| (session.place, session.life) == (place, life));
        let free = lock.session.is_none() && now >= lock.free_at;
        if !ours && free {
            lock.index += 1;
            lock.written = 0;
        } else if !ours && !anybody {
            return;
        }
        lock.session = Some(Session { place, life, ends: now + TTL });
        let grant = Grant { incarnation: of, index: lock.index, until: asked + TTL, ledger: lock.ledger.clone() };
        let way = self.way();
        self.at(now + way, What::Granted(place, life, grant));
    }

    /// From three members on there are three servers.
    fn add_servers(&mut self, place: usize, of: Incarnation) {
        let candidates: Vec<NodeId> = self
            .hosts
            .iter()
            .enumerate()
            .filter_map(|(other, host)| {
                let node = host.disk.as_ref().filter(|_| other != place && host.node.is_some() && incarnation(host) == Some(of));
                node.map(|disk| disk.node)
            })
            .collect();
        let grows = self.dice.chance(30);
        let Some(lock) = self.locks.get_mut(&of) else { return };
        // Its intent is in the quorum, beside the ledger.
        if grows && lock.servers.len() == 1 && lock.ledger.is_some() && candidates.len() >= 2 {
            lock.servers.extend(&candidates[..2]);
            self.log("three servers now");
        }
    }

    /// A grant reaches the node, which may be busy: what is left of it shrinks.
    pub(super) fn granted(&mut self, place: usize, life: u32, grant: Grant) {
        let host = &mut self.hosts[place];
        if host.life != life || host.node.is_none() {
            return;
        }
        if self.now < host.busy_until {
            let at = host.busy_until;
            return self.at(at, What::Granted(place, life, grant));
        }
        let valid_for = grant.until.saturating_sub(host.clock(self.now));
        if valid_for.is_zero() {
            return;
        }
        let until = host.when(grant.until);
        host.granted_until = Some(host.granted_until.map_or(until, |before| before.max(until)));
        let Grant { incarnation, index, ledger, .. } = grant;
        self.event(place, life, Event::RoleGranted { index, valid_for, ledger, incarnation: Some(incarnation) });
    }

    /// A node wants a ledger kept.
    pub(super) fn replicate(&mut self, place: usize, write: Write) {
        let life = self.hosts[place].life;
        if self.mutation == Mutation::EarlyAnswer {
            self.at(self.now + MS, What::Other(place, life, Event::Replicated { seq: write.seq }));
        }
        let late = if self.mutation == Mutation::EarlyAnswer { Duration::from_secs(20) } else { Duration::ZERO };
        if self.now < self.hosts[place].agent_hangs_until || (self.faulty() && self.dice.chance(10)) {
            return;
        }
        let way = self.way();
        self.at(self.now + way + late, What::Write(place, life, write));
    }

    /// A ledger reaches the servers.
    pub(super) fn written(&mut self, place: usize, life: u32, write: Write) {
        let quorum = self.hosts[place].life == life && self.has_quorum(place, write.incarnation);
        let now = self.now;
        let Some(lock) = self.locks.get_mut(&write.incarnation) else { return };
        let session = lock.session.filter(|session| now < session.ends && (session.place, session.life) == (place, life));
        // A check-and-set: one that was overtaken changes nothing.
        if !quorum || session.is_none() || lock.index != write.index || write.seq < lock.written {
            return;
        }
        (lock.ledger, lock.written) = (Some(write.ledger), write.seq);
        if !(self.faulty() && self.dice.chance(10)) {
            let way = self.way();
            self.at(now + way, What::Other(place, life, Event::Replicated { seq: write.seq }));
        }
    }

    /// A session ends before its time: Consul takes its machine for dead, or somebody ends it. Or it is given up in good order.
    pub(super) fn end_session(&mut self) {
        let ordered = self.dice.chance(50);
        let now = self.now;
        let sessions = self.locks.values_mut().filter(|lock| lock.session.is_some());
        let Some(lock) = sessions.last() else { return };
        let Some(session) = lock.session.take() else { return };
        lock.free_at = now + if ordered { Duration::ZERO } else { LOCK_DELAY };
        self.log(&format!("the role of {} ends{}", session.place, if ordered { ", in good order" } else { "" }));
        if ordered {
            self.event(session.place, session.life, Event::RoleLost);
        }
    }

    /// A machine's program hangs, or the one that asks for the lock, or both.
    pub(super) fn hang(&mut self, place: usize) {
        let until = (self.now + self.dice.between(MS * 100, Duration::from_secs(40))).min(self.faults_end);
        let which = self.dice.below(3);
        self.log(&format!("{place} hangs until {:.3}: {}", until.as_secs_f64(), ["both", "node", "agent"][which as usize]));
        let host = &mut self.hosts[place];
        if which != 2 {
            host.busy_until = host.busy_until.max(until);
        }
        if which != 1 {
            host.agent_hangs_until = until;
        }
    }

    /// More than half of the servers lose their power.
    pub(super) fn lose_quorum(&mut self) {
        let of: Vec<Incarnation> = self.locks.keys().copied().collect();
        let servers: Vec<usize> = (0..self.hosts.len()).filter(|place| of.iter().any(|of| self.is_server(*place, *of))).collect();
        for place in &servers[..servers.len().div_ceil(2).max(servers.len().min(2))] {
            self.power_off(*place, "with most of the servers");
        }
    }

    /// Whether this run always has Consul, and others sometimes.
    pub(super) fn always_consul(class: Class) -> bool {
        matches!(class, Class::Roles | Class::Hangs | Class::Quorum)
    }
}
