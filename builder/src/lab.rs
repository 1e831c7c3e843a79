//! Images booted in QEMU, with this program as the switch between the nodes.
//!
//! A [`Lab`] is started from a [`Spec`] and then asked for one [`Event`] after the other. It holds N nodes
//! that boot the very same bytes (each writes into a layer of its own over the image), the switch that
//! they are plugged into ([`ports::Wire`], pure core in [`switch`]) and a home router ([`router`]).
//! Dropped, it leaves nothing behind: no process, no socket, no layer.

pub mod acts;
mod black_box;
mod board;
pub mod boot;
pub mod capture;
mod cards;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod console;
pub mod control;
pub mod folder;
pub mod frame;
pub mod freeze;
pub mod guide;
mod health;
mod idle;
pub mod keeper;
pub mod leave;
pub mod link;
pub mod login;
pub mod machine;
pub mod node;
pub mod order;
pub mod ports;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod qmp;
pub mod reach;
pub mod renew;
pub mod report;
pub mod router;
pub mod screen;
pub mod shelf;
pub mod signals;
pub mod snoop;
pub mod ssh;
pub mod switch;
pub mod thaw;
pub mod trial;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::Context;

use self::{
    capture::Capture,
    console::Sight,
    folder::Folder,
    machine::Machine,
    node::{Clock, Common, Node},
    ports::{PortSpec, Wire},
    router::Router,
    shelf::{Shelf, Snapshot},
    switch::{Faults, PortId},
};
use crate::{error::UsageError, image::disk::Disk, progress::Reporter, units::Bytes};

/// The router's port; node N (from 0) has port N + 1.
pub const ROUTER: PortId = PortId(0);
/// Name of the capture in the lab's folder.
pub const CAPTURE: &str = "wire.pcapng";
/// How often processes are looked at.
const TICK: Duration = Duration::from_millis(200);

/// What to boot, and how.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The image.
    pub image: PathBuf,
    /// How many nodes are switched on at the start, 1 to 16 with the spare ones.
    pub nodes: usize,
    /// How many more there are that [`Lab::power_on`] can switch on later.
    pub spare: usize,
    /// Names of ports for stations that are no nodes: see [`Lab::port`].
    pub stations: Vec<String>,
    /// Which board.
    pub machine: Machine,
    /// Memory of each node.
    pub memory: Bytes,
    /// Size of each node's card; the image must fit, and it is rounded up to a power of two for raspi3b.
    pub disk: Bytes,
    /// The nodes reach the world through this machine.
    pub internet: bool,
    /// Decides what is lost and how delays vary.
    pub seed: u64,
    /// What the nodes' clocks say when they are switched on.
    pub clock: Clock,
    /// More words for the kernel's command line, such as `systemd.mask=UNIT`; nothing at all boots what is shipped.
    pub kernel_words: String,
    /// What is wrong with every node's port from the start.
    pub faults: Faults,
    /// Logs and capture go here.
    pub folder: PathBuf,
    /// Disk layers are kept in `folder`, and used again where they are there already.
    pub keep: bool,
    /// The capture ends at this size.
    pub capture_limit: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the lab's start.
    pub at: Duration,
    /// To which node, from 0; `None` for the lab itself.
    pub node: Option<usize>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The console said something that matters.
    Sight(Sight),
    /// The home router gave it an address.
    Lease(Ipv4Addr),
    /// Its SSH server is reached on this port of 127.0.0.1.
    Ssh(u16),
    /// Its QEMU ended, well or with these words.
    Ended(Result<(), String>),
    /// The lab itself is broken.
    Broken(String),
}

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they must go: nodes and router, then the wire, then the folder.
    nodes: Vec<Running>,
    router: Router,
    wire: Wire,
    work: Folder,
    events: Receiver<Event>,
    sender: Sender<Event>,
    common: Common,
    broken: bool,
    /// What the nodes' cards stand on beside the image.
    stands_on: Option<Snapshot>,
    /// How many nodes, from the first one on, were ever switched on.
    used: usize,
}

