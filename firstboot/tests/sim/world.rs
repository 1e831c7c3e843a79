//! Machines, cards, cables and a clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::Write,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    identity::{Hardware, Incarnation},
    key::ClusterKey,
    link::{Link, LinkKind, Mac},
    node::{Action, Event, Node, Role, Setup, Wire},
    record::Record,
    wire::{self, Arp, Body, Packet, arp::Operation},
};

use crate::{dice::Dice, rules::Rules};

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
}

impl Class {
    pub const ALL: [Self; 8] =
        [Self::Bounded, Self::Mute, Self::Loss, Self::Parts, Self::Cuts, Self::Copies, Self::Used, Self::Keys];

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
        }
    }
}

/// What is made wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// What is to be kept is kept last.
    PersistLast,
    /// A frame counts as heard at once.
    NoSilenceRule,
    /// Nobody sees what others claim.
    NoTieBreak,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The rule that was broken, and how.
    pub broken: Option<String>,
    pub foundings: usize,
    /// From the first node's power to a leader.
    pub leader_after: Option<Duration>,
    /// From the leader, or the node's own power, to a lease; each follower.
    pub follower_after: Vec<Duration>,
    pub trace: String,
}

/// How long everything may take after the last fault.
const SETTLE: Duration = Duration::from_secs(180);
const MS: Duration = Duration::from_millis(1);

enum What {
    PowerOn(usize),
    Heard(usize, u32),
    Deliver(usize, u32, Packet),
    Timer(usize, u32),
    Links(usize, u32, Link),
    List(usize, u32),
}

struct Host {
    key: ClusterKey,
    mac: Mac,
    hardware: Hardware,
    node: Option<Node>,
    /// Counts starts; what belongs to an earlier one is void.
    life: u32,
    powered_at: Duration,
    mute_until: Duration,
    busy_until: Duration,
    disk: Option<Record>,
    addresses: BTreeMap<Ipv4Addr, Option<Duration>>,
    follows: bool,
}

struct World {
    class: Class,
    mutation: Mutation,
    dice: Dice,
    base: Instant,
    now: Duration,
    faults_end: Duration,
    hosts: Vec<Host>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    what: BTreeMap<u64, What>,
    counter: u64,
    /// How many packets in a row were lost between two hosts.
    lost: BTreeMap<(usize, usize), u8>,
    /// Pairs that do not hear each other, in one direction.
    cut: BTreeMap<(usize, usize), ()>,
    rules: Rules,
    outcome: Outcome,
    leader_at: Option<Duration>,
    /// The founding that must not be lost.
    used: Option<Incarnation>,
}

fn key(number: u8) -> ClusterKey {
    ClusterKey::new([0x5a + number; 32])
}

/// One run.
pub fn run(class: Class, seed: u64, mutation: Mutation) -> Outcome {
    let mut dice = Dice::new(seed.wrapping_add((class as u64) << 56));
    let count = [1, 2, 2, 3, 3, 3, 4, 5, 8, 16][dice.below(10) as usize];
    let faults_end = dice.between(Duration::from_secs(20), Duration::from_secs(120));
    let host = |place: usize| Host {
        key: key(if class == Class::Keys { place as u8 % 2 } else { 0 }),
        mac: Mac([2, 0, 0, 0, 0, place as u8 + 1]),
        hardware: Hardware { card: Some(format!("card {place}")), board: Some(format!("board {place}")) },
        node: None,
        life: 0,
        powered_at: Duration::ZERO,
        mute_until: Duration::ZERO,
        busy_until: Duration::ZERO,
        disk: None,
        addresses: BTreeMap::new(),
        follows: false,
    };
    let mut world = World {
        class,
        mutation,
        dice,
        base: Instant::now(),
        now: Duration::ZERO,
        faults_end,
        hosts: (0..count).map(host).collect(),
        queue: BinaryHeap::new(),
        what: BTreeMap::new(),
        counter: 0,
        lost: BTreeMap::new(),
        cut: BTreeMap::new(),
        rules: Rules::default(),
        outcome: Outcome::default(),
        leader_at: None,
        used: None,
    };
    let staggered = world.dice.chance(50);
    for place in 0..count {
        let at = if staggered {
            world.dice.between(Duration::ZERO, Duration::from_secs(20))
        } else {
            MS * world.dice.below(300) as u32
        };
        world.at(at, What::PowerOn(place));
    }
    if matches!(class, Class::Parts | Class::Used) {
        for from in 0..count {
            for to in 0..count {
                if world.dice.chance(40) {
                    world.cut.insert((from, to), ());
                    if world.dice.chance(70) {
                        world.cut.insert((to, from), ());
                    }
                }
            }
        }
    }
    world.play();
    world.outcome.foundings = world.rules.founded.len();
    world.outcome
}

