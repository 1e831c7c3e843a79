//! The thin driver: kernel, clock, console and systemd around the pure [`Node`].
//!
//! One thread that sleeps in `poll` until the kernel has something to say, a signal comes, or the node's or the watchdog's
//! time has come. Actions are done in order; what is refused goes back as an event.

mod console;
mod host_name;
mod netlink;

use std::{
    collections::VecDeque,
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    config::{ConfigError, HostName, NodeConfig, PATH, Vlan},
    marker::Marker,
    node::{Action, Event, Node, Setup},
    status::{self, Status},
};

pub use self::console::Console;
use self::netlink::{Kernel, Outcome, Watcher};

/// Where the driver reads and writes. Other places than the default ones are for trying it out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration.
    pub config: PathBuf,
    /// The folder of the status file.
    pub run_dir: PathBuf,
    /// The folder with `hostname` and `hosts`.
    pub etc: PathBuf,
    /// Where markers go.
    pub console: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { config: PATH.into(), run_dir: status::FOLDER.into(), etc: "/etc".into(), console: "/dev/console".into() }
    }
}

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong: nothing is done, since any guess could be the wrong network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system refused something without which nothing works.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::System { what, error }
}

/// Runs the node until SIGTERM or SIGINT. The VLAN stays: a restart of the program must not take the network away.
///
/// # Errors
///
/// The configuration is wrong, or there is no netlink.
pub fn run(options: &Options) -> Result<(), RunError> {
    let console = Console::new(options.console.clone());
    let config = NodeConfig::read(&options.config).inspect_err(|error| {
        console.mark(&Marker::Fault { reason: error.to_string() });
    })?;
    // Before the first list: what changes in between is told twice rather than never.
    let watcher = Watcher::open().map_err(system("opening the kernel's link notifications"))?;
    let mut driver = Driver {
        kernel: Kernel::open().map_err(system("opening a netlink socket"))?,
        console,
        etc: options.etc.clone(),
        run_dir: options.run_dir.clone(),
        published: None,
        events: VecDeque::new(),
        config: config.clone(),
    };
    let (stop, stopped) = UnixStream::pair().map_err(system("making a signal pipe"))?;
    for signal in [SIGTERM, SIGINT] {
        let pipe = stopped.try_clone().map_err(system("making a signal pipe"))?;
        signal_hook::low_level::pipe::register(signal, pipe).map_err(system("catching a signal"))?;
    }
    let started = Instant::now();
    let setup = Setup { config, key: None, record: None, hardware: Default::default(), seed: [0; 32] };
    let (mut node, actions) = Node::start(setup, started);
    driver.act(actions);
    driver.list().map_err(system("listing the network interfaces"))?;
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut ping_at = watchdog.map(|period| started + period);
    loop {
        while let Some(event) = driver.events.pop_front() {
            let actions = node.handle(Instant::now(), event);
            // First, so that whoever sees a marker finds the status that belongs to it.
            driver.publish(&node);
            driver.act(actions);
        }
        let node_at = node.next_timeout().map(|(at, _)| at);
        let wake_at = node_at.into_iter().chain(ping_at).min();
        if wait(&watcher, &stop, wake_at).map_err(system("waiting"))? {
            break;
        }
        if watcher.read(&mut driver.events).map_err(system("reading the kernel's link notifications"))? == Outcome::Overrun {
            driver.list().map_err(system("listing the network interfaces"))?;
        }
        let now = Instant::now();
        if node_at.is_some_and(|at| now >= at) {
            driver.events.push_back(Event::Timeout);
        }
        if ping_at.is_some_and(|at| now >= at) {
            driver.tell(&[NotifyState::Watchdog]);
            ping_at = watchdog.map(|period| now + period);
        }
    }
    driver.tell(&[NotifyState::Stopping, NotifyState::Status("stopped; the network stays as it is")]);
    driver.console.log(6, "stopped by a signal; the network stays as it is");
    Ok(())
}

/// Sleeps until there is something to do; whether a signal said stop.
fn wait(watcher: &Watcher, stop: &UnixStream, until: Option<Instant>) -> io::Result<bool> {
    let mut waiting =
        [PollFd::from_borrowed_fd(watcher.as_fd(), PollFlags::IN), PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN)];
    let timeout = until.map(|at| {
        // Rounded up, or the last millisecond would be spent awake.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    });
    match rustix::event::poll(&mut waiting, timeout.as_ref()) {
        Ok(_) => Ok(!waiting[1].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

struct Driver {
    kernel: Kernel,
    console: Console,
    etc: PathBuf,
    run_dir: PathBuf,
    published: Option<Status>,
    events: VecDeque<Event>,
    config: NodeConfig,
}

impl Driver {
    fn list(&mut self) -> io::Result<()> {
        let links = self.kernel.links()?;
        self.events.push_back(Event::Listed(links));
        Ok(())
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let done = match action {
                Action::BringUp { index } => self.kernel.bring_up(index),
                Action::CreateVlan { parent, name, id } => self.kernel.create_vlan(parent, &name, id),
                Action::RemoveVlan { index } => self.kernel.remove(index),
                Action::SetHostName(name) => {
                    self.set_host_name(&name);
                    continue;
                }
                Action::TellReady => {
                    self.tell(&[NotifyState::Ready]);
                    continue;
                }
                Action::Mark(marker) => {
                    self.console.mark(&marker);
                    continue;
                }
                Action::Log { from, to, reason } => {
                    let level = if to == "faulted" { 4 } else { 6 };
                    self.console.log(level, &format!("{from} -> {to}: {reason}"));
                    continue;
                }
                _ => continue,
            };
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
    }

    fn set_host_name(&self, name: &str) {
        let chosen = self.config.hostname != HostName::Auto;
        match host_name::set(&self.etc, name, chosen) {
            Ok(true) => self.console.mark(&Marker::Host { name: name.to_owned() }),
            Ok(false) => {}
            // A node with the wrong name still works.
            Err(error) => self.console.log(4, &format!("setting the host name {name}: {error}")),
        }
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state) {
            self.console.log(4, &format!("telling systemd: {error}"));
        }
    }

    /// Writes the status file and tells systemd where something has changed.
    fn publish(&mut self, node: &Node) {
        let summary = node.summary();
        let status = Status {
            version: crate::VERSION.to_owned(),
            pid: std::process::id(),
            cluster: self.config.cluster.to_string(),
            state: summary.link.state.to_owned(),
            reason: summary.link.reason,
            since_uptime_ms: status::uptime_ms().saturating_sub(summary.link.since.elapsed().as_millis() as u64),
            interface: summary.link.interface,
            vlan: match self.config.vlan {
                Vlan::Off => None,
                Vlan::Id(id) => Some(id.number()),
            },
            cluster_interface: summary.link.cluster_interface,
        };
        if self.published.as_ref().is_some_and(|published| published.same_but_time(&status)) {
            return;
        }
        self.tell(&[NotifyState::Status(&format!("{}: {}", status.state, status.reason))]);
        match status.write(&self.run_dir) {
            Ok(()) => self.published = Some(status),
            Err(error) => self.console.log(4, &format!("writing the status into {}: {error}", self.run_dir.display())),
        }
    }
}
