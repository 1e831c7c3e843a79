//! The Docker API of a whole cluster, as classic Swarm served it, on today's engine.
//!
//! Two types to start from: [`cluster::Cluster`] knows the engines and what is on them, [`transport::Client`] speaks with one of
//! them. [`serve`] lets users in and passes their requests to [`api`]. [`join`] is what each node does for the others.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod consul;
pub mod join;
pub mod local;
pub mod manage;
pub mod schedule;
pub mod serve;
pub mod transport;
pub mod users;

pub use transport::Body;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
