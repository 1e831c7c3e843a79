//! The switch, pure: a frame in on a port gives the ports that it leaves by, and when.
//!
//! It learns addresses per VLAN as a real one does (IEEE 802.1Q, independent learning). What comes in tagged leaves tagged, but
//! by an access port, whose station knows of no VLAN. Around that stand the faults that a lab is
//! for: loss, delay, cut cables, partitions, ports that are mute at first, a switch that drops tags.
//! Time comes in as a parameter and chance from a seed, so that a run can be repeated.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::frame::{Header, Mac, VlanId, with_tag};

/// A port's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub usize);

/// How long an address is remembered without a frame from it (802.1Q's default ageing time).
const AGEING: Duration = Duration::from_secs(300);
/// Addresses remembered at most; beyond that, frames are flooded as in a real switch with a full table.
const TABLE: usize = 8192;

/// Which frames a port lets in and out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Everything, tagged or not: an unmanaged switch.
    All,
    /// Untagged frames if `untagged`, and those of the listed VLANs.
    Only {
        /// Untagged (and priority-tagged) frames pass.
        untagged: bool,
        /// Tagged frames of these VLANs pass.
        vlans: BTreeSet<VlanId>,
    },
}

impl Membership {
    fn admits(&self, vlan: Option<VlanId>) -> bool {
        match (self, vlan) {
            (Self::All, _) => true,
            (Self::Only { untagged, .. }, None) => *untagged,
            (Self::Only { vlans, .. }, Some(vlan)) => vlans.contains(&vlan),
        }
    }
}

/// What is wrong with one port. The default is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Share of frames lost on the way out of this port, 0 to 1.
    pub loss: f64,
    /// Added to every frame that leaves by this port.
    pub delay: Duration,
    /// Up to this much more, evenly spread; frames may overtake each other.
    pub jitter: Duration,
    /// The cable is cut: nothing in, nothing out.
    pub cut: bool,
    /// Nothing passes for this long after the link came up, as spanning tree does it.
    pub mute: Duration,
    /// Tagged frames are dropped, as some cheap switches do.
    pub drops_tagged: bool,
}

impl Default for Faults {
    fn default() -> Self {
        let zero = Duration::ZERO;
        Self { loss: 0.0, delay: zero, jitter: zero, cut: false, mute: zero, drops_tagged: false }
    }
}

/// One port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name, as it stands in the capture.
    pub name: String,
    /// Which frames it lets pass.
    pub membership: Membership,
    /// An access port of this VLAN: frames get its tag as they come in and lose it as they leave (802.1Q-2018, 6.9).
    pub access: Option<VlanId>,
    /// What is wrong with it.
    pub faults: Faults,
    /// Ports of different islands do not hear each other.
    pub island: u8,
    /// When its link came up; `None` while there is none.
    up_since: Option<Duration>,
}

/// Why a frame did not reach a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Shorter than its header.
    Malformed,
    /// A frame for the neighbouring bridge only, such as spanning tree.
    LinkLocal,
    /// The port is cut.
    Cut,
    /// The port has no link.
    NoLink,
    /// The port is mute still.
    Mute,
    /// The port drops tagged frames.
    Tagged,
    /// The port is no member of the frame's VLAN.
    Membership,
    /// Lost by chance.
    Chance,
    /// The port's queue is full: its reader is stuck or slow.
    QueueFull,
}

impl Loss {
    /// In a few words, for the capture's comments and for counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "shorter than an Ethernet header",
            Self::LinkLocal => "link-local, never forwarded",
            Self::Cut => "port cut",
            Self::NoLink => "no link",
            Self::Mute => "port mute",
            Self::Tagged => "port drops tagged frames",
            Self::Membership => "port not a member of the VLAN",
            Self::Chance => "lost by chance",
            Self::QueueFull => "queue full",
        }
    }
}

/// A frame leaves by `port`, `after` this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// By which port.
    pub port: PortId,
    /// How long from now.
    pub after: Duration,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Where it leaves.
    pub exits: Vec<Exit>,
    /// Not let in at all, and why.
    pub refused: Option<Loss>,
    /// Ports that it should have reached and did not, and why.
    pub lost: Vec<(PortId, Loss)>,
}

#[derive(Clone, Copy, Debug)]
struct Learned {
    port: PortId,
    seen: Duration,
}

/// The switch.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<Port>,
    table: HashMap<(Option<VlanId>, Mac), Learned>,
    chance: Chance,
}

impl Switch {
    /// A switch without ports; `seed` decides what is lost and by how much delays vary.
    pub fn new(seed: u64) -> Self {
        Self { ports: Vec::new(), table: HashMap::new(), chance: Chance(seed) }
    }

    /// Adds a port that lets everything pass.
    pub fn add_port(&mut self, name: impl Into<String>) -> PortId {
        self.ports.push(Port {
            name: name.into(),
            membership: Membership::All,
            access: None,
            faults: Faults::default(),
            island: 0,
            up_since: None,
        });
        PortId(self.ports.len() - 1)
    }

