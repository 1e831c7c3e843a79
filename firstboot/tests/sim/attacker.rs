//! A machine on the wire that hears everything and has no key.

use std::{net::Ipv4Addr, time::Duration};

use hcl_firstboot::{
    link::Mac,
    wire::{
        Body, Packet,
        dhcp::{Kind, Message},
    },
};

use super::{What, World};

const MAC: Mac = Mac([2, 0xbd, 0, 0, 0, 1]);

impl World {
    /// Makes something of a frame that it heard.
    pub(super) fn forge(&mut self, heard: &Packet) {
        if !self.dice.chance(20) {
            return;
        }
        // Its own hardware address, or the one that it recorded.
        let source = if self.dice.chance(50) { MAC } else { heard.source };
        let mut packet = Packet { source, ..heard.clone() };
        match self.dice.below(4) {
            // Once more, as it was.
            0 => {}
            1 => self.alter(&mut packet.body),
            2 => {
                if let Body::Dhcp { message, .. } = &mut packet.body {
                    message.seal = None;
                    message.kind = if message.is_reply() { self.reply() } else { Kind::Decline };
                }
            }
            _ => return self.flood(heard),
        }
        let delay = self.dice.between(Duration::ZERO, Duration::from_secs(60));
        self.inject(packet, delay);
    }

    fn reply(&mut self) -> Kind {
        [Kind::Offer, Kind::Ack, Kind::Nak][self.dice.below(3) as usize]
    }

    fn alter(&mut self, body: &mut Body) {
        match body {
            Body::Mdns { message, .. } => {
                let gone = self.dice.chance(50);
                for record in message.answers.iter_mut().chain(&mut message.authorities) {
                    if gone {
                        record.ttl = 0;
                    }
                }
                // A claim as an answer, an answer as a claim.
                if !gone {
                    std::mem::swap(&mut message.answers, &mut message.authorities);
                    message.response = !message.response;
                }
            }
            Body::Dhcp { message, .. } => match self.dice.below(3) {
                0 => message.yiaddr = Ipv4Addr::new(192, 168, 200, 10 + self.dice.below(190) as u8),
                1 => message.requested = Some(Ipv4Addr::new(192, 168, 200, 10 + self.dice.below(190) as u8)),
                _ => message.kind = if message.is_reply() { self.reply() } else { Kind::Release },
            },
            // Whoever forges ARP can always keep others from an address.
            Body::Arp(_) => {}
        }
    }

    /// Many questions of machines that there are not.
    fn flood(&mut self, heard: &Packet) {
        let Body::Dhcp { source, destination, message } = &heard.body else { return };
        if message.is_reply() {
            return;
        }
        for _ in 0..50 {
            let chaddr = Mac([2, 0xbd, 1, self.dice.below(256) as u8, self.dice.below(256) as u8, self.dice.below(256) as u8]);
            let kind = if self.dice.chance(70) { Kind::Discover } else { Kind::Request };
            let forged = Message { chaddr, kind, seal: None, client_id: None, ..message.clone() };
            let body = Body::Dhcp { source: *source, destination: *destination, message: forged };
            let delay = self.dice.between(Duration::ZERO, Duration::from_secs(5));
            self.inject(Packet { source: chaddr, destination: heard.destination, body }, delay);
        }
    }

    fn inject(&mut self, packet: Packet, delay: Duration) {
        if matches!(packet.body, Body::Arp(_)) || self.now + delay > self.faults_end {
            return;
        }
        for to in 0..self.hosts.len() {
            let host = &self.hosts[to];
            if host.node.is_some() && (packet.destination.0[0] & 1 == 1 || packet.destination == host.mac) {
                self.at(self.now + delay, What::Deliver(to, host.life, packet.clone()));
            }
        }
    }
}
