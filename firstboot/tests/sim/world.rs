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
    wire::Packet,
};

use self::host::Host;
pub use self::{
    faults::Class,
    outcome::{Mutation, Outcome},
};
use crate::{dice::Dice, rules::Rules};

#[path = "attacker.rs"]
mod attacker;
#[path = "cable.rs"]
mod cable;
#[path = "faults.rs"]
mod faults;
#[path = "host.rs"]
mod host;
#[path = "lock.rs"]
mod lock;
#[path = "outcome.rs"]
mod outcome;
#[path = "settled.rs"]
mod settled;

/// How long everything may take after the last fault.
const SETTLE: Duration = Duration::from_secs(180);
const MS: Duration = Duration::from_millis(1);

enum What {
    PowerOn(usize),
    Heard(usize, u32, u32),
    Trouble,
    Cable(usize, u32),
    /// The program that asks for the leader's role has its turn.
    Tick(usize, u32),
    /// It asks for a founding's lock, at this time of its clock.
    Ask(usize, u32, Incarnation, Duration),
    Granted(usize, u32, lock::Grant),
    Write(usize, u32, lock::Write),
    Other(usize, u32, Event),
    Deliver(usize, u32, Packet),
    Timer(usize, u32),
    Links(usize, u32, Link),
    List(usize, u32),
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
    /// The number of what happens now, until it is used again.
    playing: Option<u64>,
    /// How many packets in a row were lost between two hosts.
    lost: BTreeMap<(usize, usize), u8>,
    /// Pairs that do not hear each other, in one direction.
    cut: BTreeMap<(usize, usize), ()>,
    /// Whether there is a Consul that grants the role, and its locks.
    consul: bool,
    locks: BTreeMap<Incarnation, lock::Lock>,
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
    run_with(class, seed, mutation, None, Duration::ZERO)
}

/// One run with this many machines, that goes on for `rest` once all has settled.
pub fn run_with(class: Class, seed: u64, mutation: Mutation, machines: Option<usize>, rest: Duration) -> Outcome {
    let mut dice = Dice::new(seed.wrapping_add((class as u64) << 56));
    let count = [1, 2, 2, 3, 3, 3, 4, 5, 8, 16][dice.below(10) as usize];
    let count = machines.unwrap_or(count);
    let faults_end = dice.between(Duration::from_secs(20), Duration::from_secs(120));
    let host = |place: usize| {
        let hardware = Hardware { card: Some(format!("card {place}")), board: Some(format!("board {place}")) };
        let key = key(if class == Class::Keys { place as u8 % 2 } else { 0 });
        Host::new(key, Mac([2, 0, 0, 0, 0, place as u8 + 1]), hardware)
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
        playing: None,
        lost: BTreeMap::new(),
        cut: BTreeMap::new(),
        consul: false,
        locks: BTreeMap::new(),
        rules: Rules::default(),
        outcome: Outcome::default(),
        leader_at: None,
        used: None,
    };
    if class == Class::Mixed {
        for place in 0..count {
            world.hosts[place].pace = 900 + world.dice.below(201) as u32;
        }
    }
    world.consul = World::always_consul(class) || world.dice.chance(60);
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
    if world.troubled() {
        let first = world.dice.between(Duration::ZERO, world.faults_end / 2);
        world.at(first, What::Trouble);
    }
    world.play(rest);
    world.outcome.foundings = world.rules.founded.len();
    world.outcome.leaders = world.rules.led.len();
    world.outcome
}

impl World {
    fn at(&mut self, at: Duration, what: What) {
        self.counter += 1;
        self.queue.push(Reverse((at, self.counter)));
        self.what.insert(self.counter, what);
    }

