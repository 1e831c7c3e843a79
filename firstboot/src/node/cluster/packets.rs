//! What comes in, and what goes out as frames.

use std::{net::Ipv4Addr, time::Instant};

use super::{Cluster, Heard, Phase, STRANGERS_WORD};
use crate::{
    link::Mac,
    node::{
        Action, Wire,
        notice::{self, Notice},
    },
    wire::{
        Arp, BROADCAST, Body, MDNS_GROUP, MDNS_MAC, MDNS_PORT, Packet,
        mdns::{Kind, Message, Name, Question, Service},
    },
};

impl Cluster {
    pub(super) fn received(&mut self, now: Instant, wire: Wire, packet: Packet, actions: &mut Vec<Action>) {
        if self.link.is_none() || self.stopping || packet.source == self.mac() {
            return;
        }
        let Packet { source, body, .. } = packet;
        if wire == Wire::Lan {
            if let Body::Mdns { source: ip, port, message, .. } = body {
                self.lan_names.received(now, source, ip, port, &message, actions);
            }
            return;
        }
        if !self.heard {
            self.hear(now);
        }
        match body {
            Body::Arp(arp) => self.arp_came(now, &arp, actions),
            Body::Mdns { message, .. } => self.mdns_came(now, &message, actions),
            Body::Dhcp { source: ip, message, .. } => {
                if message.is_reply() {
                    self.reply_came(now, source, &message, actions);
                }
                self.serve(now, source, ip, &message, actions);
            }
        }
    }

    fn mdns_came(&mut self, now: Instant, message: &Message, actions: &mut Vec<Action>) {
        let Some(seals) = &self.seals else { return };
        let records = if message.response { &message.answers } else { &message.authorities };
        let (notices, strangers) = notice::read(records, seals);
        for stranger in strangers {
            self.stranger_came(now, stranger, message.response, actions);
        }
        for notice in notices {
            let heard = Heard { notice, at: now };
            if message.response {
                self.notice_came(now, heard, actions);
            } else {
                self.claim_came(now, &heard.notice, actions);
            }
        }
        if !message.response && self.is_asked(&message.questions) {
            // A claim is answered at once (RFC 6762, section 8.1); a question after a while, since many may answer it.
            let wait = if message.authorities.is_empty() { 20 + self.random.below(100) } else { 0 };
            let at = now + std::time::Duration::from_millis(wait.into());
            self.answer_at = Some(self.answer_at.map_or(at, |before| before.min(at)));
        }
    }

    fn is_asked(&self, questions: &[Question]) -> bool {
        let Some(seals) = &self.seals else { return false };
        let notices = self.notices();
        questions.iter().any(|question| match &question.name {
            Name::Types => question.kind == Kind::Ptr || question.kind == Kind::Any,
            Name::Type(service) => notices.iter().any(|notice| notice.service == *service),
            name @ Name::Instance(..) => notices.iter().any(|notice| notice.instance(seals.cluster()) == *name),
            name @ Name::Host(_) => notices.iter().flat_map(|notice| notice.records(seals)).any(|record| record.name == *name),
        })
    }

    fn stranger_came(&mut self, now: Instant, stranger: notice::Stranger, leads: bool, actions: &mut Vec<Action>) {
        let lower = self.seals.as_ref().is_some_and(|seals| stranger.cluster < seals.cluster().short());
        let address = stranger.address.filter(|_| leads);
        self.strangers.retain(|_, (_, at)| now < *at + STRANGERS_WORD);
        if self.strangers.len() < 16 || self.strangers.contains_key(&stranger.cluster) {
            self.strangers.insert(stranger.cluster.clone(), (address, now));
        }
        let claiming = matches!(self.phase, Phase::Claiming(_));
        let young = claiming || matches!(self.phase, Phase::Addressing(_) | Phase::Browsing(_));
        if let (true, Some(reason)) = (young, self.obstacle(now)) {
            self.aside(now, reason, actions);
        } else if claiming && !leads && lower {
            let reason = format!(
                "another lab, {}, claims {} on this VLAN at this moment and goes first: build with --set node.vlan=201 --set node.subnet=192.168.201.0/24",
                stranger.cluster,
                self.leader_address()
            );
            self.aside(now, reason, actions);
        }
    }

    /// The address that frames of ours carry, if we may use one.
    pub(super) fn source_address(&self) -> Option<Ipv4Addr> {
        match &self.phase {
            Phase::Browsing(browsing) => browsing.temporary,
            Phase::Claiming(claiming) => Some(claiming.temporary),
            Phase::Joining(joining) => joining.temporary,
            Phase::Following(following) => Some(following.address),
            Phase::Succeeding(succeeding) => Some(succeeding.address),
            Phase::Leading(leading) => Some(leading.source()),
            Phase::Dormant { address } => *address,
            Phase::Off | Phase::Aside { .. } | Phase::Addressing(_) | Phase::Reclaiming(_) => None,
        }
    }

    /// Asks for leader and members; with `claim` as a probe for it.
    pub(super) fn ask(&self, claim: Option<&Notice>, actions: &mut Vec<Action>) {
        let question = |name, kind| Question { name, kind, unicast: false };
        let mut questions =
            vec![question(Name::Type(Service::Leader), Kind::Ptr), question(Name::Type(Service::Member), Kind::Ptr)];
        let mut authorities = Vec::new();
        if let (Some(claim), Some(seals)) = (claim, &self.seals) {
            questions.insert(0, question(claim.instance(seals.cluster()), Kind::Any));
            authorities = claim.proposal(seals);
        }
        self.multicast(Message { questions, authorities, ..Message::default() }, actions);
    }

    pub(super) fn multicast(&self, message: Message, actions: &mut Vec<Action>) {
        let source = self.source_address().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let body = Body::Mdns { source, port: MDNS_PORT, destination: MDNS_GROUP, message };
        self.send(Packet { source: self.mac(), destination: MDNS_MAC, body }, actions);
    }

    pub(super) fn send_arp(&self, arp: Arp, actions: &mut Vec<Action>) {
        let destination = if arp.target_mac == Mac([0; 6]) { BROADCAST } else { arp.target_mac };
        self.send(Packet { source: self.mac(), destination, body: Body::Arp(arp) }, actions);
    }
}
