//! What becomes of a frame between two machines.

use std::time::Duration;

use hcl_firstboot::{
    node::{Event, Wire},
    wire::{self, Arp, Body, Packet, arp::Operation},
};

use super::{Class, Host, MS, Mutation, What, World};

impl World {
    pub(super) fn send(&mut self, from: usize, packet: Packet, lag: Duration) {
        let frame = wire::encode(&packet);
        let mut packet = match wire::decode(&frame) {
            Ok(decoded) if decoded == packet => decoded,
            Ok(decoded) => return self.broke(Err(format!("codec: {packet:?} came back as {decoded:?}"))),
            Err(dropped) => return self.broke(Err(format!("codec: {packet:?} came back as: {dropped}"))),
        };
        if let (Mutation::NoTieBreak, Body::Mdns { message, .. }) = (self.mutation, &mut packet.body) {
            message.authorities.clear();
        }
        let sent_at = self.now + lag;
        if self.class == Class::Forged && self.faulty() {
            self.forge(&packet);
        }
        for to in 0..self.hosts.len() {
            let host = &self.hosts[to];
            let reached = packet.destination.0[0] & 1 == 1 || packet.destination == host.mac;
            if to == from || !reached || host.node.is_none() {
                continue;
            }
            let mute = |host: &Host| sent_at < host.mute_until || !host.carrier;
            if mute(host) || mute(&self.hosts[from]) || self.is_lost(from, to) {
                continue;
            }
            let life = self.hosts[to].life;
            let slow = self.faulty() && matches!(self.class, Class::Bounded | Class::Mixed);
            let longest = if slow { MS * 50 } else { MS * 2 };
            for _ in 0..=u8::from(slow && self.dice.chance(5)) {
                let delay = self.dice.between(MS / 10, longest);
                self.at(sent_at + delay, What::Deliver(to, life, packet.clone()));
            }
        }
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        if !self.faulty() {
            return false;
        }
        match self.class {
            Class::Bounded => {
                let lose = self.dice.chance(60);
                let row = self.lost.entry((from, to)).or_default();
                let lost = lose && *row < 3;
                *row = if lost { *row + 1 } else { 0 };
                lost
            }
            Class::Loss => self.dice.chance(20),
            Class::Mixed => self.cut.contains_key(&(from, to)) || self.dice.chance(20),
            Class::Parts | Class::Used | Class::Splits | Class::Hangs | Class::Quorum => self.cut.contains_key(&(from, to)),
            _ => false,
        }
    }

    pub(super) fn deliver(&mut self, place: usize, life: u32, packet: Packet) {
        let host = &self.hosts[place];
        if host.life != life || host.node.is_none() || !host.carrier {
            return;
        }
        if let Body::Arp(arp) = &packet.body {
            // As Linux does for an address of the interface.
            let held = host.addresses.get(&arp.target).is_some_and(|until| until.is_none_or(|until| self.now < until));
            if arp.operation == Operation::Request && held && arp.sender != arp.target {
                let reply: Arp = arp.reply(host.mac);
                let answer = Packet { source: host.mac, destination: arp.sender_mac, body: Body::Arp(reply) };
                self.send(place, answer, Duration::ZERO);
            }
        }
        self.event(place, life, Event::Received { wire: Wire::Cluster, packet });
    }
}
