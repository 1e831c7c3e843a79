//! A leader by grant promises nothing new before the cluster's quorum keeps it: whoever leads next goes on from there.

use std::time::{Duration, Instant};

use crate::{
    record::{Holder, Ledger},
    wire::{Body, Packet, dhcp::Kind},
};

/// After which time without an answer the quorum is given the same again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long an acknowledgement may wait. The client has asked again several times by then, or given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most acknowledgements that wait, one a client.
const MOST: usize = 64;

/// What the quorum has of the ledger, and what waits for it.
#[derive(Debug)]
pub(super) struct Quorum {
    /// The grant that all of it goes with.
    pub(super) index: u64,
    /// What may be acknowledged at once: the quorum keeps it, or it was acknowledged before there was one.
    kept: Ledger,
    /// Whether the ledger differs from what the quorum was given last.
    changed: bool,
    flight: Option<Flight>,
    waiting: Vec<Waiting>,
}

/// What the quorum was given and has not confirmed. It stays the same until then: an answer always means all of it.
#[derive(Debug)]
struct Flight {
    seq: u64,
    ledger: Ledger,
    again_at: Instant,
}

#[derive(Debug)]
struct Waiting {
    packet: Packet,
    holder: Option<Holder>,
    until: Instant,
}

impl Quorum {
    /// `kept` may be acknowledged at once; what the quorum really keeps is not known, so that it is given the ledger first.
    pub(super) fn new(index: u64, kept: Ledger) -> Self {
        Self { index, kept, changed: true, flight: None, waiting: Vec::new() }
    }

    /// The ledger has changed.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// What was under way was not on the card after all: none of it is promised, and the quorum is given what is there.
    pub(super) fn start_again(&mut self) {
        (self.flight, self.changed) = (None, true);
        self.waiting.clear();
    }

    /// `packet`, if it may be sent now; `ledger` is the one on the card. Otherwise it is kept until the quorum has what it promises.
    pub(super) fn hold_back(&mut self, now: Instant, packet: Packet, ledger: &Ledger) -> Option<Packet> {
        let promised = match &packet.body {
            Body::Dhcp { message, .. } if message.kind == Kind::Ack && !message.yiaddr.is_unspecified() => message.yiaddr,
            _ => return Some(packet),
        };
        let holder = ledger.holder(promised);
        if self.kept.holder(promised) == holder {
            return Some(packet);
        }
        self.waiting.retain(|waiting| client(&waiting.packet) != client(&packet));
        if self.waiting.len() < MOST {
            self.waiting.push(Waiting { packet, holder, until: now + PATIENCE });
        }
        None
    }

    /// The ledger that is to be given to the quorum now, with its number: `ledger` under the next one, or what it has not confirmed.
    pub(super) fn due(&mut self, now: Instant, seq: &mut u64, ledger: &Ledger) -> Option<(u64, Ledger)> {
        self.waiting.retain(|waiting| now < waiting.until);
        match &mut self.flight {
            Some(flight) if now < flight.again_at => return None,
            Some(flight) => flight.again_at = now + AGAIN,
            None if self.changed => {
                *seq += 1;
                self.changed = false;
                self.flight = Some(Flight { seq: *seq, ledger: ledger.clone(), again_at: now + AGAIN });
            }
            None => return None,
        }
        self.flight.as_ref().map(|flight| (flight.seq, flight.ledger.clone()))
    }

    /// The quorum has number `seq`: the packets that waited for it.
    pub(super) fn confirmed(&mut self, seq: u64) -> Vec<Packet> {
        let Some(flight) = self.flight.take_if(|flight| flight.seq == seq) else { return Vec::new() };
        self.kept = flight.ledger;
        let (ready, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting: &Waiting| {
            client(&waiting.packet).is_some_and(|(_, address)| self.kept.holder(address) == waiting.holder)
        });
        self.waiting = waiting;
        ready.into_iter().map(|waiting: Waiting| waiting.packet).collect()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|waiting| waiting.until);
        self.flight.iter().map(|flight| flight.again_at).chain(waiting).min()
    }
}