    /// All ports in order.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// One port, to change its membership, faults or island. `None` where there is no such port.
    pub fn port_mut(&mut self, port: PortId) -> Option<&mut Port> {
        self.ports.get_mut(port.0)
    }

    /// The port's link came up: its mute time starts.
    pub fn link_up(&mut self, now: Duration, port: PortId) {
        if let Some(port) = self.ports.get_mut(port.0) {
            port.up_since = Some(now);
        }
    }

    /// The port's link went down: what was learned there is forgotten.
    pub fn link_down(&mut self, port: PortId) {
        if let Some(port) = self.ports.get_mut(port.0) {
            port.up_since = None;
        }
        self.table.retain(|_, learned| learned.port != port);
    }

    /// Makes a port one of a VLAN, for a station that knows of no VLAN and must hear no other; `None` makes it one that lets everything
    /// pass again.
    pub fn set_access(&mut self, port: PortId, vlan: Option<VlanId>) {
        if let Some(port) = self.ports.get_mut(port.0) {
            port.membership =
                vlan.map_or(Membership::All, |vlan| Membership::Only { untagged: false, vlans: BTreeSet::from([vlan]) });
            port.access = vlan;
        }
    }

    /// The frame that came in on `port`, as it is inside the switch.
    pub fn admitted(&self, port: PortId, frame: Vec<u8>) -> Vec<u8> {
        match self.ports.get(port.0).and_then(|port| port.access) {
            Some(vlan) if Header::parse(&frame).is_some_and(|header| !header.tagged) => with_tag(&frame, vlan),
            _ => frame,
        }
    }

    /// Whether frames lose their tag as they leave by `port`.
    pub fn strips(&self, port: PortId) -> bool {
        self.ports.get(port.0).is_some_and(|port| port.access.is_some())
    }

    /// Forgets all addresses. Wanted after a change of islands: a real network would do so too, since the
    /// change is one of cables.
    pub fn forget(&mut self) {
        self.table.clear();
    }

    /// What becomes of `frame`, which came in on `from`.
    pub fn forward(&mut self, now: Duration, from: PortId, frame: &[u8]) -> Verdict {
        let refused = |loss| Verdict { refused: Some(loss), ..Verdict::default() };
        let Some(header) = Header::parse(frame) else { return refused(Loss::Malformed) };
        if let Some(loss) = self.obstacle(now, from, &header) {
            return refused(loss);
        }
        self.learn(now, from, &header);
        if header.destination.is_link_local() {
            return refused(Loss::LinkLocal);
        }

        let known = self.lookup(now, &header);
        let mut verdict = Verdict::default();
        for to in (0..self.ports.len()).map(PortId) {
            let aimed = known.is_none_or(|port| port == to);
            if to == from || !aimed || self.ports[to.0].island != self.ports[from.0].island {
                continue;
            }
            match self.leave(now, to, &header) {
                Ok(exit) => verdict.exits.push(exit),
                // A VLAN that a port does not carry, or a port without a cable, loses nothing.
                Err(Loss::Membership | Loss::NoLink) => {}
                Err(loss) => verdict.lost.push((to, loss)),
            }
        }
        verdict
    }

    fn obstacle(&self, now: Duration, port: PortId, header: &Header) -> Option<Loss> {
        let port = self.ports.get(port.0)?;
        let Some(up_since) = port.up_since else { return Some(Loss::NoLink) };
        if port.faults.cut {
            Some(Loss::Cut)
        } else if now < up_since.saturating_add(port.faults.mute) {
            Some(Loss::Mute)
        } else if port.faults.drops_tagged && header.tagged {
            Some(Loss::Tagged)
        } else if !port.membership.admits(header.vlan) {
            Some(Loss::Membership)
        } else {
            None
        }
    }

    fn leave(&mut self, now: Duration, to: PortId, header: &Header) -> Result<Exit, Loss> {
        if let Some(loss) = self.obstacle(now, to, header) {
            return Err(loss);
        }
        let faults = &self.ports[to.0].faults;
        if faults.loss > 0.0 && self.chance.share() < faults.loss {
            return Err(Loss::Chance);
        }
        let jitter = if faults.jitter.is_zero() { Duration::ZERO } else { faults.jitter.mul_f64(self.chance.share()) };
        Ok(Exit { port: to, after: faults.delay + jitter })
    }

    fn learn(&mut self, now: Duration, from: PortId, header: &Header) {
        if header.source.is_group() {
            return;
        }
        let key = (header.vlan, header.source);
        if self.table.len() >= TABLE && !self.table.contains_key(&key) {
            self.table.retain(|_, learned| now.saturating_sub(learned.seen) < AGEING);
            if self.table.len() >= TABLE {
                return;
            }
        }
        self.table.insert(key, Learned { port: from, seen: now });
    }

    fn lookup(&self, now: Duration, header: &Header) -> Option<PortId> {
        let learned = self.table.get(&(header.vlan, header.destination))?;
        (now.saturating_sub(learned.seen) < AGEING).then_some(learned.port)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// At least 0, less than 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
