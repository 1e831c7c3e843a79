//! What the node wants done, done.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::io::Errno;
use sd_notify::NotifyState;

use super::{
    Options,
    console::Console,
    guard::{self, Guard},
    host_name, hosts, members, memory,
    netlink::{Assigned, Kernel, Outcome},
    publish,
    role::RoleSocket,
    signs::Signs,
    story::{self, Story},
    wires::{Cable, Port},
};
use crate::{
    attach::Fault,
    config::{HostName, NodeConfig},
    marker::Marker,
    node::{Action, Event, LanAddress, Node, Wire},
    record::Record,
    status::{self, Status},
    wire::Packet,
};

/// The system's side of a node.
pub(super) struct Driver {
    options: Options,
    config: NodeConfig,
    kernel: Kernel,
    console: Console,
    events: VecDeque<Event>,
    published: Option<Status>,
    told_systemd: String,
    cable: Option<Cable>,
    cluster: Option<Port>,
    lan: Option<Port>,
    guard: Option<Guard>,
    role: Option<RoleSocket>,
    /// What was last told of addresses elsewhere; none while nothing is open.
    elsewhere: Option<Vec<LanAddress>>,
    /// What is wrong since the start.
    faults: Vec<String>,
    /// What is wrong with what is open now.
    complaints: Vec<String>,
    /// For `hcl log`.
    story: Story,
    /// LED and black box.
    signs: Signs,
    /// What was said and is not said again.
    said: BTreeSet<String>,
    stopped: bool,
}

/// What an action may be late without its being counted: the kernel's own lifetimes are no more exact.
const PROMPT: Duration = Duration::from_millis(100);

/// Whether the rest of the actions is done.
enum Step {
    Next,
    Break,
}

impl Driver {
    pub(super) fn new(options: Options, config: NodeConfig, kernel: Kernel, console: Console, signs: Signs) -> Self {
        Self {
            story: Story::new(&options.run_dir),
            options,
            config,
            kernel,
            console,
            events: VecDeque::new(),
            published: None,
            told_systemd: String::new(),
            cable: None,
            cluster: None,
            lan: None,
            guard: None,
            role: None,
            elsewhere: None,
            faults: Vec::new(),
            complaints: Vec::new(),
            signs,
            said: BTreeSet::new(),
            stopped: false,
        }
    }

    /// Does `actions` in their order. Where a record could not be kept, what comes after it is not done.
    pub(super) fn act(&mut self, actions: Vec<Action>) {
        let decided = Instant::now();
        for action in actions {
            if let Step::Break = self.perform(action, decided) {
                break;
            }
        }
    }

    fn perform(&mut self, action: Action, decided: Instant) -> Step {
        match action {
            Action::BringUp { index } => {
                let done = self.kernel.bring_up(index);
                self.settle(done);
            }
            Action::CreateVlan { parent, name, id } => {
                let done = self.kernel.create_vlan(parent, &name, id);
                // Before it comes up: an interface with IPv6 speaks at once. What does not work is told with the other settings.
                let _ = guard::silence_ipv6(&name);
                self.settle(done);
            }
            Action::RemoveVlan { index } => {
                let done = self.kernel.remove(index);
                self.settle(done);
            }
            Action::AwaitFrame { index } => {
                let opened = Cable::open(index);
                let done = links_changed("listening on the cable", opened.map(|cable| self.cable = Some(cable)));
                self.settle(done);
            }
            Action::Open { cluster, lan } => {
                let opened = self.open(cluster, lan);
                match links_changed("opening the cluster's network", opened) {
                    Err(fault) => self.events.push_back(Event::OpenFailed { error: fault.to_string() }),
                    done => self.settle(done),
                }
            }
            Action::Close => self.close(),
            Action::Send { wire, packet } => self.send(wire, &packet),
            Action::Persist(record) => return self.persist(&record),
            Action::Replicate { seq, index, ledger } => {
                if let Some(role) = &mut self.role {
                    // Without a client nothing new is acknowledged, and the node asks again.
                    role.replicate(seq, index, &ledger);
                }
            }
            Action::SetAddress { address, prefix, valid_for } => {
                // What the card took for a record goes off it: the address must not outlive the role.
                let late = decided.elapsed();
                let valid_for = valid_for.map(|time| if late < PROMPT { time } else { time.saturating_sub(late) });
                self.set_address(address, prefix, valid_for);
            }
            Action::DropAddress { address } => self.drop_address(address),
            Action::SetHosts(names) => {
                if let Err(error) = hosts::set(&self.options.etc, &names) {
                    self.say_once(format!("writing the cluster's names into {}/hosts: {error}", self.options.etc.display()));
                }
            }
            Action::SetMembers(addresses) => self.admit(addresses.into_iter().collect()),
            Action::SetHostName(name) => self.set_host_name(&name),
            Action::TellReady => self.tell(&[NotifyState::Ready]),
            Action::Mark(marker) => self.mark(&marker),
            Action::Log { from, to, reason } => {
                let level = if to == "faulted" { 4 } else { 6 };
                self.console.log(level, &format!("{from} -> {to}: {reason}"));
                if let Some(text) = self.story.news([from, to, &reason]) {
                    self.recount(&text);
                }
            }
            Action::Stopped => self.stopped = true,
        }
        Step::Next
    }