impl World {
    fn at(&mut self, at: Duration, what: What) {
        self.counter += 1;
        self.queue.push(Reverse((at, self.counter)));
        self.what.insert(self.counter, what);
    }

    fn log(&mut self, line: &str) {
        // Enough for a person; the beginning says how it came about, and is kept.
        if self.outcome.trace.len() < 200_000 {
            let _ = writeln!(self.outcome.trace, "{:>9.3} {line}", self.now.as_secs_f64());
        }
    }

    fn broke(&mut self, rule: Result<(), String>) {
        if let (Err(rule), None) = (rule, &self.outcome.broken) {
            self.log(&format!("BROKEN {rule}"));
            self.outcome.broken = Some(rule);
        }
    }

    fn faulty(&self) -> bool {
        self.now < self.faults_end
    }

    fn play(&mut self) {
        let end = self.faults_end + SETTLE;
        let mut copied = !matches!(self.class, Class::Copies | Class::Used);
        while let Some(Reverse((at, id))) = self.queue.pop() {
            if at > end || self.outcome.broken.is_some() {
                break;
            }
            self.now = at;
            if !copied && self.now >= self.faults_end / 2 {
                copied = true;
                if self.class == Class::Copies { self.copy_card() } else { self.establish() }
            }
            let Some(what) = self.what.remove(&id) else { continue };
            match what {
                What::PowerOn(place) => self.power_on(place),
                What::Heard(place, life) => self.event(place, life, Event::Heard),
                What::List(place, life) => {
                    let list = vec![self.wired(place)];
                    self.event(place, life, Event::Listed(list));
                }
                What::Links(place, life, link) => self.event(place, life, Event::LinkChanged(link)),
                What::Timer(place, life) => {
                    let due = self.hosts[place].node.as_ref().and_then(Node::next_timeout).map(|(due, _)| due);
                    if due.is_some_and(|due| due <= self.base + self.now) {
                        self.event(place, life, Event::Timeout);
                    }
                }
                What::Deliver(place, life, packet) => self.deliver(place, life, packet),
            }
        }
        if self.outcome.broken.is_none() {
            let rule = self.settled();
            self.broke(rule);
        }
        if matches!(self.class, Class::Bounded | Class::Mute | Class::Copies) && self.rules.founded.len() > 1 {
            let rule = format!("1a: {} nodes of one key have founded", self.rules.founded.len());
            self.broke(Err(rule));
        }
    }

