//! Names on the home network: `master.local` and `node-….local`, A records only, by RFC 6762.
//!
//! Each name is probed before it is used (section 8.1), announced twice (8.3), defended by answering, and given up where another
//! machine has it (9). Avahi beside us may tell the same name with the same address: that is no conflict.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{Action, Random, Wire};
use crate::{
    link::Mac,
    wire::{
        Body, MDNS_GROUP, MDNS_MAC, MDNS_PORT, Packet,
        mdns::{Data, Kind, Message, Name, Question, Record},
    },
};

/// RFC 6762, section 10.
const TTL: u32 = 120;
const PROBES: u8 = 3;
const PROBE: Duration = Duration::from_millis(250);
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE: Duration = Duration::from_secs(1);
/// How long a name that another machine has is left alone.
const YIELD: Duration = Duration::from_secs(60);

/// The names, each with its state.
#[derive(Debug, Default)]
pub(super) struct LanNames {
    mac: Option<Mac>,
    names: Vec<LanName>,
    sibling: Option<String>,
}

#[derive(Debug)]
struct LanName {
    label: String,
    address: Ipv4Addr,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Probing {
        sent: u8,
        next_at: Instant,
    },
    Announcing {
        sent: u8,
        next_at: Instant,
    },
    Held,
    /// Another machine has it.
    Taken {
        by: Ipv4Addr,
        until: Instant,
    },
}

impl LanName {
    fn record(&self, ttl: u32) -> Record {
        Record { name: Name::Host(self.label.clone()), ttl, flush: true, data: Data::A(self.address) }
    }

    fn is_ours(&self) -> bool {
        matches!(self.state, State::Held | State::Announcing { .. })
    }
}