    fn settle(&mut self, done: Result<Outcome, Fault>) {
        match done {
            Ok(Outcome::Done) => {}
            // The links are not as the node believes: show it.
            Ok(Outcome::Overrun) => {
                if let Err(error) = self.list() {
                    self.console.log(4, &format!("listing the network interfaces: {error}"));
                }
            }
            Err(fault) => self.events.push_back(Event::Refused(fault)),
        }
    }

    fn open(&mut self, cluster: u32, lan: Option<u32>) -> io::Result<()> {
        let index = |port: &Option<Port>| port.as_ref().map(|port| port.index);
        if index(&self.cluster) != Some(cluster) || index(&self.lan) != lan {
            // First, for the ports that they hold.
            (self.cluster, self.lan) = (None, None);
            let mut complaints = Vec::new();
            let lan = lan.map(|index| Port::open(Wire::Lan, index, &mut complaints)).transpose()?;
            self.cluster = Some(Port::open(Wire::Cluster, cluster, &mut complaints)?);
            self.lan = lan;
            self.complaints = complaints;
            self.guard = None;
        }
        // Told again, whatever was told before: the node may have forgotten.
        self.elsewhere = None;
        self.tell_addresses();
        Ok(())
    }

    fn close(&mut self) {
        self.cable = None;
        self.lan = None;
        self.elsewhere = None;
        self.complaints.clear();
        let Some(port) = self.cluster.take() else { return };
        if let Err(error) = self.kernel.drop_addresses(port.index, self.config.addresses.subnet()) {
            self.console.log(4, &format!("taking the cluster's addresses from {}: {error}", port.name));
        }
    }

    fn send(&mut self, wire: Wire, packet: &Packet) {
        let port = match wire {
            Wire::Cluster => &self.cluster,
            Wire::Lan => &self.lan,
        };
        let failed = match port {
            Some(port) => port.send(packet).err().map(|error| format!("sending on {}: {error}", port.name)),
            None => Some(format!("sending on {wire:?}: it is not open")),
        };
        // The network loses frames anyway: what counts is sent again.
        failed.into_iter().for_each(|line| self.say_once(line));
    }

    fn persist(&mut self, record: &Record) -> Step {
        match memory::keep(&self.options.state, record) {
            Ok(time) => {
                if time > memory::SLOW {
                    self.console.log(4, &format!("the card took {} ms to keep the state", time.as_millis()));
                }
                Step::Next
            }
            Err(error) => {
                let error = format!("{}: {error}", self.options.state.display());
                self.console.log(4, &format!("keeping the state: {error}"));
                // Before all that came in meanwhile: none of it may be answered as if the record were kept.
                self.events.push_front(Event::PersistFailed { error });
                Step::Break
            }
        }
    }

