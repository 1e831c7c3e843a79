//! Obeying: waits for those that go first, and has systemd end the system.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{super::systemctl, Order, Orders};
use crate::trust::{dial, join::PORT};

/// How long the last node waits for the others: as long as systemd gives a unit to end (DefaultTimeoutStopSec).
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at those that go first.
const LOOK: Duration = Duration::from_secs(1);
/// How long a system that is there may take to answer a connection, if only by refusing it.
const ANSWER: Duration = Duration::from_secs(1);
/// Who has not answered so many looks in a row is off.
const SILENCES: u32 = 3;

/// An order that was accepted. It is kept once whoever gave it has read that.
#[must_use = "an order that was accepted must be obeyed"]
#[derive(Debug)]
pub(in crate::services) struct Promise {
    orders: Arc<Orders>,
    order: Order,
    own: Ipv4Addr,
    after: Vec<Ipv4Addr>,
}

impl Promise {
    pub(super) fn new(orders: &Arc<Orders>, order: Order, own: Ipv4Addr, after: Vec<Ipv4Addr>) -> Self {
        Self { orders: Arc::clone(orders), order, own, after }
    }

    /// Obeys, on a thread of its own. What goes wrong is in the log, and the node is free for another order then.
    pub(in crate::services) fn keep(self) {
        let orders = Arc::clone(&self.orders);
        if let Err(error) = thread::Builder::new().name("obey".to_owned()).spawn(move || self.obey()) {
            println!("not obeyed: starting a thread: {error}");
            orders.lock().obeying = None;
        }
    }

    fn obey(self) {
        let left = self.wait();
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            println!("{} still there after {} s: {}", self.order, self.orders.patience.as_secs(), left.join(", "));
        }
        if let Err(error) = (self.orders.end)(self.order) {
            println!("not obeyed: {error}");
            self.orders.lock().obeying = None;
        }
    }

    /// Waits until those that go first are silent; who is not when the time is over.
    fn wait(&self) -> Vec<Ipv4Addr> {
        let until = Instant::now() + self.orders.patience;
        let mut left: Vec<(Ipv4Addr, u32)> = self.after.iter().map(|address| (*address, 0)).collect();
        while !left.is_empty() && Instant::now() < until {
            let looked = Instant::now();
            for (address, silences) in &mut left {
                *silences = if (self.orders.answers)(self.own, *address) { 0 } else { *silences + 1 };
            }
            left.retain(|(_, silences)| *silences < SILENCES);
            if !left.is_empty() {
                thread::sleep(LOOK.min(self.orders.patience).saturating_sub(looked.elapsed()));
            }
        }
        left.into_iter().map(|(address, _)| address).collect()
    }
}

/// Whether the system at `to` answers: a port that is closed is an answer too. The join service ends long before the system does.
pub(super) fn answers(from: Ipv4Addr, to: Ipv4Addr) -> bool {
    answers_at(from, SocketAddrV4::new(to, PORT))
}

fn answers_at(from: Ipv4Addr, to: SocketAddrV4) -> bool {
    match dial(from, to, ANSWER) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
    }
}

/// Has systemd end the system: services first, in their order, as for anybody who switches off.
pub(super) fn systemctl(order: Order) -> Result<(), String> {
    run(Path::new("systemctl"), order)
}

fn run(program: &Path, order: Order) -> Result<(), String> {
    systemctl::run(program, &["--ignore-inhibitors", order.verb()])
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{SocketAddr, TcpListener},
        os::unix::fs::PermissionsExt,
    };

    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(127, 78, 0, 1);

    #[test]
    fn a_closed_port_is_an_answer_and_silence_is_none() {
        let listener = TcpListener::bind((OWN, 0)).unwrap();
        let SocketAddr::V4(at) = listener.local_addr().unwrap() else { unreachable!() };
        assert!(answers_at(OWN, at));
        drop(listener);
        assert!(answers_at(OWN, at));
        // A queue that is full drops what comes, as a system that is off does.
        let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&full, &SocketAddrV4::new(OWN, 0)).unwrap();
        listen(&full, 0).unwrap();
        let at = SocketAddrV4::try_from(getsockname(&full).unwrap()).unwrap();
        let waiting: Vec<_> = std::iter::from_fn(|| dial(OWN, at, Duration::from_millis(300)).ok()).take(8).collect();
        assert!((1..8).contains(&waiting.len()), "{}", waiting.len());
        assert!(!answers_at(OWN, at));
    }

    #[test]
    fn systemd_is_told_without_a_shell() {
        let folder = tempfile::tempdir().unwrap();
        let (program, said) = (folder.path().join("systemctl"), folder.path().join("said"));
        let write = |end: &str| {
            fs::write(&program, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >{}\n{end}\n", said.display())).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        };
        write("exit 0");
        for (order, verb) in [(Order::Poweroff, "poweroff"), (Order::Reboot, "reboot")] {
            run(&program, order).unwrap();
            assert_eq!(fs::read_to_string(&said).unwrap(), format!("--no-block\n--ignore-inhibitors\n{verb}\n"));
        }
        write("echo Access denied >&2; exit 4");
        let wrong = run(&program, Order::Reboot).unwrap_err();
        assert_eq!(wrong, "`systemctl --no-block --ignore-inhibitors reboot`: Access denied");
        assert!(run(&folder.path().join("none"), Order::Reboot).unwrap_err().contains("/none: "));
    }
}
