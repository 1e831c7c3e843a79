//! By what right a node leads: its founding, until the role is granted for the first time; from then on grants, each for a while.
//!
//! Whoever is granted the role while another node may still have the leader's address waits until the kernel there has dropped it,
//! probes it, and goes on with the ledger that the quorum keeps. Whoever loses the role is a member like any other at once.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    ARP_PROBES, ARP_ROUND, Cluster, Heard, LEADER_SILENCE, Phase, arps::Defence, leading::LEADER_LIFETIME, quorum::Quorum,
};
use crate::{
    identity::Incarnation,
    link::Mac,
    node::Action,
    record::{Ledger, MemberEntry},
    wire::Arp,
};

/// How long the leader's address of whoever led before may be there, once the role is another's: the kernel's timer may be a second
/// late, and clocks differ.
const PREDECESSOR: Duration = Duration::from_secs(10);
const _: () = assert!(PREDECESSOR.as_secs() > LEADER_LIFETIME.as_secs());
/// Before the leader's address is probed again after somebody was found to have it.
const TAKEN: Duration = Duration::from_secs(2);

/// A grant of the leader's role.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) index: u64,
    /// Since when we know of it.
    since: Instant,
    pub(super) until: Instant,
    /// What the quorum keeps.
    ledger: Option<Ledger>,
}

/// Taking the role over.
#[derive(Debug)]
pub(super) struct Succeeding {
    /// The grant that it is taken over by: after another one others may have led meanwhile, and all of it begins anew.
    index: u64,
    /// Our own address.
    pub(super) address: Ipv4Addr,
    pub(super) defence: Defence,
    /// Who has the leader's address still.
    taken: Option<Mac>,
    sent: u8,
    pub(super) next_at: Instant,
}

impl Cluster {
    pub(super) fn leads_by_right(&self) -> bool {
        self.membership().is_some_and(|membership| membership.leads_by_right())
    }