/// Whom an acknowledgement is for, and the address that it promises.
fn client(packet: &Packet) -> Option<(crate::link::Mac, std::net::Ipv4Addr)> {
    match &packet.body {
        Body::Dhcp { message, .. } => Some((message.chaddr, message.yiaddr)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        identity::NodeId,
        link::Mac,
        record::MemberEntry,
        wire::{BROADCAST, dhcp::Message},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn ledger(members: &[u8]) -> Ledger {
        let entry = |last: &u8| MemberEntry { node: NodeId([*last; 16]), address: address(*last), name: String::new() };
        Ledger { members: members.iter().map(entry).collect(), strangers: Vec::new() }
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 200, last)
    }

    fn packet(kind: Kind, last: u8) -> Packet {
        let mut message = Message::new(kind, 1, Mac([2, 0, 0, 0, 0, last]));
        message.yiaddr = address(last);
        let body = Body::Dhcp { source: address(1), destination: Ipv4Addr::BROADCAST, message };
        Packet { source: Mac([2; 6]), destination: BROADCAST, body }
    }

    #[test]
    fn what_is_new_waits_and_what_was_promised_does_not() {
        let (now, mut seq) = (Instant::now(), 40);
        let mut quorum = Quorum::new(7, ledger(&[10]));
        let current = ledger(&[10, 11]);
        for (kind, last, goes) in [(Kind::Ack, 10, true), (Kind::Offer, 11, true), (Kind::Ack, 11, false), (Kind::Ack, 11, false)]
        {
            assert_eq!(quorum.hold_back(now, packet(kind, last), &current).is_some(), goes, "{kind:?} {last}");
        }
        assert_eq!(quorum.due(now, &mut seq, &current), Some((41, current.clone())));
        assert_eq!(quorum.confirmed(40), []);
        // More comes meanwhile: that is for the next number.
        quorum.change();
        let more = ledger(&[10, 11, 12]);
        assert_eq!(quorum.hold_back(now, packet(Kind::Ack, 12), &more), None);
        assert_eq!(quorum.due(now + SECOND, &mut seq, &more), None);
        assert_eq!(quorum.due(now + AGAIN, &mut seq, &more), Some((41, current)), "no answer: the same again");
        assert_eq!(quorum.confirmed(41), [packet(Kind::Ack, 11)], "once, however often it was asked for");
        assert_eq!(quorum.due(now + AGAIN, &mut seq, &more), Some((42, more.clone())));
        // Its client has long given up.
        assert_eq!(quorum.due(now + PATIENCE * 2, &mut seq, &more).map(|(seq, _)| seq), Some(42));
        assert_eq!(quorum.confirmed(42), []);
        assert_eq!(quorum.due(now + PATIENCE * 2, &mut seq, &more), None, "nothing has changed");
        assert_eq!(quorum.hold_back(now, packet(Kind::Ack, 12), &more), Some(packet(Kind::Ack, 12)));
    }

    #[test]
    fn an_address_that_has_another_holder_is_new() {
        let now = Instant::now();
        let mut quorum = Quorum::new(7, ledger(&[10]));
        let mut moved = ledger(&[10]);
        moved.members[0].node = NodeId([99; 16]);
        assert_eq!(quorum.hold_back(now, packet(Kind::Ack, 10), &moved), None);
    }

    #[test]
    fn what_the_card_does_not_have_is_not_promised() {
        let (now, mut seq) = (Instant::now(), 0);
        let mut quorum = Quorum::new(7, ledger(&[10]));
        let lost = ledger(&[10, 11]);
        assert_eq!(quorum.hold_back(now, packet(Kind::Ack, 11), &lost), None);
        assert_eq!(quorum.due(now, &mut seq, &lost), Some((1, lost)));
        quorum.start_again();
        assert_eq!(quorum.confirmed(1), []);
        assert_eq!(quorum.due(now, &mut seq, &ledger(&[10])), Some((2, ledger(&[10]))));
    }
}
