//! The switch's ports: unix sockets on which QEMU (`-netdev stream`) sends and takes frames.
//!
//! The protocol is a 32-bit big-endian length in front of each frame. One thread polls all ports; what a
//! port cannot take yet waits in a bounded queue, and what does not fit there is lost and counted, as in
//! a real switch. A stuck node therefore costs its own frames and nothing else.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    io::ErrorKind,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    capture::Capture,
    frame::without_tag,
    link::{Link, Received},
    switch::{Loss, PortId, Switch, Verdict},
};

/// Bytes that wait for one port at most, delayed frames included.
const QUEUE: usize = 4 << 20;
/// The capture is handed to the system this often, so that a reader can follow it.
const FLUSH: Duration = Duration::from_millis(500);

/// One port to open.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Its name in the capture and in messages.
    pub name: String,
    /// Where it listens.
    pub socket: PathBuf,
}

/// Looks at frames as they come in: the port, and the frame.
pub type Observer = Box<dyn FnMut(PortId, &[u8]) + Send>;

/// What the wire did, port by port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came in.
    pub received: u64,
    /// Frames that went out.
    pub sent: u64,
    /// Frames not let in or not let out, by reason.
    pub lost: BTreeMap<Loss, u64>,
}

/// The running switch.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    /// Closed by `stop`: the thread sees it and ends.
    stop: Option<UnixStream>,
    origin: Instant,
}

#[derive(Debug)]
struct Shared {
    switch: Mutex<Switch>,
    counters: Mutex<Vec<Counters>>,
}

impl Wire {
    /// Opens `ports` (their order gives the [`PortId`]s) and starts forwarding.
    ///
    /// # Errors
    ///
    /// A socket cannot be bound: the path is taken or longer than the system allows.
    pub fn start(ports: &[PortSpec], seed: u64, capture: Option<Capture>, observer: Observer) -> anyhow::Result<Self> {
        let mut switch = Switch::new(seed);
        let mut open = Vec::new();
        for port in ports {
            switch.add_port(&port.name);
            let listener =
                UnixListener::bind(&port.socket).with_context(|| format!("opening the switch port {}", port.socket.display()))?;
            listener.set_nonblocking(true)?;
            open.push(Port { listener, link: None, waiting: 0 });
        }
        let (stop, stopped) = UnixStream::pair().context("making a socket pair")?;
        let shared =
            Arc::new(Shared { switch: Mutex::new(switch), counters: Mutex::new(vec![Counters::default(); ports.len()]) });
        let origin = Instant::now();
        let mut forwarder =
            Forwarder { shared: shared.clone(), ports: open, origin, delayed: BinaryHeap::new(), order: 0, capture, observer };
        let thread = std::thread::Builder::new().name("switch".into()).spawn(move || forwarder.run(&stopped))?;
        Ok(Self { shared, thread: Some(thread), stop: Some(stop), origin })
    }

    /// The switch, to change faults and islands while frames pass.
    pub fn switch(&self) -> MutexGuard<'_, Switch> {
        self.shared.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What passed so far, a row for each port.
    pub fn counters(&self) -> Vec<Counters> {
        self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the wire's time began.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Ends the thread and completes the capture.
    ///
    /// # Errors
    ///
    /// The capture could not be written to its end; frames were forwarded all the same.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => anyhow::bail!("the switch's thread panicked"),
            None => Ok(()),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Only `stop` reports; here somebody is already on the way out.
        let _ = self.end();
    }
}

struct Port {
    listener: UnixListener,
    link: Option<Link>,
    /// Bytes of delayed frames on their way to this port.
    waiting: usize,
}

/// A frame that leaves later; ordered by time, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    due: Duration,
    order: u64,
    port: PortId,
    frame: Arc<[u8]>,
}

struct Forwarder {
    shared: Arc<Shared>,
    ports: Vec<Port>,
    origin: Instant,
    delayed: BinaryHeap<Reverse<Delayed>>,
    order: u64,
    capture: Option<Capture>,
    observer: Observer,
}

impl Forwarder {
    fn run(&mut self, stopped: &UnixStream) -> anyhow::Result<()> {
        let mut failure = Ok(());
        let mut flushed = Duration::ZERO;
        while let Some(ready) = self.wait(stopped)? {
            for port in ready {
                self.serve(port);
            }
            self.release();
            let now = self.origin.elapsed();
            if now.saturating_sub(flushed) >= FLUSH {
                flushed = now;
                self.keep(&mut failure, Capture::flush);
            }
        }
        self.keep(&mut failure, Capture::flush);
        failure
    }

    /// The first failure of the capture is kept for the end; the network goes on without it.
    fn keep(&mut self, failure: &mut anyhow::Result<()>, action: impl FnOnce(&mut Capture) -> anyhow::Result<()>) {
        let result = self.capture.as_mut().map_or(Ok(()), action);
        if result.is_err() {
            self.capture = None;
            *failure = result;
        }
    }