    fn power_on(&mut self, place: usize) {
        let seed = std::array::from_fn(|_| self.dice.next() as u8);
        let mute =
            if self.class == Class::Mute { self.dice.between(Duration::ZERO, Duration::from_secs(30)) } else { Duration::ZERO };
        // On some wires there is nobody else to be heard.
        let quiet = self.dice.chance(15);
        let first = self.dice.between(Duration::ZERO, Duration::from_secs(3));
        let (now, base) = (self.now, self.base);
        let host = &mut self.hosts[place];
        host.life += 1;
        host.powered_at = now;
        host.mute_until = now + mute;
        host.busy_until = now;
        host.addresses.clear();
        host.follows = false;
        let life = host.life;
        let setup = Setup {
            config: Default::default(),
            key: Some(host.key.clone()),
            record: host.disk.clone(),
            hardware: host.hardware.clone(),
            seed,
        };
        let (node, actions) = Node::start(setup, base + now);
        host.node = Some(node);
        self.log(&format!("{place} power on, mute for {} ms", mute.as_millis()));
        self.act(place, actions);
        // The card may be slow already.
        self.at(now, What::List(place, life));
        if self.mutation == Mutation::NoSilenceRule {
            self.at(now + MS * 50, What::Heard(place, life));
        } else if !quiet {
            self.at(now + mute + first, What::Heard(place, life));
        }
    }

    fn wired(&self, place: usize) -> Link {
        let mac = Some(self.hosts[place].mac);
        Link { index: 2, name: "eth0".into(), kind: LinkKind::Wired, mac, up: true, carrier: true }
    }

    fn event(&mut self, place: usize, life: u32, event: Event) {
        let instant = self.base + self.now;
        let host = &mut self.hosts[place];
        if host.life != life || host.node.is_none() {
            return;
        }
        if self.now < host.busy_until {
            // One thread: it comes when the write is over.
            let at = host.busy_until;
            let what = match event {
                Event::Heard => What::Heard(place, life),
                Event::Received { packet, .. } => What::Deliver(place, life, packet),
                Event::LinkChanged(link) => What::Links(place, life, link),
                Event::Listed(_) => What::List(place, life),
                _ => What::Timer(place, life),
            };
            return self.at(at, what);
        }
        let Some(node) = &mut host.node else { return };
        let actions = node.handle(instant, event);
        self.act(place, actions);
        self.arm(place);
    }

    fn arm(&mut self, place: usize) {
        let host = &self.hosts[place];
        let Some((due, _)) = host.node.as_ref().and_then(Node::next_timeout) else { return };
        let (at, life) = (due.saturating_duration_since(self.base).max(self.now + MS / 10), host.life);
        self.at(at, What::Timer(place, life));
    }

    fn act(&mut self, place: usize, mut actions: Vec<Action>) {
        if self.mutation == Mutation::PersistLast {
            actions.sort_by_key(|action| matches!(action, Action::Persist(_)));
        }
        // How much later the rest is done, because of the card.
        let mut lag = Duration::ZERO;
        for action in actions {
            let life = self.hosts[place].life;
            match action {
                Action::CreateVlan { parent, name, id } => {
                    let mac = Some(self.hosts[place].mac);
                    let link = Link { index: 3, name, kind: LinkKind::Vlan { id, parent }, mac, up: true, carrier: true };
                    self.at(self.now + MS, What::Links(place, life, link));
                }
                Action::Persist(record) => {
                    let faulty = self.faulty() && self.class == Class::Cuts;
                    if faulty && self.dice.chance(30) {
                        let written = self.dice.chance(50);
                        return self.power_cut(place, written.then_some(*record));
                    }
                    if faulty {
                        lag += self.dice.between(Duration::ZERO, Duration::from_secs(2));
                    }
                    self.hosts[place].busy_until = self.now + lag;
                    self.rules.persisted(&record);
                    self.hosts[place].disk = Some(*record);
                }
                Action::SetAddress { address, valid_for, .. } => self.set_address(place, address, valid_for),
                Action::DropAddress { address } => {
                    self.hosts[place].addresses.remove(&address);
                }
                Action::Close => self.hosts[place].addresses.clear(),
                Action::Send { wire: Wire::Cluster, packet } => {
                    let host = &self.hosts[place];
                    let rule = self.rules.sent(&packet, host.disk.as_ref(), &host.key.seals());
                    self.broke(rule);
                    self.send(place, packet, lag);
                }
                Action::Log { from, to, reason } => self.log(&format!("{place} {from} -> {to}: {reason}")),
                _ => {}
            }
        }
        let role = self.hosts[place].node.as_ref().map(|node| node.summary().role);
        if role == Some(Role::Leader) && self.leader_at.is_none() {
            self.leader_at = Some(self.now);
            let first = self.hosts.iter().filter(|host| host.node.is_some()).map(|host| host.powered_at).min();
            self.outcome.leader_after = first.map(|first| self.now - first);
        }
        if role == Some(Role::Follower) && !self.hosts[place].follows {
            self.hosts[place].follows = true;
            let from = self.leader_at.unwrap_or_default().max(self.hosts[place].powered_at);
            self.outcome.follower_after.push(self.now.saturating_sub(from));
        }
    }

