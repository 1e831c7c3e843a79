//! As much of HTTP/1.1 (RFC 9112) as a node needs: to the engine and to Consul on their unix sockets, and between nodes over TLS.
//!
//! The parsing of heads is `httparse`'s. Everything blocks, and ends: each exchange has a time by which it is over.

mod client;
#[cfg(target_os = "linux")]
mod listen;
mod server;
mod timed;

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

pub use client::{Client, Error, Response};
#[cfg(target_os = "linux")]
pub use listen::Server;
pub use server::{Limits, Request, serve_connection};

/// The most that a head may be long, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// The most header fields in a head.
const MOST_FIELDS: usize = 64;

/// A connection.
pub trait Stream: Read + Write {
    /// Lets no read or write last longer than `limit`, which is not zero.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn limit(&self, limit: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}

impl Stream for TcpStream {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))?;
        self.set_write_timeout(Some(limit))
    }
}
