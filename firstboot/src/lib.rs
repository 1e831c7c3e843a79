//! `hcl-firstboot`: the program on each card.
//!
//! The types to start from are [`config::NodeConfig`], what `/etc/hcl/node.toml` says, written by the builder and read on every
//! boot, and [`node::Node`], the pure state machine that a thin `driver` runs. Configuration, state machine, wire and status build
//! everywhere; what talks to the kernel is for Linux.

pub mod attach;
pub mod blackbox;
#[cfg(target_os = "linux")]
pub mod cli;
#[cfg(target_os = "linux")]
pub mod clock;
pub mod config;
pub mod consul;
#[cfg(target_os = "linux")]
pub mod dependencies;
#[cfg(target_os = "linux")]
pub mod driver;
pub mod durable;
pub mod endpoint;
pub mod engine;
#[cfg(target_os = "linux")]
pub mod grow;
#[cfg(target_os = "linux")]
pub mod health;
pub mod http;
pub mod identity;
pub mod key;
pub mod led;
pub mod link;
pub mod marker;
pub mod node;
#[cfg(target_os = "linux")]
pub mod page;
pub mod record;
pub mod redact;
#[cfg(target_os = "linux")]
pub mod report;
#[cfg(target_os = "linux")]
pub mod services;
pub mod ssh;
pub mod status;
pub mod trouble;
pub mod trust;
#[cfg(target_os = "linux")]
pub mod view;
pub mod wire;

/// The version of program and library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The host name that an image carries until a node has its own.
pub const IMAGE_HOST_NAME: &str = "hcl-node";