    fn set_address(&mut self, address: Ipv4Addr, prefix: u8, valid_for: Option<Duration>) {
        let Some(port) = &self.cluster else { return self.say_once(format!("setting {address}: no network is open")) };
        if let Err(error) = self.kernel.set_address(Assigned { index: port.index, address, prefix }, valid_for) {
            let line = format!("setting {address} on {}: {error}", port.name);
            self.say_once(line);
        }
    }

    fn drop_address(&mut self, address: Ipv4Addr) {
        // Closing has dropped it.
        let Some(port) = &self.cluster else { return };
        if let Err(error) = self.kernel.drop_address(port.index, address) {
            let line = format!("taking {address} from {}: {error}", port.name);
            self.say_once(line);
        }
    }

    /// Lets the other members in, and nobody else, where members speak with each other.
    fn admit(&mut self, members: BTreeSet<Ipv4Addr>) {
        let Some(port) = &self.cluster else { return };
        if let Err(error) = members::admit(&port.name, &members) {
            self.complain_of_members(&error);
        }
    }

    pub(super) fn complain_of_members(&mut self, error: &io::Error) {
        let complaint = format!("the firewall does not keep others off what members have among themselves: {error}");
        self.say_once(complaint.clone());
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    fn set_host_name(&mut self, name: &str) {
        let chosen = self.config.hostname != HostName::Auto;
        match host_name::set(&self.options.etc, name, chosen) {
            Ok(true) => self.mark(&Marker::Host { name: name.to_owned() }),
            Ok(false) => {}
            // A node with the wrong name still works.
            Err(error) => self.console.log(4, &format!("setting the host name {name}: {error}")),
        }
    }

    /// Asks the kernel for all links.
    pub(super) fn list(&mut self) -> io::Result<()> {
        let links = self.kernel.links()?;
        self.events.push_back(Event::Listed(links));
        Ok(())
    }

    /// Tells the node which addresses this machine has on other networks, and fits the guard to them; where nothing has changed
    /// since the last time, nothing.
    pub(super) fn tell_addresses(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let lan = self.lan.as_ref().map(|port| port.index);
        let mut found = match self.kernel.addresses() {
            Ok(found) => found,
            Err(error) => return self.say_once(format!("listing the addresses: {error}")),
        };
        found.retain(|found| found.index != cluster.index);
        found.sort_by_key(|found| (Some(found.index) != lan, found.index));
        let addresses: Vec<_> = found.iter().map(|found| LanAddress { address: found.address, prefix: found.prefix }).collect();
        let subnet = self.config.addresses.subnet();
        let guard = Guard {
            cluster: cluster.name.clone(),
            lan: self.lan.as_ref().map(|port| port.name.clone()),
            subnet,
            clash: addresses.iter().any(|lan| subnet.contains(lan.address)),
        };
        if self.guard.as_ref() != Some(&guard) {
            let complaints = guard.raise();
            self.guard = Some(guard);
            for complaint in complaints {
                self.say_once(complaint.clone());
                if !self.complaints.contains(&complaint) {
                    self.complaints.push(complaint);
                }
            }
        }
        if self.elsewhere.as_ref() != Some(&addresses) {
            self.events.push_back(Event::LanAddresses(addresses.clone()));
            self.elsewhere = Some(addresses);
        }
    }

    /// What may have something to say.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let cable = self.cable.iter().map(AsFd::as_fd);
        let role = self.role.iter().flat_map(RoleSocket::sources);
        cable.chain(self.cluster.iter().chain(&self.lan).map(AsFd::as_fd)).chain(role)
    }

    /// Takes what came in on all networks.
    pub(super) fn receive(&mut self) {
        let heard = self.cable.as_ref().map(Cable::heard);
        match heard {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => {
                self.cable = None;
                self.events.push_back(Event::Heard);
            }
            Some(Err(error)) => self.say_once(format!("listening on the cable: {error}")),
        }
        let mut failed = Vec::new();
        for port in self.cluster.iter().chain(&self.lan) {
            match port.receive() {
                Ok(packets) => {
                    let received = packets.into_iter().map(|packet| Event::Received { wire: port.wire, packet });
                    self.events.extend(received);
                }
                Err(error) => failed.push(format!("receiving on {}: {error}", port.name)),
            }
        }
        failed.into_iter().for_each(|line| self.say_once(line));
        let wrong = self.role.as_mut().map(RoleSocket::receive).unwrap_or_default();
        wrong.into_iter().for_each(|line| self.console.log(4, &line));
    }

