//! What goes wrong in a run, and when.

use std::time::Duration;

use hcl_firstboot::{
    identity::Hardware,
    link::Mac,
    node::{Event, Role},
};

use super::{Host, MS, What, World, key};

/// The faults of a run. All end after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Of four consecutive packets from one node to another at least one arrives, late, twice or out of order.
    Bounded,
    /// Every switch port is mute for up to 30 s after its link came up.
    Mute,
    /// A fifth of all packets is lost.
    Loss,
    /// The network falls into parts, in one direction only at times.
    Parts,
    /// Power fails at the moment of a write, and cards are slow.
    Cuts,
    /// A card was copied once it was a member.
    Copies,
    /// As parts; and one of the clusters gets something that a user would miss.
    Used,
    /// Half of the cards have another key.
    Keys,
    /// A cluster that runs falls apart, differently every few seconds, and heals in between.
    Splits,
    /// Power fails at any moment, at a write too; cards are slow.
    Crashes,
    /// Cables are pulled and put back; ports are mute afterwards.
    Flaps,
    /// Cards that cannot be written at times, and nodes that are stopped in good order.
    Cards,
    /// The leader's role is lost, at once or without a word.
    Roles,
    /// The leader hangs, or what grants it the role; cables are cut as well.
    Hangs,
    /// Most of the machines that grant the role are without power, or do not hear each other.
    Quorum,
    /// A machine without the key sends again what it heard, altered or not, and floods the leader with questions.
    Forged,
    /// All of it at once, on a wire that loses, doubles and delays, with clocks a tenth too fast or slow.
    Mixed,
}

impl Class {
    pub const ALL: [Self; 17] = [
        Self::Bounded,
        Self::Mute,
        Self::Loss,
        Self::Parts,
        Self::Cuts,
        Self::Copies,
        Self::Used,
        Self::Keys,
        Self::Splits,
        Self::Crashes,
        Self::Flaps,
        Self::Cards,
        Self::Roles,
        Self::Hangs,
        Self::Quorum,
        Self::Forged,
        Self::Mixed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bounded => "bounded",
            Self::Mute => "mute",
            Self::Loss => "loss",
            Self::Parts => "parts",
            Self::Cuts => "cuts",
            Self::Copies => "copies",
            Self::Used => "used",
            Self::Keys => "keys",
            Self::Splits => "splits",
            Self::Crashes => "crashes",
            Self::Flaps => "flaps",
            Self::Cards => "cards",
            Self::Roles => "roles",
            Self::Hangs => "hangs",
            Self::Quorum => "quorum",
            Self::Forged => "forged",
            Self::Mixed => "mixed",
        }
    }
}

impl World {
    pub(super) fn troubled(&self) -> bool {
        matches!(
            self.class,
            Class::Splits
                | Class::Crashes
                | Class::Flaps
                | Class::Cards
                | Class::Roles
                | Class::Hangs
                | Class::Quorum
                | Class::Mixed
        )
    }

    /// Something goes wrong, and the next thing soon.
    pub(super) fn trouble(&mut self) {
        if !self.faulty() {
            self.cut.clear();
            return;
        }
        let next = (self.now + self.dice.between(MS * 500, Duration::from_secs(20))).min(self.faults_end);
        self.at(next, What::Trouble);
        let count = self.hosts.len() as u64;
        let leader = (0..self.hosts.len())
            .find(|place| self.hosts[*place].node.as_ref().is_some_and(|node| node.summary().role == Role::Leader));
        let victim = match leader {
            Some(leader) if self.dice.chance(40) => leader,
            _ => self.dice.below(count) as usize,
        };
        let kind = match self.class {
            Class::Splits => 0,
            Class::Crashes => 1,
            Class::Flaps => 2,
            Class::Cards => 3,
            Class::Roles => 4,
            Class::Hangs => [0, 5, 5][self.dice.below(3) as usize],
            Class::Quorum => [0, 1, 6][self.dice.below(3) as usize],
            _ => self.dice.below(7),
        };
        let life = self.hosts[victim].life;
        let back = (self.now + self.dice.between(MS * 10, Duration::from_secs(25))).min(self.faults_end);
        match kind {
            0 => self.split(victim),
            1 if self.hosts[victim].node.is_some() => self.power_off(victim, "cut"),
            2 if self.hosts[victim].carrier => {
                self.plug(victim, false);
                let plugged = self.hosts[victim].plugged;
                self.at(back, What::Cable(victim, plugged));
            }
            3 => self.event(victim, life, Event::Stopping),
            4 => self.end_session(),
            5 => self.hang(victim),
            6 => self.lose_quorum(),
            _ => {}
        }
    }

