//! The thin driver: kernel, clock, console and systemd around the pure [`Node`].
//!
//! One thread that sleeps in `poll` until the kernel has something to say, a signal comes, or the node's or the watchdog's
//! time has come. Actions are done in order; what is refused goes back as an event.

mod act;
mod console;
mod guard;
mod host_name;
mod hosts;
mod led;
mod members;
mod memory;
mod netlink;
mod packet;
mod publish;
mod recorder;
mod role;
mod signs;
mod story;
mod undo;
mod wires;

use std::{
    collections::BTreeSet,
    io::{self, Read},
    net::Ipv4Addr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{
    config::{BOOT_FOLDER, ConfigError, HostName, NodeConfig, OVERRIDES, PATH},
    key,
    link::Link,
    marker::Marker,
    node::{Event, Node, Setup},
    record, status,
    trouble::{Kind, Trouble},
};

use self::{
    act::Driver,
    netlink::{Kernel, Outcome, Watcher},
    signs::Signs,
    story::Story,
};
pub use self::{console::Console, role::SOCKET as ROLE_SOCKET, undo::undo, wires::Port};

/// How long the node may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

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
    /// The cluster key.
    pub key: PathBuf,
    /// What the node remembers.
    pub state: PathBuf,
    /// The boot partition, with overrides and black box.
    pub boot: PathBuf,
    /// The folder with the `proc` and `sys` that know the hardware: serial numbers, LED.
    pub root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: PATH.into(),
            run_dir: status::FOLDER.into(),
            etc: "/etc".into(),
            console: "/dev/console".into(),
            key: key::PATH.into(),
            state: record::PATH.into(),
            boot: BOOT_FOLDER.into(),
            root: "/".into(),
        }
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

/// Runs the node until SIGTERM or SIGINT, and as long after it as the goodbye takes, three seconds at most. The VLAN stays: a
/// restart of the program must not take the network away.
///
/// # Errors
///
/// The configuration is wrong, or there is no netlink.
pub fn run(options: &Options) -> Result<(), RunError> {
    // Before the engine starts, and whatever comes next: also a node with a wrong configuration may have a swarm.
    let closed = members::close();
    let console = Console::new(options.console.clone());
    let (mut config, overrides) = NodeConfig::on_node(&options.config, &options.boot).inspect_err(|error| {
        let trouble = Trouble::new(Kind::Configuration, error.to_string());
        console.mark(&Marker::Fault { reason: trouble.text.clone() });
        // The console has it, and the black box; `hcl log` as well where it can.
        let _ = tell(&options.run_dir, &format!("not started: {}", trouble.text));
        Signs::open(options, &console).fail(&trouble, &console);
    })?;
    if config.hostname == HostName::Auto {
        // A card that was put into another board stays who it was.
        config.hostname = host_name::kept(&options.etc).unwrap_or_default();
    }
    let signs = Signs::open(options, &console);
    // Before the first list: what changes in between is told twice rather than never.
    let watcher = Watcher::open().map_err(system("opening the kernel's notifications"))?;
    let kernel = Kernel::open().map_err(system("opening a netlink socket"))?;
    let mut stop = StopSignals::catch().map_err(system("catching signals"))?;
    let started = Instant::now();
    let key = memory::key(&options.key);
    let (record, forgotten) = match memory::record(&options.state) {
        Ok(record) => (record, None),
        Err(reason) => (None, Some(format!("starting as a new node: {reason}"))),
    };
    let setup = Setup {
        config: config.clone(),
        key: key.as_ref().ok().cloned(),
        record,
        hardware: memory::hardware(&options.root),
        seed: memory::seed().map_err(system("getting random bytes"))?,
    };
    let mut driver = Driver::new(options.clone(), config, kernel, console, signs);
    if let Some(line) = forgotten {
        driver.console().log(4, &line);
        driver.recount(&line);
    }
    if !overrides.is_empty() {
        let line = format!("{} on the boot partition sets {}", OVERRIDES, overrides.describe());
        driver.console().log(5, &line);
        driver.recount(&line);
    }
    let (mut node, actions) = Node::start(setup, started);
    if let Err(error) = closed {
        driver.complain_of_members(&error);
    }
    driver.act(actions);
    if let Err(reason) = key {
        driver.fault(reason);
    }
    driver.await_role();
    driver.list().map_err(system("listing the network interfaces"))?;
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let mut ping_at = watchdog.map(|period| started + period);
    let mut stop_at = None;
    loop {
        while let Some(event) = driver.next_event() {
            let actions = node.handle(Instant::now(), event);
            // First, so that whoever sees a marker finds the status that belongs to it.
            driver.publish(&node);
            driver.act(actions);
        }
        // What the actions themselves brought.
        driver.publish(&node);
        if driver.is_stopped() || stop_at.is_some_and(|at| Instant::now() >= at) {
            break;
        }
        let node_at = node.next_timeout().map(|(at, _)| at);
        driver.run_signs();
        let wake_at = node_at.into_iter().chain(ping_at).chain(stop_at).chain(driver.signs_due()).min();
        let sources = [watcher.as_fd(), stop.0.as_fd()].into_iter().chain(driver.sources());
        wait(sources, wake_at).map_err(system("waiting"))?;
        let mut addresses = false;
        let seen = watcher.read(driver.events(), &mut addresses).map_err(system("reading the kernel's notifications"))?;
        if seen == Outcome::Overrun {
            driver.list().map_err(system("listing the network interfaces"))?;
        }
        if addresses || seen == Outcome::Overrun {
            driver.tell_addresses();
        }
        driver.receive();
        let now = Instant::now();
        if stop.came() && stop_at.is_none() {
            driver.tell(&[NotifyState::Stopping, NotifyState::Status("stopping; the network stays as it is")]);
            driver.console().log(6, "stopping on a signal");
            driver.freeze_signs();
            driver.events().push_back(Event::Stopping);
            stop_at = Some(now + GOODBYE);
        }
        if node_at.is_some_and(|at| now >= at) {
            driver.events().push_back(Event::Timeout);
        }
        if ping_at.is_some_and(|at| now >= at) {
            driver.tell(&[NotifyState::Watchdog]);
            ping_at = watchdog.map(|period| now + period);
        }
    }
    driver.finish_signs();
    driver.console().log(6, "stopped by a signal; the network stays as it is");
    Ok(())
}

