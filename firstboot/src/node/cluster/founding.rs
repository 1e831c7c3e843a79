//! A temporary address, the question who is there, and the claim.
//!
//! Six questions while browsing, ten assertions while claiming, 250 ms apart: sixteen packets to whoever leads or claims already.
//! If of any four consecutive ones at least one arrives, four of them do, each is answered, and of four answers one arrives. Two
//! who claim at once send each other at least four assertions before either has founded, and the later incarnation stays.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{ARP_PROBES, ARP_ROUND, Cluster, Heard, Phase, ROUND};
use crate::{
    identity::Incarnation,
    node::{Action, notice::Notice},
    record::{Ledger, Membership},
    wire::{Arp, mdns::Service},
};

/// How often the question is asked before silence counts.
const QUESTIONS: u8 = 6;
/// The assertions of a claim: the first three are the probes of RFC 6762, the rest go with those of the leader's address and the
/// last look around.
const ASSERTIONS: u8 = 10;
/// When the leader's address is probed: with these assertions.
const ADDRESS_PROBES: std::ops::Range<u8> = 3..6;
/// The pause of whoever lost a claim or heard one (RFC 6762, section 8.2).
const BACK_OFF: Duration = Duration::from_secs(1);
/// How many temporary addresses are tried before going on without one.
const TRIES: u8 = 8;

/// Probing a temporary address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressing {
    pub(super) address: Ipv4Addr,
    sent: u8,
    tries: u8,
    pub(super) next_at: Instant,
}

/// Asking who is there. Without a temporary address we listen only, and never claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Browsing {
    pub(super) temporary: Option<Ipv4Addr>,
    sent: u8,
    /// Whether a member has answered: then there is a cluster, and we found none.
    answered: bool,
    pub(super) next_at: Instant,
}

impl Browsing {
    pub(super) fn restart(&mut self, now: Instant) {
        self.sent = 0;
        self.answered = false;
        self.next_at = now;
    }
}

/// Claiming the leader's name and address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claiming {
    pub(super) temporary: Ipv4Addr,
    incarnation: Incarnation,
    sent: u8,
    pub(super) next_at: Instant,
}

impl Cluster {
    /// Takes a temporary address: one of those for strangers, at random, probed. It stays in this program; the kernel never has
    /// it, so nothing else can use it and a crash leaves nothing behind.
    pub(super) fn address(&mut self, now: Instant, tries: u8, actions: &mut Vec<Action>) {
        if tries >= TRIES {
            let browsing = Browsing { temporary: None, sent: 0, answered: false, next_at: now };
            return self.go(now, Phase::Browsing(browsing), "no temporary address is free: listening only", actions);
        }
        let range = self.config.addresses.stranger_range();
        let number = range.first() + self.random.below(range.last() - range.first() + 1);
        let address = self.config.addresses.subnet().address(number).unwrap_or(self.config.addresses.subnet().broadcast());
        // RFC 5227 has up to a second here, against nodes that start at once; a quarter of one is enough to tell them apart.
        let next_at = now + self.random.up_to(ROUND);
        let addressing = Addressing { address, sent: 0, tries, next_at };
        self.go(now, Phase::Addressing(addressing), format!("probing the temporary address {address}"), actions);
    }

