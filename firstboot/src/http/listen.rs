//! The port of a server: who is served when, by threads whose number is fixed.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use super::{Limits, Request, Response, serve_connection};

/// A handler on a thread needs no more than this, in bytes; it is memory only where it is used.
const STACK: usize = 512 << 10;
/// How long the port is left alone when the system cannot give another connection.
const BREATH: Duration = Duration::from_millis(100);

type Serve = dyn Fn(TcpStream, IpAddr, &dyn Fn() -> bool);

/// A server that runs until it is dropped. Then the port is free, and connections end with the exchange that they are in.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: UnixStream,
    queue: Arc<Queue>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Serves HTTP at `address`. On `[::]` that is IPv4 as well.
    ///
    /// # Errors
    ///
    /// The address is taken or not here, or there can be no more threads.
    pub fn bind(
        address: SocketAddr,
        limits: Limits,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::over(TcpListener::bind(address)?, limits, move |mut stream, peer, crowded| {
            serve_connection(&mut stream, peer, &limits, crowded, &handler);
        })
    }

    /// Serves each connection of `listener` by `serve`, such as TLS and then [`serve_connection`]; its third argument says whether
    /// others wait.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn over(
        listener: TcpListener,
        limits: Limits,
        serve: impl Fn(TcpStream, IpAddr, &dyn Fn() -> bool) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let queue = Arc::new(Queue { limits, state: Mutex::default(), more: Condvar::new() });
        // Stops what has begun, should a later thread not come.
        let mut server = Self { address, stop, queue: Arc::clone(&queue), acceptor: None };
        let serve = Arc::new(serve);
        for _ in 0..limits.workers {
            let (queue, serve) = (Arc::clone(&queue), Arc::clone(&serve));
            thread::Builder::new().name("http".to_owned()).stack_size(STACK).spawn(move || queue.work(&*serve))?;
        }
        let accept = move || queue.accept(&listener, &stopped);
        server.acceptor = Some(thread::Builder::new().name("http-accept".to_owned()).stack_size(STACK).spawn(accept)?);
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.queue.lock().stopping = true;
        self.queue.more.notify_all();
        let _ = self.stop.write_all(&[0]);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

#[derive(Debug)]
struct Queue {
    limits: Limits,
    state: Mutex<State>,
    /// There is a connection to serve, or an end.
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(TcpStream, IpAddr)>,
    /// How many connections an address has, waiting or served.
    of_peer: HashMap<IpAddr, usize>,
    /// How many workers have nothing to do.
    idle: usize,
    stopping: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here is half done when a handler panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, listener: &TcpListener, stopped: &UnixStream) {
        while !self.lock().stopping {
            match listener.accept() {
                // One too many is closed at once.
                Ok((stream, address)) => {
                    self.admit(stream, address.ip().to_canonical());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut both = [PollFd::new(listener, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
                    if poll(&mut both, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
                        thread::sleep(BREATH);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(_) => thread::sleep(BREATH),
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: IpAddr) {
        // An answer goes at once, not when the last one was acknowledged.
        if stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true)).is_err() {
            return;
        }
        let mut state = self.lock();
        let of_peer = state.of_peer.get(&peer).copied().unwrap_or_default();
        if state.waiting.len() >= self.limits.waiting || of_peer >= self.limits.per_peer {
            return;
        }
        state.of_peer.insert(peer, of_peer + 1);
        state.waiting.push_back((stream, peer));
        self.more.notify_one();
    }

    fn crowded(&self) -> bool {
        let state = self.lock();
        state.stopping || state.waiting.len() > state.idle
    }

    fn work(&self, serve: &Serve) {
        loop {
            let mut state = self.lock();
            let (stream, peer) = loop {
                if state.stopping {
                    return;
                }
                if let Some(next) = state.waiting.pop_front() {
                    break next;
                }
                state.idle += 1;
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            };
            drop(state);
            let _leaving = Leaving { queue: self, peer };
            serve(stream, peer, &|| self.crowded());
        }
    }
}

/// A connection that is served; it counts until this is dropped.
struct Leaving<'a> {
    queue: &'a Queue,
    peer: IpAddr,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if let Some(count) = state.of_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                state.of_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        sync::mpsc,
        time::{Duration, Instant},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn serve(limits: Limits, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Server {
        Server::bind(([127, 0, 0, 1], 0).into(), limits, handler).unwrap()
    }

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream) -> io::Result<String> {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut answer = [0; 4096];
        let count = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
    }

    fn hello(_: &Request) -> Response {
        Response::new(200, "text/plain", "hello")
    }

    #[test]
    fn one_peer_has_so_many_connections() {
        let server = serve(Limits { per_peer: 2, ..Limits::default() }, hello);
        let mut both = [connect(&server), connect(&server)];
        for stream in &mut both {
            assert!(ask(stream).unwrap().ends_with("hello"));
        }
        let mut third = connect(&server);
        // Closed, with or without what we sent being read.
        assert!(ask(&mut third).map_or(true, |answer| answer.is_empty()));
        drop(both);
        // Their end has to be seen first.
        let until = Instant::now() + LIMIT;
        while !ask(&mut connect(&server)).is_ok_and(|answer| answer.ends_with("hello")) {
            assert!(Instant::now() < until);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// As many browsers as you like, each of which keeps its connections: an idle one makes way.
    #[test]
    fn more_viewers_than_workers() {
        let limits = Limits { workers: 2, per_peer: 100, idle: LIMIT * 3, ..Limits::default() };
        let server = serve(limits, hello);
        let since = Instant::now();
        let mut kept = Vec::new();
        for _ in 0..10 {
            let mut stream = connect(&server);
            assert!(ask(&mut stream).unwrap().ends_with("hello"));
            kept.push(stream);
        }
        assert!(since.elapsed() < LIMIT);
    }

    #[test]
    fn more_than_may_wait_are_closed() {
        let (let_go, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let limits = Limits { workers: 1, waiting: 1, per_peer: 100, ..Limits::default() };
        let server = serve(limits, move |request| {
            let _ = held.lock().unwrap().recv();
            hello(request)
        });
        let mut all: Vec<_> = (0..5).map(|_| connect(&server)).collect();
        for stream in &mut all {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        }
        // Whoever is served or waits hears nothing before this.
        drop(let_go);
        let answered = all.iter_mut().filter_map(|stream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok().filter(|_| answer.ends_with("hello"))
        });
        let answered = answered.count();
        assert!((1..=2).contains(&answered), "{answered}");
    }

    #[test]
    fn dropped_it_frees_the_port_and_ends_connections() {
        let server = serve(Limits { idle: LIMIT * 3, ..Limits::default() }, hello);
        let address = server.address();
        let mut kept = connect(&server);
        ask(&mut kept).unwrap();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
        assert_eq!(kept.read(&mut [0]).unwrap(), 0, "closed at once, not after its idle time");
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let server = serve(Limits::default(), hello);
        let error = Server::bind(server.address(), Limits::default(), hello).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