/// What the kernel has, for [`crate::health`].
#[derive(Debug)]
pub struct Seen {
    /// All links.
    pub links: Vec<Link>,
    /// All IPv4 addresses but loopback's, with the index of their link.
    pub addresses: Vec<(u32, Ipv4Addr)>,
}

/// Asks the kernel for links and addresses.
///
/// # Errors
///
/// There is no netlink.
pub fn look() -> io::Result<Seen> {
    let mut kernel = Kernel::open()?;
    let addresses = kernel.addresses()?.into_iter().map(|found| (found.index, found.address)).collect();
    Ok(Seen { links: kernel.links()?, addresses })
}

/// This machine's IPv4 addresses on all networks but loopback's, with the lengths of their prefixes.
///
/// # Errors
///
/// There is no netlink.
pub fn networks() -> io::Result<Vec<(Ipv4Addr, u8)>> {
    Ok(Kernel::open()?.addresses()?.into_iter().map(|found| (found.address, found.prefix)).collect())
}

/// Random bytes of the kernel.
///
/// # Errors
///
/// What the system says.
pub fn random() -> io::Result<[u8; 32]> {
    memory::seed()
}

/// Whether the firewall's table is there, with its rule. Needs root.
///
/// # Errors
///
/// It is not; with the reason.
pub fn guard_stands() -> io::Result<()> {
    guard::stands()
}

/// Who is let in to what the members have among themselves. Needs root.
///
/// # Errors
///
/// The firewall's table is not as it should be; with the reason.
pub fn admitted() -> io::Result<BTreeSet<Ipv4Addr>> {
    members::admitted()
}

/// Adds a line to the story in `run_dir`, for who acts on a node whose program does not run.
///
/// # Errors
///
/// What the system says.
pub fn tell(run_dir: &Path, text: &str) -> io::Result<()> {
    Story::new(run_dir).add(status::uptime_ms(), text)
}

/// The signals that end the program.
struct StopSignals(UnixStream);

impl StopSignals {
    fn catch() -> io::Result<Self> {
        let (out, end) = UnixStream::pair()?;
        out.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::low_level::pipe::register(signal, end.try_clone()?)?;
        }
        Ok(Self(out))
    }

    /// Whether one came since the last call.
    fn came(&mut self) -> bool {
        self.0.read(&mut [0; 16]).is_ok_and(|count| count > 0)
    }
}

/// Sleeps until one of `sources` has something, or `until`.
fn wait<'a>(sources: impl Iterator<Item = BorrowedFd<'a>>, until: Option<Instant>) -> io::Result<()> {
    let mut waiting: Vec<_> = sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
    let timeout = until.map(|at| {
        // Rounded up, or the last millisecond would be spent awake.
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
    });
    match rustix::event::poll(&mut waiting, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
