//! As much of HTTP/1.1 (RFC 9112) as a node needs: to the engine and to Consul on their unix sockets, and between nodes over TLS.
//!
//! The parsing of heads is `httparse`'s. Everything blocks, and ends: each exchange has a time by which it is over.

mod client;

pub use client::{Client, Error, Response, Stream};

/// The most that a head may be long, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// The most header fields in a head.
const MOST_FIELDS: usize = 64;