    /// Sleeps until a socket or a delayed frame wants attention, and says which ports do; `None` when the
    /// wire was stopped.
    fn wait(&self, stopped: &UnixStream) -> anyhow::Result<Option<Vec<PortId>>> {
        let mut polled = vec![PollFd::new(stopped, PollFlags::IN)];
        for port in &self.ports {
            polled.push(match &port.link {
                None => PollFd::from_borrowed_fd(port.listener.as_fd(), PollFlags::IN),
                Some(link) if link.wants_to_send() => PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN | PollFlags::OUT),
                Some(link) => PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN),
            });
        }
        let due = self.delayed.peek().map_or(FLUSH, |Reverse(next)| next.due.saturating_sub(self.origin.elapsed()));
        // Rounded up, so that a frame due in 0.4 ms does not make the loop spin.
        let sleep = due.min(FLUSH) + Duration::from_micros(50);
        let timeout = Timespec { tv_sec: sleep.as_secs() as i64, tv_nsec: sleep.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for the switch's ports"),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let stopped = ready.next().unwrap_or_default();
        Ok((!stopped).then(|| ready.enumerate().filter(|(_, ready)| *ready).map(|(port, _)| PortId(port)).collect()))
    }

    fn serve(&mut self, id: PortId) {
        let now = self.origin.elapsed();
        let port = &mut self.ports[id.0];
        let Some(link) = &mut port.link else {
            match port.listener.accept() {
                Ok((stream, _)) => {
                    port.link = Link::new(stream).ok();
                    self.switch().link_up(now, id);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The peer gave up between connect and accept; it will come again or not.
                Err(_) => {}
            }
            return;
        };
        let mut alive = link.send();
        let mut frames = Vec::new();
        alive &= match link.receive(|frame| frames.push(frame.to_vec())) {
            Received::Open => true,
            Received::Closed => false,
        };
        for frame in frames {
            self.forward(id, frame);
        }
        if !alive {
            self.ports[id.0].link = None;
            self.switch().link_down(id);
        }
    }

    fn forward(&mut self, from: PortId, frame: Vec<u8>) {
        let now = self.origin.elapsed();
        let (frame, mut verdict) = {
            let mut switch = self.switch();
            let frame = switch.admitted(from, frame);
            let verdict = switch.forward(now, from, &frame);
            (frame, verdict)
        };
        (self.observer)(from, &frame);
        let frame: Arc<[u8]> = frame.into();
        for exit in std::mem::take(&mut verdict.exits) {
            if self.queued(exit.port) + frame.len() > QUEUE {
                verdict.lost.push((exit.port, Loss::QueueFull));
                continue;
            }
            self.ports[exit.port.0].waiting += frame.len();
            self.order += 1;
            let delayed = Delayed { due: now + exit.after, order: self.order, port: exit.port, frame: frame.clone() };
            self.delayed.push(Reverse(delayed));
        }
        self.account(from, &verdict);
        let comment = self.comment(&verdict);
        let mut ignored = Ok(());
        self.keep(&mut ignored, |capture| capture.inbound(now, from, &frame, comment));
    }

    /// Sends what is due.
    fn release(&mut self) {
        let now = self.origin.elapsed();
        while self.delayed.peek().is_some_and(|Reverse(next)| next.due <= now) {
            let Some(Reverse(delayed)) = self.delayed.pop() else { return };
            let strips = self.switch().strips(delayed.port);
            let port = &mut self.ports[delayed.port.0];
            port.waiting -= delayed.frame.len();
            let Some(link) = &mut port.link else { continue };
            link.queue(if strips { without_tag(&delayed.frame).into() } else { delayed.frame.clone() });
            link.send();
            self.counters()[delayed.port.0].sent += 1;
            let mut ignored = Ok(());
            self.keep(&mut ignored, |capture| capture.outbound(now, delayed.port, &delayed.frame));
        }
    }

    fn queued(&self, port: PortId) -> usize {
        let port = &self.ports[port.0];
        port.waiting + port.link.as_ref().map_or(0, Link::queued)
    }

    fn account(&self, from: PortId, verdict: &Verdict) {
        let mut counters = self.counters();
        counters[from.0].received += 1;
        if let Some(loss) = verdict.refused {
            *counters[from.0].lost.entry(loss).or_default() += 1;
        }
        for (port, loss) in &verdict.lost {
            *counters[port.0].lost.entry(*loss).or_default() += 1;
        }
    }

    fn comment(&self, verdict: &Verdict) -> Option<String> {
        if let Some(loss) = verdict.refused {
            return Some(format!("not let in: {}", loss.reason()));
        }
        let switch = self.switch();
        let lost = verdict.lost.iter().map(|(port, loss)| format!("{}: {}", switch.ports()[port.0].name, loss.reason()));
        let lost = lost.collect::<Vec<_>>().join("; ");
        (!lost.is_empty()).then(|| format!("lost at {lost}"))
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.shared.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> MutexGuard<'_, Vec<Counters>> {
        self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
