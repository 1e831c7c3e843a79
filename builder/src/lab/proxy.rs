//! A port of 127.0.0.1 that leads to whichever node is the right one at the moment.
//!
//! The router forwards to one fixed node a port; a [`Proxy`] stands before these forwards and is told by
//! [`Proxy::point`] which of them counts. Bytes pass as they come, in both directions, and an end of one
//! direction is passed on without ending the other, so that event streams, websockets and `docker attach`
//! work. When it is pointed elsewhere, connections to the former node are cut: their node is not what the
//! caller asked for any more, and may never answer again.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};

/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 256;
/// How long a connection waits for somebody to be pointed at: the role moves within seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// The forward is a port of this machine: it takes a connection at once or not at all.
const CONNECT: Duration = Duration::from_secs(5);

/// The listening port. Dropped, it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    /// Closed by `drop`: the thread sees it and ends.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    target: Option<SocketAddr>,
    open: HashMap<u64, Pair>,
    /// Connections that are open or wait for a target.
    count: usize,
    next: u64,
    closing: bool,
}

/// Both ends of a connection, to cut it.
#[derive(Debug)]
struct Pair {
    to: SocketAddr,
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn cut(&self) {
        // Already closed is as good.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// Listens on `wanted`, or on a free port where that is taken.
    ///
    /// # Errors
    ///
    /// No port can be had, or no thread started.
    pub fn listen(wanted: u16) -> anyhow::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) {
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            }
            result => result,
        };
        let listener = listener.with_context(|| format!("listening on port {wanted} of 127.0.0.1"))?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair().context("making a socket pair")?;
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        let thread = std::thread::Builder::new().name(format!("port {port}")).spawn(move || serve(&listener, &stopped, &ours))?;
        Ok(Self { port, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on connections go to port `target` of this machine; those to another are cut.
    pub fn point(&self, target: Option<u16>) {
        let target = target.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut state = self.shared.state();
        state.target = target;
        state.open.values().filter(|pair| Some(pair.to) != target).for_each(Pair::cut);
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        {
            let mut state = self.shared.state();
            state.closing = true;
            state.open.values().for_each(Pair::cut);
            self.shared.changed.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom connections go to, once there is somebody.
    fn target(&self) -> Option<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closing || left.is_zero() {
                return None;
            }
            if state.target.is_some() {
                return state.target;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes a connection; `None` when its target counts no longer.
    fn enter(&self, pair: Pair) -> Option<u64> {
        let mut state = self.state();
        if state.closing || state.target != Some(pair.to) {
            return None;
        }
        state.next += 1;
        let id = state.next;
        state.open.insert(id, pair);
        Some(id)
    }
}

/// Takes connections until `stopped` closes.
fn serve(listener: &TcpListener, stopped: &UnixStream, shared: &Arc<Shared>) {
    loop {
        let mut polled = [PollFd::new(stopped, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if !polled[0].revents().is_empty() {
            return;
        }
        match listener.accept() {
            Ok((client, _)) => take(client, shared),
            // Out of file descriptors: those who have some may be done soon.
            Err(error) if error.kind() != ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(100)),
            Err(_) => {}
        }
    }
}

fn take(client: TcpStream, shared: &Arc<Shared>) {
    {
        let mut state = shared.state();
        if state.count >= CONNECTIONS {
            return;
        }
        state.count += 1;
    }
    let ours = shared.clone();
    let started = std::thread::Builder::new().name("connection".into()).spawn(move || {
        // The caller sees a connection that ended, which is all that can be told through it.
        let _ = carry(client, &ours);
        ours.state().count -= 1;
    });
    if started.is_err() {
        shared.state().count -= 1;
    }
}

/// Carries one connection to its end.
fn carry(client: TcpStream, shared: &Shared) -> io::Result<()> {
    // A socket accepted from a non-blocking listener is non-blocking itself on some systems.
    client.set_nonblocking(false)?;
    let Some(to) = shared.target() else { return Ok(()) };
    let server = TcpStream::connect_timeout(&to, CONNECT)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let Some(id) = shared.enter(Pair { to, client: client.try_clone()?, server: server.try_clone()? }) else { return Ok(()) };
    std::thread::scope(|scope| {
        scope.spawn(|| pass(&client, &server));
        pass(&server, &client);
    });
    shared.state().open.remove(&id);
    Ok(())
}

/// One direction, to its end.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    match io::copy(&mut from, &mut to) {
        // The peer said its last word; the other direction goes on.
        Ok(_) => drop(to.shutdown(Shutdown::Write)),
        Err(_) => {
            // One of them has gone: nothing that the other says can arrive.
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A server that says its `name`, returns what it is sent until its end, and then says `bye`.
    fn server(name: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    (&stream).write_all(name.as_bytes()).ok();
                    io::copy(&mut &stream, &mut &stream).ok();
                    (&stream).write_all(b"bye").ok();
                });
            }
        });
        port
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn read(mut stream: &TcpStream, count: usize) -> String {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// What is left on a connection, to its end: cut or closed.
    fn rest(mut stream: &TcpStream) -> Option<String> {
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Ok(_) => Some(text),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(_) => Some(text),
        }
    }

    #[test]
    fn each_byte_passes_at_once_and_an_end_is_an_end_of_one_direction() {
        let proxy = Proxy::listen(0).unwrap();
        proxy.point(Some(server("one")));
        let stream = connect(&proxy);
        // Before the client has said a word.
        assert_eq!(read(&stream, 3), "one");
        for word in ["a", "bc", "d"] {
            (&stream).write_all(word.as_bytes()).unwrap();
            assert_eq!(read(&stream, word.len()), word);
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&stream).as_deref(), Some("bye"));
    }

    #[test]
    fn pointed_elsewhere_it_cuts_what_went_to_the_former_node_and_nothing_else() {
        let (one, two) = (server("one"), server("two"));
        let proxy = Proxy::listen(0).unwrap();
        proxy.point(Some(one));
        let former = connect(&proxy);
        assert_eq!(read(&former, 3), "one");
        proxy.point(Some(one));
        (&former).write_all(b"x").unwrap();
        assert_eq!(read(&former, 1), "x", "the same node again changes nothing");

        proxy.point(Some(two));
        assert_eq!(rest(&former).as_deref(), Some(""));
        let latter = connect(&proxy);
        assert_eq!(read(&latter, 3), "two");
        drop(proxy);
        assert_eq!(rest(&latter).as_deref(), Some(""));
    }

    #[test]
    fn who_comes_while_nobody_leads_waits() {
        let proxy = Proxy::listen(0).unwrap();
        let early: Vec<_> = (0..20).map(|_| connect(&proxy)).collect();
        proxy.point(Some(server("one")));
        for stream in &early {
            assert_eq!(read(stream, 3), "one");
        }
        // More than there is room for: the last one is closed, the others are served.
        let many: Vec<_> = (early.len()..CONNECTIONS).map(|_| connect(&proxy)).collect();
        assert!(many.iter().all(|stream| read(stream, 3) == "one"));
        assert_eq!(rest(&connect(&proxy)).as_deref(), Some(""));
        // Room again once one has ended.
        drop(early);
        let again = (0..600).any(|_| {
            std::thread::park_timeout(Duration::from_millis(100));
            rest_of_greeting(&connect(&proxy))
        });
        assert!(again, "ended connections still take room");
    }

    fn rest_of_greeting(mut stream: &TcpStream) -> bool {
        let mut bytes = [0; 3];
        stream.read_exact(&mut bytes).is_ok()
    }

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let first = Proxy::listen(0).unwrap();
        let second = Proxy::listen(first.port()).unwrap();
        assert_ne!(first.port(), second.port());
    }
}