    fn power_cut(&mut self, place: usize, written: Option<Record>) {
        self.log(&format!("{place} power cut, written: {}", written.is_some()));
        if let Some(record) = written {
            self.rules.persisted(&record);
            self.hosts[place].disk = Some(record);
        }
        self.hosts[place].node = None;
        self.hosts[place].addresses.clear();
        let pause = self.dice.between(MS * 100, Duration::from_secs(20));
        self.at(self.now + pause, What::PowerOn(place));
    }

    /// The card of a member goes into another machine as well.
    fn copy_card(&mut self) {
        let members = self.hosts.iter().filter(|host| host.disk.as_ref().is_some_and(|disk| disk.membership.is_some())).count();
        if members == 0 {
            return;
        }
        let disks: Vec<_> =
            self.hosts.iter().filter_map(|host| host.disk.clone().filter(|disk| disk.membership.is_some())).collect();
        let disk = disks[self.dice.below(disks.len() as u64) as usize].clone();
        let place = self.hosts.len();
        let hardware = Hardware { card: Some("copy".into()), board: Some("another board".into()) };
        self.hosts.push(Host {
            key: key(0),
            mac: Mac([2, 0, 0, 0, 1, place as u8]),
            hardware,
            node: None,
            life: 0,
            powered_at: self.now,
            mute_until: Duration::ZERO,
            busy_until: Duration::ZERO,
            disk: Some(disk),
            addresses: BTreeMap::new(),
            follows: false,
        });
        self.log(&format!("{place} has a copy of a card"));
        self.power_on(place);
    }

    /// A user puts something into one of the clusters.
    fn establish(&mut self) {
        let leads = |host: &Host| host.node.as_ref().is_some_and(|node| node.summary().role == Role::Leader);
        let leaders: Vec<_> = (0..self.hosts.len()).filter(|place| leads(&self.hosts[*place])).collect();
        let Some(place) = leaders.get(self.dice.below(leaders.len() as u64) as usize).copied() else { return };
        let life = self.hosts[place].life;
        self.used = self.hosts[place].node.as_ref().and_then(|node| node.summary().incarnation);
        self.log(&format!("{place} holds something that a user would miss"));
        self.event(place, life, Event::Established);
    }

    fn set_address(&mut self, place: usize, address: Ipv4Addr, valid_for: Option<Duration>) {
        let rule = self.rules.took(address, self.hosts[place].disk.as_ref());
        self.broke(rule);
        let now = self.now;
        let incarnation = |host: &Host| host.disk.as_ref().and_then(|disk| disk.membership.as_ref()).map(|of| of.incarnation);
        let ours = incarnation(&self.hosts[place]);
        let holds = |host: &Host| host.addresses.get(&address).is_some_and(|until| until.is_none_or(|until| now < until));
        let twice =
            self.hosts.iter().enumerate().find(|(other, host)| *other != place && holds(host) && incarnation(host) == ours);
        // Parts of a network cannot know of each other; a copy is another matter than two members.
        let knowable = !(matches!(self.class, Class::Parts | Class::Used) && self.faulty());
        let rule = match twice {
            Some((other, _)) if knowable => Err(format!("2: {place} and {other} of one incarnation have {address}")),
            _ => Ok(()),
        };
        self.broke(rule);
        self.hosts[place].addresses.insert(address, valid_for.map(|valid_for| now + valid_for));
    }