    /// Opens the socket on which the leader's role is granted. Without it a founder leads by right of its founding.
    pub(super) fn await_role(&mut self) {
        match RoleSocket::open(&self.options.run_dir) {
            Ok(role) => self.role = Some(role),
            Err(error) => self.fault(format!("no socket for the leader's role in {}: {error}", self.options.run_dir.display())),
        }
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        // Last, and not before it is handled: what is left of a grant shrinks while the card is slow.
        loop {
            match self.role.as_mut()?.next(status::uptime_ms())? {
                Ok(event) => return Some(event),
                Err(wrong) => self.console.log(4, &wrong),
            }
        }
    }

    pub(super) fn events(&mut self) -> &mut VecDeque<Event> {
        &mut self.events
    }

    pub(super) fn console(&self) -> &Console {
        &self.console
    }

    /// Whether the node has said goodbye.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Something is wrong and stays so until a person comes.
    pub(super) fn fault(&mut self, reason: String) {
        self.mark(&Marker::Fault { reason: reason.clone() });
        self.faults.push(reason);
    }

    fn mark(&mut self, marker: &Marker) {
        self.console.mark(marker);
        if let Some(text) = story::marked(marker) {
            self.recount(&text);
        }
    }

    /// A line for `hcl log` and the black box.
    pub(super) fn recount(&mut self, text: &str) {
        self.signs.tell(text);
        if let Err(error) = self.story.add(status::uptime_ms(), text) {
            self.say_once(format!("writing the story into {}: {error}", self.options.run_dir.display()));
        }
    }

    /// When LED and black box want their turn.
    pub(super) fn signs_due(&self) -> Option<Instant> {
        self.signs.next_due()
    }

    /// Gives LED and black box their turn.
    pub(super) fn run_signs(&mut self) {
        self.signs.run(&self.console);
    }

    /// From now on the node is only ending.
    pub(super) fn freeze_signs(&mut self) {
        self.signs.freeze();
    }

    /// The last turn of LED and black box.
    pub(super) fn finish_signs(&mut self) {
        self.signs.finish(&self.console);
    }

    pub(super) fn tell(&self, state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            self.console.log(4, &format!("telling systemd: {error}"));
        }
    }

    /// Writes the status file and tells systemd where something has changed.
    pub(super) fn publish(&mut self, node: &Node) {
        let complaints = self.faults.iter().chain(&self.complaints).cloned();
        let status = publish::status(&self.config, node.summary(), complaints);
        if self.published.as_ref().is_some_and(|published| published.same_but_time(&status)) {
            return;
        }
        let mut text = format!("{}: {}", status.state, status.reason);
        if status.is_ready() {
            text += &format!("; {}, {}: {}", status.role, status.phase, status.phase_reason);
        }
        // A grant that is renewed every few seconds is no news to systemd.
        if self.told_systemd != text {
            self.tell(&[NotifyState::Status(&text)]);
            self.told_systemd = text;
        }
        self.signs.show(&status, &self.console);
        match status.write(&self.options.run_dir) {
            Ok(()) => self.published = Some(status),
            Err(error) => self.say_once(format!("writing the status into {}: {error}", self.options.run_dir.display())),
        }
    }

    /// Logs a line the first time that it is the case.
    fn say_once(&mut self, line: String) {
        if !self.said.contains(&line) {
            self.console.log(4, &line);
            self.said.insert(line);
        }
    }
}

/// An interface that is gone is no fault: the node has not read of it yet.
fn links_changed(what: &str, done: io::Result<()>) -> Result<Outcome, Fault> {
    match done {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NODEV | Errno::NXIO)) => Ok(Outcome::Overrun),
        Err(error) => Err(Fault::Kernel { what: what.to_owned(), error: error.to_string() }),
    }
}
