//! `hcl-firstboot`: the program on each card.
//!
//! The type to start from is [`config::NodeConfig`], what `/etc/hcl/node.toml` says, written by the builder
//! and read on every boot.

pub mod config;