#[derive(Debug)]
struct Running {
    node: Node,
    address: Option<Ipv4Addr>,
    /// It is off.
    ended: bool,
    /// Its end was handed out as an event.
    told: bool,
}

impl Running {
    fn off(node: Node) -> Self {
        Self { node, address: None, ended: true, told: true }
    }

    fn power_on(&mut self, common: &Common, clock: Clock, events: &Sender<Event>) -> anyhow::Result<()> {
        self.node.power_on(common, clock, None, events.clone())?;
        (self.ended, self.told) = (false, false);
        Ok(())
    }
}

impl Lab {
    /// Starts everything. `disk` is the image, opened.
    ///
    /// # Errors
    ///
    /// The image does not boot in QEMU (no boot partition, no kernel), QEMU is missing or ends at once.
    pub fn start(spec: &Spec, disk: Disk, reporter: &Reporter) -> anyhow::Result<Self> {
        let mut lab = Self::new(spec, disk, reporter)?;
        lab.boot_first(spec)?;
        Ok(lab)
    }

    /// As [`Self::start`], but goes on from the snapshot of the same lab, where `shelf` has one. One that is of no use is discarded, and
    /// that is said.
    ///
    /// # Errors
    ///
    /// As of [`Self::start`].
    pub fn start_from(spec: &Spec, shelf: &Shelf, disk: Disk, reporter: &Reporter) -> anyhow::Result<Self> {
        let mut lab = Self::new(spec, disk, reporter)?;
        if let Ok(subject) = lab.subject(spec.nodes) {
            let found = shelf.find(&subject).and_then(|snapshot| match snapshot {
                Some(snapshot) => lab.go_on(&snapshot).map(|()| Some(snapshot)),
                None => Ok(None),
            });
            match found {
                Ok(Some(snapshot)) => {
                    lab.stands_on = Some(snapshot);
                    return Ok(lab);
                }
                Ok(None) => {}
                Err(error) => {
                    reporter.note(format!("  the snapshot is discarded, the nodes boot: {}", crate::error::one_line(&error)));
                    shelf.discard(&subject);
                }
            }
        }
        lab.boot_first(spec)?;
        Ok(lab)
    }

    /// Everything but the nodes, which are off.
    fn new(spec: &Spec, disk: Disk, reporter: &Reporter) -> anyhow::Result<Self> {
        let total = spec.nodes + spec.spare;
        if spec.nodes == 0 || total > router::CLIENTS {
            return Err(UsageError::new(format!("--nodes takes 1 to {}, not {}", router::CLIENTS, spec.nodes)));
        }
        // Named before anything is copied or started.
        process::find("qemu-system-aarch64", "qemu-system-arm")?;
        process::find("qemu-img", "qemu-utils")?;
        fs::create_dir_all(&spec.folder).with_context(|| format!("making the folder {}", spec.folder.display()))?;
        let work = Folder::create()?;
        let image = if disk.compression().is_some() { cards::unpack(&disk, &work, spec, reporter)? } else { spec.image.clone() };
        let mut boot = boot::extract(&disk, spec.machine.boards(), spec.machine.wants_device_tree(), work.path())?;
        if !spec.kernel_words.is_empty() {
            boot.command_line = format!("{} {}", boot.command_line, spec.kernel_words);
        }
        let size = cards::size(disk.size(), spec)?;
        drop(disk);

        let (sender, events) = channel();
        let mut ports = vec![PortSpec { name: "router".into(), socket: work.path().join("router.wire") }];
        ports.extend(
            (1..=total).map(|number| PortSpec {
                name: format!("node-{number}"),
                socket: work.path().join(format!("node-{number}.wire")),
            }),
        );
        ports.extend(
            spec.stations.iter().map(|name| PortSpec { name: name.clone(), socket: work.path().join(format!("{name}.wire")) }),
        );
        let names: Vec<_> = ports.iter().map(|port| port.name.clone()).collect();
        let capture = Capture::create(&spec.folder.join(CAPTURE), &names, spec.capture_limit)?;
        let origin = Instant::now();
        let wire = Wire::start(&ports, spec.seed, Some(capture), snooper(origin, spec.machine, total, sender.clone()))?;
        for port in 1..=total {
            if let Some(port) = wire.switch().port_mut(PortId(port)) {
                port.faults = spec.faults.clone();
            }
        }
        let router = Router::start(work.path(), &ports[0].socket, spec.internet)?;
        let common = Common {
            machine: spec.machine,
            boot,
            image,
            disk: size,
            memory: spec.memory,
            processors: if spec.nodes == 1 { 2 } else { 1 },
            sockets: work.path().to_owned(),
            layers: if spec.keep { spec.folder.clone() } else { work.path().to_owned() },
            keep: spec.keep,
            logs: spec.folder.clone(),
            origin,
        };
        let nodes = ports[1..=total]
            .iter()
            .enumerate()
            .map(|(index, port)| Node::new(index, &common, port.socket.clone()))
            .map(Running::off)
            .collect();
        Ok(Self { nodes, router, wire, work, events, sender, common, broken: false, stands_on: None, used: spec.nodes })
    }

