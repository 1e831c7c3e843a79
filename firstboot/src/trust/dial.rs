//! A connection from a node's own address: the join service takes no other one, and a leader has two.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt},
};

/// Connects from `from` to `to`, for `limit` at most.
///
/// # Errors
///
/// What the system says; `TimedOut` where nobody answers.
pub fn dial(from: Ipv4Addr, to: SocketAddrV4, limit: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + limit;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    match connect(&socket, &to) {
        Err(Errno::INPROGRESS) => {}
        done => done?,
    }
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        match poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    sockopt::socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    #[test]
    fn from_the_own_address() {
        let listener = TcpListener::bind("127.77.0.1:0").unwrap();
        let SocketAddr::V4(to) = listener.local_addr().unwrap() else { unreachable!() };
        let own = Ipv4Addr::new(127, 77, 0, 2);
        let stream = dial(own, to, Duration::from_secs(5)).unwrap();
        let (_, from) = listener.accept().unwrap();
        assert_eq!((from.ip(), stream.local_addr().unwrap()), (own.into(), from));
        drop(listener);
        assert_eq!(dial(own, to, Duration::from_secs(5)).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