    /// What happens now happens then, before what came after it: a kernel's messages stay in their order, however long a program hangs.
    fn later(&mut self, at: Duration, what: What) {
        let Some(number) = self.playing.take() else { return self.at(at, what) };
        self.queue.push(Reverse((at, number)));
        self.what.insert(number, what);
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

    fn rests(&self) -> bool {
        self.now > self.faults_end + SETTLE
    }

    fn faulty(&self) -> bool {
        self.now < self.faults_end
    }

    fn play(&mut self, rest: Duration) {
        let end = self.faults_end + SETTLE + rest;
        let mut copied = !matches!(
            self.class,
            Class::Copies
                | Class::Used
                | Class::Splits
                | Class::Crashes
                | Class::Flaps
                | Class::Cards
                | Class::Roles
                | Class::Hangs
                | Class::Quorum
                | Class::Mixed
        );
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
            self.playing = Some(id);
            match what {
                What::PowerOn(place) => self.power_on(place),
                What::Heard(place, life, plugged) => {
                    if self.hosts[place].plugged == plugged {
                        self.event(place, life, Event::Heard);
                    }
                }
                What::Trouble => self.trouble(),
                What::Cable(place, plugged) => {
                    if self.hosts[place].plugged == plugged {
                        self.plug(place, true);
                    }
                }
                What::Tick(place, life) => self.tick(place, life),
                What::Ask(place, life, incarnation, asked) => self.asked(place, life, incarnation, asked),
                What::Granted(place, life, grant) => self.granted(place, life, grant),
                What::Write(place, life, write) => self.written(place, life, write),
                What::Other(place, life, event) => self.event(place, life, event),
                What::List(place, life) => {
                    let list = vec![self.wired(place)];
                    self.event(place, life, Event::Listed(list));
                }
                What::Links(place, life, link) => self.event(place, life, Event::LinkChanged(link)),
                What::Timer(place, life) => {
                    let due = self.hosts[place].node.as_ref().and_then(Node::next_timeout).map(|(due, _)| due);
                    if due.is_some_and(|due| due <= self.base + self.hosts[place].clock(self.now)) {
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
        let mute = if self.class == Class::Mute || (self.class == Class::Mixed && self.faulty() && self.dice.chance(30)) {
            self.dice.between(Duration::ZERO, Duration::from_secs(30))
        } else {
            Duration::ZERO
        };
        // On some wires there is nobody else to be heard.
        let quiet = self.dice.chance(15);
        let now = self.now;
        let host = &mut self.hosts[place];
        host.life += 1;
        host.powered_at = now;
        host.mute_until = now + mute;
        host.busy_until = now;
        host.addresses.clear();
        host.follows = false;
        host.quiet = quiet;
        host.granted_until = None;
        host.agent_hangs_until = now;
        let life = host.life;
        let instant = self.base + host.clock(now);
        let setup = Setup {
            config: Default::default(),
            key: Some(host.key.clone()),
            record: host.disk.clone(),
            hardware: host.hardware.clone(),
            seed,
        };
        let (node, actions) = Node::start(setup, instant);
        if host.disk.as_ref().is_some_and(|disk| disk.node != node.summary().node) {
            self.broke(Err(format!("4: {place} came back as another node")));
            return;
        }
        host.node = Some(node);
        self.log(&format!("{place} power on, mute for {} ms", mute.as_millis()));
        self.act(place, actions);
        // The card may be slow already.
        self.at(now, What::List(place, life));
        self.start_agent(place);
    }

    fn wired(&self, place: usize) -> Link {
        let mac = Some(self.hosts[place].mac);
        Link { index: 2, name: "eth0".into(), kind: LinkKind::Wired, mac, up: true, carrier: self.hosts[place].carrier }
    }

    fn event(&mut self, place: usize, life: u32, event: Event) {
        let (instant, rests) = (self.base + self.hosts[place].clock(self.now), self.rests());
        let host = &mut self.hosts[place];
        if host.life != life || host.node.is_none() {
            return;
        }
        if self.now < host.busy_until {
            // One thread: it comes when the write is over.
            let at = host.busy_until;
            let what = match event {
                Event::Heard => What::Heard(place, life, host.plugged),
                Event::Received { packet, .. } => What::Deliver(place, life, packet),
                Event::LinkChanged(link) => What::Links(place, life, link),
                Event::Listed(_) => What::List(place, life),
                Event::Timeout => What::Timer(place, life),
                other => What::Other(place, life, other),
            };
            return self.later(at, what);
        }
        let stopping = event == Event::Stopping;
        self.outcome.wakes += u64::from(rests);
        if event == Event::RoleLost {
            host.granted_until = host.granted_until.map(|_| self.now);
        }
        let Some(node) = &mut host.node else { return };
        let actions = node.handle(instant, event);
        self.act(place, actions);
        if stopping {
            self.power_off(place, "stopped");
        } else {
            self.arm(place);
        }
    }

    fn arm(&mut self, place: usize) {
        let host = &self.hosts[place];
        let Some((due, _)) = host.node.as_ref().and_then(Node::next_timeout) else { return };
        let at = host.when(due.saturating_duration_since(self.base));
        let (at, life) = (at.max(self.now + MS / 10), host.life);
        self.at(at, What::Timer(place, life));
    }

    fn act(&mut self, place: usize, actions: Vec<Action>) {
        if let Some(node) = &self.hosts[place].node {
            let (mac, node) = (self.hosts[place].mac, node.summary().node);
            self.rules.names.insert((mac, node));
            let kept = self.hosts[place].disk.as_ref().map(|disk| disk.node);
            if self.class != Class::Copies && kept.is_some_and(|kept| kept != node) {
                self.broke(Err(format!("4: {place} has become another node")));
            }
        }
        self.carry_out(place, actions);
        let rule = self.alone_with_its_addresses(place);
        self.broke(rule);
    }

    fn carry_out(&mut self, place: usize, mut actions: Vec<Action>) {
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
                Action::AwaitFrame { .. } => {
                    let first = self.dice.between(Duration::ZERO, Duration::from_secs(3));
                    let host = &self.hosts[place];
                    let (quiet, plugged, from) = (host.quiet, host.plugged, host.mute_until.max(self.now));
                    if self.mutation == Mutation::NoSilenceRule {
                        self.at(self.now + MS * 50, What::Heard(place, life, plugged));
                    } else if !quiet {
                        self.at(from + first, What::Heard(place, life, plugged));
                    }
                }
                Action::Persist(record) => {
                    if self.rests() {
                        self.outcome.written += record.to_file().len() as u64;
                    }
                    if self.faulty() && matches!(self.class, Class::Cards | Class::Mixed) && self.dice.chance(10) {
                        self.log(&format!("{place} cannot write"));
                        let instant = self.base + self.hosts[place].clock(self.now);
                        let Some(node) = &mut self.hosts[place].node else { return };
                        let actions = node.handle(instant, Event::PersistFailed { error: "full".into() });
                        return self.act(place, actions);
                    }
                    let faulty = self.faulty() && matches!(self.class, Class::Cuts | Class::Crashes | Class::Mixed);
                    let cut = if self.class == Class::Cuts { 30 } else { 8 };
                    if faulty && self.dice.chance(cut) {
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
                Action::Replicate { seq, index, ledger } => {
                    let of = self.hosts[place].node.as_ref().and_then(|node| node.summary().incarnation);
                    if let Some(incarnation) = of {
                        self.replicate(place, lock::Write { incarnation, index, seq, ledger });
                    }
                }
                Action::SetAddress { address, valid_for, .. } => self.set_address(place, address, valid_for),
                Action::DropAddress { address } => {
                    self.hosts[place].addresses.remove(&address);
                }
                Action::Close => self.hosts[place].addresses.clear(),
                Action::Send { wire: Wire::Cluster, packet } => {
                    let host = &self.hosts[place];
                    let of = host.disk.as_ref().and_then(|disk| disk.membership.as_ref()).map(|of| of.incarnation);
                    let kept = of.and_then(|of| self.locks.get(&of)).and_then(|lock| lock.ledger.as_ref());
                    let rule = self.rules.sent(&packet, host.disk.as_ref(), kept, &host.key.seals());
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
        self.power_off(place, "cut at a write");
    }

    fn power_off(&mut self, place: usize, why: &str) {
        self.log(&format!("{place} power off: {why}"));
        let host = &mut self.hosts[place];
        host.node = None;
        host.life += 1;
        host.addresses.clear();
        let pause = self.dice.between(MS * 100, Duration::from_secs(20));
        self.at(self.now + pause, What::PowerOn(place));
    }

    fn set_address(&mut self, place: usize, address: Ipv4Addr, valid_for: Option<Duration>) {
        let rule = self.rules.took(address, self.hosts[place].disk.as_ref());
        self.broke(rule);
        let now = self.now;
        let until = valid_for.map(|valid_for| now + self.hosts[place].when(valid_for));
        let host = &self.hosts[place];
        let by_right = host.disk.as_ref().and_then(|disk| disk.membership.as_ref()).is_some_and(|of| of.leads_by_right());
        let granted = host.granted_until.is_some_and(|granted| until.is_some_and(|until| until <= granted + MS));
        if address == crate::rules::LEADER && !by_right && !granted {
            self.broke(Err(format!("1b: {place} has {address} longer than the role")));
        }
        self.hosts[place].addresses.insert(address, until);
    }
}