impl LanNames {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let due = self.names.iter().filter_map(|name| match name.state {
            State::Probing { next_at, .. } | State::Announcing { next_at, .. } => Some(next_at),
            State::Taken { until, .. } => Some(until),
            State::Held => None,
        });
        due.min()
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        let taken = self.names.iter().filter_map(|name| match name.state {
            State::Taken { by, .. } => Some(format!(
                "{}.local belongs to {by} on the home network, another lab perhaps: this one answers as its nodes' names only",
                name.label
            )),
            _ => None,
        });
        taken.collect()
    }

    /// A node that was heard on the home network.
    pub(super) fn sibling(&self) -> Option<&str> {
        self.sibling.as_deref()
    }

    /// Brings the names to what is `wanted`, and does what is due.
    pub(super) fn run(
        &mut self,
        now: Instant,
        mac: Mac,
        wanted: Vec<(String, Ipv4Addr)>,
        random: &mut Random,
        actions: &mut Vec<Action>,
    ) {
        self.mac = Some(mac);
        let stays = |name: &LanName| wanted.iter().any(|(label, address)| *label == name.label && *address == name.address);
        let gone: Vec<Record> =
            self.names.iter().filter(|name| !stays(name) && name.is_ours()).map(|name| name.record(0)).collect();
        self.respond(gone, actions);
        self.names.retain(stays);
        for (label, address) in wanted {
            if !self.names.iter().any(|name| name.label == label) {
                let state = State::Probing { sent: 0, next_at: now + random.up_to(PROBE) };
                self.names.push(LanName { label, address, state });
            }
        }
        let mut messages = Vec::new();
        for name in &mut self.names {
            match name.state {
                State::Probing { sent, next_at } if now >= next_at && sent < PROBES => {
                    let question = Question { name: Name::Host(name.label.clone()), kind: Kind::Any, unicast: false };
                    messages.push(Message {
                        questions: vec![question],
                        authorities: vec![name.record(TTL)],
                        ..Message::default()
                    });
                    name.state = State::Probing { sent: sent + 1, next_at: now + PROBE };
                }
                State::Probing { next_at, .. } if now >= next_at => {
                    messages.push(Message { response: true, answers: vec![name.record(TTL)], ..Message::default() });
                    name.state = State::Announcing { sent: 1, next_at: now + ANNOUNCE };
                }
                State::Announcing { sent, next_at } if now >= next_at => {
                    messages.push(Message { response: true, answers: vec![name.record(TTL)], ..Message::default() });
                    let more = sent + 1 < ANNOUNCEMENTS;
                    name.state = if more { State::Announcing { sent: sent + 1, next_at: now + ANNOUNCE } } else { State::Held };
                }
                State::Taken { until, .. } if now >= until => {
                    name.state = State::Probing { sent: 0, next_at: now + random.up_to(PROBE) };
                }
                _ => {}
            }
        }
        for message in messages {
            self.multicast(message, actions);
        }
    }

    /// Takes a message from the home network; `source`, `port` and `from` are its sender's.
    pub(super) fn received(
        &mut self,
        now: Instant,
        from: Mac,
        source: Ipv4Addr,
        port: u16,
        message: &Message,
        actions: &mut Vec<Action>,
    ) {
        for record in message.answers.iter().filter(|_| message.response) {
            let (Name::Host(label), Data::A(address)) = (&record.name, &record.data) else { continue };
            match self.names.iter_mut().find(|name| name.label == *label) {
                Some(name) if name.address != *address && record.ttl > 0 => {
                    name.state = State::Taken { by: *address, until: now + YIELD };
                }
                Some(_) => {}
                None if is_node_name(label) => self.sibling = Some(format!("{label}.local")),
                None => {}
            }
        }
        if message.response {
            return;
        }
        for record in &message.authorities {
            let (Name::Host(label), Data::A(theirs)) = (&record.name, &record.data) else { continue };
            let Some(name) = self.names.iter_mut().find(|name| name.label == *label) else { continue };
            // Two who probe at once: the later data wins (RFC 6762, section 8.2), the other waits a second.
            if matches!(name.state, State::Probing { .. }) && theirs.octets() > name.address.octets() {
                name.state = State::Probing { sent: 0, next_at: now + Duration::from_secs(1) };
            }
        }
        let asked = |name: &&LanName| {
            let asks = |question: &Question| {
                question.name == Name::Host(name.label.clone()) && matches!(question.kind, Kind::A | Kind::Any)
            };
            name.is_ours() && message.questions.iter().any(asks)
        };
        let known = |record: &Record| message.answers.iter().any(|known| known.data == record.data && known.ttl >= TTL / 2);
        let answers: Vec<Record> =
            self.names.iter().filter(asked).map(|name| name.record(TTL)).filter(|record| !known(record)).collect();
        if answers.is_empty() {
            return;
        }
        if port == MDNS_PORT {
            return self.respond(answers, actions);
        }
        // A one-shot querier (section 6.7): to itself, with its id and question, without the cache-flush bit, for a short time.
        let answers = answers.into_iter().map(|record| Record { ttl: 10, flush: false, ..record }).collect();
        let reply =
            Message { id: message.id, response: true, questions: message.questions.clone(), answers, ..Message::default() };
        let (Some(mac), Some(own)) = (self.mac, self.names.first().map(|name| name.address)) else { return };
        let body = Body::Mdns { source: own, port, destination: source, message: reply };
        actions.push(Action::Send { wire: Wire::Lan, packet: Packet { source: mac, destination: from, body } });
    }

    pub(super) fn goodbye(&mut self, actions: &mut Vec<Action>) {
        let records = self.names.iter().filter(|name| name.is_ours()).map(|name| name.record(0)).collect();
        self.respond(records, actions);
        self.names.clear();
    }

    fn respond(&self, answers: Vec<Record>, actions: &mut Vec<Action>) {
        if !answers.is_empty() {
            self.multicast(Message { response: true, answers, ..Message::default() }, actions);
        }
    }

    fn multicast(&self, message: Message, actions: &mut Vec<Action>) {
        let records = message.answers.iter().chain(&message.authorities);
        let source = records.filter_map(|record| if let Data::A(address) = record.data { Some(address) } else { None }).next();
        let (Some(mac), Some(source)) = (self.mac, source) else { return };
        let body = Body::Mdns { source, port: MDNS_PORT, destination: MDNS_GROUP, message };
        actions.push(Action::Send { wire: Wire::Lan, packet: Packet { source: mac, destination: MDNS_MAC, body } });
    }
}

/// `node-` and six digits: what a node of a lab is called unless somebody chose another name.
fn is_node_name(label: &str) -> bool {
    label.strip_prefix("node-").is_some_and(|digits| digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