    /// Switches on the nodes that are on from the start, all at once.
    fn boot_first(&mut self, spec: &Spec) -> anyhow::Result<()> {
        for running in &mut self.nodes[..spec.nodes] {
            running.power_on(&self.common, spec.clock, &self.sender)?;
        }
        self.nodes[..spec.nodes].iter_mut().try_for_each(|running| running.node.go())
    }

    /// The snapshot that it started from.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.stands_on.as_ref()
    }

    /// Switches on a node that is off, with the card that it has.
    ///
    /// # Errors
    ///
    /// There is no such node, it is on, or its QEMU does not start.
    pub fn power_on(&mut self, node: usize, clock: Clock) -> anyhow::Result<()> {
        let running = off(&mut self.nodes, node)?;
        running.power_on(&self.common, clock, &self.sender)?;
        self.used = self.used.max(node + 1);
        running.node.go()
    }

    /// Switches on a node that was never on; which one.
    ///
    /// # Errors
    ///
    /// There is none left, or its QEMU does not start.
    pub fn add(&mut self) -> anyhow::Result<usize> {
        let node = self.used;
        anyhow::ensure!(node < self.nodes.len(), "there are {node} nodes, and the home router has addresses for no more");
        self.power_on(node, Clock::Host)?;
        Ok(node)
    }

    /// How many nodes there are that were ever switched on: these are the first ones.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Pulls a node's power: what its card was given stays, nothing else. Of this end no event tells.
    ///
    /// # Errors
    ///
    /// There is no such node.
    pub fn pull(&mut self, node: usize) -> anyhow::Result<()> {
        let running = self.nodes.get_mut(node).with_context(|| format!("there is no node-{}", node + 1))?;
        running.node.pull();
        (running.ended, running.told) = (true, true);
        Ok(())
    }

    /// The next event, or `None` when `wait` has passed without one.
    ///
    /// # Errors
    ///
    /// The system refuses to tell how processes are.
    pub fn next(&mut self, wait: Duration) -> anyhow::Result<Option<Event>> {
        let deadline = Instant::now() + wait;
        loop {
            self.look()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left.min(TICK)) {
                Ok(event) => {
                    if let Some(event) = self.digest(event) {
                        return Ok(Some(event));
                    }
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                // We hold a sender ourselves, so that the channel never ends.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    /// Puts ends of processes into the queue, behind all that the node said before.
    fn look(&mut self) -> anyhow::Result<()> {
        let mut ends = Vec::new();
        for (index, running) in self.nodes.iter_mut().enumerate() {
            if !running.ended
                && let Some(end) = running.node.ended()?
            {
                running.ended = true;
                // Completes the console, whose last lines may tell why.
                running.node.kill();
                ends.push((Some(index), What::Ended(end)));
            }
        }
        if !self.broken
            && let Some(failure) = self.router.failure()?
        {
            self.broken = true;
            ends.push((None, What::Broken(failure)));
        }
        for (node, what) in ends {
            // The receiver is our own.
            let _ = self.sender.send(Event { at: self.common.origin.elapsed(), node, what });
        }
        Ok(())
    }

    /// Notes what the lab must know; a first lease is followed by an SSH forward.
    fn digest(&mut self, event: Event) -> Option<Event> {
        let Some(index) = event.node else { return Some(event) };
        match event.what {
            What::Ended(_) => {
                self.nodes[index].told = true;
                Some(event)
            }
            What::Lease(address) if self.nodes[index].address.replace(address) == Some(address) => None,
            What::Lease(address) => {
                let what = match self.router.forward(address, 22) {
                    Ok(port) => What::Ssh(port),
                    Err(error) => What::Broken(crate::error::one_line(&error)),
                };
                Some(Event { what, ..event })
            }
            _ => Some(event),
        }
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|running| &running.node)
    }

    /// A node's address on the home LAN.
    pub fn address(&self, node: usize) -> Option<Ipv4Addr> {
        self.nodes.get(node)?.address
    }

    /// A port of 127.0.0.1 that leads to `port` of a node's address on the home LAN.
    ///
    /// # Errors
    ///
    /// It has none yet, or the router refused.
    pub fn forward(&mut self, node: usize, port: u16) -> anyhow::Result<u16> {
        let address = self.address(node).with_context(|| format!("node-{} has no address", node + 1))?;
        self.router.forward(address, port)
    }

    /// Whether a node, from 0, is on.
    pub fn is_on(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|running| !running.ended)
    }

    /// A node, to press its buttons.
    pub fn node_mut(&mut self, node: usize) -> Option<&mut Node> {
        self.nodes.get_mut(node).map(|running| &mut running.node)
    }

    /// How many nodes run still, as far as [`Self::next`] has told.
    pub fn running(&self) -> usize {
        self.nodes.iter().filter(|running| !running.told).count()
    }

    /// The wire, to do it harm.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The port of a station of [`Spec::stations`], and the socket on which it is plugged in (`-netdev stream`).
    pub fn port(&self, station: &str) -> Option<(PortId, PathBuf)> {
        let port = self.wire.switch().ports().iter().position(|port| port.name == station)?;
        Some((PortId(port), self.work.path().join(format!("{station}.wire"))))
    }

    /// What the nodes boot.
    pub fn boot(&self) -> &boot::BootFiles {
        &self.common.boot
    }

    /// Size of each node's card.
    pub fn disk(&self) -> Bytes {
        self.common.disk
    }

    /// When its time began.
    pub fn origin(&self) -> Instant {
        self.common.origin
    }

    /// Where sockets and throwaway layers are.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// Cuts a node's cable or plugs it in again: no frame passes, and the node sees its carrier go.
    ///
    /// # Errors
    ///
    /// QEMU does not answer.
    pub fn cut(&mut self, node: usize, cut: bool) -> anyhow::Result<()> {
        if let Some(port) = self.wire.switch().port_mut(PortId(node + 1)) {
            port.faults.cut = cut;
        }
        match self.nodes.get_mut(node) {
            Some(running) if !running.ended => running.node.set_carrier(!cut),
            _ => Ok(()),
        }
    }

    /// Ends everything and completes the capture.
    ///
    /// # Errors
    ///
    /// The capture is incomplete.
    pub fn finish(mut self) -> anyhow::Result<()> {
        for running in &mut self.nodes {
            running.node.kill();
        }
        self.wire.stop()
    }
}

/// The node, which must be off.
fn off(nodes: &mut [Running], node: usize) -> anyhow::Result<&mut Running> {
    let running = nodes.get_mut(node).with_context(|| format!("there is no node-{}", node + 1))?;
    anyhow::ensure!(running.ended, "{} is on", running.node.name);
    Ok(running)
}

/// Tells of leases that the router gives to our nodes.
fn snooper(origin: Instant, machine: Machine, nodes: usize, events: Sender<Event>) -> ports::Observer {
    Box::new(move |port, frame| {
        if port != ROUTER {
            return;
        }
        let Some(lease) = snoop::acknowledged(frame) else { return };
        let node = (0..nodes).find(|node| machine.mac_of_node(*node as u16 + 1) == lease.client);
        if node.is_some() {
            let _ = events.send(Event { at: origin.elapsed(), node, what: What::Lease(lease.address) });
        }
    })
}
