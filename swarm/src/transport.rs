//! Bytes between users, this program and engines.
//!
//! A [`Client`] speaks HTTP/1.1 with one engine, over a unix socket or mutual TLS. Answers are streams: nothing is collected unless
//! [`Client::read`] or [`Client::json`] is called, nothing limits how long one lasts, and one that is cut short ends with an error,
//! never as if it were complete. [`hijack`] joins the two ends of an upgraded connection. [`tls`] holds who is believed.

mod body;
mod client;
mod connect;
mod error;
mod hijack;
pub mod tls;

pub use body::{Body, BoxError, empty, from_incoming, full, json_body};
pub use client::Client;
pub use connect::{CONNECT_LIMIT, Endpoint};
pub use error::Error;
pub(crate) use hijack::Held;
pub use hijack::{Lease, hijack, wants_upgrade};

#[cfg(test)]
pub(crate) mod tests;