    fn send(&mut self, from: usize, packet: Packet, lag: Duration) {
        let frame = wire::encode(&packet);
        let mut packet = match wire::decode(&frame) {
            Ok(decoded) => decoded,
            Err(dropped) => return self.broke(Err(format!("codec: {packet:?} came back as: {dropped}"))),
        };
        if let (Mutation::NoTieBreak, Body::Mdns { message, .. }) = (self.mutation, &mut packet.body) {
            message.authorities.clear();
        }
        let sent_at = self.now + lag;
        for to in 0..self.hosts.len() {
            let host = &self.hosts[to];
            let reached = packet.destination.0[0] & 1 == 1 || packet.destination == host.mac;
            if to == from || !reached || host.node.is_none() {
                continue;
            }
            let mute = |host: &Host| sent_at < host.mute_until;
            if mute(host) || mute(&self.hosts[from]) || self.is_lost(from, to) {
                continue;
            }
            let life = self.hosts[to].life;
            let slow = self.faulty() && self.class == Class::Bounded;
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
            Class::Parts | Class::Used => self.cut.contains_key(&(from, to)),
            Class::Mute | Class::Cuts | Class::Copies | Class::Keys => false,
        }
    }

    fn deliver(&mut self, place: usize, life: u32, packet: Packet) {
        let host = &self.hosts[place];
        if host.life != life || host.node.is_none() {
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

    /// Rule 1b: one leader, all others follow it, each with an address of its own. Of two keys one runs and the other explains.
    fn settled(&mut self) -> Result<(), String> {
        if self.hosts.iter().any(|host| host.node.is_none()) {
            return Err("a machine is still without power".into());
        }
        if self.class != Class::Keys {
            return self.settled_of(&key(0));
        }
        let of_key = |number| {
            let hosts = self.hosts.iter().filter(move |host| host.key == key(number));
            hosts.filter_map(|host| host.node.as_ref()).map(Node::summary).collect::<Vec<_>>()
        };
        let aside = |number| of_key(number).iter().all(|summary| summary.role == Role::None && !summary.complaints.is_empty());
        match (aside(0), aside(1)) {
            (_, true) => self.settled_of(&key(0)),
            (true, false) => self.settled_of(&key(1)),
            (false, false) => Err("1b: two labs of two keys run on one wire".into()),
        }
    }

    fn settled_of(&self, key: &ClusterKey) -> Result<(), String> {
        let hosts = self.hosts.iter().filter(|host| host.key == *key);
        let running: Vec<_> = hosts.filter_map(|host| host.node.as_ref()).map(Node::summary).collect();
        let leaders = running.iter().filter(|summary| summary.role == Role::Leader).count();
        if leaders != 1 {
            return Err(format!("1b: {leaders} leaders after all faults have ended"));
        }
        for (place, summary) in running.iter().enumerate() {
            if summary.role == Role::None {
                return Err(format!("1b: node {place} is in no cluster: {} ({})", summary.phase, summary.reason));
            }
            if summary.incarnation != running[0].incarnation {
                return Err(format!("1b: node {place} is in another cluster"));
            }
            if summary.role == Role::Follower && summary.lease.is_none() {
                return Err(format!("1b: node {place} follows without a lease: {}", summary.reason));
            }
        }
        if self.used.is_some() && running[0].incarnation != self.used {
            return Err("1b: the cluster that held something is lost".into());
        }
        let mut addresses: Vec<_> = running.iter().filter_map(|summary| summary.address).collect();
        addresses.sort();
        addresses.dedup();
        if addresses.len() < running.len() { Err("2: two members have one address".into()) } else { Ok(()) }
    }
}