    /// For how long the role is ours, if it is.
    pub(super) fn granted(&self, now: Instant) -> Option<Duration> {
        let left = self.grant.as_ref().map(|grant| grant.until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        left.or_else(|| self.leads_by_right().then_some(LEADER_LIFETIME))
    }

    pub(super) fn role_granted(
        &mut self,
        now: Instant,
        index: u64,
        valid_for: Duration,
        ledger: Option<Ledger>,
        incarnation: Option<Incarnation>,
        actions: &mut Vec<Action>,
    ) {
        // The cluster that granted it may be one that this node has just left.
        let Some(ours) = self.incarnation() else { return };
        if valid_for.is_zero() || incarnation.is_some_and(|of| of != ours) {
            return;
        }
        let until = now + valid_for;
        match &mut self.grant {
            Some(grant) if grant.index == index && now < grant.until => {
                grant.until = grant.until.max(until);
                grant.ledger = ledger.or(grant.ledger.take());
            }
            _ => self.grant = Some(Grant { index, since: now, until, ledger }),
        }
        if self.leads_by_right() {
            return self.first_grant(now, index, actions);
        }
        if matches!(&self.phase, Phase::Leading(leading) if leading.quorum.as_ref().is_none_or(|quorum| quorum.index != index)) {
            // Others may have led between that grant and this one.
            self.step_down(now, actions);
        }
    }

    /// From now on we lead by grants only. What we acknowledged before stays so.
    fn first_grant(&mut self, now: Instant, index: u64, actions: &mut Vec<Action>) {
        let Some(membership) = &mut self.record.membership else { return };
        membership.granted = Some(index);
        let ledger = membership.ledger.clone().unwrap_or_default();
        self.persist(actions);
        if let Phase::Leading(leading) = &mut self.phase {
            leading.quorum = Some(Quorum::new(index, ledger));
            self.answer_at = Some(now);
        }
    }

    pub(super) fn role_lost(&mut self) {
        self.grant = None;
    }

    /// What the quorum kept it keeps: new bindings may be acknowledged.
    pub(super) fn replicated(&mut self, seq: u64, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(quorum) = &mut leading.quorum else { return };
        for packet in quorum.confirmed(seq) {
            self.send(packet, actions);
        }
    }

    /// Gives the quorum the ledger where that is due.
    pub(super) fn run_quorum(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &mut self.phase else { return };
        let Some(quorum) = &mut leading.quorum else { return };
        let Some(ledger) = self.record.membership.as_ref().and_then(|membership| membership.ledger.as_ref()) else { return };
        if let Some((seq, ledger)) = quorum.due(now, &mut self.replica, ledger) {
            actions.push(Action::Replicate { seq, index: quorum.index, ledger });
        }
    }

    /// A leader of our founding says something of itself.
    pub(super) fn leader_came(&mut self, now: Instant, heard: Heard, actions: &mut Vec<Action>) {
        let theirs = &heard.notice;
        let (node, index) = (theirs.node, theirs.grant);
        if theirs.leaving {
            if self.leader.as_ref().is_none_or(|leader| leader.notice.node == node) {
                self.leader = None;
                if matches!(self.phase, Phase::Following(_)) {
                    self.reason = format!("{} leads no more: waiting for who is granted the role next", theirs.name);
                    self.note(self.reason.clone(), actions);
                }
                self.consider_rival(now, actions);
            }
            return;
        }
        if index > 0 && self.leads_by_right() {
            // The role was granted without our knowing of it: the right of founding has ended.
            if let Some(membership) = &mut self.record.membership {
                membership.granted = Some(0);
            }
            self.persist(actions);
        }
        if self.grant.as_ref().is_some_and(|grant| grant.index < index) {
            self.grant = None;
            self.note(format!("{} was granted the role after this node", theirs.name), actions);
        }
        if matches!(self.phase, Phase::Leading(_)) {
            if self.granted(now).is_some() {
                // Whoever led before hears that it does no more.
                self.answer_at.get_or_insert(now + super::ROUND);
                return;
            }
            self.step_down(now, actions);
        }
        let known = self.leader.as_ref().filter(|leader| now < leader.at + LEADER_SILENCE);
        let moved = match known {
            // One that led before: late, or sent again by somebody.
            Some(known) if known.notice.node != node && known.notice.grant > index => return,
            Some(known) => known.notice.node != node,
            None => true,
        };
        let name = theirs.name.clone();
        self.leader = Some(heard);
        match &self.phase {
            Phase::Following(_) if moved => {
                self.reason = format!("{name} leads");
                self.note(self.reason.clone(), actions);
            }
            Phase::Dormant { address: Some(own) } => {
                let own = *own;
                self.follow_again(now, own, &format!("{name} leads"), actions);
            }
            _ => {}
        }
    }

    /// Whether nothing but time keeps us from leading.
    pub(super) fn may_succeed(&self, now: Instant) -> bool {
        let granted = self.grant.as_ref().is_some_and(|grant| now < grant.until);
        granted && !self.gives_way(now) && self.inheritance().is_some()
    }

    /// Whether a leader that was heard leads a cluster of our key that ours gives way to.
    pub(super) fn gives_way(&self, now: Instant) -> bool {
        self.rival.as_ref().is_some_and(|rival| now < rival.at + LEADER_SILENCE && self.loses_to(&rival.notice))
    }

    /// The ledger to go on with, and what of it may be acknowledged at once: what the quorum keeps, our own address, and those that
    /// members say they have. If nobody led since we did, nobody knows more than our card.
    fn inheritance(&self) -> Option<(Ledger, Ledger)> {
        let (membership, grant) = (self.membership()?, self.grant.as_ref()?);
        let ours = membership.ledger.clone();
        let base = if membership.granted == Some(grant.index) { ours } else { grant.ledger.clone().or(ours) };
        let (mut ledger, mut kept) = (base?, grant.ledger.clone().unwrap_or_default());
        let own = membership.address.map(|address| MemberEntry { node: self.record.node, address, name: self.name() });
        let heard = self.peers.values().map(|heard| &heard.notice);
        let members = heard.map(|notice| MemberEntry { node: notice.node, address: notice.address, name: notice.name.clone() });
        for entry in own.into_iter().chain(members) {
            ledger.add(entry.clone());
            kept.add(entry);
        }
        Some((ledger, kept))
    }

    /// A member that is granted the role begins to take it over.
    pub(super) fn succeed_if_granted(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Following(following) = &self.phase else { return };
        let (address, defence) = (following.address, following.defence);
        if !self.may_succeed(now) {
            return;
        }
        let Some(grant) = &self.grant else { return };
        let again = self.membership().is_some_and(|membership| membership.granted == Some(grant.index));
        // Nobody else can have the address where nobody else led since.
        let next_at = if again { now } else { (grant.since + PREDECESSOR).max(now) };
        let reason = format!("granted the leader's role: waiting until {} is free", self.leader_address());
        let succeeding = Succeeding { index: grant.index, address, defence, taken: None, sent: 0, next_at };
        self.go(now, Phase::Succeeding(Box::new(succeeding)), reason, actions);
        self.run_succeeding(now, actions);
    }

    pub(super) fn run_succeeding(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (mac, leader, may) = (self.mac(), self.leader_address(), self.may_succeed(now));
        let Phase::Succeeding(succeeding) = &mut self.phase else { return };
        let address = succeeding.address;
        let same = self.grant.as_ref().is_some_and(|grant| grant.index == succeeding.index);
        if !may || !same {
            return self.follow_again(now, address, NOT_GRANTED, actions);
        }
        if now < succeeding.next_at {
            return;
        }
        if succeeding.sent < ARP_PROBES {
            succeeding.sent += 1;
            succeeding.next_at = now + ARP_ROUND;
            self.send_arp(Arp::probe(mac, leader), actions);
            // Whoever has it may lead another cluster of our key.
            return self.ask(None, actions);
        }
        let (Some((ledger, kept)), Some(grant)) = (self.inheritance(), &self.grant) else { return };
        let index = grant.index;
        if let Some(membership) = &mut self.record.membership {
            (membership.ledger, membership.granted) = (Some(ledger), Some(index));
        }
        self.lead(now, address, Some(Quorum::new(index, kept)), "was granted the leader's role", actions);
    }

    pub(super) fn succeeding_arp(&mut self, now: Instant, arp: &Arp, actions: &mut Vec<Action>) {
        let leader = self.leader_address();
        // One that gives way to us cannot before it hears us lead; another one we give way to.
        let rival =
            self.rival.as_ref().is_some_and(|rival| now < rival.at + LEADER_SILENCE && rival.notice.mac == arp.sender_mac);
        let Phase::Succeeding(succeeding) = &mut self.phase else { return };
        let (address, mut defence) = (succeeding.address, succeeding.defence);
        if arp.sender == leader && !rival {
            (succeeding.taken, succeeding.sent, succeeding.next_at) =
                (Some(arp.sender_mac), 0, succeeding.next_at.max(now + TAKEN));
        }
        self.defend(now, address, &mut defence, arp, actions);
        if let Phase::Succeeding(succeeding) = &mut self.phase {
            succeeding.defence = defence;
        }
    }

    /// The role is not granted any more.
    pub(super) fn step_down(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Leading(leading) = &self.phase else { return };
        let own = leading.own_address();
        self.give_up_role(actions);
        match (own, self.membership().and_then(|membership| membership.address)) {
            (Some(own), _) => self.follow_again(now, own, NOT_GRANTED, actions),
            (None, Some(own)) => self.reclaim(now, own, actions),
            (None, None) => self.begin(now, actions),
        }
    }

    /// Why nobody leads, on a node that would if it were granted the role.
    pub(super) fn waits_for_grant(&self) -> bool {
        let led = self.membership().is_some_and(|membership| membership.granted.is_some());
        led && matches!(self.phase, Phase::Following(_)) && self.leader.is_none()
    }

    /// Who keeps us from taking over.
    pub(super) fn leader_is_taken(&self) -> Option<String> {
        let Phase::Succeeding(succeeding) = &self.phase else { return None };
        let (leader, who) = (self.leader_address(), succeeding.taken?);
        Some(format!(
            "{leader} is still in use by {who}, and this node is to lead: if that machine is no node of this lab, take it off this VLAN"
        ))
    }
}

pub(super) const NOT_GRANTED: &str = "the leader's role was not renewed";
/// Of a node that led before, after a reboot.
pub(super) const WAITING: &str = "led this cluster before: waiting for the role's grant";