    pub(super) fn run_addressing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mac = self.mac();
        let Phase::Addressing(addressing) = &mut self.phase else { return };
        if now < addressing.next_at {
            return;
        }
        if addressing.sent < ARP_PROBES {
            addressing.sent += 1;
            addressing.next_at = now + ARP_ROUND;
            let probe = Arp::probe(mac, addressing.address);
            return self.send_arp(probe, actions);
        }
        let temporary = addressing.address;
        self.browse(now, Some(temporary), Duration::ZERO, format!("{temporary} is free"), actions);
    }

    pub(super) fn temporary_is_taken(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let tries = match &self.phase {
            Phase::Addressing(addressing) => addressing.tries + 1,
            _ => 0,
        };
        self.address(now, tries, actions);
    }

    pub(super) fn browse(
        &mut self,
        now: Instant,
        temporary: Option<Ipv4Addr>,
        pause: Duration,
        reason: impl Into<String>,
        actions: &mut Vec<Action>,
    ) {
        self.leader = None;
        let browsing = Browsing { temporary, sent: 0, answered: false, next_at: now + pause };
        self.go(now, Phase::Browsing(browsing), reason, actions);
    }

    pub(super) fn run_browsing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let may_found_at = self.may_found_at();
        let Phase::Browsing(browsing) = &mut self.phase else { return };
        if now < browsing.next_at {
            return;
        }
        if browsing.sent < QUESTIONS {
            browsing.sent += 1;
            browsing.next_at = now + ROUND;
            if browsing.temporary.is_some() {
                self.ask(None, actions);
            }
            return;
        }
        let (answered, temporary) = (browsing.answered, browsing.temporary);
        match temporary {
            _ if answered => {
                let reason = "members of the cluster answer, but no leader: waiting for it";
                self.browse(now, temporary, BACK_OFF, reason, actions);
            }
            // Straight to DHCP: a leader that cannot be asked can still answer.
            None => self.join(now, None, "no temporary address is free: asking for one by DHCP", actions),
            Some(_) if now < may_found_at => {
                let pause = (may_found_at - now).min(BACK_OFF);
                self.browse(now, temporary, pause, "the cable is silent: a switch may be mute for 30 s after power on", actions);
            }
            Some(temporary) => {
                let incarnation = Incarnation(self.random.bytes());
                let next_at = now + self.random.up_to(ROUND);
                let claiming = Claiming { temporary, incarnation, sent: 0, next_at };
                self.go(now, Phase::Claiming(claiming), "nobody of this cluster answers", actions);
            }
        }
    }

    /// The claim that we assert now.
    fn claim(&self) -> Option<Notice> {
        let Phase::Claiming(claiming) = &self.phase else { return None };
        Some(Notice {
            service: Service::Leader,
            incarnation: claiming.incarnation,
            node: self.record.node,
            mac: self.mac(),
            address: self.leader_address(),
            name: self.name(),
            provisional: true,
            members: 1,
            grant: 0,
            replaces: None,
            leaving: false,
        })
    }

    pub(super) fn run_claiming(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Claiming(claiming) = &mut self.phase else { return };
        if now < claiming.next_at {
            return;
        }
        if claiming.sent < ASSERTIONS {
            let round = claiming.sent;
            claiming.sent += 1;
            claiming.next_at = now + ROUND;
            let claim = self.claim();
            self.ask(claim.as_ref(), actions);
            if ADDRESS_PROBES.contains(&round) {
                self.send_arp(Arp::probe(self.mac(), self.leader_address()), actions);
            }
            return;
        }
        let (incarnation, temporary) = (claiming.incarnation, claiming.temporary);
        self.found(now, incarnation, temporary, actions);
    }

    /// The claim stands: first on the card, then on the wire.
    fn found(&mut self, now: Instant, incarnation: Incarnation, temporary: Ipv4Addr, actions: &mut Vec<Action>) {
        let Some(cluster) = self.seals.as_ref().map(|seals| seals.cluster().to_string()) else { return };
        self.record.membership = Some(Membership {
            cluster,
            incarnation,
            address: None,
            provisional: true,
            ledger: Some(Ledger::default()),
            granted: None,
            replaces: None,
        });
        self.peers.clear();
        self.grant = None;
        self.lead(now, temporary, None, "nobody of this cluster was there: founded it", actions);
    }

    /// Somebody claims to become leader.
    pub(super) fn claim_came(&mut self, now: Instant, theirs: &Notice, actions: &mut Vec<Action>) {
        if theirs.service != Service::Leader || theirs.node == self.record.node {
            return;
        }
        match &self.phase {
            Phase::Claiming(claiming) => {
                let Some(ours) = self.claim() else { return };
                if theirs.wins_against(&ours) {
                    let (temporary, reason) =
                        (claiming.temporary, format!("{} claimed at the same time and goes first", theirs.name));
                    self.browse(now, Some(temporary), BACK_OFF, reason, actions);
                } else {
                    // It must hear of us before it founds.
                    self.ask(Some(&ours), actions);
                }
            }
            Phase::Browsing(browsing) if browsing.sent > 0 => {
                let temporary = browsing.temporary;
                self.browse(now, temporary, BACK_OFF, format!("{} is about to lead", theirs.name), actions);
            }
            _ => {}
        }
    }

    /// A leader or member of our key answers while we belong to none.
    pub(super) fn found_cluster(&mut self, now: Instant, heard: &Heard, actions: &mut Vec<Action>) {
        let notice = &heard.notice;
        match (&mut self.phase, notice.service) {
            (Phase::Browsing(browsing), Service::Leader) if !notice.leaving => {
                let temporary = browsing.temporary;
                self.leader = Some(heard.clone());
                self.join(now, temporary, format!("{} leads", notice.name), actions);
            }
            (Phase::Claiming(claiming), Service::Leader) if !notice.leaving => {
                let temporary = Some(claiming.temporary);
                self.leader = Some(heard.clone());
                self.join(now, temporary, format!("{} leads", notice.name), actions);
            }
            (Phase::Browsing(browsing), Service::Member) if !notice.leaving => browsing.answered = true,
            (Phase::Claiming(claiming), Service::Member) if !notice.leaving => {
                let temporary = Some(claiming.temporary);
                let reason = format!("{} is a member already: there is a cluster", notice.name);
                self.browse(now, temporary, BACK_OFF, reason, actions);
            }
            _ => {}
        }
    }
}