    pub(super) fn plug(&mut self, place: usize, carrier: bool) {
        let mute = if carrier && self.dice.chance(50) {
            self.dice.between(Duration::ZERO, Duration::from_secs(30))
        } else {
            Duration::ZERO
        };
        self.log(&format!("{place} cable {}, mute for {} ms", if carrier { "in" } else { "out" }, mute.as_millis()));
        let now = self.now;
        let host = &mut self.hosts[place];
        host.carrier = carrier;
        host.plugged += 1;
        if carrier {
            host.mute_until = now + mute;
        }
        let life = host.life;
        let link = self.wired(place);
        self.event(place, life, Event::LinkChanged(link));
    }

    fn split(&mut self, victim: usize) {
        self.cut.clear();
        let count = self.hosts.len();
        match self.dice.below(4) {
            0 => self.log("whole again"),
            1 => {
                self.log(&format!("{victim} is alone"));
                for other in 0..count {
                    self.cut.insert((victim, other), ());
                    self.cut.insert((other, victim), ());
                }
            }
            2 => {
                let speaks = self.dice.chance(50);
                self.log(&format!("{victim} {}", if speaks { "hears nothing" } else { "is not heard" }));
                for other in 0..count {
                    self.cut.insert(if speaks { (other, victim) } else { (victim, other) }, ());
                }
            }
            _ => {
                let side: Vec<bool> = (0..count).map(|_| self.dice.chance(50)).collect();
                self.log(&format!("split {side:?}"));
                for from in 0..count {
                    for to in 0..count {
                        if side[from] != side[to] {
                            self.cut.insert((from, to), ());
                        }
                    }
                }
            }
        }
    }

    /// The card of a member goes into another machine as well.
    pub(super) fn copy_card(&mut self) {
        let members = self.hosts.iter().filter(|host| host.disk.as_ref().is_some_and(|disk| disk.membership.is_some())).count();
        if members == 0 {
            return;
        }
        let disks: Vec<_> =
            self.hosts.iter().filter_map(|host| host.disk.clone().filter(|disk| disk.membership.is_some())).collect();
        let disk = disks[self.dice.below(disks.len() as u64) as usize].clone();
        let place = self.hosts.len();
        let hardware = Hardware { card: Some("copy".into()), board: Some("another board".into()) };
        let copy = Host::new(key(0), Mac([2, 0, 0, 0, 1, place as u8]), hardware);
        self.hosts.push(Host { disk: Some(disk), ..copy });
        self.log(&format!("{place} has a copy of a card"));
        self.power_on(place);
    }

    /// A user puts something into one of the clusters.
    pub(super) fn establish(&mut self) {
        let leads = |host: &Host| host.node.as_ref().is_some_and(|node| node.summary().role == Role::Leader);
        let leaders: Vec<_> = (0..self.hosts.len()).filter(|place| leads(&self.hosts[*place])).collect();
        let Some(place) = leaders.get(self.dice.below(leaders.len() as u64) as usize).copied() else { return };
        let life = self.hosts[place].life;
        self.used = self.hosts[place].node.as_ref().and_then(|node| node.summary().incarnation);
        self.log(&format!("{place} holds something that a user would miss"));
        self.event(place, life, Event::Established);
        let kept = self.hosts[place].disk.as_ref().and_then(|disk| disk.membership.as_ref());
        if kept.is_none_or(|kept| kept.provisional || Some(kept.incarnation) != self.used) {
            self.log("but its card does not know");
            self.used = None;
        }
    }
}
